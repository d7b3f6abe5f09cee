"""Captions through a language model in ComfyUI's own classes, small and random: it answers, if only nonsense."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

SCRIPT = """
import sys, json
core, sys.argv = sys.argv[1], ["main.py", "--cpu"]
sys.path.insert(0, core)
import comfy.options
comfy.options.enable_args_parsing()
import torch, comfy.sd
from comfy import sd1_clip
from comfy.text_encoders import llama, qwen_image, t5
from sounding_video.captions.crr import expand
from sounding_video.core.errors import CaptionError, InputError
from sounding_video.nodes.host.text_generation import ComfyUIWriter, vocabulary_of

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
LLAMA = {**SIZES, "num_key_value_heads": 1}
T5 = {"d_ff": 48, "d_kv": 16, "d_model": 32, "num_heads": 2, "num_layers": 1, "vocab_size": 64,
      "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "model_type": "t5",
      "is_gated_act": False, "dense_act_fn": "relu", "layer_norm_epsilon": 1e-6}

def clip_of(model_class, config):
    class Model(sd1_clip.SDClipModel):
        def __init__(self, device="cpu", dtype=None, model_options={}, **_):
            super().__init__(device=device, layer="last", textmodel_json_config=config, dtype=dtype,
                             special_tokens={"pad": 0, "end": 1}, layer_norm_hidden_state=False,
                             model_class=model_class, model_options=model_options)
    class Whole(sd1_clip.SD1ClipModel):
        def __init__(self, device="cpu", dtype=None, model_options={}):
            super().__init__(device=device, dtype=dtype, name="qwen25_7b", clip_model=Model,
                             model_options=model_options)
    target = type("Target", (), {"params": {}, "clip": Whole, "tokenizer": qwen_image.QwenImageTokenizer})()
    clip = comfy.sd.CLIP(target)
    for parameter in clip.cond_stage_model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return clip

def said(run):
    try:
        return run()
    except (CaptionError, InputError) as error:
        return f"{type(error).__name__}: {error}"

torch.manual_seed(0)
found = {"writes": hasattr(comfy.sd.CLIP, "generate"), "encoder": said(lambda: ComfyUIWriter(clip_of(t5.T5, T5)).name)}
if found["writes"]:
    clip = clip_of(getattr(llama, "Qwen3_4B", None), LLAMA)
    writer = ComfyUIWriter(clip)
    found["knows"] = "<|im_start|>" in vocabulary_of(clip)
    found["text"] = writer.complete([{"role": "user", "content": "say (hi:1.2)"}], max_tokens=4)
    writer.complete = (lambda whole: lambda *a, **k: whole(*a, **{**k, "max_tokens": 4}))(writer.complete)
    found["expansion"] = said(lambda: expand("a dog barks", backend=writer, profile="short"))
print(json.dumps(found))
"""


def test_a_language_model_of_comfyui_is_asked_and_an_encoder_is_refused(comfyui_path: Path, python_with_package):
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    process = python_with_package(SCRIPT, [str(comfyui_path)], python=python, cwd=comfyui_path)
    output, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors[-3000:]
    found = json.loads(output.splitlines()[-1])
    if not found["writes"]:
        assert "this ComfyUI cannot write texts with a CLIP" in found["encoder"]
        return
    assert found["encoder"].startswith("InputError: this CLIP cannot write texts")
    assert found["knows"] and isinstance(found["text"], str)
    assert found["expansion"].startswith("CaptionError: the language model gave no usable answer in 3 attempts")
