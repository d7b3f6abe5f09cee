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


BEGIN = """
import sys
from argparse import Namespace
from sounding_video.cli.libraries import leave_out_unused
leave_out_unused(Namespace(alone=True, storage=sys.argv[1], backend=sys.argv[2]))
from diffusers import UniPCMultistepScheduler
from transformers import T5EncoderModel
from transformers.utils import is_scipy_available
print(is_scipy_available(), "scipy" in sys.modules)
import scipy
"""


@pytest.mark.parametrize(
    ("storage", "backend", "told"),
    [
        ("native", "lexicon", "False False"),
        ("fp8", "", "False False"),
        ("nf4", "", "True True"),
        ("native", "transformers_local", "True True"),
    ],
)
def test_a_start_leaves_out_what_the_run_does_not_use(storage: str, backend: str, told: str) -> None:
    """In a process of its own; what is left out can be imported afterwards."""
    command = [sys.executable, "-W", "ignore", "-c", BEGIN, storage, backend]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, told), done.stderr


def test_a_process_that_does_other_things_keeps_its_libraries() -> None:
    code = (
        "import sys; from argparse import Namespace; from sounding_video.cli.libraries import leave_out_unused; "
        "leave_out_unused(Namespace(alone=False, storage='native', backend=None)); "
        "assert not {'diffusers', 'transformers'} & set(sys.modules) and None not in sys.modules.values()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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
