"""Optional packages: a probe that imports nothing, and a require that names the pip line."""

from __future__ import annotations

import sys

import pytest
from sounding_video.core.errors import MissingPackageError
from sounding_video.core.optional import available, require


def test_a_package_that_is_there(tmp_path, monkeypatch):
    (tmp_path / "small_extra.py").write_text("VALUE = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert available("small_extra") and "small_extra" not in sys.modules
    assert require("small_extra", "a test").VALUE == 3


@pytest.mark.parametrize("name", ["no_such_extra", "no_such_extra.part"])
def test_a_package_that_is_missing_names_the_pip_line(name):
    assert not available(name)
    with pytest.raises(MissingPackageError) as caught:
        require(name, "writing video through it")
    assert "writing video through it needs the package" in str(caught.value)
    assert "pip install no_such_extra" in str(caught.value)
    assert caught.value.exit_code == 3


def test_the_pip_name_may_differ_from_the_import_name(tmp_path, monkeypatch):
    """A package that is installed but broken is as good as missing, and the message says what broke."""
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1 is missing')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    with pytest.raises(MissingPackageError, match=r"libGL\.so\.1 is missing.*pip install opencv-python-headless"):
        require("cv2", "reading optical flow")
