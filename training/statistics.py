"""Statistics of an autoencoder's latents, measured and put where towers look for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from diffusers import AutoencoderKLWan, AutoencoderOobleck
from torch import Tensor

from ..models.pav_dit.mdsa import PavDitAutoencoder


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


@torch.no_grad()
def plane_statistics(
    autoencoder: PavDitAutoencoder, clips: Iterable[Mapping[str, Tensor]], *, drawn: bool
) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the latents of each side, plane and channel, ``(2, 3, C)`` each.

    Args:
        autoencoder: Of PAV-DiT.
        clips: ``video`` and ``audio (1, …)``, as it takes them.
        drawn: Whether what is trained on is drawn from the posteriors, whose own variance then counts.
    """
    found: dict[tuple[int, int], list[Tensor]] = {}
    within: dict[tuple[int, int], list[Tensor]] = {}
    for clip in clips:
        for side, moments in enumerate(autoencoder.encode(clip["video"], clip["audio"])):
            values = autoencoder.latents(moments).float().cpu()
            variances = torch.zeros_like(values)
            if drawn and autoencoder.bound == "gaussian":
                variances = autoencoder.posterior(moments).var[:, :, 0].float().cpu()
            for key, parts in ((found, values), (within, variances)):
                for plane, part in enumerate(parts.split(autoencoder.grid.places, dim=2)):
                    key.setdefault((side, plane), []).append(part.transpose(0, 1).flatten(1))
    means, deviations = torch.empty(2, 3, values.shape[1]), torch.empty(2, 3, values.shape[1])
    for place, parts in found.items():
        every = torch.cat(parts, dim=1)
        means[place] = every.mean(1)
        deviations[place] = (every.var(1, correction=0) + torch.cat(within[place], dim=1).mean(1)).sqrt()
    return means, deviations.clamp_min(1e-4)
