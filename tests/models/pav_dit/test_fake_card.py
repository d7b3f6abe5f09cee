"""PAV-DiT at the published size on a card that is not there: one device, right types, and peaks as foretold."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from fake_card import ON_CARD, CardBytes, fake_card, learn, on_card
from sounding_video.core.clock import Timeline
from sounding_video.core.types import AVClip, Conditioning, JointLatents, ModalityConditioning, VideoClip
from sounding_video.models.clip_decoding import decode_clip
from sounding_video.models.clip_encoding import encode_clip
from sounding_video.models.families.pav_dit import TEXT_LENGTH, USUAL, PavDitModel
from sounding_video.models.pav_dit import forms, stdit
from sounding_video.models.pav_dit.codec import Face, WholeCodec
from sounding_video.models.pav_dit.mdsa import PavDitAutoencoder
from sounding_video.models.pav_dit.stdit import PavDitTransformer
from sounding_video.models.plan.needs import Needs, Workload
from sounding_video.models.plan.training import training_needs
from sounding_video.pipeline import sample_latents
from sounding_video.sampling.options import SamplingOptions
from sounding_video.training.adversarial import Critics
from sounding_video.training.sections import ObjectiveConfig
from sounding_video.training.tasks.av_codec import AVCodecStep
from sounding_video.training.tasks.pav_dit import PlanesStep
from torch import nn

LENGTH = 32 * 32 + 16 * 32 + 16 * 32
SHAPES = {"video": (1, 4, 1, 1, LENGTH), "audio": (1, 4, LENGTH)}
CUDA = torch.device("cuda")


def empty_autoencoder() -> PavDitAutoencoder:
    with torch.device("meta"):
        return PavDitAutoencoder(**forms.PUBLISHED).eval()


def empty_transformer(dtype: torch.dtype = torch.bfloat16) -> PavDitTransformer:
    with torch.device("meta"):
        return PavDitTransformer(**stdit.PUBLISHED).to(dtype).eval()


class Texts(nn.Module):
    """What an outline asks of a text encoder."""

    max_length = TEXT_LENGTH

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1, device="meta")


def model_on(device: str) -> PavDitModel:
    """As after loading; inside a fake card."""
    whole = WholeCodec(on_card(empty_autoencoder(), device)).eval().requires_grad_(False)
    transformer = on_card(empty_transformer(), device).eval().requires_grad_(False)
    return PavDitModel("published", USUAL, True, transformer, Texts(), whole, replace(ON_CARD, offload="model"))


def foretold(stage: str, *, encoded: tuple[str, ...] = ()) -> int:
    """Weights and activations of a stage of the autoencoder."""
    outline = WholeCodec(empty_autoencoder()).outline()
    needs = Needs(outline, Workload(SHAPES["video"], SHAPES["audio"], encoded=encoded))
    return needs.weights()["autoencoder"] + needs.activations(stage)


@pytest.fixture
def timeline() -> Timeline:
    return Timeline(16, Fraction(10), 256, 256, empty_autoencoder().geometry)


def test_encoding_a_picture(timeline: Timeline) -> None:
    """The sound's images are made of numbers, on the CPU, by torchaudio: what encodes them is the same module."""
    with fake_card() as card, torch.no_grad():
        whole = WholeCodec(on_card(empty_autoencoder(), "cpu")).eval()
        clip = AVClip(VideoClip(torch.empty(16, 256, 256, 3), Fraction(10)), None)
        made = encode_clip(clip, timeline, video_codec=Face(whole, "video"), audio_codec=None, placement=ON_CARD)
    assert (made.video.shape, made.video.dtype, made.video.device.type) == (SHAPES["video"], torch.float32, "cpu")
    assert foretold("encode video", encoded=("video",)) == pytest.approx(card.peak, rel=0.05)


def test_decoding_both_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms.MelImages, "sound", lambda self, images: torch.empty(2, self.segment * images.shape[1]))
    with fake_card() as card, torch.no_grad():
        whole = WholeCodec(on_card(empty_autoencoder(), "cpu")).eval()
        latents = JointLatents(*(torch.empty(shape) for shape in SHAPES.values()))
        codecs = model_codecs(whole)
        clip = decode_clip(latents, codecs, fps=Fraction(10), placement=ON_CARD)
    assert clip.video.frames.shape == (16, 256, 256, 3) and clip.video.frames.device.type == "cpu"
    assert clip.audio.waveform.shape == (2, 38_400)
    assert foretold("decode video") == pytest.approx(card.peak, rel=0.05)


def model_codecs(whole: WholeCodec):
    from sounding_video.core.pair import Pair

    return Pair(Face(whole, "video"), Face(whole, "audio"))


@pytest.mark.parametrize(
    "sides",
    [
        pytest.param(("video", "audio"), id="both"),
        pytest.param(("audio",), id="sound alone", marks=pytest.mark.slow),
    ],
)
def test_a_guided_step_of_the_sampler(sides: tuple[str, ...]) -> None:
    like = {"dtype": torch.bfloat16, "device": "cpu"}
    shapes = {f"{side}_shape": SHAPES[side] if side in sides else None for side in SHAPES}
    with fake_card() as card:
        model = model_on("cpu")
        text = ModalityConditioning(*(torch.empty(1, TEXT_LENGTH, 4096, **like) for _ in range(2)))
        conditioning = Conditioning(**dict.fromkeys(sides, text))
        options = SamplingOptions(num_steps=1, schedule="coupled", solver="euler", guidance_batching="sequential")
        made = sample_latents(model, conditioning, **shapes, options=options)
        left = card.now
    for side in sides:
        one = getattr(made, side)
        assert (one.shape, one.dtype, one.device.type) == (SHAPES[side], torch.float32, "cpu")
    outline = model.sampling_outline((TEXT_LENGTH, TEXT_LENGTH))
    needs = Needs(outline, Workload(shapes["video_shape"], shapes["audio_shape"], decoded=()))
    weights = needs.weights()["transformer"]
    assert weights + needs.activations("sample") == pytest.approx(card.peak, rel=0.05)
    assert left <= 0.01 * weights, "it has left the card"


def step_of(card: CardBytes, step: nn.Module, row: dict[str, torch.Tensor]) -> int:
    """The peak of a whole training step, moments included."""
    learning = learn(step, row)
    assert {parameter.grad.device.type for parameter in learning if parameter.grad is not None} == {"cuda"}
    assert all(parameter.grad is not None for parameter in learning), "all that learns has a gradient"
    return card.peak


def test_a_training_step_of_the_transformer_takes_what_is_foretold() -> None:
    step = PlanesStep(empty_transformer(torch.float32).requires_grad_(True).train(), "bf16")
    row = {name: torch.empty((), device="meta") for name in ("t", "video_weight", "audio_weight")}
    for side, shape in SHAPES.items():
        row |= {f"{side}_{what}": torch.empty(shape[1:], device="meta") for what in ("latents", "noise")}
        row[f"{side}_text"] = torch.empty(TEXT_LENGTH, 4096, device="meta")
    with fake_card() as card:
        peak = step_of(card, step, row)
    assert training_needs(step, row, batch_size=1, device=CUDA, averaged=False).peak_bytes == pytest.approx(
        peak, rel=0.05
    )


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [True, False])
def test_a_training_step_of_the_autoencoder_with_critics_takes_what_is_foretold(checkpointing: bool) -> None:
    autoencoder = empty_autoencoder().requires_grad_(True).train()
    if checkpointing:
        autoencoder.enable_gradient_checkpointing()
    with torch.device("meta"):
        critics = Critics({"video": 3, "audio": 2}, 64)
    step = AVCodecStep(autoencoder, critics, ObjectiveConfig(kl_weight=6e-6), "bf16")
    row = {side: torch.empty(autoencoder.media_shape(side), device="meta") for side in SHAPES}
    row |= {f"{side}_noise": torch.empty(4, LENGTH, device="meta") for side in SHAPES}
    row |= {f"{side}_image": torch.empty((), dtype=torch.int64, device="meta") for side in SHAPES}
    needs = training_needs(step, row, batch_size=1, device=CUDA, averaged=False)
    if checkpointing:
        assert needs.peak_bytes < 40e9
        return
    with fake_card() as card:
        # Convolutions of the critics keep float32 copies in the plan that a card has not: it is on the safe side.
        assert needs.peak_bytes == pytest.approx(step_of(card, step, row), rel=0.08)
