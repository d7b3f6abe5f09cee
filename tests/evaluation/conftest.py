"""Share the made clips with every test here, and write files of them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
from sounding_video.media.mux import write_clip

_SPEC = importlib.util.spec_from_file_location("evaluation_clips", Path(__file__).with_name("clips.py"))
sys.modules["evaluation_clips"] = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sys.modules["evaluation_clips"])


@pytest.fixture
def written(tmp_path):
    """Write a clip into ``tmp_path / "clips"``."""

    def write(name, clip):
        write_clip(clip, tmp_path / "clips" / name)
        return tmp_path / "clips" / name

    return write
