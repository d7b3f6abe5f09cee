"""Nothing on the screen but what this command says, whatever libraries are installed and complain of."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sounding_video.cli.libraries import quiet_libraries

STAGES = "loading|writing captions|reading captions|sampling|decoding|decoding sound|writing"
OURS = re.compile(rf"(note: |plan: |warning: )|({STAGES}): \d+/\d+, [\d.]+ s$")


def test_a_run_says_only_what_is_its_own(tmp_path: Path) -> None:
    """As a user starts it, in a process of its own: libraries complain while they are imported."""
    arguments = ["generate", "--models", "pocket", "--steps", "2", "a red ball bounces", "-o", str(tmp_path / "a.mp4")]
    done = subprocess.run(
        [sys.executable, "-m", "sounding_video", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if not OURS.match(line)]


@pytest.mark.parametrize(
    "name", ["bitsandbytes.backends.cpu.ops", "torchao.kernel", "kernels.utils", "diffusers.models", "transformers"]
)
def test_libraries_that_a_run_does_not_use_are_not_heard(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    levels = {each: logging.getLogger(each).level for each in ("bitsandbytes", "torchao", "kernels", "peft")}
    try:
        quiet_libraries()
        assert not logging.getLogger(name).isEnabledFor(logging.WARNING)
        assert logging.getLogger(name).isEnabledFor(logging.ERROR)
    finally:
        for each, level in levels.items():
            logging.getLogger(each).setLevel(level)
