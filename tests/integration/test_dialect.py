"""Weights are read as the ComfyUI that is given reads them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from sounding_video.core.dialect import WeightedText, read

TEXTS = [
    "a (red:1.2) ball",
    "((red)) ball",
    "(a (big:1.5) dog) runs (fast)",
    r"(a \(small\) dog:1.3)",
    "(fog:0) and (mist:-0.5)",
    "(a note: loud) here",
    "a plain caption, with a colon: here",
]
SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1]); texts = sys.argv[2]; sys.argv = ["main.py", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
from comfy.sd1_clip import escape_important, token_weights, unescape_important
found = [token_weights(escape_important(text), 1.0) for text in json.loads(texts)]
print(json.dumps([[[unescape_important(piece), weight] for piece, weight in parts] for parts in found]))
"""


def test_pieces_and_weights_are_those_of_comfyui(comfyui_path: Path):
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    command = [python, "-c", SCRIPT, str(comfyui_path), json.dumps(TEXTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=comfyui_path, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout.splitlines()[-1])
    for text, parts in zip(TEXTS, theirs, strict=True):
        ours = read(text).text
        pieces = ours.parts if isinstance(ours, WeightedText) else ((ours, 1.0),)
        assert [list(pair) for pair in pieces] == parts, text
