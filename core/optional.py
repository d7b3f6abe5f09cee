"""Optional packages: one probe, one require that names the pip line. Nothing optional is imported at load."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from .errors import MissingPackageError

# import name -> what pip installs
PIP_NAMES = {
    "av": "av",
    "moviepy": "moviepy",
    "librosa": "librosa",
    "cv2": "opencv-python-headless",
    "xformers": "xformers",
}


def available(name: str) -> bool:
    """Whether a package can be found (it is not imported)."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def require(name: str, purpose: str) -> ModuleType:
    """Import an optional package or say how to get it.

    Args:
        name: Import name, e.g. ``"moviepy"``.
        purpose: What it is needed for, as a noun phrase: "writing video through moviepy".

    Raises:
        MissingPackageError: it is not installed or does not import; the message carries the pip line.
    """
    pip_name = PIP_NAMES.get(name.split(".")[0], name.split(".")[0])
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # the second: a library in it was built for another torch
        raise MissingPackageError(
            f"{purpose} needs the package {pip_name!r}, which does not import ({error})",
            remedy=f"Install it with: pip install {pip_name}",
        ) from error
