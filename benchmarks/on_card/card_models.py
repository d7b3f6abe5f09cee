"""The models of ``card.py``: random numbers at the published sizes, drawn on the card; or the bundled small model."""

from __future__ import annotations

import copy
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import torch
from joint_step import typed
from sounding_video.core.clock import Timeline
from sounding_video.core.device import Placement
from sounding_video.core.residency import unused_bytes
from sounding_video.core.sizes import size_text
from sounding_video.models.codecs.oobleck import OobleckCodec
from sounding_video.models.codecs.wan_vae import WanVAECodec
from sounding_video.models.families.pav_dit import USUAL, PavDitModel
from sounding_video.models.joined import JoinedModel
from sounding_video.models.joint import JointModel
from sounding_video.models.parts import AudioParts, VideoParts
from sounding_video.models.pav_dit import forms, stdit
from sounding_video.models.pav_dit.codec import WholeCodec
from sounding_video.models.pav_dit.mdsa import PavDitAutoencoder
from sounding_video.models.plan.needs import Needs, Workload
from sounding_video.models.plan.outline import Outline
from sounding_video.models.plan.plans import required_bytes
from sounding_video.models.plan.published import outline_shapes
from sounding_video.models.text.t5 import T5TextEncoder
from sounding_video.models.text.umt5 import UMT5TextEncoder
from torch import nn

SHAPE = "wan-1.3b"
# Width, height and frames, the published clip first.
SIZES = ((832, 480, 81), (832, 480, 33), (512, 320, 33), (256, 256, 17))
FPS = Fraction(15)
# Main memory that all weights take, with room to draw them.
ALL_WEIGHTS_BYTES = 26e9
FEW_LAYERS = 2
PLANES_TEXT = 300


def largest(placement: Placement, free_bytes: int) -> tuple[Timeline, str]:
    """The largest clip of which a joint step fits a card with all of towers and bridges on it, and why.

    Args:
        placement: Device and type.
        free_bytes: Of the card.
    """
    outline = replace(
        outline_shapes(SHAPE, placement), video_text=None, audio_text=None, video_codec=None, audio_vae=None
    )
    told: list[str] = []
    for width, height, frames in SIZES:
        timeline = Timeline(frames, FPS, width, height)
        needs = Needs(outline, Workload.of(timeline, guided=False))
        peak = needs.weights_on_device("sample", "none", prefetch=True) + needs.activations("sample")
        needed = required_bytes(peak, placement.device)
        told.append(f"{width}×{height}×{frames} needs {size_text(needed)}")
        if needed <= free_bytes:
            break
    return timeline, f"{', '.join(told)} of {size_text(free_bytes)} free memory for a joint step, says the planner"


def published(placement: Placement) -> tuple[JoinedModel, PavDitModel, str]:
    """Wan 1.3B, Stable Audio Open, ``dual_cross`` bridges, UMT5-XXL, T5, both codecs and a PAV-DiT, in main memory.

    Args:
        placement: Where numbers are drawn, and in which type.

    Returns:
        Both models, and a sentence where something had to be smaller; else an empty one.
    """
    outline, told = outline_shapes(SHAPE, placement), ""
    if unused_bytes(torch.device("cpu")) < ALL_WEIGHTS_BYTES:
        told = f"main memory is short: text encoders have {FEW_LAYERS} layers"
        for encoder in (outline.video_text, outline.audio_text[0]):
            del encoder.encoder.block[FEW_LAYERS:]
    joint = JointModel(
        *(type(tower)(_anew(tower.model, placement)) for tower in (outline.joint.video, outline.joint.audio)),
        with_numbers(outline.joint.bridges, placement.device),
    ).eval()
    texts = [_text(outline, side, placement) for side in ("video", "audio")]
    vae, oobleck = _anew(outline.video_codec.vae, placement), _anew(outline.audio_vae, placement)
    video = VideoParts(joint.video, WanVAECodec(vae), texts[0], placement, SHAPE, trained=False)
    audio = AudioParts(joint.audio, OobleckCodec(oobleck), texts[1], placement, "stable-audio-open", trained=False)
    model = JoinedModel(joint, video, audio, placement, "dual_cross", bridges_trained=False)
    return model, planes(texts[0], placement), told


def _text(outline: Outline, side: str, placement: Placement) -> UMT5TextEncoder | T5TextEncoder:
    """A text encoder whose tokens nobody needs."""
    tokenizer = SimpleNamespace(pad_token_id=0, model_max_length=outline.audio_text_length)
    if side == "video":
        encoder = with_numbers(outline.video_text, placement.device)
        return UMT5TextEncoder(tokenizer, encoder, outline.video_text_length)
    encoder, projection = with_numbers(outline.audio_text, placement.device)
    return T5TextEncoder(tokenizer, encoder, projection)


def planes(text: UMT5TextEncoder, placement: Placement) -> PavDitModel:
    """A PAV-DiT of the published form that reads with an encoder that is there."""
    with torch.device(placement.device):
        parts = stdit.PavDitTransformer(**stdit.PUBLISHED), PavDitAutoencoder(**forms.PUBLISHED)
    transformer, autoencoder = (part.eval().requires_grad_(False).to("cpu") for part in parts)
    extent = autoencoder.geometry.extent
    own = replace(USUAL, num_frames=extent.frames, fps=extent.rate, width=extent.width, height=extent.height)
    reader = UMT5TextEncoder(text.tokenizer, text.model, PLANES_TEXT)
    rest = {"transformer": transformer.to(placement.dtype), "text": reader, "whole": WholeCodec(autoencoder)}
    return PavDitModel("pav-dit", own, False, **rest, placement=placement)


def _anew(empty: nn.Module, placement: Placement) -> nn.Module:
    """A stock module as its class makes it, from the configuration of an empty one, with the types of that."""
    with torch.device(placement.device):
        made = type(empty).from_config(empty.config)
    made = typed(made, empty.dtype) if placement.dtype == empty.dtype else made
    return made.eval().requires_grad_(False).to("cpu")


def with_numbers(empty: nn.Module, device: torch.device, spread: float = 0.02) -> nn.Module:
    """A copy of a module on ``meta`` in main memory, tensor by tensor with numbers that the device draws."""
    memo: dict[int, Any] = {}
    for tensor in (*empty.parameters(), *empty.buffers()):
        drawn = torch.randn(tensor.shape, device=device, dtype=torch.float32).mul_(spread).to("cpu", tensor.dtype)
        memo[id(tensor)] = nn.Parameter(drawn, False) if isinstance(tensor, nn.Parameter) else drawn
    return copy.deepcopy(empty, memo).eval()
