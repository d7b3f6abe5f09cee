"""A custom node pack for the tests of the native sampler: ComfyUI's own models, small and random, without any file."""

import importlib.util
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
TEXTS = ("video_positive", "video_negative", "audio_positive", "audio_negative")


def _load(name: str, file: Path, folder: Path | None = None) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folder and [str(folder)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@lru_cache
def _parts() -> ModuleType:
    """The builders of the tests, which know the package under its own name; ComfyUI loads it under its path."""
    _load("sounding_video", ROOT / "__init__.py", ROOT)
    _load("small_models", ROOT / "tests" / "small_models.py")
    return _load("native_models", HERE.parent / "native_models.py")


@lru_cache
def _models() -> object:
    return _parts().build(ROOT)


class TinyWan:
    CATEGORY, FUNCTION, RETURN_TYPES = "test", "make", ("MODEL",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {}}

    def make(self) -> tuple:
        return (_models().native_wan,)


class TinyStableAudio:
    CATEGORY, FUNCTION, RETURN_TYPES = "test", "make", ("MODEL", "VAE")

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {}}

    def make(self) -> tuple:
        return _models().native_audio, _parts().audio_vae(ROOT)


class TinyBridge:
    CATEGORY, FUNCTION, RETURN_TYPES = "test", "make", ("T2SV_BRIDGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {}}

    def make(self) -> tuple:
        return (_parts().bridges(identity=False),)


class TinyText:
    CATEGORY, FUNCTION, RETURN_TYPES = "test", "make", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"name": (list(TEXTS),)}}

    def make(self, name: str) -> tuple:
        return ([[_parts().texts()[name], {}]],)


NODE_CLASS_MAPPINGS = {node.__name__: node for node in (TinyWan, TinyStableAudio, TinyBridge, TinyText)}
