"""Encode Clip: a user's own clip as latents that the sampler and Decode AV take, and what was done to it."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
import torch
from sounding_video.core.clock import LatentGeometry, Timeline, tail_start, whole_latents
from sounding_video.core.errors import InputError
from sounding_video.headless.runner import run_workflow
from sounding_video.media.probe import probe
from sounding_video.nodes.av import joined, parted
from sounding_video.nodes.decode import DecodeAV
from sounding_video.nodes.encode import HELD, OPEN, EncodeClip
from sounding_video.nodes.host import standalone
from sounding_video.nodes.loaders import LoadStableAudioTower, LoadWanTower

SMALL = {"width": 32, "height": 32, "num_frames": 9, "model_fps": 15.0}


@pytest.fixture(scope="module")
def sides(small_models_dir) -> dict[str, Any]:
    with standalone.session(standalone.Session((small_models_dir,), device="cpu")):
        loaders = {"video_codec": (LoadWanTower, "video_model", "wan")}
        loaders["audio_codec"] = (LoadStableAudioTower, "audio_model", "stable_audio")
        return {
            name: loader.execute(**{key: value, "dtype": "float32", "attention": "auto", "offload": "none"}).args[0]
            for name, (loader, key, value) in loaders.items()
        }


def execute(**given: Any) -> Any:
    """The node with its defaults, on a small model."""
    defaults = {
        port.id: port.options["default"] for port in EncodeClip.GET_SCHEMA().inputs if "default" in port.options
    }
    with standalone.session(standalone.Session(device="cpu")):
        return EncodeClip.execute(**{**defaults, **SMALL, **given})


def images(num_frames: int = 40, height: int = 54, width: int = 96) -> torch.Tensor:
    return torch.rand(num_frames, height, width, 3, generator=torch.Generator().manual_seed(num_frames))


def sound(seconds: float = 1.0, rate: int = 44_100, channels: int = 2) -> dict[str, Any]:
    waveform = torch.rand(1, channels, round(seconds * rate), generator=torch.Generator().manual_seed(1)) - 0.5
    return {"waveform": waveform, "sample_rate": rate}


def test_a_clip_of_another_kind_becomes_latents_and_is_reported(sides) -> None:
    """5.1 sound, 29.97 frames a second as ComfyUI gives them, an image with alpha."""
    frames = torch.cat([images(), torch.ones(40, 54, 96, 1)], dim=-1)
    made = execute(images=frames, audio=sound(2.0, 48_000, 6), fps=30000 / 1001, **sides)
    video, audio, both, fps, seconds, report, start = made.args
    assert video["samples"].shape == (1, 4, 3, 4, 4) and "noise_mask" not in video
    assert audio["samples"].shape == (1, 6, 300) and audio["type"] == "audio" and "noise_mask" not in audio
    assert (fps, seconds, start) == (15.0, 0.6, 0.0)
    assert video["fps"] == audio["fps"] == both["fps"] == 15.0
    for words in ("6 channels", "29.97 frames", "cropped from 96×54", "scaled", "48000 to 8000 Hz", "0.600 s are used"):
        assert words in report
    assert made.ui["sounding_video_report"][: report.count("\n") + 1] == report.splitlines()
    assert torch.equal(both["samples"].unbind()[0], video["samples"])
    with standalone.session(standalone.Session(device="cpu")):
        back = DecodeAV.execute(fps=15.0, tiling="auto", av_samples=both, **sides)
    assert back.args[0][0].shape == (9, 32, 32, 3) and back.args[1][0]["waveform"].shape[-1] == 4800


def test_the_missing_side_is_an_empty_latent_for_the_sampler_to_fill(sides) -> None:
    seen = execute(images=images(), **sides, batch_size=3).args
    assert seen[0]["samples"].shape[0] == 3 and seen[1]["samples"].shape == (3, 6, 300)
    assert not seen[1]["samples"].any() and seen[0]["samples"].any()
    heard = execute(audio=sound(), **sides).args
    assert heard[0]["samples"].shape == (1, 4, 3, 4, 4) and not heard[0]["samples"].any() and heard[1]["samples"].any()
    assert all(latent["fps"] == 15.0 for latent in (*seen[:3], *heard[:3]))
    alone = execute(images=images(), video_codec=sides["video_codec"]).args
    assert alone[1] is None and alone[2] is None


def test_what_follows_a_short_clip_is_left_to_the_sampler(sides) -> None:
    """A still is one frame; of half a clip the whole latents are kept; a clip that is long enough has no mask."""
    still = execute(images=images(1), **sides, after_the_end=OPEN).args
    assert still[0]["noise_mask"].shape == (1, 1, 3, 4, 4)
    assert still[0]["noise_mask"][0, 0, :, 0, 0].tolist() == [0, 1, 1]
    masks = still[2]["noise_mask"].unbind()
    assert torch.equal(masks[0], still[0]["noise_mask"]) and masks[1].shape == (1, 1, 300) and bool(masks[1].all())
    short = execute(images=images(6), audio=sound(0.4), fps=15.0, **sides, after_the_end=OPEN).args
    assert short[0]["noise_mask"][0, 0, :, 0, 0].tolist() == [0, 0, 1]  # frame 5 of 6 is in a latent that is not whole
    assert short[1]["noise_mask"][0, 0].tolist() == [0] * 200 + [1] * 100
    long = execute(images=images(), audio=sound(), **sides, after_the_end=OPEN).args
    assert all("noise_mask" not in latent for latent in long[:3])
    assert "noise_mask" not in execute(images=images(6), fps=15.0, **sides, after_the_end=HELD).args[0]


def test_a_start_below_zero_begins_before_the_clip_s_end(sides) -> None:
    """A third of a second of 15 fps: five frames, which are two whole latents."""
    made = execute(images=images(30), fps=15.0, start=-1 / 3, **sides, after_the_end=OPEN)
    assert made.args[0]["noise_mask"][0, 0, :, 0, 0].tolist() == [0, 0, 1]
    assert "from 1.667 s on 0.333 s are used" in made.args[5] and "s early; what follows is made." in made.args[5]
    assert "is held" not in made.args[5] and made.args[6] == pytest.approx(25 / 15)
    plain = execute(images=images(30)[25:], fps=15.0, **sides, after_the_end=OPEN)
    assert torch.equal(made.args[0]["samples"], plain.args[0]["samples"])


@pytest.mark.parametrize("wanted", [0.01, 0.3, 1.0, 1.5, 99.0])
@pytest.mark.parametrize("fps", [Fraction(15), Fraction(30000, 1001)])
def test_the_end_of_a_clip_is_whole_latents_and_leaves_something_to_make(wanted: float, fps: Fraction) -> None:
    timeline = Timeline(33, fps, 64, 64)
    for seconds in (Fraction(1, 30), Fraction(1), Fraction(217, 30), Fraction(100, 7)):
        start = tail_start(timeline, seconds, wanted)
        assert 0 <= start < seconds
        num_frames = (seconds - start) * fps
        if start:
            assert num_frames.denominator == 1 and num_frames % 4 == 1 and num_frames <= 29
            assert abs(num_frames / fps - min(Fraction(wanted), seconds, 29 / fps)) <= 4 / fps


def test_whole_latents_hold_nothing_but_the_clip() -> None:
    timeline = Timeline(33, Fraction(15), 64, 64, LatentGeometry())
    assert [whole_latents(timeline, n, 0)[0] for n in (0, 1, 4, 5, 8, 9, 33, 99)] == [0, 1, 1, 2, 2, 3, 9, 9]
    assert [whole_latents(timeline, 0, n)[1] for n in (0, 2047, 2048, 96_255, 97_020)] == [0, 0, 1, 46, 47]


def test_an_upright_clip_turns_the_model_s_size(sides, monkeypatch) -> None:
    """Where no size was asked for, and the model's own is wide."""
    wide = {"width": 832, "height": 480, "num_frames": 81, "defaults": "from the model"}
    own = type(sides["video_codec"].own)(num_frames=5, width=48, height=32, is_noted=True)
    turned = [
        {name: _with_own(parts, own) for name, parts in sides.items()} | {"images": images(9, *size), **wide}
        for size in ((96, 54), (54, 96), (50, 50))
    ]
    made = [execute(**given).args for given in turned]
    assert [each[0]["samples"].shape[-2:] for each in made] == [(6, 4), (4, 6), (4, 6)]
    assert ["turned to 32×48" in each[5] for each in made] == [True, False, False]
    asked = execute(**{**turned[0], "width": 64})
    assert asked.args[0]["samples"].shape[-2:] == (4, 8)


def _with_own(parts: Any, own: Any) -> Any:
    from dataclasses import replace

    return replace(parts, own=own)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "nothing to encode"),
        ({"images": images(2)}, r"no video codec.*Disconnect images"),
        ({"audio": sound()}, r"no audio codec.*Disconnect audio"),
        ({"images": images(2) * 255, "both": True}, r"outside 0\.\.1"),
        ({"audio": {**sound(), "waveform": torch.zeros(2, 2, 9)}, "both": True}, "holds several clips"),
        ({"images": images(2), "fps": 0.0, "both": True}, "frame rate is out of range"),
        ({"images": images(2), "num_frames": 10, "both": True}, "9 or 13"),
        ({"images": images(2), "after_the_end": "stop", "both": True}, "unknown way to go on"),
    ],
)
def test_what_cannot_be_encoded_is_told(sides, given: dict[str, Any], sentence: str) -> None:
    codecs = sides if given.pop("both", False) else {}
    with pytest.raises(InputError, match=sentence):
        execute(**given, **codecs)


def test_masks_travel_on_one_socket() -> None:
    video, audio = {"samples": torch.zeros(2, 4, 3, 2, 2)}, {"samples": torch.ones(2, 6, 9), "type": "audio"}
    mask = torch.zeros(1, 1, 3, 2, 2)
    both = joined({**video, "noise_mask": mask}, audio)
    picture, heard = parted(both, None, None)
    assert torch.equal(picture["noise_mask"], mask) and bool(heard["noise_mask"].all())
    assert heard["noise_mask"].shape == (2, 1, 9)
    assert "noise_mask" not in joined(video, audio)
    picture, heard = parted({**joined(video, audio), "noise_mask": mask}, None, None)
    assert picture["noise_mask"] is mask and "noise_mask" not in heard


def test_a_decoded_clip_goes_round_in_a_workflow(graph, small_models_dir, tmp_path) -> None:
    codecs = {name: graph["8"]["inputs"][name] for name in ("video_codec", "audio_codec")}
    values = {port.id: port.options["default"] for port in EncodeClip.GET_SCHEMA().inputs if "default" in port.options}
    values |= {"images": ["8", 0], "audio": ["8", 1], "fps": 15.0, "defaults": "as set here", **SMALL, **codecs}
    graph["20"] = {"class_type": "T2SVEncodeClip", "inputs": values}
    graph["21"] = {
        "class_type": "T2SVDecodeAV",
        "inputs": {"av_samples": ["20", 2], "fps": ["20", 3], "tiling": "auto", **codecs},
    }
    graph["9"]["inputs"] |= {"images": ["21", 0], "audio": ["21", 1]}
    report = run_workflow(graph, models_dir=small_models_dir, output_dir=tmp_path, device="cpu", embed_metadata=False)
    info = probe(report.files[0])
    assert (info.num_frames, info.width, info.num_samples) == (9, 32, 4800)
