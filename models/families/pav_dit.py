"""``pav_dit``: one transformer over the planes of picture and sound, and one autoencoder of both (PAV-DiT).

Its folder holds ``transformer``, ``autoencoder``, ``text_encoder``, ``tokenizer`` and the note ``model.json``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...core.clock import ClipTimes
from ...core.errors import IncompatibleWeightsError, TextError
from ...core.json_text import read_json
from ...core.pair import Pair
from ...core.types import Modality
from ..own import MODEL_NOTE, PUBLISHED, OwnSettings, folder_settings
from ..pav_dit.codec import Face, WholeCodec, dry_autoencoder
from ..pav_dit.finding import is_planes
from ..pav_dit.forms import POCKET, Extent, ProjectedGeometry, read_part
from ..pav_dit.mdsa import SIDES, PavDitAutoencoder
from ..pav_dit.stdit import PavDitTransformer
from ..plan.base import PlainOutline, Workload
from ..plan.outline import without_weights
from ..stock import stock_class, variant_in
from ..text import TEXT_ENCODERS
from ..text._encoder import MOST_TEXT_LENGTH
from ..text.umt5 import UMT5TextEncoder
from ..weights._config import part_outline, read_config
from ..weights._folders import load_part, part_weights
from ..weights._tokenizers import tokenizer_from_folder
from . import FAMILIES
from .base import Family, FamilyModel, FoundFolder, Wishes

if TYPE_CHECKING:
    from ...core.device import Placement

PARTS: dict[str, Any] = {"transformer": PavDitTransformer, "autoencoder": PavDitAutoencoder}
# Open-Sora's, where the tokenizer states none.
TEXT_LENGTH = 300
# Kernels that take masks; what was padded has to be masked.
KERNELS = ("auto", "sdpa")
# What a folder without a note is sampled with.
USUAL = replace(
    PUBLISHED, num_steps=30, video_guidance_scale=3.0, audio_guidance_scale=3.0, video_negative="", audio_negative="",
    captions="short", is_noted=True,
)  # fmt: skip


@dataclass(frozen=True)
class FoundPavDit(FoundFolder):
    """A folder whose autoencoder says which clip it makes, and whose note says the rest."""

    @property
    def own(self) -> OwnSettings:
        """Both together; there is one time for picture and sound, and it is not shifted unless the note says so."""
        noted = folder_settings(self.path)
        config = read_config(PavDitAutoencoder, self.path / "autoencoder")
        extent = read_part(Extent, "extent", config.get("extent", POCKET["extent"]))
        own = noted if noted.is_noted else USUAL
        return replace(
            own, num_frames=extent.frames, fps=extent.rate, width=extent.width, height=extent.height,
            flow_shift=1.0 if own.flow_shift == PUBLISHED.flow_shift else own.flow_shift, schedule="coupled",
            solver="euler",
        )  # fmt: skip


@dataclass(frozen=True)
class PavDitModel(FamilyModel):
    """What was loaded.

    Args:
        name: For lists.
        noted: What it was made for.
        is_trained: False where its note does not say that it was.
        transformer: What denoises.
        text: The caption encoder of both.
        whole: The autoencoder.
        placement: Where it runs.
    """

    name: str
    noted: OwnSettings
    is_trained: bool
    transformer: PavDitTransformer
    text: UMT5TextEncoder
    whole: WholeCodec
    placement: Placement

    hears = frozenset(SIDES)
    processes = Pair("flow", "flow")

    @property
    def description(self) -> str:
        """One line for the user."""
        return f"{self.name} (PAV-DiT)" + ("" if self.trained else "; UNTRAINED weights")

    @property
    def own(self) -> OwnSettings:
        """What it was made for."""
        return self.noted

    @property
    def trained(self) -> bool:
        """Whether its note says so."""
        return self.is_trained

    @property
    def geometry(self) -> ProjectedGeometry:
        """One extent."""
        return self.whole.model.geometry

    @property
    def texts(self) -> Pair[UMT5TextEncoder]:
        """One for both."""
        return Pair.both(self.text)

    @property
    def codecs(self) -> Pair[Face]:
        """Two faces of the autoencoder."""
        return Pair(*(Face(self.whole, side) for side in SIDES))

    @property
    def root(self) -> nn.Module:
        """The transformer."""
        return self.transformer

    def times(self, shapes: Pair[tuple[int, ...]]) -> ClipTimes | None:
        """None: planes know their places."""
        return None

    def outline(self) -> PlainOutline:
        """All of it."""
        modules = (without_weights(part) for part in (self.transformer, self.text.model, self.whole.model))
        return _outline(self.name, *modules, self.text.max_length, is_loaded=True)

    def sampling_outline(self, text_lengths: tuple[int, int]) -> PlainOutline:
        """The transformer."""
        parts = without_weights(self.transformer), without_weights(self.text.model), without_weights(self.whole.model)
        return _outline(self.name, *parts, max(text_lengths) or 1, is_loaded=True).only("sample")


def load_autoencoder(folder: Path, placement: Placement) -> WholeCodec:
    """The autoencoder of a folder alone, in float32.

    Raises:
        MissingModelError, WeightsError: it is not whole.
    """
    whole = WholeCodec(load_part(PavDitAutoencoder, folder, "autoencoder", _dtype("autoencoder", placement)))
    return whole.eval().requires_grad_(False)


@FAMILIES.register("pav_dit")
class PavDit(Family):
    """A folder with ``transformer``, ``autoencoder``, ``text_encoder``, ``tokenizer`` and ``model.json``."""

    title = "PAV-DiT: one transformer over planes"
    processes = PavDitModel.processes

    def recognise(self, folder: Path) -> FoundPavDit | None:
        """By the class that the transformer's configuration names."""
        return FoundPavDit("pav_dit", folder) if is_planes(folder) else None

    def require(self, placement: Placement, wishes: Wishes, *, loras: bool = False) -> None:
        """As of every family; and no kernel that takes no masks."""
        super().require(placement, wishes, loras=loras)
        if placement.attention not in KERNELS:
            self._refuse("masks what was padded", f"attention {placement.attention}", " or ".join(KERNELS))

    def load(self, found: FoundPavDit, placement: Placement, wishes: Wishes) -> PavDitModel:
        """Strictly; the autoencoder in float32, as every codec."""
        folder = found.path
        made = {part: load_part(kind, folder, part, _dtype(part, placement)) for part, kind in PARTS.items()}
        encoder = load_part(_text_class(folder), folder, "text_encoder", placement.dtype)
        _require_fit(folder, *made.values(), encoder)
        tokenizer = tokenizer_from_folder(folder / "tokenizer")
        text = UMT5TextEncoder(tokenizer, encoder, _text_length(tokenizer.model_max_length))
        whole = WholeCodec(made["autoencoder"])
        for module in (made["transformer"], text, whole):
            module.eval().requires_grad_(False)
        return PavDitModel(found.name, found.own, _is_trained(folder), made["transformer"], text, whole, placement)

    def outline(self, found: FoundPavDit, placement: Placement, wishes: Wishes) -> PlainOutline:
        """From configurations, and headers of weights."""
        folder, modules = found.path, []
        for part, kind in {**PARTS, "text_encoder": _text_class(folder)}.items():
            module = part_outline(kind, folder / part, part_weights(folder / part))[1]
            # Of nn.Module: diffusers' own warns of parts that stay in float32, of which there are none.
            modules.append(nn.Module.to(module, _dtype(part, placement)).eval().requires_grad_(False))
        transformer, autoencoder, encoder = modules
        _require_fit(folder, transformer, autoencoder, encoder)
        length = _text_length(tokenizer_from_folder(folder / "tokenizer").model_max_length)
        return _outline(found.name, transformer, encoder, autoencoder, length)


def _dtype(part: str, placement: Placement) -> torch.dtype:
    return torch.float32 if part == "autoencoder" and not placement.cast_everything else placement.dtype


def _text_class(folder: Path) -> Any:
    return stock_class(variant_in(TEXT_ENCODERS, folder / "text_encoder", "umt5"))


def _text_length(said: object) -> int:
    """Tokens of a caption; transformers stands a huge number in for "the tokenizer's file states no length"."""
    return said if type(said) is int and 1 <= said <= MOST_TEXT_LENGTH else TEXT_LENGTH


def _is_trained(folder: Path) -> bool:
    """Whether ``model.json`` says that all parts were trained; the weights alone cannot tell."""
    try:
        note = read_json(folder / MODEL_NOTE)
    except TextError:
        return False
    return isinstance(note, dict) and note.get("trained") is True


def _require_fit(
    folder: Path, transformer: PavDitTransformer, autoencoder: PavDitAutoencoder, encoder: nn.Module
) -> None:
    ours, theirs = transformer.config, autoencoder.config
    pairs = {
        "grid": (list(ours.grid), list(theirs.grid)),
        "latent channels": (ours.latent_channels, theirs.latent_channels),
        "width of the texts": (ours.text_width, encoder.config.d_model),
    }
    wrong = [f"{name} {mine} of the transformer and {other}" for name, (mine, other) in pairs.items() if mine != other]
    if wrong:
        raise IncompatibleWeightsError(
            "the parts of this model do not belong together", got=f"{folder}: {'; '.join(wrong)}", expected="the same"
        )


def _outline(
    name: str, transformer: PavDitTransformer, text: nn.Module, autoencoder: PavDitAutoencoder, text_length: int, *,
    is_loaded: bool = False,
) -> PlainOutline:  # fmt: skip
    """All parts, on ``meta``."""
    meta = torch.device("meta")

    def sample(work: Workload, batched: bool) -> Callable[[], object] | None:
        rows, like = 2 if batched and work.guided else 1, {"dtype": transformer.dtype, "device": meta}

        def side(shape: tuple[int, ...] | None) -> Modality | None:
            if shape is None:
                return None
            texts = torch.empty(rows * shape[0], text_length, transformer.config.text_width, **like)
            latents = torch.empty(rows * shape[0], *shape[1:], **like)
            return Modality(latents, torch.empty(1, device=meta), texts)

        sides = side(work.video_shape), side(work.audio_shape)
        return None if sides == (None, None) else lambda: transformer(*sides)

    def encode(work: Workload, _: bool) -> Callable[[], object]:
        ids = torch.zeros(1, text_length, dtype=torch.int64, device=meta)
        return lambda: text(ids, attention_mask=torch.ones_like(ids)).last_hidden_state

    parts, uses, runs = dry_autoencoder(autoencoder)
    first = {stage: run for stage, run in runs.items() if stage.startswith("encode")}
    last = {stage: run for stage, run in runs.items() if stage not in first}
    return PlainOutline(
        name,
        {"transformer": transformer, "text": text, **parts},
        {"transformer": ("sample",), "text": ("encode",), **uses},
        {**first, "encode": encode, "sample": sample, **last},
        autoencoder.geometry,
        is_loaded=is_loaded,
    )
