"""Statistics of an autoencoder's latents, measured and put where towers look for them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from diffusers import AutoencoderKLWan, AutoencoderOobleck
from torch import Tensor


@torch.no_grad()
def latent_statistics(
    vae: AutoencoderKLWan | AutoencoderOobleck, samples: Iterable[Tensor]
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of every latent channel, as Wan's ``vae/config.json`` states them."""
    means, variances = [], []
    for batch in samples:
        posterior = vae.encode(batch).latent_dist
        means.append(posterior.mean.float().cpu().transpose(0, 1).flatten(1))
        variances.append(posterior.std.float().square().cpu().transpose(0, 1).flatten(1))
    mean, within = torch.cat(means, 1), torch.cat(variances, 1)
    # What towers see is drawn from the posterior, so its own variance counts.
    std = (mean.var(1) + within.mean(1)).sqrt().clamp_min(1e-4)
    return mean.mean(1).tolist(), std.tolist()


@torch.no_grad()
def rescale_latents(vae: AutoencoderOobleck, std: list[float]) -> None:
    """Give every latent channel a deviation of one, inside the weights: Stable Audio has no place for statistics.

    The posterior's mean and the decoder stay exact inverses of what they were; its deviation (a softplus) does so as
    far as it is small.

    Args:
        vae: Changed in place: the encoder's last convolution and the decoder's first one.
        std: Measured, one a channel.
    """
    deviation = torch.tensor(std, device=vae.device)
    last, first, channels = vae.encoder.conv2, vae.decoder.conv1, len(std)
    last.weight_g[:channels] /= deviation[:, None, None]
    last.bias[:channels] /= deviation
    last.bias[channels:] -= deviation.log()
    weight = torch._weight_norm(first.weight_v, first.weight_g, 0) * deviation[None, :, None]
    first.weight_v.copy_(weight)
    first.weight_g.copy_(weight.norm(dim=(1, 2), keepdim=True))
