"""Small networks that tell the world's scenes apart, by the picture alone or by the sound alone.

Their weights lie in ``classifiers/`` in 16 bits; a file's metadata holds the scenes and the accuracy that was measured
on clips of the world's test split, none of which was trained on (``benchmarks/train_classifiers.py``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..core.errors import CorruptWeightsError, IncompatibleWeightsError, MissingModelError
from ..core.json_text import parse_json
from ..core.optional import require
from ..core.types import AudioClip, VideoClip, require_finite
from ..media.audio import resample
from ..models.weights.files import read_safetensors, write_safetensors

FOLDER = Path(__file__).parent / "classifiers"
TRAIN_COMMAND = "python benchmarks/train_classifiers.py --train"
FORMAT = "sounding-video scene classifier 1"
PICTURE_SIZE = 48
SAMPLE_RATE, WINDOW, HOP, NUM_MELS = 22_050, 1024, 256, 64
RANGE_DB = 80.0
WIDTHS = (24, 48, 64, 64)


def picture_features(video: VideoClip) -> Tensor:
    """Small frames and how they change: ``(F, 6, 48, 48)``, RGB in -1..1 and the difference to the frame before.

    Raises:
        NonFiniteError: NaN or infinity in the frames.
    """
    require_finite("the frames tensor", video.frames)
    frames = video.frames.detach().to("cpu", torch.float32).clamp(0, 1).permute(0, 3, 1, 2)
    small = functional.interpolate(frames, (PICTURE_SIZE, PICTURE_SIZE), mode="bilinear", antialias=True)
    return with_changes(small * 2 - 1)


def with_changes(frames: Tensor) -> Tensor:
    """Append the difference to the frame before: ``(…, F, 3, H, W)`` to ``(…, F, 6, H, W)``; the first has none."""
    changes = torch.diff(frames, dim=-4, prepend=frames[..., :1, :, :, :])
    return torch.cat([frames, changes], dim=-3)


def sound_features(audio: AudioClip) -> Tensor:
    """Mel spectrogram in decibels below the clip's loudest point: ``(1, 64, T)``, 0 at -80 dB and 1 at the top.

    Raises:
        NonFiniteError: NaN or infinity in the sound.
    """
    require_finite("the waveform", audio.waveform)
    mono = AudioClip(audio.waveform.detach().to("cpu", torch.float32).mean(0, keepdim=True), audio.sample_rate)
    samples = resample(mono, SAMPLE_RATE).waveform[0]
    spectrum = torch.stft(
        samples, WINDOW, HOP, window=torch.hann_window(WINDOW), center=True, pad_mode="constant", return_complex=True
    )
    power = mel_filters() @ spectrum.abs().square()
    level = 10 * torch.log10(power + 1e-10)
    return ((level - level.max()) / RANGE_DB + 1).clamp(0, 1)[None]


def mel_filters() -> Tensor:
    """Triangular filters ``(64, bins)``, evenly spaced on O'Shaughnessy's mel scale 2595·log10(1 + f/700)."""
    make = require("torchaudio.functional", "telling scenes apart by their sound").melscale_fbanks
    return make(WINDOW // 2 + 1, 0.0, SAMPLE_RATE / 2, NUM_MELS, SAMPLE_RATE, norm=None, mel_scale="htk").T


class SceneNet(nn.Module):
    """Four strided convolutions, then mean and maximum over time.

    Args:
        modality: "picture" takes ``(B, F, 6, 48, 48)``, "sound" takes ``(B, 1, 64, T)``.
        num_scenes: Number of logits.
    """

    def __init__(self, modality: str, num_scenes: int) -> None:
        super().__init__()
        self.modality = modality
        layers: list[nn.Module] = []
        before = 6 if modality == "picture" else 1
        for width in WIDTHS:
            layers += [nn.Conv2d(before, width, 3, stride=2, padding=1), nn.GroupNorm(8, width), nn.GELU()]
            before = width
        self.body = nn.Sequential(*layers)
        # The sound's frequency axis stays: 64 bands become 4 rows.
        rows = 1 if modality == "picture" else NUM_MELS // 2 ** len(WIDTHS)
        self.head = nn.Linear(2 * WIDTHS[-1] * rows, num_scenes)

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``(B, num_scenes)``."""
        return self.head(self.pooled(features))

    def pooled(self, features: Tensor) -> Tensor:
        """What the head reads, mean and maximum over time: ``(B, 128)`` of a picture, ``(B, 512)`` of a sound."""
        if self.modality == "picture":
            batch, num_frames = features.shape[:2]
            steps = self.body(features.flatten(0, 1)).mean((2, 3)).unflatten(0, (batch, num_frames)).transpose(1, 2)
        else:
            steps = self.body(features).flatten(1, 2)
        return torch.cat([steps.mean(-1), steps.amax(-1)], dim=-1)


@dataclass(frozen=True)
class SceneClassifier:
    """A trained network and what it was trained on.

    Args:
        net: In evaluation mode, float32 on the CPU.
        scenes: Names of its logits.
        test_accuracy: Share of test clips it names rightly.
        num_test_clips: How many these were.
    """

    net: SceneNet
    scenes: tuple[str, ...]
    test_accuracy: float
    num_test_clips: int

    @torch.no_grad()
    def classify(self, media: VideoClip | AudioClip) -> dict[str, float]:
        """Probability of each scene."""
        probabilities = self.net(_features(media))[0].softmax(0)
        return dict(zip(self.scenes, probabilities.tolist(), strict=True))

    @torch.no_grad()
    def pooled(self, media: VideoClip | AudioClip) -> Tensor:
        """What the network sees or hears in a clip, before it names a scene: ``(128,)`` or ``(512,)``."""
        return self.net.pooled(_features(media))[0]

    def save(self, path: Path) -> None:
        """Write the weights in 16 bits with what a reader must know.

        Raises:
            OutputError: the folder cannot be written.
        """
        metadata = {
            "format": FORMAT,
            "modality": self.net.modality,
            "scenes": json.dumps(self.scenes),
            "test_accuracy": repr(self.test_accuracy),
            "num_test_clips": str(self.num_test_clips),
        }
        write_safetensors(path, {name: value.half() for name, value in self.net.state_dict().items()}, metadata)


def _features(media: VideoClip | AudioClip) -> Tensor:
    """A batch of one for the network."""
    return (picture_features(media) if isinstance(media, VideoClip) else sound_features(media))[None]


def load_classifier(modality: str, folder: Path = FOLDER) -> SceneClassifier:
    """Load "picture" or "sound".

    Raises:
        MissingModelError: the file is not there; the message has the command that trains it.
        CorruptWeightsError: truncated, or not a safetensors file.
        IncompatibleWeightsError: another kind of file.
    """
    path = folder / f"{modality}.safetensors"
    if not path.is_file():
        raise MissingModelError(
            f"the {modality} classifier is not there",
            got=path,
            expected="a trained classifier",
            remedy=f"Train it in a few minutes with: {TRAIN_COMMAND}",
        )
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT or metadata.get("modality") != modality:
        raise IncompatibleWeightsError(
            "the file is not this classifier",
            got=f"{path}: {metadata.get('format')}, {metadata.get('modality')}",
            expected=f"{FORMAT}, {modality}",
        )
    scenes = tuple(parse_json(metadata["scenes"], what="the list of scenes", where=path, error=CorruptWeightsError))
    net = SceneNet(modality, len(scenes))
    net.load_state_dict({name: value.float() for name, value in tensors.items()})
    return SceneClassifier(
        net.eval().requires_grad_(False), scenes, float(metadata["test_accuracy"]), int(metadata["num_test_clips"])
    )
