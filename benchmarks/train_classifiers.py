"""Train and check the scene classifiers of ``evaluation/`` on clips of the sounding world, on the CPU in minutes.

``python benchmarks/train_classifiers.py`` checks the bundled files on the world's test split;
``python benchmarks/train_classifiers.py --train`` trains them again and writes them. Same seeds, same clips.

The classifiers are instruments: they must recognise a bongo although no generator was ever trained on one. So they are
trained on the train split and on clips of the test split whose seeds begin at a million, where no prompt and no clip
of an evaluation comes from, and they are tested on the test split's first seeds. ``--train --common-only`` trains on
the train split alone and writes nothing, which shows how well they guess materials that they never met.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from sounding_video.core.clock import Timeline
from sounding_video.core.types import AVClip
from sounding_video.evaluation.classifier import (
    FOLDER,
    SceneClassifier,
    SceneNet,
    load_classifier,
    picture_features,
    sound_features,
    with_changes,
)
from sounding_video.world.scenes import SCENES
from sounding_video.world.synth import make_clip
from torch import Tensor
from torch.nn import functional

SIZES = (64, 96, 128)
NUM_FRAMES, FPS = 33, 15
BATCH, FRAMES_A_STEP = 32, 10
HAZE_STEPS = 25  # of a spectrogram, 0.3 s
MODALITIES = ("picture", "sound")
EPOCHS = {"picture": 6, "sound": 12}
RESERVED_SEED = 1_000_000


def world_clips(split: str, num: int, first_seed: int = 0) -> Iterator[tuple[int, AVClip]]:
    """``num`` clips, scenes and picture sizes in turn, with the number of their scene."""
    scenes = SCENES.names()
    for index in range(num):
        side = SIZES[index // len(scenes) % len(SIZES)]
        timeline, label = Timeline(NUM_FRAMES, FPS, side, side), index % len(scenes)
        yield label, make_clip(scenes[label], first_seed + index, timeline=timeline, split=split).clip


def features_of(split: str, num: int, first_seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Small frames ``(N, F, 3, 48, 48)`` and spectrograms ``(N, 1, 64, T)`` in 16 bit, and scene numbers ``(N,)``."""
    pictures, sounds, labels = [], [], []
    for label, clip in world_clips(split, num, first_seed):
        pictures.append(picture_features(clip.video)[:, :3].half())
        sounds.append(sound_features(clip.audio).half())
        labels.append(label)
    return torch.stack(pictures), torch.stack(sounds), torch.tensor(labels)


def vary_pictures(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Some frames of each clip, with contrast, brightness, blur and grain as codecs and models leave them."""
    batch, num_frames = frames.shape[:2]

    def draw(low: float, high: float) -> Tensor:
        return torch.rand(batch, 1, 1, 1, 1, generator=generator) * (high - low) + low

    chosen = torch.randperm(num_frames, generator=generator)[:FRAMES_A_STEP]
    varied = frames[:, torch.cat([chosen, (chosen - 1).clamp(min=0)])].float() * draw(0.7, 1.2) + draw(-0.2, 0.2)
    blurred = functional.avg_pool2d(varied.flatten(0, 1), 3, 1, 1, count_include_pad=False).unflatten(0, (batch, -1))
    varied = torch.lerp(varied, blurred, draw(0, 1))
    varied = varied + draw(0, 0.12) * torch.randn(varied.shape, generator=generator)
    mirrored = torch.rand(batch, generator=generator) < 0.5
    varied[mirrored] = varied[mirrored].flip(-1)
    now, before = varied.clamp(-1, 1).split(len(chosen), dim=1)
    return torch.cat([now, now - before], dim=2)


def vary_sounds(mels: Tensor, generator: torch.Generator) -> Tensor:
    """Another pitch, missing highs, grain, a noise floor, another start, and spill and hiss as vocoders leave them."""
    batch, _, num_bands, num_steps = mels.shape

    def draw(low: float, high: float) -> Tensor:
        return torch.rand(batch, 1, 1, 1, generator=generator) * (high - low) + low

    shift = torch.randint(-5, 6, (batch, 1), generator=generator)
    bands = (torch.arange(num_bands) - shift).clamp(0, num_bands - 1)
    varied = mels.float().gather(2, bands[:, None, :, None].expand(-1, 1, -1, num_steps))
    varied = varied + torch.linspace(0, 1, num_bands)[:, None] * draw(-0.25, 0.1)
    # Energy in neighbouring bands and moments, and noise as loud as the sound allows.
    spilt = functional.avg_pool2d(varied, (9, 5), 1, (4, 2)) - draw(0.1, 0.6)
    loudest = varied.amax(2, keepdim=True)
    hiss = loudest - draw(0.4, 0.9)
    # Decoders do not fall silent at once, and start to rustle before a blow.
    near = functional.max_pool2d(loudest, (1, HAZE_STEPS), 1, (0, HAZE_STEPS // 2))
    haze = functional.avg_pool2d(near, (1, HAZE_STEPS), 1, (0, HAZE_STEPS // 2)) - draw(0.45, 1)
    for more in (spilt, hiss, haze):
        varied = torch.maximum(varied, more)
    varied = varied + draw(0, 0.06) * torch.randn(mels.shape, generator=generator)
    varied = torch.maximum(varied, draw(0, 0.35)).clamp(0, 1)
    return varied.roll(int(torch.randint(num_steps, (1,), generator=generator)), -1)


def train(modality: str, features: Tensor, labels: Tensor, *, epochs: int, seed: int = 0) -> SceneNet:
    """AdamW with one cycle of the learning rate, on varied features."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    vary = vary_pictures if modality == "picture" else vary_sounds
    net = SceneNet(modality, len(SCENES.names()))
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.02)
    steps = epochs * (len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(labels), generator=generator).split(BATCH)[: len(labels) // BATCH]:
            loss = functional.cross_entropy(net(vary(features[rows], generator)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        print(f"{modality}: epoch {epoch + 1} of {epochs}, loss {total / len(labels):.4f}", flush=True)
    return net.eval()


def confusion(classifier: SceneClassifier, features: Tensor, labels: Tensor) -> Tensor:
    """``(scene, named)`` counts."""
    counts = torch.zeros(len(classifier.scenes), len(classifier.scenes), dtype=torch.long)
    for row, label in zip(features, labels.tolist(), strict=True):
        whole = with_changes(row.float()) if classifier.net.modality == "picture" else row.float()
        with torch.no_grad():
            counts[label, int(classifier.net(whole[None]).argmax())] += 1
    return counts


def report(classifier: SceneClassifier, counts: Tensor) -> float:
    """Print the accuracy and every confusion; give the accuracy."""
    accuracy = float(counts.diagonal().sum() / counts.sum())
    print(f"{classifier.net.modality}: {accuracy:.4f} of {int(counts.sum())} test clips named rightly")
    for scene, named in (counts - counts.diagonal().diag()).nonzero().tolist():
        print(f"    {classifier.scenes[scene]} taken for {classifier.scenes[named]}: {int(counts[scene, named])}")
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--train", action="store_true", help="train and write the files; otherwise only check them")
    add("--folder", type=Path, default=FOLDER, help="where the files are (default: in the package)")
    add("--common-only", action="store_true", help="with --train: train split only, write nothing")
    add("--clips", type=int, default=1500, help="training clips of the train split (default: 1500)")
    add("--reserved-clips", type=int, default=700, help="training clips with test-only materials (default: 700)")
    add("--test-clips", type=int, default=400, help="test clips (default: 400)")
    add("--epochs", type=int, help="rounds over the training clips (default: 6 for pictures, 12 for sounds)")
    args = parser.parse_args()
    started = time.monotonic()
    *test, test_labels = features_of("test", args.test_clips)
    if args.train:
        parts = [features_of("train", args.clips)]
        if not args.common_only:
            parts.append(features_of("test", args.reserved_clips, RESERVED_SEED))
        *training, labels = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        print(f"clips made: {time.monotonic() - started:.0f} s", flush=True)
    for index, modality in enumerate(MODALITIES):
        if args.train:
            net = train(modality, training[index], labels, epochs=args.epochs or EPOCHS[modality])
            net.load_state_dict({name: value.half().float() for name, value in net.state_dict().items()})
            classifier = SceneClassifier(net, tuple(SCENES.names()), 0.0, args.test_clips)
            accuracy = report(classifier, confusion(classifier, test[index], test_labels))
            if not args.common_only:
                trained = SceneClassifier(net, classifier.scenes, accuracy, args.test_clips)
                trained.save(args.folder / f"{modality}.safetensors")
        else:
            classifier = load_classifier(modality, args.folder)
            report(classifier, confusion(classifier, test[index], test_labels))
    print(f"{time.monotonic() - started:.0f} s in all on {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
