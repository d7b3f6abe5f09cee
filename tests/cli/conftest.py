"""A command line on small real models."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sounding_video.cli import main


@dataclass(frozen=True)
class Outcome:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run ``main`` in this process."""

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def generate(command, small_models_dir: Path, tmp_path: Path) -> Callable[..., Outcome]:
    """``generate`` with the small models, five small frames and two steps, into ``tmp_path / "clip.mp4"``."""

    def run(*arguments: object) -> Outcome:
        usual = {
            "-o": tmp_path / "clip.mp4",
            "--models": small_models_dir,
            "--frames": 5,
            "--size": "32x32",
            "--steps": 2,
        }
        given = [str(argument) for argument in arguments]
        extra = [item for name, value in usual.items() if name not in given for item in (name, value)]
        # The small models read a few words only, and these tests look at other things than captions.
        expands = any(argument in ("--backend", "--profile", "--mode") for argument in given)
        return command("generate", *given, *extra, *([] if expands else ["--no-expand"]))

    return run
