"""Laws of the joint model: nothing lost without bridges, everything checked with them."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from sounding_video.core.clock import WAN_STABLE_AUDIO
from sounding_video.core.errors import IncompatibleWeightsError, InputError
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.bridges.config import BridgeConfig
from sounding_video.models.joint import PLACEMENTS, BridgePoints, BridgeStack, JointModel, placement
from sounding_video.models.points import interleaved
from sounding_video.models.ropes import ROPES

SHARED = Path(__file__).resolve().parents[3] / "shared"


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def test_without_bridges_the_joint_forward_is_the_two_stock_forwards(wan_tower, audio_tower, inputs) -> None:
    video, audio = JointModel(wan_tower, audio_tower)(inputs["video"], inputs["audio"])
    v, a = inputs["video"], inputs["audio"]
    rotary = audio_tower.rotary(a.latents.shape[-1] + 1, torch.device("cpu"))
    assert torch.equal(video, wan_tower.model(v.latents, v.timestep, v.text, return_dict=False)[0])
    assert torch.equal(
        audio, audio_tower.model(a.latents, a.timestep, a.text, a.duration, rotary, return_dict=False)[0]
    )


@pytest.mark.parametrize("kind", BRIDGES.names())
def test_untrained_identity_bridges_change_nothing(wan_tower, audio_tower, inputs, config_of, kind) -> None:
    stack = BridgeStack(kind, config_of(kind), BridgePoints((0, 2), (1, 2)))
    plain = JointModel(wan_tower, audio_tower)(inputs["video"], inputs["audio"])
    bridged = JointModel(wan_tower, audio_tower, stack)(inputs["video"], inputs["audio"])
    for before, after in zip(plain, bridged, strict=True):
        assert torch.equal(before, after) == stack[0].identity_at_start


@pytest.mark.parametrize("kind", ["dual_cross", "full", "additive"])
def test_bridges_let_each_modality_hear_the_other(wan_tower, audio_tower, inputs, random_stack, kind) -> None:
    model = JointModel(wan_tower, audio_tower, random_stack(kind))
    video, audio = model(inputs["video"], inputs["audio"])
    other_audio = replace(inputs["audio"], latents=-inputs["audio"].latents)
    other_video = replace(inputs["video"], latents=-inputs["video"].latents)
    assert not torch.equal(model(inputs["video"], other_audio)[0], video)
    assert not torch.equal(model(other_video, inputs["audio"])[1], audio)


def test_a_modality_may_be_absent(wan_tower, audio_tower, inputs, random_stack) -> None:
    model = JointModel(wan_tower, audio_tower, random_stack("dual_cross"))
    video, nothing = model(inputs["video"], None)
    assert nothing is None
    assert torch.equal(video, wan_tower(inputs["video"]))
    nothing, audio = model(None, inputs["audio"])
    assert nothing is None
    assert torch.equal(audio, audio_tower(inputs["audio"]))
    alone = JointModel(None, audio_tower)
    assert torch.equal(alone(None, inputs["audio"])[1], audio)
    with pytest.raises(InputError, match="needs a tower"):
        JointModel(None, None)


def test_batched_rows_equal_rows_one_by_one(wan_tower, audio_tower, inputs, random_stack) -> None:
    model = JointModel(wan_tower, audio_tower, random_stack("dual_cross"))
    both = model(inputs["video"], inputs["audio"])
    for row in (0, 1):
        rows = [
            replace(m, latents=m.latents[row : row + 1], timestep=m.timestep[row : row + 1], text=m.text[row : row + 1],
                    duration=None if m.duration is None else m.duration[row : row + 1])
            for m in (inputs["video"], inputs["audio"])
        ]  # fmt: skip
        for whole, one in zip(both, model(*rows), strict=True):
            torch.testing.assert_close(whole[row : row + 1], one, rtol=0, atol=1e-5)


def test_any_size_and_duration(wan_tower, audio_tower, inputs, random_stack) -> None:
    """The published code's tables have one length; ours follow the input, also when it changes between calls."""
    model = JointModel(wan_tower, audio_tower, random_stack("dual_cross"))
    for frames, height, length in ((1, 4, 3), (5, 8, 20), (2, 4, 7)):
        video = replace(inputs["video"], latents=torch.randn(2, 4, frames, height, 6))
        audio = replace(inputs["audio"], latents=torch.randn(2, 6, length))
        out = model(video, audio)
        assert out[0].shape == video.latents.shape
        assert out[1].shape == audio.latents.shape


RATES = [Fraction(8), Fraction(15), Fraction(30000, 1001)]


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("fps", RATES)
def test_only_bridges_on_the_clock_hear_the_frame_rate(
    wan_tower, audio_tower, inputs, random_stack, bridge_config, rope, fps
) -> None:
    """Times that the counts tell change nothing; others move what the bridges do, where positions are in seconds."""
    model = JointModel(wan_tower, audio_tower, random_stack("dual_cross", replace(bridge_config, rope=rope)))
    bare = model(inputs["video"], inputs["audio"])
    counted = model(inputs["video"], inputs["audio"], times=WAN_STABLE_AUDIO.times_from_counts(3, 11))
    told = model(inputs["video"], inputs["audio"], times=WAN_STABLE_AUDIO.times(fps))
    later = model(inputs["video"], inputs["audio"], times=WAN_STABLE_AUDIO.times(fps).shifted(Fraction(7, 3)))
    for plain, same, rated, window in zip(bare, counted, told, later, strict=True):
        assert torch.equal(plain, same) and torch.equal(rated, window)
        assert torch.equal(plain, rated) != ROPES.get(rope).in_seconds
    alone = model(inputs["video"], None, times=WAN_STABLE_AUDIO.times(fps))[0]
    assert torch.equal(alone, wan_tower(inputs["video"]))


def test_the_paper_placements_fit_except_the_one_that_does_not() -> None:
    assert list(PLACEMENTS)[:6] == ["early", "middle", "late", "late_shifted", "uniform", "uniform_early"]
    assert placement("uniform_early") == BridgePoints((3, 7, 11, 15), (2, 5, 8, 11))
    for name, points in PLACEMENTS.items():
        if name == "late":
            with pytest.raises(
                IncompatibleWeightsError,
                match=r"past the video tower: got point 30 .*tower of 30 blocks; expected block numbers 0 to 29",
            ):
                points.require_depth(30, 24)
        else:
            points.require_depth(30, 24)
    with pytest.raises(InputError, match="unknown bridge placement: got 'deep'; expected one of early, middle"):
        placement("deep")


def test_eight_blocks_stand_where_av_link_has_them() -> None:
    """AVLINK 1.7: behind block ⌊(i + ½)·N / 8⌋ of a tower of N."""
    spread = (1, 4, 7, 10, 13, 16, 19, 22)
    assert placement("interleaved_8") == BridgePoints((1, 5, 9, 13, 16, 20, 24, 28), spread)
    assert interleaved(8, 24, 24) == BridgePoints(spread, spread)
    assert interleaved(8, 40, 24).video == (2, 7, 12, 17, 22, 27, 32, 37)
    assert interleaved(3, 3, 3) == BridgePoints((0, 1, 2), (0, 1, 2)) and interleaved(4, 8, 8).video == (1, 3, 5, 7)
    with pytest.raises(InputError, match="video bridge points are not usable"):
        interleaved(8, 4, 24)


def test_points_past_the_depth_and_wrong_widths_are_refused(wan_tower, audio_tower, bridge_config) -> None:
    deep = BridgeStack("dual_cross", bridge_config, BridgePoints((0, 7), (0, 1)))
    with pytest.raises(
        IncompatibleWeightsError, match=r"past the video tower: got point 7 of \[0, 7\], tower of 3 blocks"
    ):
        JointModel(wan_tower, audio_tower, deep)
    deep = BridgeStack("dual_cross", bridge_config, BridgePoints((0, 1), (0, 3)))
    with pytest.raises(IncompatibleWeightsError, match="past the audio tower: got point 3"):
        JointModel(wan_tower, audio_tower, deep)
    wide = BridgeStack("dual_cross", replace(bridge_config, video_width=48), BridgePoints((0,), (0,)))
    with pytest.raises(IncompatibleWeightsError, match=r"do not fit the towers: got video_width 48 \(tower: 24\)"):
        JointModel(wan_tower, audio_tower, wide)


@pytest.mark.parametrize(
    ("video", "audio", "message"),
    [
        ((0, 1), (0,), "same number of bridge points"),
        ((), (), "same number of bridge points"),
        ((1, 0), (0, 1), "video bridge points are not usable"),
        ((0, 1), (1, 1), "audio bridge points are not usable"),
        ((-1,), (0,), "increasing block numbers from 0"),
    ],
)
def test_bad_points_are_refused(video, audio, message) -> None:
    with pytest.raises(InputError, match=message):
        BridgePoints(video, audio)


def test_the_published_checkpoint_key_list_is_ours_on_the_meta_device() -> None:
    """All 337 names and shapes of the published 1.3B file: five blocks of each tower and four bridges."""
    listing = SHARED / "reference/bridgedit_ckpt_1.3B_attn_keys.json"
    if not listing.is_file():
        pytest.skip("the published key list is not beside this checkout (shared/reference)")
    from diffusers import StableAudioDiTModel, WanTransformer3DModel

    with torch.device("meta"):
        wan = WanTransformer3DModel(num_attention_heads=12, ffn_dim=8960, num_layers=5)
        audio = StableAudioDiTModel(num_layers=5)
        stack = BridgeStack("dual_cross", BridgeConfig(), placement("uniform_early"))
    ours = {name: list(p.shape) for name, p in wan.named_parameters() if name.startswith("blocks.")}
    ours |= {name: list(p.shape) for name, p in audio.named_parameters() if name.startswith("transformer_blocks.")}
    ours |= {name: list(p.shape) for name, p in stack.named_parameters()}
    content = json.loads(listing.read_text(encoding="utf-8"))
    published = content.get("keys", content) if isinstance(content, dict) else dict(content)
    assert {name: list(shape) for name, shape in published.items()} == ours
