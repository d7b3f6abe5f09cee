"""The bar of a node: one for all its stages, never back, and never full while work goes on."""

from __future__ import annotations

import pytest
import torch
from sounding_video.core.progress import Progress
from sounding_video.models.conditioning import REMEMBERED
from sounding_video.nodes import conditioning, decode, output, sampling
from sounding_video.nodes.host import standalone
from sounding_video.nodes.host.common import StageBar, StageClock
from sounding_video.nodes.loaders import JoinTowers, LoadStableAudioTower, LoadWanTower

SAMPLER = (("preview", 0), ("sample", 1))


class Clock:
    def __init__(self, seconds_a_call=1.0):
        self.seconds, self._each = 100.0, seconds_a_call

    def __call__(self):
        self.seconds += self._each
        return self.seconds


def moved(bar, *stages):
    """What a bar shows of stages that are reported unit by unit."""
    steps = [(name, done, total) for name, total in stages for done in range(total + 1)]
    return [shown for step in steps if (shown := bar.move(*step)) is not None]


def test_a_sampler_s_bar_counts_its_steps_and_waits_for_the_preview():
    assert moved(StageBar(SAMPLER, Clock()), ("preview", 5), ("sample", 3)) == [(0, 1), (0, 3), (1, 3), (2, 3), (3, 3)]
    assert moved(StageBar(SAMPLER, Clock()), ("sample", 3)) == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_several_stages_share_one_bar():
    shown = moved(StageBar((("decode", 4), ("decode sound", 1)), Clock()), ("decode", 2), ("decode sound", 1))
    assert shown == [(0, 1000), (400, 1000), (800, 1000), (1000, 1000)]
    twice = StageBar((("decode", 1), ("decode sound", 1)) * 2, Clock())
    both = ("decode", 1), ("decode sound", 1)
    assert [value for value, _ in moved(twice, *both, *both)] == [0, 250, 500, 750, 1000]


def test_what_is_done_again_or_was_not_foreseen_does_not_take_the_bar_back():
    bar = StageBar((("decode", 1), ("decode sound", 1)), Clock())
    assert [value for value, _ in moved(bar, ("decode", 2))] == [0, 250, 500]
    assert moved(bar, ("decode", 4)) == []  # once more, in tiles
    assert moved(bar, ("load", 3)) == []
    assert moved(bar, ("decode sound", 2)) == [(750, 1000), (1000, 1000)]


def test_a_node_of_one_stage_shows_its_units_as_before():
    assert moved(StageBar(now=Clock()), ("encode", 3)) == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_the_page_is_told_ten_times_a_second_at_most_and_always_of_the_end():
    clock = Clock(0.001)
    shown = moved(StageBar(SAMPLER, clock), ("sample", 2000))
    assert shown[0] == (0, 2000) and shown[-1] == (2000, 2000)
    assert len(shown) <= 2 + 2.0 / 0.1
    hasty = moved(StageBar((("decode", 1), ("decode sound", 1)), Clock(1e-6)), ("decode", 500), ("decode sound", 7))
    assert hasty == [(0, 1000), (1000, 1000)]


def test_a_text_is_known_to_stand_on_the_page():
    clock = Clock(1.0)
    words = StageClock(clock)
    assert not words.has_spoken
    words.text("sample", 0, 50)
    assert words.text("sample", 1, 50) and words.has_spoken


@pytest.fixture
def watched(monkeypatch, small_models_dir):
    """The bars of the nodes that run, as their real stages move them."""
    bars = []

    def progress(*stages):
        bar, shown = StageBar(stages, Clock()), []
        bars.append(shown)

        def report(stage, done, total, preview=None):
            step = bar.move(stage, done, total)
            shown.append((stage, done, total, shown[-1][3] if step is None and shown else step))

        return Progress(report)

    for module in (conditioning, decode, output, sampling):
        monkeypatch.setattr(module, "progress", progress)
    monkeypatch.setattr(sampling, "shows_previews", lambda: True)
    with standalone.session(standalone.Session((small_models_dir,), device="cpu")):
        yield bars


def test_every_node_s_bar_goes_forward_and_is_full_at_its_very_end(watched, tmp_path):
    REMEMBERED.clear()
    ask = {"dtype": "auto", "attention": "auto", "offload": "none"}
    video = LoadWanTower.execute("wan", **ask).args[0]
    audio = LoadStableAudioTower.execute("stable_audio", **ask).args[0]
    model = JoinTowers.execute(video, audio).args[0]
    texts = {"video_caption": "a dog", "audio_caption": "a bark", "video_negative": "", "audio_negative": ""}
    sides = {"video_text_encoder": video, "audio_text_encoder": audio}
    encoded = conditioning.EncodeCaptions.execute(seconds=0.6, **texts, **sides).args[0]
    extent = {"width": 32, "height": 32, "num_frames": 9, "fps": 15.0, "batch_size": 2}
    latents = conditioning.EmptyAVLatent.execute(video_codec=video, audio_codec=audio, **extent).args
    scales = {"video_guidance_scale": 6.0, "audio_guidance_scale": 6.0, "guidance_batching": "auto"}
    rest = {"seed": 1, "steps": 3, "schedule": "lockstep", "flow_sigmas": "diffusers-0.36"}
    given = {"video_latent": latents[0], "audio_latent": latents[1], **scales, **rest}
    made = sampling.JointSampler.execute(model, encoded, **given).args
    codecs = {"video_codec": video, "audio_codec": audio}
    decode.DecodeAV.execute(fps=15.0, tiling="auto", video_samples=made[0], audio_samples=made[1], **codecs)
    decode.DecodeAV.execute(fps=15.0, tiling="on", video_samples=made[0], video_codec=video)
    watched = [shown for shown in watched if shown]  # some only ask whether to stop
    stages = [list(dict.fromkeys(stage for stage, *_ in shown)) for shown in watched]
    assert stages == [["encode"], ["preview", "sample"], ["decode", "decode sound"], ["decode"]]
    for shown in watched:
        shares = [value / end for *_, (value, end) in shown]
        assert shares == sorted(shares) and shares[0] < shares[-1] == 1
        assert shares.index(1) == len(shares) - 1, shown


def test_writing_and_measuring_share_a_bar(watched, monkeypatch, tmp_path):
    pytest.importorskip("cv2")
    monkeypatch.setattr(output, "shows_previews", lambda: True)  # motion is measured where somebody looks
    hidden = type("Hidden", (), {"prompt": None, "extra_pnginfo": None, "unique_id": "9"})()
    node = type("Node", (output.Mux,), {"hidden": hidden})
    options = {"filename_prefix": "clip", "writer": "pyav"}
    monkeypatch.setattr(output, "shows_previews", lambda: True)  # somebody looks
    with standalone.session(standalone.Session(output_dir=tmp_path, embed_metadata=False)):
        node.execute(images=torch.rand(6, 32, 32, 3), fps=15.0, format="mp4", **options)
    [shown] = watched
    shares = [value / end for *_, (value, end) in shown]
    assert [*dict.fromkeys(stage for stage, *_ in shown)] == ["mux", "measure"]
    assert shares == sorted(shares) and shares.index(1) == len(shares) - 1
