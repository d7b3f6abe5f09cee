"""The published models by name, on the ``meta`` device: nothing has to be on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ...core.errors import require_choice
from ..bridges.config import BridgeConfig
from ..codecs.wan_vae import WanVAECodec
from ..empty import on_meta
from ..joint import BridgeStack, JointModel
from ..points import placement as named_placement
from ..towers.stable_audio import StableAudioTower
from ..towers.wan import WanTower
from .outline import Outline, type_of_codecs, typed

if TYPE_CHECKING:
    from ...core.device import Placement

# Published sizes: BridgeDiT reference, sections 1.2 and 1.3; T5, Oobleck and the audio tower are the classes' defaults.
SHAPES = ("wan-1.3b", "wan-14b")
_WAN = {
    "wan-1.3b": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
    "wan-14b": {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40},
}
_UMT5_XXL = {"vocab_size": 256_384, "d_model": 4096, "d_ff": 10_240, "num_layers": 24, "num_heads": 64, "d_kv": 64}
_T5_BASE = {"vocab_size": 32_128, "d_model": 768, "d_ff": 3072, "num_layers": 12, "num_heads": 12, "d_kv": 64}


def outline_shapes(name: str, placement: Placement) -> Outline:
    """The outline of the published models; nothing has to be on disk.

    Args:
        name: One of ``SHAPES``; Stable Audio Open and four ``dual_cross`` bridges go with both.
        placement: Gives the number types.

    Raises:
        InputError: another name.
    """
    from diffusers import (
        AutoencoderKLWan,
        AutoencoderOobleck,
        StableAudioDiTModel,
        StableAudioProjectionModel,
        WanTransformer3DModel,
    )
    from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

    require_choice("model shape", name, SHAPES)
    with on_meta():
        modules = [
            WanTransformer3DModel(**_WAN[name]),
            StableAudioDiTModel(),
            UMT5EncoderModel(UMT5Config(**_UMT5_XXL, feed_forward_proj="gated-gelu")),
            T5EncoderModel(T5Config(**_T5_BASE)),
            StableAudioProjectionModel(768, 768, 0, 512),
        ]
        codecs = [AutoencoderKLWan(), AutoencoderOobleck()]
    video, audio, umt5, t5, projection = (typed(module, placement.dtype) for module in modules)
    vae, oobleck = (typed(module, type_of_codecs(placement)) for module in codecs)
    towers = WanTower(video), StableAudioTower(audio)
    config = BridgeConfig(video_width=towers[0].width, video_time_width=towers[0].width)
    with on_meta():
        stack = BridgeStack("dual_cross", config, named_placement("uniform_early")).to(placement.dtype)
    joint = JointModel(*towers, stack).eval()
    return Outline(
        f"{name} + stable-audio-open", joint, umt5, nn.ModuleList([t5, projection]), WanVAECodec(vae), oobleck
    )
