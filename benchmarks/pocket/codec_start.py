"""Where the pocket codecs' training starts: the straight way through each network carries the signal.

The stock initialisation shrinks what passes through every convolution, and normalisation layers then forget how bright
a flat surface is; a few thousand steps on a CPU cannot repair that. Here residual branches begin at (almost) zero, what
lies between them begins orthogonal, and one channel holds a constant, beside which normalisation keeps magnitudes.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan, AutoencoderOobleck
from diffusers.models.autoencoders.autoencoder_kl_wan import WanAttentionBlock, WanResample, WanResidualBlock
from diffusers.models.autoencoders.autoencoder_oobleck import OobleckResidualUnit
from torch import Tensor, nn

CONSTANT = 1.0
# Added to orthogonal kernels so that their other taps learn too, relative to the stock deviation.
SCATTER = 0.3
FIRST_LOGVAR = -4.0
FIRST_SCALE = -3.0
BRANCH = 0.1
FULL_RATE_CHANNELS = 16


@torch.no_grad()
def straight_wan_vae(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Start the video codec as an almost linear pyramid; changed in place and returned."""
    for module in vae.modules():
        if isinstance(module, WanResidualBlock):
            _zero(module.conv2)
            if isinstance(module.conv_shortcut, nn.Conv3d):
                nn.init.orthogonal_(module.conv_shortcut.weight)
                nn.init.zeros_(module.conv_shortcut.bias)
        elif isinstance(module, WanAttentionBlock):
            _zero(module.proj)
        elif isinstance(module, WanResample) and module.mode != "none":
            _straighten_resample(module)
    for convolution in (vae.encoder.conv_in, vae.encoder.conv_out, vae.decoder.conv_in, vae.decoder.conv_out):
        convolution.weight.mul_(SCATTER)
        convolution.weight[:, :, -1, 1, 1] += _orthogonal(*convolution.weight.shape[:2])
        nn.init.zeros_(convolution.bias)
    for convolution in (vae.quant_conv, vae.post_quant_conv):
        nn.init.dirac_(convolution.weight)
        nn.init.zeros_(convolution.bias)
    vae.quant_conv.bias[vae.config.z_dim :] = FIRST_LOGVAR
    for part in (vae.encoder, vae.decoder):
        _carry_constant(part)
    return vae


def _zero(convolution: nn.Module) -> None:
    nn.init.zeros_(convolution.weight)
    nn.init.zeros_(convolution.bias)


def _orthogonal(rows: int, columns: int) -> Tensor:
    return nn.init.orthogonal_(torch.empty(rows, columns))


def _scatter(weight: Tensor) -> Tensor:
    return torch.randn_like(weight) * SCATTER / weight[0].numel() ** 0.5


def _straighten_resample(module: WanResample) -> None:
    """Down: an orthogonal projection of 2 by 2 pixels and the mean of two frames. Up: copies."""
    down, convolution = module.mode.startswith("down"), module.resample[1]
    weight = convolution.weight
    _zero(convolution)
    rows, columns = weight.shape[:2]
    if down:
        weight[:, :, :2, :2] = _orthogonal(rows, columns * 4).view(rows, columns, 2, 2)
    else:
        weight[:, :, 1, 1] = _orthogonal(rows, columns)
        weight += _scatter(weight)
    if not hasattr(module, "time_conv"):
        return
    weight = module.time_conv.weight
    _zero(module.time_conv)
    identity = torch.eye(weight.shape[1])
    if down:
        weight[:, :, 1, 0, 0] = weight[:, :, 2, 0, 0] = identity / 2
    else:
        weight[:, :, -1, 0, 0] = torch.cat([identity, identity])
    weight += _scatter(weight)


def _carry_constant(part: nn.Module) -> None:
    """Let the last channel hold a constant on the whole way, and the last stage hold every signal with both signs."""
    resamples = [m for m in part.modules() if isinstance(m, WanResample) and m.mode != "none"]
    # SiLU(x) - SiLU(-x) = x, so a pair passes the last activation unchanged.
    last = resamples[-1].resample[1].weight
    half = last.shape[0] // 2
    last[half:-1] = -last[: last.shape[0] - 1 - half]
    for convolution in [part.conv_in, *(m.resample[1] for m in resamples)]:
        _hold(convolution, 1)
    for module in resamples:
        if hasattr(module, "time_conv"):
            _hold(module.time_conv, 2 if module.mode.startswith("up") else 1)
    for module in part.modules():
        if isinstance(module, WanResidualBlock) and isinstance(module.conv_shortcut, nn.Conv3d):
            _hold(module.conv_shortcut, 1)


def _hold(convolution: nn.Module, num_groups: int) -> None:
    size = convolution.weight.shape[0] // num_groups
    for row in range(size - 1, convolution.weight.shape[0], size):
        convolution.weight[row] = 0
        convolution.bias[row] = CONSTANT


@torch.no_grad()
def straight_oobleck(vae: AutoencoderOobleck) -> AutoencoderOobleck:
    """Start the audio codec with a gain of one on its straight way; changed in place and returned.

    The residual units at the full sample rate are left idle (their last convolution is zero): they would take nine
    tenths of the time.
    """
    idle = {
        id(unit)
        for block in (vae.encoder.block[0], vae.decoder.block[-1])
        for unit in block.modules()
        if isinstance(unit, OobleckResidualUnit)
    }
    inside = set()
    for unit in vae.modules():
        if isinstance(unit, OobleckResidualUnit):
            inside |= {id(module) for module in unit.modules()}
            unit.conv2.weight_g.mul_(0 if id(unit) in idle else BRANCH)
            nn.init.zeros_(unit.conv2.bias)
    for module in vae.modules():
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)) and id(module) not in inside:
            # The stock kernels have a variance of 1 / (3 fan-in).
            module.weight_g.mul_(3**0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif hasattr(module, "beta"):
            nn.init.ones_(module.beta)
    # At the full sample rate few channels are used, which is all that a strided filterbank needs.
    vae.encoder.conv1.weight_g[FULL_RATE_CHANNELS:] = 0
    vae.encoder.block[0].conv1.weight_v[:, FULL_RATE_CHANNELS:] = 0
    vae.decoder.block[-1].conv_t1.weight_v[:, FULL_RATE_CHANNELS:] = 0
    vae.decoder.conv2.weight_v[:, FULL_RATE_CHANNELS:] = 0
    last, channels = vae.encoder.conv2, vae.config.decoder_input_channels
    last.weight_g[channels:].mul_(BRANCH)
    last.bias[channels:] = FIRST_SCALE
    return vae
