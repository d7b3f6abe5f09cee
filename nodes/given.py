"""What a sampler node is given: a LATENT whose content counts, as a whole by the task or in part by its mask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import InputError, require_choice
from ..core.pair import MODALITIES, THINGS, Pair
from ..core.protocols import Codec
from ..core.types import JointLatents
from ..sampling.given import Given
from ..sampling.options import SamplingOptions
from .host import io

BOTH, SOUND, PICTURE = "both", "sound for the picture", "picture for the sound"
TASKS = (BOTH, SOUND, PICTURE)
GIVEN_BY = {SOUND: "video", PICTURE: "audio"}


def task_input() -> io.Input:
    """The choice of what is made, to be appended."""
    return io.Combo.Input(
        "task",
        options=list(TASKS),
        default=BOTH,
        optional=True,
        tooltip="both: picture and sound are made. sound for the picture: the video latent (from Encode Clip) stays as "
        "it is and gets a sound. picture for the sound: the other way round. A latent with a noise mask (Set Latent "
        "Noise Mask) keeps what the mask leaves out, whatever the task.",
    )


def made_by(task: str) -> str:
    """What a task makes, in the words of bridge files: ``joint``, ``v2a`` or ``a2v``.

    Raises:
        InputError: another task.
    """
    require_choice("task", task, TASKS)
    return {SOUND: "v2a", PICTURE: "a2v"}.get(task, "joint")


def given_latents(
    task: str,
    latents: Mapping[str, Mapping[str, Any] | None],
    options: SamplingOptions,
    clean: Mapping[str, Callable[[Tensor], Tensor]],
) -> Pair[Given]:
    """What is known of each modality.

    Args:
        task: One of ``TASKS``.
        latents: LATENTs by modality, in the codecs' own space.
        options: How a given modality is shown.
        clean: By modality, from the codec's own space to the tower's.

    Raises:
        InputError: another task, a task without its latent, an empty latent where its content counts.
    """
    require_choice("task", task, TASKS)
    whole = GIVEN_BY.get(task)
    return Pair(**{name: _given(name, name == whole, latents.get(name), options, clean.get(name)) for name in THINGS})


def _given(
    name: str,
    whole: bool,
    latent: Mapping[str, Any] | None,
    options: SamplingOptions,
    clean: Callable[[Tensor], Tensor] | None,
) -> Given | None:
    if latent is None or clean is None:
        if whole:
            raise InputError(
                f"the task needs a {THINGS[name]} and none is connected",
                expected=f"a {name} latent with content",
                remedy="Connect Encode Clip.",
            )
        return None
    samples, mask = latent["samples"], latent.get("noise_mask")
    known = None if whole or mask is None else 1 - noise_mask(mask, samples.shape)
    if not whole and (known is None or not bool(known.any())):
        return None
    if not bool(samples.any()):
        raise InputError(
            f"the {name} latent is empty, but its content is to be kept",
            got="zeros only, as from an empty latent node",
            expected=f"a {THINGS[name]} that was encoded",
            remedy="Connect Encode Clip, or choose the task both and take the mask off.",
        )
    if whole:
        return Given(clean(samples), how=options.given_how, time=options.given_level)
    return Given(clean(samples), known)


def noise_mask(mask: Tensor, shape: torch.Size) -> Tensor:
    """ComfyUI's noise mask on a latent's grid: 1 where the sampler works, 0 where it leaves what is there.

    Args:
        mask: ``(H, W)``, ``(B, H, W)``, ``(B, 1, H, W)``, ``(B, 1, T, H, W)`` or, for sound, any that ends in time.
        shape: ``(B, C, T, H, W)`` or ``(B, C, L)`` of the latent.

    Returns:
        ``(B or 1, 1, …)`` with 0 and 1 only; values between are cut at a half.
    """
    mask = mask.float()
    size = tuple(shape[2:])
    if len(size) == 1:
        mask = mask.reshape(-1, 1, mask.shape[-1])
        mask = F.interpolate(mask, size=size, mode="nearest-exact")
    else:
        if mask.ndim == 5:
            pass
        elif mask.ndim == 4 and mask.shape[1] != 1:  # (B, T, H, W)
            mask = mask[:, None]
        else:  # pictures: one for the whole clip, or one a frame
            mask = mask.reshape(-1, *mask.shape[-2:])[None, None]
        mask = F.interpolate(mask, size=size, mode="nearest-exact")
    if mask.shape[0] not in (1, shape[0]):
        mask = mask[:1]
    return (mask >= 0.5).float()


def raw_latents(
    made: JointLatents,
    latents: Mapping[str, Mapping[str, Any] | None],
    given: Pair[Given],
    codecs: Mapping[str, Codec],
    rate: Mapping[str, Any],
) -> list[dict[str, Any] | None]:
    """Results as ComfyUI's LATENTs; what was given is the given tensor's own numbers, not a round trip's.

    Args:
        made: Latents in the towers' space.
        latents: What the node was given, by modality.
        given: What of it was kept.
        codecs: To their own space, by modality.
        rate: The frame rate that the inputs carried.
    """
    results: list[dict[str, Any] | None] = []
    for name in MODALITIES:
        values = getattr(made, name)
        if values is None:
            results.append(None)
            continue
        samples = kept_as_given(codecs[name].to_raw(values), latents[name], given[name])
        results.append({"samples": samples, **({"type": "audio"} if name == "audio" else {}), **rate})
    return results


def kept_as_given(samples: Tensor, latent: Mapping[str, Any] | None, given: Given | None) -> Tensor:
    """Samples with the given tensor's own numbers where they were given.

    Args:
        samples: In the codec's own space.
        latent: What the node was given.
        given: What of it was kept, or None.
    """
    if given is None:
        return samples
    kept = latent["samples"].to(samples)
    if given.is_whole:
        return kept.expand_as(samples).clone()
    return torch.where(given.mask.bool().to(samples.device), kept, samples)
