"""One at a time: who comes second is refused, a killed one is taken over, and no file stays."""

from __future__ import annotations

import subprocess

import pytest
from sounding_video.core.errors import InputError
from sounding_video.core.locks import alone, lock_file

REFUSED = InputError("somebody is in there")
HOLD = """
from pathlib import Path
from sounding_video.core.errors import InputError
from sounding_video.core.locks import alone
with alone(Path(sys.argv[1]), InputError("no")):
    print("in", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(python_with_package, tmp_path):
    """Another process in the block."""
    process = python_with_package(HOLD, [str(tmp_path / ".lock")], stdin=subprocess.PIPE)
    assert process.stdout.readline() == "in\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_refused_until_the_first_has_gone(holder, tmp_path):
    with pytest.raises(InputError, match="somebody is in there"), alone(tmp_path / ".lock", REFUSED):
        pass
    holder.communicate("", timeout=30)
    assert holder.returncode == 0 and not list(tmp_path.iterdir())
    with alone(tmp_path / ".lock", REFUSED):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert not list(tmp_path.iterdir())


def test_a_killed_one_is_taken_over(holder, tmp_path):
    holder.kill()
    holder.wait()
    with alone(tmp_path / ".lock", REFUSED):
        pass
    assert not list(tmp_path.iterdir())


def test_an_error_inside_is_the_callers_and_leaves_nothing(tmp_path):
    with pytest.raises(OSError, match="inside"), alone(tmp_path / ".lock", REFUSED):
        raise OSError("inside")
    assert not list(tmp_path.iterdir())


def test_a_file_is_locked_until_it_is_closed(tmp_path):
    path = tmp_path / "rows"
    with path.open("ab") as first, path.open("ab") as second:
        assert lock_file(first)
        assert not lock_file(second, wait=False)
        first.close()
        assert lock_file(second, wait=False)
