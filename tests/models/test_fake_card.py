"""The real code at the real size on a card that is not there: one device, right shapes, and the planner's bytes.

Fake tensors run every operation's shape, type and device rules and refuse two devices in one; what is alive on the card
is counted here by itself, not by the planner's own counter.
"""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from sounding_video.models.codecs.wan_vae import WanVAECodec
from sounding_video.models.plan.needs import Needs, Workload
from sounding_video.models.plan.outline import Outline
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

VIDEO_SHAPE, AUDIO_SHAPE = (1, 16, 21, 60, 104), (1, 64, 116)  # 81 frames of 832×480, 5.4 s


class CardBytes(TorchDispatchMode):
    """Bytes of the storages on the card that operations made and that somebody still holds."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor) and leaf.device.type == "cuda":
                storage = leaf.untyped_storage()
                if storage._cdata not in self.sizes:
                    self.sizes[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._gone, storage._cdata)
        return made

    def _gone(self, storage: int) -> None:
        self.now -= self.sizes.pop(storage, 0)


@pytest.mark.parametrize("tiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_encoding_the_published_clip_takes_what_is_foretold(tiled: bool) -> None:
    from diffusers import AutoencoderKLWan

    with torch.device("meta"):
        outline = Outline("", None, None, None, WanVAECodec(AutoencoderKLWan().eval()), None)
    foretold = Needs(outline, Workload(VIDEO_SHAPE, None, encoded=("video",), decoded=()))
    with FakeTensorMode(), torch.no_grad():
        with torch.device("cuda"):
            vae = AutoencoderKLWan().eval()
        vae.use_tiling = tiled
        frames = torch.empty(81, 480, 832, 3)
        with CardBytes() as card:
            pictures = (frames.permute(3, 0, 1, 2)[None] * 2 - 1).to("cuda")
            latents = vae.encode(pictures).latent_dist.mode()
    assert latents.shape == VIDEO_SHAPE and latents.device.type == "cuda" and latents.dtype == torch.float32
    assert foretold.activations("encode video", tiled=tiled) == pytest.approx(card.peak, rel=0.05)


def test_encoding_the_published_sound_takes_what_is_foretold() -> None:
    from diffusers import AutoencoderOobleck

    with torch.device("meta"):
        outline = Outline("", None, None, None, None, AutoencoderOobleck().eval())
    foretold = Needs(outline, Workload(None, AUDIO_SHAPE, encoded=("audio",), decoded=()))
    with FakeTensorMode(), torch.no_grad():
        with torch.device("cuda"):
            vae = AutoencoderOobleck().eval()
        with CardBytes() as card:
            # Rounded up to whole latents.
            latents = vae.encode(torch.empty(1, 2, 117 * 2048, device="cuda")).latent_dist.mode()
    assert latents.shape == (1, 64, 117) and latents.device.type == "cuda"
    assert foretold.activations("encode audio") == pytest.approx(card.peak, rel=0.05)
