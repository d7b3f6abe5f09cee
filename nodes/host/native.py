"""ComfyUI's own models as towers: samples a native Wan and a native Stable Audio together, with our bridges between.

Each model goes through ComfyUI's own guider, so loading, memory, patches, LoRAs, wrappers and conditioning are what
they are with the stock samplers; only the loop over the steps is ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import comfy.conds
import comfy.model_management as model_management
import comfy.model_patcher
import comfy.samplers
import torch
from torch import Tensor

from ...calibration import calibrated
from ...core.clock import WAN_STABLE_AUDIO
from ...core.errors import InputError
from ...core.pair import MODALITIES, Pair
from ...core.progress import stoppable
from ...core.types import Conditioning, JointLatents, ModalityConditioning
from ...long_clips import plan_for, sample_windows, window_shapes
from ...models.bridges import why_deaf
from ...models.counting import stopping
from ...models.joint import BridgeStack, require_fit
from ...models.native import BridgedForwards
from ...models.own import PUBLISHED
from ...models.weights.native import native_replacements
from ...pipeline import as_trained, tell_of_use
from ...sampling.given import Given, require_use
from ...sampling.loop import sample
from ...sampling.noise import draw_noise
from ...sampling.schedules.base import Schedule
from ..given import BOTH, given_latents, kept_as_given
from .native_towers import TOWERS, NativeDenoiser, NativeTower, ReadyTower

if TYPE_CHECKING:
    from ...core.clock import ClipTimes
    from ...core.progress import Progress
    from ...core.windows import LatentPlan
    from ...models.weights.bridges import LoadedBridges
    from ...sampling.cache.base import StepCache
    from ...sampling.options import SamplingOptions

# The published system pads the picture's text with zero rows to this length; ComfyUI pads to 512.
OFFICIAL_VIDEO_TOKENS = 1024
# Patches that change how the two guidance passes are combined; our loop combines them itself.
_GUIDANCE_PATCHES = (
    "sampler_cfg_function",
    "sampler_pre_cfg_function",
    "sampler_post_cfg_function",
    "sampler_calc_cond_batch_function",
)


@dataclass(frozen=True)
class NativeSide:
    """One modality's native inputs.

    Args:
        name: ``video`` or ``audio``.
        model: ComfyUI's MODEL.
        positive: CONDITIONING.
        negative: CONDITIONING, or None where guidance is off.
        latent: LATENT that sets the size.
    """

    name: str
    model: comfy.model_patcher.ModelPatcher
    positive: list[Any]
    negative: list[Any] | None
    latent: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the latent."""
        return tuple(self.latent["samples"].shape)


@dataclass(frozen=True)
class _Part:
    """A side on its way into its guider."""

    side: NativeSide
    tower: NativeTower
    model: comfy.model_patcher.ModelPatcher
    conditionings: dict[str, list[Any]]
    points: tuple[int, ...]


def sample_native(
    sides: list[NativeSide],
    *,
    bridges: LoadedBridges | None,
    options: SamplingOptions,
    official_text: bool,
    seconds: float,
    progress: Progress,
    times: ClipTimes | None = None,
    task: str = BOTH,
) -> dict[str, Tensor]:
    """Draw noise and denoise both modalities together.

    Args:
        sides: The video side, the audio side, or both in this order.
        bridges: Act when both modalities are there; blocks tuned with them are patched in for this run.
        options: Steps, scales, seed, schedule. The two guidance passes always run one after the other.
        official_text: Both models get the text as the published bridges know it, not as ComfyUI gives it.
        seconds: Length the audio model is told; 0 leaves it to the conditioning.
        progress: One unit a step.
        times: When the latent steps lie, for the bridges; None takes it from their numbers.
        task: What of the two is made (:mod:`..given`).

    Returns:
        By modality, the latent in its native VAE's space, float32.

    Raises:
        InputError: another kind of model, a conditioning or a patch that cannot be sampled jointly.
        IncompatibleWeightsError: bridges that do not fit the models.
    """
    towers = [_tower(side) for side in sides]
    bridges = bridges if len(sides) == 2 else None
    if bridges is not None:
        require_fit(bridges.stack, *towers)
    models = [_tuned(side, bridges) for side in sides]
    stack = _load_together(models, bridges and bridges.stack)
    run = _run_of(sides, task, options, bridges, times)
    seconds = seconds if run.plan is None else min(seconds, float(run.plan.seconds))
    texts = [_conditionings(side, official_text, seconds) for side in sides]
    points = [() if stack is None else getattr(stack.points, side.name) for side in sides]
    parts = [_Part(*values) for values in zip(sides, towers, models, texts, points, strict=True)]
    if bridges is not None:
        tell_of_use(run.given, bridges.use, progress, options.schedule)

    def loop(ready: dict[str, ReadyTower]) -> JointLatents:
        if official_text and "audio" in ready:
            _drop_duration_tokens(ready["audio"].guider.conds)

        def denoiser(at: ClipTimes | None) -> NativeDenoiser:
            bridged = None if stack is None else BridgedForwards(stack, at)
            return NativeDenoiser(ready.get("video"), ready.get("audio"), bridged)

        with stoppable(progress), ExitStack() as layers:
            for net in (*(tower.net for tower in towers), *([] if stack is None else [stack])):
                layers.enter_context(stopping(net))
            return _run_loop(denoiser, sides, run, progress)

    # The picture's guider innermost: what is loaded last is loaded with its need of memory, which is the larger one.
    results = _inside_guiders(parts[::-1], {}, run, loop)[1]
    return {side.name: kept_as_given(results[side.name], side.latent, run.given[side.name]) for side in sides}


@dataclass(frozen=True)
class _Run:
    """How the loop runs.

    Args:
        schedule: Points of both modalities.
        options: Steps, scales, seed.
        given: What is known of each modality, in the models' own space.
        hears: Modalities that receive something from the other one.
        cache: What steps are computed.
        times: When the latent steps lie.
        plan: The windows of a longer clip.
    """

    schedule: Schedule
    options: SamplingOptions
    given: Pair[Given]
    hears: frozenset[str]
    cache: StepCache | None
    times: ClipTimes | None
    plan: LatentPlan | None


def _run_of(
    sides: list[NativeSide], task: str, options: SamplingOptions, bridges: LoadedBridges | None, times: ClipTimes | None
) -> _Run:
    """The run of these sides; a given one that nothing leads from is refused."""
    stack, use = (None, None) if bridges is None else (bridges.stack, bridges.use)
    clean = {side.name: side.model.model.process_latent_in for side in sides}
    given = given_latents(task, {side.name: side.latent for side in sides}, options, clean)
    given = as_trained(given, use)
    hears = frozenset(name for name in MODALITIES if stack is not None and stack.hears(name))
    require_use(given, hears=hears, why_deaf=lambda side: why_deaf(side, bridged=stack is not None))
    schedule = options.build_schedule(video="video" in clean, audio="audio" in clean)
    plan = plan_for(WAN_STABLE_AUDIO, PUBLISHED, options, _shapes(sides), times)
    return _Run(schedule, options, given, hears, _cache_of(options), times, plan)


def _shapes(sides: list[NativeSide]) -> Pair[tuple[int, ...]]:
    return Pair(**{side.name: side.shape for side in sides})


def _run_loop(
    denoiser: Callable[[ClipTimes | None], NativeDenoiser], sides: list[NativeSide], run: _Run, progress: Progress
) -> JointLatents:
    """Our loop over the native models."""
    # The texts are ComfyUI's conditionings, which a tower finds by the name of the pass.
    absent = torch.zeros(1, 1, 1)
    texts = {side.name: ModalityConditioning(absent, None if side.negative is None else absent) for side in sides}
    # Tells these models from others, as far as ComfyUI's classes do, for what a step cache measures.
    name = f"ComfyUI {[type(side.model.model).__name__ for side in sides]}, hearing: {sorted(run.hears)}"
    settings = {
        "schedule": run.schedule,
        "guidance": replace(run.options.guidance(run.hears), batching="sequential"),
        "cache": calibrated(run.cache, name, progress),
        "device": sides[0].model.load_device,
    }
    shapes, conditioning = _shapes(sides), Conditioning(**texts)
    if run.plan is not None:
        return sample_windows(denoiser, run.plan, conditioning, shapes, run.options, run.given, settings, progress)
    noise = draw_noise(run.options.seed, **{f"{side}_shape": shape for side, shape in shapes.present.items()})
    rest = {"seed": run.options.seed, "given": run.given, "progress": progress}
    return sample(denoiser(run.times), conditioning, noise, **settings, **rest)


def _cache_of(options: SamplingOptions) -> StepCache | None:
    """The step cache; one that looks into the model is refused, for a native forward cannot stop behind a block."""
    cache = options.build_cache()
    if cache is not None and cache.looks:
        raise InputError(
            "ComfyUI's own models cannot stop behind their first block",
            got=f"step cache {options.step_cache}",
            expected="off, gentle, fast, fastest, interval or magnitude",
            remedy="Choose one of those, or load the models with Load Wan Tower and Load Stable Audio Tower.",
        )
    return cache


class _Inside(comfy.samplers.Sampler):
    """A sampler for ComfyUI's guider that does something else inside the prepared guider.

    Args:
        work: Given the guider and its model options; returns the samples.
    """

    def __init__(self, work: Callable[[comfy.samplers.CFGGuider, dict[str, Any]], Tensor]) -> None:
        self._work = work

    def sample(
        self, model_wrap: comfy.samplers.CFGGuider, sigmas: Tensor, extra_args: dict[str, Any], *rest: Any, **more: Any
    ) -> Tensor:
        """Called by the guider when everything is loaded."""
        return self._work(model_wrap, extra_args["model_options"])


def _inside_guiders(
    parts: list[_Part],
    ready: dict[str, ReadyTower],
    run: _Run,
    loop: Callable[[dict[str, ReadyTower]], JointLatents],
) -> tuple[JointLatents, dict[str, Tensor]]:
    """Enter one guider inside the other and run the loop there.

    Returns:
        The loop's latents, and by modality the same in its VAE's space, to which its guider turns it.
    """
    if not parts:
        return loop(ready), {}
    part, *others = parts
    name = part.tower.name
    inner: list[tuple[JointLatents, dict[str, Tensor]]] = []

    def work(guider: comfy.samplers.CFGGuider, options: dict[str, Any]) -> Tensor:
        tower = ReadyTower(part.tower, guider, options, part.points)
        inner.append(_inside_guiders(others, {**ready, name: tower}, run, loop))
        return getattr(inner[0][0], name)

    guider = comfy.samplers.CFGGuider(part.model)
    guider.inner_set_conds(part.conditionings)
    shapes = Pair(**{name: part.side.shape})
    # What ComfyUI makes room for: a window of a longer clip.
    empty = torch.zeros((shapes if run.plan is None else window_shapes(run.plan, shapes))[name])
    sigmas = getattr(run.schedule, name).sigmas
    result = guider.sample(empty, empty, _Inside(work), sigmas, disable_pbar=True, seed=run.options.seed)
    latents, results = inner[0]
    return latents, {name: result.to(model_management.intermediate_device()), **results}


def _tower(side: NativeSide) -> NativeTower:
    """Refuse what cannot be this side's tower."""
    tower, inner = TOWERS[side.name], side.model.model
    if not isinstance(inner, tower.kind):
        raise InputError(
            f"this is not a model for the {side.name}",
            got=type(inner).__name__,
            expected=tower.title,
            remedy=f"Load {tower.title} with ComfyUI's own loader, or swap the two models.",
        )
    channels = inner.latent_format.latent_channels
    if side.shape[1] != channels:
        raise InputError(
            f"the {side.name} latent does not fit the model", got=side.shape, expected=f"{channels} channels"
        )
    patches = [name for name in _GUIDANCE_PATCHES if side.model.model_options.get(name)]
    if patches:
        raise InputError(
            f"the {side.name} model carries patches of the guidance, which joint sampling does itself",
            got=", ".join(patches),
            expected="a model without them",
            remedy="Take skip-layer guidance, CFG-Zero, APG and the like off this model.",
        )
    return tower(side.model)


def _tuned(side: NativeSide, bridges: LoadedBridges | None) -> comfy.model_patcher.ModelPatcher:
    """A clone with the blocks that were tuned with the bridges as patches; ComfyUI takes them off again by itself."""
    model = side.model.clone()
    weights = bridges.tower_weights.get(side.name) if bridges is not None else None
    if not weights:
        return model
    # The inner model may still wear the object patches of an earlier run; what they added is not its own.
    added = {name for name, own in model.object_patches_backup.items() if own is None}
    # Not the state dict: that of a GGUF model holds the sizes of its bytes, for ComfyUI's count of the memory.
    shapes = {name: tuple(value.shape) for name, value in model.model.named_parameters() if name not in added}
    replacements = native_replacements(side.name, weights, shapes)
    earlier = {name: list(patches) for name, patches in model.patches.items()}
    for part in replacements:
        if part.is_new or _stands_bare(model.model, part.name):
            model.add_object_patch(part.name, torch.nn.Parameter(part.value, requires_grad=False))
        else:
            key = part.name if part.rows is None else (part.name, (0, *part.rows))
            model.add_patches({key: ("set", (part.value,))})
    for name in {part.name for part in replacements if part.name in earlier}:
        # The new block first, then the user's LoRAs on top of it, as they were on top of the old one.
        count = len(earlier[name])
        model.patches[name] = model.patches[name][count:] + earlier[name]
    return model


def _stands_bare(model: torch.nn.Module, name: str) -> bool:
    """Whether a parameter belongs to a module that has layers too; ComfyUI leaves those out when it applies patches."""
    owner = model.get_submodule(name.rpartition(".")[0])
    return any(True for child in owner.children() for _ in child.parameters())


class _WholePatcher(comfy.model_patcher.ModelPatcher):
    """Keeps a module of plain torch layers on one device: they do not fetch weights that were left on another."""

    def load(self, device_to: Any = None, *args: Any, **kwargs: Any) -> None:
        """All of it."""
        super().load(device_to, full_load=True)

    def partially_unload(self, *args: Any, **kwargs: Any) -> int:
        """Nothing; ComfyUI then takes all of it off."""
        return 0


def _load_together(models: list[comfy.model_patcher.ModelPatcher], stack: BridgeStack | None) -> BridgeStack | None:
    """Let ComfyUI load the other model and the bridges with the first one, so that none pushes another out.

    Returns:
        A copy of the bridges for this run. It computes in bfloat16 when both models do, as published, else in float32:
        float16 is too narrow for it.
    """
    if stack is None:
        models[0].set_additional_models("sounding_video", models[1:])
        return None
    types = {model.model.manual_cast_dtype or model.model.get_dtype() for model in models}
    own = copy.deepcopy(stack).to(torch.bfloat16 if types == {torch.bfloat16} else torch.float32)
    patcher = _WholePatcher(own, models[0].load_device, model_management.unet_offload_device())
    models[0].set_additional_models("sounding_video", [*models[1:], patcher])
    return own


def _conditionings(side: NativeSide, official_text: bool, seconds: float) -> dict[str, list[Any]]:
    """ComfyUI's conditionings by name, with the wanted text length and duration."""
    result = {}
    for name, entries in (("positive", side.positive), ("negative", side.negative)):
        if entries is None:
            continue
        if len(entries) != 1:
            raise InputError(
                f"the {name} {side.name} conditioning is not one text",
                got=f"{len(entries)} conditionings",
                expected="exactly one",
                remedy="Combined, scheduled and regional conditionings cannot pass the bridges.",
            )
        embedding, extra = entries[0]
        if side.name == "video" and official_text:
            missing = max(0, OFFICIAL_VIDEO_TOKENS - embedding.shape[1])
            embedding = torch.nn.functional.pad(embedding, (0, 0, 0, missing))
        if side.name == "audio" and seconds > 0:
            extra = {**extra, "seconds_start": 0.0, "seconds_total": seconds}
        result[name] = [[embedding, extra]]
    return result


def _drop_duration_tokens(conds: dict[str, list[dict[str, Any]]]) -> None:
    """ComfyUI appends two duration tokens to the text; the published bridges were trained without them."""
    for (cond,) in conds.values():
        text = cond["model_conds"]["c_crossattn"].cond[:, : cond["cross_attn"].shape[1]]
        cond["model_conds"]["c_crossattn"] = comfy.conds.CONDRegular(text)
