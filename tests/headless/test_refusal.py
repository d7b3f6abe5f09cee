"""ComfyUI's answers become sentences that say what to do."""

from __future__ import annotations

from sounding_video.headless.refusal import refusal


def test_a_node_that_is_gone_is_told_with_what_hangs_on_it():
    graph = {
        "4": {"class_type": "T2SVJoinTowers", "inputs": {"audio_tower": ["2", 0]}},
        "6": {"class_type": "T2SVEncodeCaptions", "inputs": {"audio_text_encoder": ["2", 1], "video_caption": "a"}},
    }
    fault = {
        "type": "exception_during_inner_validation",
        "message": "Exception when validating inner node",
        "details": "'2'",
        "extra_info": {"input_name": "audio_tower"},
    }
    answer = {"error": {"message": "Prompt outputs failed validation", "details": ""}, "node_errors": {}}
    answer["node_errors"]["4"] = {"errors": [fault], "class_type": "T2SVJoinTowers"}
    assert refusal(answer, graph) == (
        "Prompt outputs failed validation; node 4 (T2SVJoinTowers), input audio_tower and node 6 (T2SVEncodeCaptions), "
        "input audio_text_encoder: linked to node 2, which is not there: disconnect that, or put the node back"
    )
    fault["details"] = "list index out of range"
    assert "node 4 (T2SVJoinTowers): list index out of range" in refusal(answer, graph)
