"""Decoded frames go to the host without anybody waiting for each of them."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKLWan
from fake_card import fake_card, on_card
from sounding_video.models.codecs import _to_host
from sounding_video.models.codecs.wan_vae import WanVAECodec


@pytest.fixture(scope="module")
def vae(small_models_dir) -> AutoencoderKLWan:
    return AutoencoderKLWan.from_pretrained(small_models_dir / "wan/vae").eval()


def stock(vae: AutoencoderKLWan, raw: torch.Tensor, tiled: bool) -> torch.Tensor:
    vae.use_tiling = tiled
    try:
        with torch.no_grad():
            return vae.decode(raw).sample
    finally:
        vae.use_tiling = False


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("tiled", [False, True])
def test_the_clip_is_the_stock_one_to_the_bit(vae: AutoencoderKLWan, frames: int, tiled: bool, monkeypatch) -> None:
    for name, value in {"min_height": 32, "min_width": 32, "stride_height": 24, "stride_width": 24}.items():
        monkeypatch.setattr(vae, f"tile_sample_{name}", value)
    raw = torch.randn(1, vae.config.z_dim, frames, 6, 9)
    wanted = stock(vae, raw, tiled)
    with _to_host.frames_to_host(vae.decoder):
        made = stock(vae, raw, tiled)
    assert type(made) is torch.Tensor and torch.equal(made, wanted)
    assert torch.equal(stock(vae, raw, tiled), wanted)


@pytest.mark.parametrize("tiling", ["off", "on"])
@pytest.mark.parametrize("flying", [2**40, 1])
def test_a_card_is_waited_for_once(vae: AutoencoderKLWan, tiling: str, flying: int, monkeypatch) -> None:
    """However many frames and tiles; where little memory may be held still, once for each of them, as before."""
    waits, latents = [], torch.randn(1, vae.config.z_dim, 4, 40, 36)
    monkeypatch.setattr(_to_host, "MOST_FLYING_BYTES", flying)
    monkeypatch.setattr("sounding_video.models.codecs.wan_vae.require_finite", lambda *_: None)
    with fake_card():
        monkeypatch.setattr(_to_host, "wait_for", waits.append)
        pictures = WanVAECodec(on_card(vae)).decode(latents, tiling=tiling)
    assert pictures.shape == (13, 320, 288, 3)
    assert len(waits) == (1 if flying > 1 else 4 * (4 if tiling == "on" else 1))
