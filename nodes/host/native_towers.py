"""ComfyUI's Wan and Stable Audio as the joint loop sees them: our timesteps and predictions in, native forwards inside.

The bridges hang on the replacement hook that both models offer behind every block.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.model_base
import comfy.model_patcher
import comfy.samplers
from torch import Tensor

from ...core.errors import InputError
from ...core.types import Modality
from ...models.native import BridgedForwards, Stop
from ...models.towers.base import TokenGrid, TowerState
from ...sampling.processes import PROCESSES

BLOCK = "double_block"  # what both models call a block in their replacement hooks


class NativeTower(ABC):
    """What the bridges and the loop have to know of a native model.

    Args:
        model: The patcher whose inner model this is about.
    """

    name: str
    title: str
    process: str
    kind: type
    time_module: str

    def __init__(self, model: comfy.model_patcher.ModelPatcher) -> None:
        self.net = model.model.diffusion_model

    @property
    @abstractmethod
    def num_blocks(self) -> int:
        """Depth."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Of the residual stream."""

    @property
    def time_width(self) -> int:
        """Of the time embedding that bridges see."""
        return self.width

    def sigma(self, timestep: Tensor) -> Tensor:
        """The native noise level of our timestep."""
        process = PROCESSES.get(self.process)
        return process.sigma(timestep.double() / process.timestep_scale).float()

    def enter(self, latents: Tensor, sigma: Tensor) -> Tensor:
        """Our scaled model input to what ComfyUI scales itself."""
        return PROCESSES.get(self.process).unscale(latents, sigma)

    def leave(self, noisy: Tensor, denoised: Tensor, sigma: Tensor) -> Tensor:
        """ComfyUI's estimate of the clean latent to the prediction that our solvers take."""
        return PROCESSES.get(self.process).prediction(noisy, denoised, sigma)

    @abstractmethod
    def grid(self, latents: Tensor) -> TokenGrid:
        """Where the tokens lie in time."""


class NativeWan(NativeTower):
    """ComfyUI's Wan 2.1: flow matching, sigma = t / 1000."""

    name, title, process, time_module = "video", "Wan 2.1 T2V", "flow", "time_embedding"
    kind = comfy.model_base.WAN21

    @property
    def num_blocks(self) -> int:
        """Depth."""
        return len(self.net.blocks)

    @property
    def width(self) -> int:
        """Of the residual stream."""
        return self.net.dim

    def grid(self, latents: Tensor) -> TokenGrid:
        """One token a patch."""
        patches = zip(latents.shape[2:], self.net.patch_size, strict=True)
        steps, rows, columns = (math.ceil(size / patch) for size, patch in patches)
        return TokenGrid(steps, rows * columns, latents_per_step=self.net.patch_size[0])


class NativeStableAudio(NativeTower):
    """ComfyUI's Stable Audio Open: v-prediction, t = 2/π·atan σ."""

    name, title, process, time_module = "audio", "Stable Audio Open 1.0", "cosine_v", "to_timestep_embed"
    kind = comfy.model_base.StableAudio1

    @property
    def num_blocks(self) -> int:
        """Depth."""
        return len(self.net.transformer.layers)

    @property
    def width(self) -> int:
        """Of the residual stream."""
        return self.net.transformer.dim

    def grid(self, latents: Tensor) -> TokenGrid:
        """The global token, then one token a latent."""
        return TokenGrid(latents.shape[-1], num_prefix=1)


TOWERS: dict[str, type[NativeTower]] = {tower.name: tower for tower in (NativeWan, NativeStableAudio)}


@dataclass(frozen=True)
class ReadyTower:
    """A native model inside its guider: loaded, patched, its conditionings encoded.

    Args:
        tower: What is known of it.
        guider: ComfyUI's, while it samples.
        options: Its model options.
        points: Blocks behind which bridges stand.
    """

    tower: NativeTower
    guider: comfy.samplers.CFGGuider
    options: dict[str, Any]
    points: tuple[int, ...] = ()

    def predict(self, modality: Modality, stop: Stop | None = None) -> Tensor:
        """One native forward of one conditioning, as our prediction.

        Args:
            modality: Scaled latents, our timestep, and one guidance pass; its text names a native conditioning.
            stop: Called behind every bridge point; None leaves the forward alone.
        """
        (one,) = modality.passes
        sigma = self.tower.sigma(modality.timestep)
        noisy = self.tower.enter(modality.latents, sigma)
        with self._hooked(modality.latents, stop) as options:
            (denoised,) = comfy.samplers.calc_cond_batch(
                self.guider.inner_model, [self.guider.conds[one.text]], noisy, sigma.expand(len(noisy)), options
            )
        return self.tower.leave(noisy, denoised, sigma)

    @contextmanager
    def _hooked(self, latents: Tensor, stop: Stop | None) -> Iterator[dict[str, Any]]:
        """The model's options with a hook behind every bridge point, and a look at the time embedding."""
        options = comfy.model_patcher.create_model_options_clone(self.options)
        if stop is None:
            yield options
            return
        grid, times = self.tower.grid(latents), []
        replaced = options["transformer_options"].get("patches_replace", {}).get("dit", {})
        for number in self.points:
            hook = _hook(number, replaced.get((BLOCK, number)), stop, grid, times)
            comfy.model_patcher.set_model_options_patch_replace(options, hook, "dit", BLOCK, number)
        watch = getattr(self.tower.net, self.tower.time_module).register_forward_hook(
            lambda module, inputs, output: times.append(output)
        )
        try:
            yield options
        finally:
            watch.remove()


def _hook(
    number: int, replaced: Callable[..., Any] | None, stop: Stop, grid: TokenGrid, times: list[Tensor]
) -> Callable[..., Any]:
    """A replacement for a block: the block, or what another pack already put in its place, and then the bridge."""

    def run(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        out = extra["original_block"](args) if replaced is None else replaced(args, extra)
        hidden = out["img"]
        if len(times) != 1 or times[0].shape != (len(hidden), hidden.shape[-1]):
            raise InputError(
                "the model does not give one time embedding a clip, which the bridges need",
                got=[tuple(time.shape) for time in times],
                expected=f"once {(len(hidden), hidden.shape[-1])}",
                remedy="Use plain text to video, without a compiled model.",
            )
        return {**out, "img": stop(number, TowerState(hidden, times[0], grid, {}))}

    return run


class NativeDenoiser:
    """The two native models as one denoiser for our loop.

    Args:
        video: Ready, or None.
        audio: Ready, or None.
        bridged: What runs both with the bridges between, when both are wanted; None runs them one after the other.
    """

    def __init__(self, video: ReadyTower | None, audio: ReadyTower | None, bridged: BridgedForwards | None) -> None:
        self._video, self._audio, self._bridged = video, audio, bridged

    @property
    def bridged(self) -> bool:
        """Whether the two hear each other."""
        return self._bridged is not None

    def __call__(self, video: Modality | None, audio: Modality | None) -> tuple[Tensor | None, Tensor | None]:
        """Predictions shaped like the latents; a sound that has ``heard`` the picture goes on without it."""
        if self._bridged is not None and video is None and audio is not None and audio.heard is not None:
            return None, self._bridged.said_again(lambda stop: self._audio.predict(audio, stop), audio.heard)
        if self._bridged is not None and video is not None and audio is not None:
            return self._bridged(
                lambda stop: self._video.predict(video, stop),
                lambda stop: self._audio.predict(audio, stop),
                frozenset(name for name, one in (("video", video), ("audio", audio)) if one.given),
                audio.heard,
            )
        return (
            None if video is None else self._video.predict(video),
            None if audio is None else self._audio.predict(audio),
        )
