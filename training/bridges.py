"""The bridges that a run begins with."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from ..core.clock import Timeline
from ..core.errors import InputError
from ..core.pair import Pair
from ..models.bridges import BRIDGES
from ..models.joint import BridgePoints, BridgeStack
from ..models.parts import AudioParts, VideoParts
from ..models.rope import on_clock
from ..models.towers.base import TokenGrid
from ..models.weights.bridges import load_bridges
from .config import TrainConfig
from .randomness import derived_seed
from .sections import BridgesConfig

log = logging.getLogger(__name__)


def make_bridges(run: TrainConfig, sides: Pair[VideoParts | AudioParts], timeline: Timeline) -> BridgeStack:
    """New bridges, which are the identity, or those of a file.

    Args:
        run: Its section ``bridges``; new ones follow from its seed.
        sides: Both towers.
        timeline: Extent of what is trained on.

    Raises:
        InputError: a setting that this kind does not have.
        WeightsError: a file that cannot be used.
    """
    config = run.bridges
    if config.start:
        return _of_file(config)
    if config.start_rope:
        raise InputError(
            "new bridges have the positions of the setting rope",
            got=f"bridges.start_rope={config.start_rope}",
            expected="it only with bridges.start=FILE",
            remedy=f"say bridges.rope={config.start_rope}",
        )
    video, audio = sides.video.tower, sides.audio.tower
    settings = (
        BRIDGES.get(config.kind)
        .Config(
            video_width=video.width,
            audio_width=audio.width,
            qk_width=config.qk_width,
            v_width=config.qk_width,
            num_heads=config.num_heads,
            video_time_width=video.time_width,
            audio_time_width=audio.time_width,
            reading=config.reading,
            rope=config.rope,
        )
        .with_settings(config.settings)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(run.seed, "bridges"))
        stack = BridgeStack(config.kind, settings, BridgePoints(config.video_points, config.audio_points))
    grids = (TokenGrid(timeline.video_latent_shape[1]), TokenGrid(timeline.audio_latent_shape[1]))
    grids = on_clock(*grids, timeline.times)
    for bridge in stack:
        if config.gate_bias:
            bridge.open_gates(config.gate_bias)
        if config.moment_bias:
            bridge.look_at_one_moment(config.moment_bias, *grids)
    return stack


def _of_file(config: BridgesConfig) -> BridgeStack:
    """The bridges of a file; no weight belongs to the positions of tokens, so that these can be others from now on."""
    stack = load_bridges(config.start).stack.float()
    own = stack.config.rope
    if config.start_rope:
        turned = BridgeStack(stack.kind, replace(stack.config, rope=config.start_rope), stack.points)
        turned.load_state_dict(stack.state_dict())
        return turned.eval()
    if config.rope not in (own, BridgesConfig.rope):
        log.warning(
            "positions of tokens stay those of the file, %s: the setting bridges.rope=%s is for new bridges; "
            "bridges.start_rope=%s changes them",
            own,
            config.rope,
            config.rope,
        )
    return stack
