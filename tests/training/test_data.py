"""Clips are cut to one size at one moment for both modalities, and encoded once."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from sounding_video.core.clock import Timeline
from sounding_video.core.errors import InputError
from sounding_video.core.progress import Progress
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.media.mux import write_clip
from sounding_video.training.assembly import build_workbench
from sounding_video.training.batches import Batches, Share
from sounding_video.training.config import DataConfig
from sounding_video.training.data import cut, find_sources


def ramp_clip(num_frames: int = 30, size: int = 32) -> AVClip:
    """Frame i has brightness i/100; the sound's left channel is the time in seconds / 10, the right its negative."""
    frames = (torch.arange(num_frames) / 100).view(-1, 1, 1, 1).expand(-1, size, size, 3).contiguous()
    times = torch.arange(num_frames * 44_100 // 15) / 44_100 / 10
    return AVClip(VideoClip(frames, Fraction(15)), AudioClip(torch.stack([times, -times]), 44_100))


def test_crops_are_random_aligned_and_reproducible() -> None:
    timeline, starts = Timeline(9, Fraction(15), 32, 32), set()
    for crop in range(12):
        window = cut(ramp_clip(), DataConfig(), timeline, name="a", crop=crop)
        first = round(float(window.video.frames[0, 0, 0, 0]) * 100)
        assert window.video.frames.shape == (9, 32, 32, 3)
        assert window.audio.waveform.shape == (2, timeline.num_samples)
        assert float(window.audio.waveform[0, 0]) * 10 == pytest.approx(first / 15, abs=1e-4)
        assert torch.equal(window.audio.waveform[1], -window.audio.waveform[0])  # stereo is kept
        again = cut(ramp_clip(), DataConfig(), timeline, name="a", crop=crop)
        assert torch.equal(again.video.frames, window.video.frames)
        starts.add(first)
    assert len(starts) > 3
    assert max(starts) <= 21
    head = cut(ramp_clip(), DataConfig(crop="head", mono=True), timeline, name="a", crop=3)
    assert float(head.video.frames[0].max()) == 0
    assert torch.equal(head.audio.waveform[0], head.audio.waveform[1])


def test_short_clips_are_held_or_repeated() -> None:
    timeline = Timeline(13, Fraction(15), 32, 32)
    held = cut(ramp_clip(5), DataConfig(), timeline, name="a", crop=0)
    assert torch.equal(held.video.frames[12], held.video.frames[4])
    assert float(held.audio.waveform[:, 5 * 2940 :].abs().max()) == 0
    looped = cut(ramp_clip(5), DataConfig(short="loop"), timeline, name="a", crop=0)
    assert torch.equal(looped.video.frames[5:10], looped.video.frames[:5])
    assert torch.equal(looped.audio.waveform[:, 14_700:29_400], looped.audio.waveform[:, :14_700])


def test_other_rates_and_sizes_are_brought_to_the_runs() -> None:
    frames = (torch.arange(60) / 100).view(-1, 1, 1, 1).expand(-1, 48, 64, 3).contiguous()
    clip = AVClip(VideoClip(frames, Fraction(30)), None)
    window = cut(clip, DataConfig(crop="head"), Timeline(9, Fraction(15), 32, 32), name="a", crop=0)
    assert window.video.frames.shape == (9, 32, 32, 3)
    brightness = window.video.frames[:, 0, 0, 0]
    torch.testing.assert_close(brightness, torch.arange(9) * 0.02, atol=1e-5, rtol=0)


@pytest.mark.parametrize("fps", [30, 10, Fraction(30000, 1001)])
@pytest.mark.parametrize("short", ["pad", "loop"])
def test_batches_are_those_of_all_runs_before(fps: Fraction, short: str) -> None:
    """Written out as the first runs cut their clips: the frame on screen, bilinear, no fade; bit for bit."""
    generator = torch.Generator().manual_seed(3)
    video = VideoClip(torch.rand(7, 40, 50, 3, generator=generator), Fraction(fps))
    sound = torch.rand(2, 5000, generator=generator)
    timeline = Timeline(13, Fraction(15), 32, 16)
    window = cut(AVClip(video, AudioClip(sound, 44_100)), DataConfig(short=short), timeline, name="a", crop=0)
    lasting = max(1, int(video.seconds * 15))
    wanted = [index % lasting if short == "loop" else min(index, lasting - 1) for index in range(13)]
    frames = video.frames[[min(6, int(index * video.fps / 15)) for index in wanted]].permute(0, 3, 1, 2)
    scaled = torch.nn.functional.interpolate(frames, (26, 32), mode="bilinear", antialias=True)[:, :, 5:21]
    assert torch.equal(window.video.frames, scaled.permute(0, 2, 3, 1).clamp(0, 1))
    repeated = sound.repeat(1, 8)[:, : timeline.num_samples]
    if short == "pad":
        repeated[:, 5000:] = 0
    assert torch.equal(window.audio.waveform, repeated)


def write_manifest(folder: Path, lines: list[str]) -> Path:
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_a_folder_of_clips_trains_like_the_world(small_run, tmp_path) -> None:
    write_clip(ramp_clip(), tmp_path / "a.mp4")
    row = {"file": "a.mp4", "video_caption": "a ramp", "audio_caption": "a hum", "seed": 3}
    write_manifest(tmp_path, [json.dumps(row)])
    config = small_run("pocket_bridges", f"data.source={tmp_path}", "data.num_clips=0", "data.keep_media=false")
    bench = build_workbench(config, Path(config.models.root))
    batches = Batches(config, bench, tmp_path / "cache")
    batches.prepare(torch.device("cpu"), Share(), Progress())
    batch = batches.at(0, 2)
    assert batch.tensors["video_latents"].shape == (2, *batches.timeline.video_latent_shape)
    assert batch.tensors["audio_latents"].shape == (2, *batches.timeline.audio_latent_shape)
    assert batch.names == ["a.mp4#0", "a.mp4#0"]
    encoder = bench.video.text
    expected = {"a ramp": encoder.encode(["a ramp"])[0], "": encoder.encode([""])[0]}
    assert any(torch.equal(batch.tensors["video_text"][0], text) for text in expected.values())


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["{"], "a line of the manifest is not JSON"),
        (['{"file": "a.mp4"}'], "expected an object with file, video_caption and audio_caption"),
        (['{"file": "no.mp4", "video_caption": "v", "audio_caption": "a"}'], "a file of the manifest is missing"),
        ([], "the manifest has no clips"),
    ],
)
def test_a_bad_manifest_is_refused(tmp_path, lines: list[str], sentence: str) -> None:
    write_manifest(tmp_path, lines)
    with pytest.raises(InputError) as error:
        find_sources(DataConfig(source=str(tmp_path)))
    assert sentence in str(error.value)


def test_world_clips_are_named_by_their_content() -> None:
    first, again, other = (
        find_sources(DataConfig(num_clips=3, num_frames=9, width=32, height=32, seed=seed)) for seed in (0, 0, 1)
    )
    assert [s.digest for s in first] == [s.digest for s in again]
    assert not {s.digest for s in first} & {s.digest for s in other}
    with pytest.raises(InputError, match="unknown scene"):
        find_sources(DataConfig(num_clips=1, scenes=("nowhere",)))


def test_what_is_cached_is_not_computed_again(small_run, tmp_path) -> None:
    """The second preparation reports no work; after one file is lost, it makes that one alone."""
    config = small_run()
    bench = build_workbench(config, Path(config.models.root))
    stages: list[str] = []
    progress = Progress(report=lambda stage, done, total, preview=None: stages.append(stage))

    def prepare() -> Batches:
        stages.clear()
        batches = Batches(config, build_workbench(config, Path(config.models.root)), tmp_path)
        batches.prepare(torch.device("cpu"), Share(), progress)
        return batches

    before = prepare().at(0, 2).tensors
    assert stages.count("clips") == stages.count("latents") == 4
    assert {"video texts", "audio texts"} <= set(stages)
    batches = prepare()
    assert stages == []
    batches.samples.latents["audio"].path(batches.sources[1], 0).unlink()
    after = prepare().at(0, 2).tensors
    assert stages == ["latents"]
    assert all(torch.equal(before[key], after[key]) for key in before)
    bench = replace(bench, audio=copy.deepcopy(bench.audio))  # whose codec other runs read with too
    with torch.no_grad():
        bench.audio.codec.vae.encoder.conv1.bias.add_(0.1)
    changed = Batches(config, bench, tmp_path)
    assert not changed.samples.latents["audio"].path(changed.sources[0], 0).is_file()  # other weights, other latents
    assert changed.samples.latents["video"].path(changed.sources[0], 0).is_file()


def test_the_video_codec_trains_on_squares_of_the_picture(small_run, tmp_path) -> None:
    config = small_run("pocket_wan_vae", "data.width=64", "data.height=64", "data.crop_size=16")
    bench = build_workbench(config, Path(config.models.root))
    rows = Batches(config, bench, tmp_path).at(0, 6).tensors
    assert rows["video"].shape == (6, 3, 9, 16, 16)
    assert rows["noise"].shape == (6, *bench.step.vae.encode(rows["video"]).latent_dist.mean.shape[1:])
    whole = small_run("pocket_wan_vae", "data.width=64", "data.height=64", "data.crop_size=0")
    pictures = Batches(whole, bench, tmp_path).at(0, 1).tensors["video"][0]
    places = [
        (top, left)
        for top in range(49)
        for left in range(49)
        if torch.equal(pictures[..., top : top + 16, left : left + 16], rows["video"][0])
    ]
    assert places  # a part of the same clip, as it is
    with pytest.raises(InputError, match=r"data\.crop_size=20.*a multiple of"):
        Batches(small_run("pocket_wan_vae", "data.crop_size=20"), bench, tmp_path)


def test_a_share_of_the_captions_is_what_users_get() -> None:
    """The same clips; about the asked share has the expansion of its prompt, the others the world's own captions."""
    kwargs = {"num_clips": 60, "num_frames": 9, "width": 16, "height": 16}
    plain, mixed = (find_sources(DataConfig(**kwargs, expanded_share=share)) for share in (0.0, 0.5))
    expanded = [source for source in mixed if source.expanded]
    assert 18 <= len(expanded) <= 42
    assert not any(source.expanded for source in plain)
    assert all((a.digest == b.digest) != b.expanded for a, b in zip(plain, mixed, strict=True))
    index = mixed.index(expanded[0])
    (clip, own), (same, written) = plain[index].load(), expanded[0].load()
    assert torch.equal(clip.video.frames, same.video.frames)
    assert written.video != own.video and written.audio != own.audio
    assert written == expanded[0].load()[1]
