"""A model of another family on the nodes' sockets: it is sampled and decoded, and refused where towers are meant."""

from __future__ import annotations

import pytest
import torch
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import GeometryError, InputError
from sounding_video.nodes.conditioning import EmptyAVLatent, EncodeCaptions
from sounding_video.nodes.decode import DecodeAV
from sounding_video.nodes.encode import EncodeClip
from sounding_video.nodes.host import standalone
from sounding_video.nodes.loaders import JoinTowers
from sounding_video.nodes.own import AS_SET, FROM_MODEL
from sounding_video.nodes.sampling import JointSampler
from sounding_video.pipeline import load_models

TEXTS = {"video_caption": "a dog", "audio_caption": "a bark", "video_negative": "", "audio_negative": ""}
SAMPLING = {"steps": 2, "video_guidance_scale": 3.0, "audio_guidance_scale": 3.0, "seed": 0, "schedule": "lockstep"}
SAMPLING |= {"flow_sigmas": "diffusers-0.36", "guidance_batching": "auto"}


@pytest.fixture
def model(throw_away_family):
    with standalone.session(standalone.Session((throw_away_family.parent,), device="cpu")):
        yield load_models(throw_away_family, placement=resolve_placement(device="cpu"))


def empty(model, **extent):
    asked = {"width": 832, "height": 480, "num_frames": 81, "fps": 15.0, "batch_size": 1, "defaults": FROM_MODEL}
    sides = {"video_codec": model.sides.video, "audio_codec": model.sides.audio}
    return EmptyAVLatent.execute(**{**asked, **extent}, **sides).args


def test_it_goes_from_captions_to_a_clip(model):
    video, audio, fps, seconds, _ = empty(model)
    assert (video["samples"].shape, audio["samples"].shape) == ((1, 4, 1, 1, 20), (1, 4, 166))
    sides = model.sides
    ask = {"video_text_encoder": sides.video, "audio_text_encoder": sides.audio, "seconds": seconds, **TEXTS}
    conditioning = EncodeCaptions.execute(**ask).args[0]
    made = JointSampler.execute(model, conditioning, video_latent=video, audio_latent=audio, **SAMPLING).args
    codecs = {"video_codec": sides.video, "audio_codec": sides.audio}
    images, sound = DecodeAV.execute(
        fps=fps, tiling="auto", **codecs, video_samples=made[0], audio_samples=made[1]
    ).args
    assert images[0].shape == (5, 16, 16, 3) and sound[0]["waveform"].shape == (1, 2, 2667)
    encoded = EncodeClip.execute(
        images=images[0], audio=sound[0], fps=fps, start=0.0, after_the_end="hold and silence", batch_size=1,
        tiling="auto", defaults=FROM_MODEL, width=832, height=480, num_frames=81, model_fps=15.0, **codecs,
    ).args  # fmt: skip
    assert encoded[0]["samples"].shape == (1, 4, 1, 1, 20) and encoded[1]["samples"].isfinite().all()


def test_what_belongs_to_towers_is_refused(model):
    with pytest.raises(InputError, match="there is no tower to join"):
        JoinTowers.execute(model.sides.video, model.sides.audio)
    with pytest.raises(GeometryError, match="clips of one extent"):
        empty(model, defaults=AS_SET)
    assert torch.is_tensor(empty(model)[0]["samples"])
