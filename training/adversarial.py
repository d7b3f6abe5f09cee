"""Critics of pictures and of the images of sounds, and what autoencoder and critics lose by them (PVDM's recipe).

A critic of single images looks at one random image of each clip, another one at the clip. Both are convolutions over
patches (PatchGAN). They normalise over groups of channels: running means would be numbers that learn beside the
optimizer. Losses are hinges; what a critic sees of the true and of the decoded media shall be alike too.

Legend: B batch, C channels, F images, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DEPTH, GROUPS, SLOPE = 3, 4, 0.2


class PatchCritic(nn.Module):
    """Says of each patch how true it looks.

    Args:
        channels: C.
        width: Channels of its first layer; each further one has twice as many.
        dimensions: 2 for images, 3 for clips.
    """

    def __init__(self, channels: int, width: int, dimensions: int) -> None:
        super().__init__()
        convolution = (nn.Conv2d, nn.Conv3d)[dimensions - 2]
        layers = [nn.Sequential(convolution(channels, width, 3, 2, 1), nn.LeakyReLU(SLOPE))]
        for _ in range(DEPTH - 1):
            norm = nn.GroupNorm(GROUPS if (2 * width) % GROUPS == 0 else 1, 2 * width)
            layers.append(nn.Sequential(convolution(width, 2 * width, 3, 2, 1), norm, nn.LeakyReLU(SLOPE)))
            width *= 2
        self.layers = nn.ModuleList([*layers, convolution(width, 1, 3, 1, 1)])

    def forward(self, media: Tensor) -> list[Tensor]:
        """What each layer makes of ``(B, C, …)``; the last one is the verdict."""
        seen = [media]
        for layer in self.layers:
            seen.append(layer(seen[-1]))
        return seen[1:]


class Critics(nn.Module):
    """One critic of images and one of clips for each side.

    Args:
        channels: C of each side's media, by side.
        width: See :class:`PatchCritic`.
    """

    def __init__(self, channels: Mapping[str, int], width: int) -> None:
        super().__init__()
        pairs = {side: [PatchCritic(count, width, dims) for dims in (2, 3)] for side, count in channels.items()}
        self.sides = nn.ModuleDict({side: nn.ModuleList(pair) for side, pair in pairs.items()})

    def forward(self, side: str, media: Tensor, image: Tensor) -> list[list[Tensor]]:
        """What both critics see of media ``(B, C, F, H, W)``, of which ``image (B,)`` is the one to look at."""
        of_images, of_clips = self.sides[side]
        one = media[torch.arange(len(media), device=media.device), :, image]
        return [of_images(one), of_clips(media)]


def critics_loss(true: list[list[Tensor]], made: list[list[Tensor]]) -> Tensor:
    """What critics lose: true patches shall be above 1, made ones below −1."""
    pairs = zip(true, made, strict=True)
    return sum((F.relu(1 - a[-1].float()).mean() + F.relu(1 + b[-1].float()).mean()) / 2 for a, b in pairs)


def deceiving_loss(made: list[list[Tensor]]) -> Tensor:
    """What the autoencoder loses by the verdicts."""
    return -sum(seen[-1].float().mean() for seen in made)


def feature_loss(true: list[list[Tensor]], made: list[list[Tensor]]) -> Tensor:
    """The mean difference of what the layers before the verdict see."""
    pairs = [(a, b) for each in zip(true, made, strict=True) for a, b in zip(each[0][:-1], each[1][:-1], strict=True)]
    return sum(F.l1_loss(b.float(), a.detach().float()) for a, b in pairs) / len(pairs)
