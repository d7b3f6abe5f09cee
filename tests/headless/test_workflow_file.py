"""A workflow is found in whatever form people have it in."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image, PngImagePlugin
from sounding_video.core.errors import WorkflowError
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.headless.graph import read_workflow
from sounding_video.headless.workflow_file import Workflow, read_any, to_prompt, understood, with_twin
from sounding_video.media.mux import write_clip
from sounding_video.media.tag_reader import read_tags

TEMPLATE = "text_to_sounding_video_pocket.json"


@pytest.fixture
def page(root):
    return read_workflow(root / "workflows" / TEMPLATE)


@pytest.fixture
def api(root):
    return read_workflow(root / "workflows" / "api" / TEMPLATE)


def test_every_wrapping_is_taken_off(page, api):
    extra = {"extra_pnginfo": {"workflow": page, "mine": 1}, "token": "t"}
    assert understood(api) == Workflow(api)
    assert understood(page) == Workflow(page=page)
    assert understood({"prompt": api, "client_id": "x"}) == Workflow(api)
    assert understood({"prompt": api, "extra_data": extra}) == Workflow(api, page, extra)
    assert understood({"prompt": json.dumps(api), "workflow": json.dumps(page)}) == Workflow(api, page)
    assert understood({"output": api, "workflow": page}) == Workflow(api, page)
    assert understood({"workflow": page}) == Workflow(page=page)
    assert understood({"prompt": page}) == Workflow(page=page)
    entry = {"prompt": [3, "id", api, extra, ["9"]], "outputs": {}, "status": {}}
    assert understood([3, "id", api, extra, ["9"]]) == Workflow(api, page, extra)
    assert understood({"5f3c": entry}) == understood(entry) == Workflow(api, page, extra)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "this is not a workflow: got an empty file"),
        ([], "this is not a workflow"),
        ("text", "this is not a workflow: got str"),
        ({"prompt": {"1": {}}}, "node 1 is not a node"),
        ({"prompt": "a dog"}, "is not a node"),
        ({"workflow": {"steps": 3}}, "is not a node"),
        ({"1": {"inputs": {}}}, "node 1 is not a node"),
    ],
)
def test_what_is_no_workflow_is_refused(content, words):
    with pytest.raises(WorkflowError) as caught:
        to_prompt(understood(content))
    assert words in str(caught.value)


@pytest.mark.parametrize("said", ["text", [1], 2, 0.5, True, None])
def test_what_is_said_beside_a_prompt_may_be_anything(api, said):
    assert with_twin(api, None, {"extra_pnginfo": said})["extra_pnginfo"]["workflow"]["nodes"]


def test_files_keep_what_was_told_until_it_is_changed(page, api):
    found = understood({"prompt": api, "extra_data": {"extra_pnginfo": {"workflow": page, "mine": 1}}})
    assert found.told(changed=False) == {"workflow": page, "mine": 1}
    assert found.told(changed=True) == {"mine": 1}
    assert understood(api).told(changed=False) == {}


@pytest.fixture
def clip():
    return AVClip(VideoClip(torch.zeros(2, 16, 16, 3), 10), AudioClip(torch.zeros(1, 8000), 8000))


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.mkv", "Clip.MP4"])
def test_a_clip_is_a_workflow_file(clip, page, api, tmp_path, name):
    write_clip(clip, tmp_path / name, metadata={"prompt": api, "workflow": page})
    assert read_any(tmp_path / name) == Workflow(api, page)
    write_clip(clip, tmp_path / name, metadata={"workflow": page})
    found = read_any(tmp_path / name)
    assert found == Workflow(page=page)
    made = to_prompt(found).graph
    assert {node_id: node["class_type"] for node_id, node in made.items()} == {
        node_id: node["class_type"] for node_id, node in api.items()
    }
    assert made["7"]["inputs"]["model"] == ["4", 0]


def picture(path, format_name, **options):
    Image.new("RGB", (8, 8)).save(path, format_name, **options)
    return path


def test_a_png_is_a_workflow_file(page, api, tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", json.dumps(api))
    info.add_text("workflow", json.dumps(page), zip=True)
    assert read_any(picture(tmp_path / "still.png", "PNG", pnginfo=info)) == Workflow(api, page)
    info = PngImagePlugin.PngInfo()
    info.add_itxt("workflow", json.dumps(page, ensure_ascii=False))
    assert read_any(picture(tmp_path / "other.png", "PNG", pnginfo=info)) == Workflow(page=page)


def test_comfyui_s_animated_pictures_are_workflow_files(page, api, tmp_path):
    """Its PNG has chunks of its own behind the picture, its WebP has EXIF texts."""
    info = PngImagePlugin.PngInfo()
    for name, content in (("prompt", api), ("workflow", page)):
        info.add(b"comf", name.encode() + b"\0" + json.dumps(content).encode(), after_idat=True)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:], pnginfo=info)
    assert read_any(tmp_path / "moving.png") == Workflow(api, page)
    exif = frames[0].getexif()
    exif[0x0110], exif[0x010F] = f"prompt:{json.dumps(api)}", f"workflow:{json.dumps(page)}"
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:], exif=exif)
    assert read_any(tmp_path / "moving.webp") == Workflow(api, page)


def test_one_comment_with_all_in_it(clip, page, api, tmp_path):
    """As a widespread pack for video writes it, prompt as text, workflow as an object."""
    comment = json.dumps({"prompt": json.dumps(api), "workflow": page, "CreationTime": "now"})
    write_clip(clip, tmp_path / "clip.mp4", metadata={"comment": comment})
    assert read_any(tmp_path / "clip.mp4") == Workflow(api, page)


def test_a_broken_prompt_leaves_the_workflow(clip, page, tmp_path):
    write_clip(clip, tmp_path / "clip.mkv", metadata={"prompt": "a dog on a beach", "workflow": page})
    assert read_any(tmp_path / "clip.mkv") == Workflow(page=page)


def test_a_file_without_a_workflow_says_so(clip, tmp_path):
    write_clip(clip, tmp_path / "clip.mp4", metadata={"title": "gulls", "prompt": "a dog on a beach"})
    with pytest.raises(WorkflowError, match=r"holds no workflow: got .*clip\.mp4 with the tags prompt, title"):
        read_any(tmp_path / "clip.mp4")
    with pytest.raises(WorkflowError, match=r"holds no workflow: got .*bare\.png with no tags"):
        read_any(picture(tmp_path / "bare.png", "PNG"))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("clip.mp4", b"", "not a picture, video or sound that can be read"),
        ("clip.mp4", b"\0\0\0\x20ftypisom" + bytes(200), "not a picture, video or sound that can be read"),
        ("still.png", b"\x89PNG\r\n\x1a\n" + bytes(20), "holds no workflow"),
        ("still.png", b"\x89PNG\r\n\x1a\n\0\0\0\6zTXtab\0\0cd\0\0\0\0", "can be read: got .*damaged text"),
        ("still.webp", b"RIFF\x20\0\0\0WEBP" + bytes(20), "not a picture, video or sound that can be read"),
        ("notes.md", b"# notes", "not a picture, video or sound that can be read|holds no workflow"),
        ("clip.mkv", b'{"1": {', "is not JSON"),
        ("plain", b"no json", "is not JSON"),
        ("deep.json", b"[" * 100_000, "is not JSON"),
        ("deep.json", b'{"a":' * 50_000, "is not JSON"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WorkflowError, match=words) as caught:
        read_any(tmp_path / name)
    assert str(caught.value).count("got ") == 1


def test_what_is_not_there_is_refused(tmp_path):
    for path in (tmp_path / "absent.mp4", tmp_path / "absent.json", tmp_path):
        with pytest.raises(WorkflowError, match="cannot be read"):
            read_any(path)


def test_a_workflow_under_any_name(api, tmp_path):
    (tmp_path / "mine.workflow").write_text("\n  " + json.dumps(api), encoding="utf-8-sig")
    assert read_any(tmp_path / "mine.workflow") == Workflow(api)


def test_tags_of_a_stream_count_too(tmp_path):
    """Ogg keeps them there."""
    import av

    with av.open(str(tmp_path / "sound.ogg"), "w") as file:
        stream = file.add_stream("libopus", rate=48000)
        stream.metadata["title"] = "gulls"
        frame = av.AudioFrame(format="s16", layout="stereo", samples=960)
        frame.sample_rate = 48000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert read_tags(tmp_path / "sound.ogg")["title"] == "gulls"
