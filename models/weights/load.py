"""Load towers with their codecs and text encoders from diffusers folders, strictly and without network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ...core.device import Placement
from ...core.errors import IncompatibleWeightsError, MissingModelError, UnsafeWeightsError
from ..attention import AttentionKernel, use_kernel
from ..codecs import CODECS
from ..parts import AudioParts, VideoParts
from ..text import TEXT_ENCODERS
from ..towers import TOWERS
from .files import check_safetensors
from .find import pocket_folder, tower_kind

PARTS = {
    "wan": ("transformer", "vae", "text_encoder", "tokenizer"),
    "stable_audio": ("transformer", "vae", "text_encoder", "tokenizer", "projection_model"),
}
TITLES = {"wan": "Wan 2.1", "stable_audio": "Stable Audio Open"}


def load_wan(folder: str | Path, placement: Placement, *, text_length: int = 1024) -> VideoParts:
    """The video side from a Wan 2.1 diffusers folder.

    Args:
        folder: Holds transformer, vae, text_encoder and tokenizer.
        placement: dtype and kernel; weights stay on the CPU until a stage runs.
        text_length: Text tokens, zero-padded: 1024 as the published system samples, 512 as stock Wan.

    Raises:
        MissingModelError, CorruptWeightsError, IncompatibleWeightsError: see the messages.
    """
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import AutoTokenizer, UMT5EncoderModel

    folder = _require_folder(folder, "wan")
    transformer = _load(WanTransformer3DModel, folder, "transformer", placement.dtype)
    vae = _load(AutoencoderKLWan, folder, "vae", _vae_dtype(placement))
    encoder = _load(UMT5EncoderModel, folder, "text_encoder", placement.dtype)
    tokenizer = _guard(
        lambda: AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True), folder / "tokenizer"
    )
    return VideoParts(
        TOWERS.get("wan")(_prepare(transformer, placement)),
        CODECS.get("wan_vae")(_prepare(vae, placement)),
        TEXT_ENCODERS.get("umt5")(tokenizer, _prepare(encoder, placement), max_length=text_length),
        placement,
        folder.name,
        is_trained(folder),
    )


def load_stable_audio(folder: str | Path, placement: Placement) -> AudioParts:
    """The audio side from a Stable Audio Open diffusers folder; arguments and errors as :func:`load_wan`."""
    from diffusers import AutoencoderOobleck, StableAudioDiTModel, StableAudioProjectionModel
    from transformers import AutoTokenizer, T5EncoderModel

    folder = _require_folder(folder, "stable_audio")
    transformer = _load(StableAudioDiTModel, folder, "transformer", placement.dtype)
    vae = _load(AutoencoderOobleck, folder, "vae", _vae_dtype(placement))
    encoder = _load(T5EncoderModel, folder, "text_encoder", placement.dtype)
    projection = _load(StableAudioProjectionModel, folder, "projection_model", placement.dtype)
    tokenizer = _guard(
        lambda: AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True), folder / "tokenizer"
    )
    return AudioParts(
        TOWERS.get("stable_audio")(_prepare(transformer, placement)),
        CODECS.get("oobleck")(_prepare(vae, placement)),
        TEXT_ENCODERS.get("t5")(tokenizer, _prepare(encoder, placement), _prepare(projection, placement)),
        placement,
        folder.name,
        is_trained(folder),
    )


def is_trained(path: Path) -> bool:
    """False only for the bundled model while its ``pocket.json`` says so."""
    root = pocket_folder()
    note = root / "pocket.json"
    if root not in path.resolve().parents or not note.is_file():
        return True
    return bool(json.loads(note.read_text(encoding="utf-8"))["trained"])


def _vae_dtype(placement: Placement) -> torch.dtype:
    """Codecs decode in float32, which is visibly and audibly better, unless the official rounding is asked for."""
    return placement.dtype if placement.cast_everything else torch.float32


def _prepare(module: torch.nn.Module, placement: Placement) -> torch.nn.Module:
    module = module.eval().requires_grad_(False)
    if placement.cast_everything:
        module = torch.nn.Module.to(module, placement.dtype)
    if placement.attention != "auto":
        kernel = AttentionKernel(placement.attention)
        kernel.probe(placement.device, placement.dtype)
        use_kernel(module, kernel)
    return module


def _require_folder(folder: str | Path, kind: str) -> Path:
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise MissingModelError(f"the {TITLES[kind]} folder was not found", got=folder, expected="a diffusers folder")
    missing = [name for name in PARTS[kind] if not (folder / name).is_dir()]
    if missing:
        raise MissingModelError(
            f"the {TITLES[kind]} folder is incomplete",
            got=f"{folder} without {', '.join(missing)}",
            expected="the sub-folders " + ", ".join(PARTS[kind]),
            remedy="Copy the whole diffusers repository of the model, not single files.",
        )
    found = tower_kind(folder)
    if found != kind:
        what = TITLES[found] if found else "an unknown model or no transformer/config.json"
        raise IncompatibleWeightsError(
            f"the folder is not a {TITLES[kind]} model", got=f"{folder} ({what})", expected=TITLES[kind]
        )
    return folder


def _load(model_class: Any, folder: Path, part: str, dtype: torch.dtype) -> torch.nn.Module:
    """One component, from safetensors only, with every key accounted for."""
    where = folder / part
    _require_safetensors(where)
    model, report = _guard(
        lambda: model_class.from_pretrained(
            where, torch_dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
        ),
        where,
    )
    problems = {
        "missing": _names(report["missing_keys"]),
        "unexpected": _names(report["unexpected_keys"]),
        "misshapen": _names(report.get("mismatched_keys", ())),
    }
    problems["missing"] = [name for name in problems["missing"] if not name.startswith("encoder.embed_tokens")]
    if any(problems.values()):
        got = "; ".join(f"{len(names)} {word} ({', '.join(names[:3])})" for word, names in problems.items() if names)
        raise IncompatibleWeightsError(
            f"the weights of {part} do not fit its configuration",
            got=f"{where}: {got}",
            expected="exactly the configured tensors",
        )
    return model


def _names(keys: Any) -> list[str]:
    return sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys)


def _require_safetensors(where: Path) -> None:
    if not (where / "config.json").is_file():
        raise MissingModelError(
            "a model part has no configuration",
            got=f"{where} without config.json",
            expected="config.json beside the weights",
        )
    files = sorted(where.glob("*.safetensors"))
    for file in files:
        check_safetensors(file)  # a header that promises more than the file holds is found before anything is built
    if files:
        return
    pickles = sorted(file.name for suffix in ("*.bin", "*.pt", "*.ckpt", "*.pth") for file in where.glob(suffix))
    if pickles:
        raise UnsafeWeightsError(
            "the weights are a pickle, which can run code, so they were not loaded",
            got=f"{where / pickles[0]}",
            expected="a .safetensors file",
            remedy="Get the safetensors version of the model.",
        )
    raise MissingModelError("a model part has no weights", got=where, expected="a .safetensors file beside config.json")


def _guard(load: Callable[[], Any], where: Path) -> Any:
    """Run a library's loader and turn its failures into sentences that name the folder."""
    try:
        return load()
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise IncompatibleWeightsError(
            "a model part cannot be loaded",
            got=f"{where} ({type(error).__name__}: {str(error).splitlines()[0][:300]})",
            expected="a diffusers sub-folder with matching config.json and safetensors",
        ) from error
