"""Onsets of a generated sound against those of the true one, as CondFoleyGen's ``predict_onset.py`` matches them.

Times are samples at 22 050 Hz. The script's own slips are there for whoever compares with printed numbers: see
``compatible``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..core.types import AudioClip
from ..media.audio import resample
from ..media.onsets import HOP, onset_strength, onset_times

RATE = 22_050
PEAK_ABOVE_MEAN = 0.3  # librosa's delta
TOLERANCE = 0.1 * RATE  # a gap must be smaller
NEIGHBOUR = 0.05 * RATE  # a nearer one is suppressed
WINDOW = int(NEIGHBOUR)  # on either side of an onset, for its confidence


class ScriptFails(Exception):
    """The published script would end with an error here; says why."""


@dataclass(frozen=True)
class Onset:
    """One onset of a judged sound.

    Args:
        sample: Where.
        confidence: Largest level within 50 ms of it, 0..1 of the sound's own range.
        level: At the onset itself.
    """

    sample: int
    confidence: float
    level: float


@dataclass(frozen=True)
class Match:
    """What one sound is worth against another.

    Args:
        accuracy: Hits by true onsets; 0 without any.
        precision: Average precision; None where there is nothing to rank.
        num_hits: True onsets that were hit.
    """

    accuracy: float
    precision: float | None
    num_hits: int


def prepared(audio: AudioClip, seconds: float) -> np.ndarray:
    """The first seconds of a sound, the mean of its channels, at 22 050 Hz."""
    mono = AudioClip(audio.waveform.detach().float().mean(0, keepdim=True), audio.sample_rate)
    return resample(mono, RATE).waveform[0, : round(seconds * RATE)].numpy()


def detected(samples: np.ndarray) -> list[int]:
    """Onsets as ``librosa.onset.onset_detect(units="samples", delta=0.3)`` finds them."""
    if not len(samples) or not samples.any():
        return []
    envelope = onset_strength(AudioClip(torch.from_numpy(samples)[None], RATE))
    return [round(time * RATE / HOP) * HOP for time in onset_times(envelope, RATE, above_mean=PEAK_ABOVE_MEAN)]


def judged(samples: np.ndarray, onsets: Sequence[int], *, compatible: bool = False) -> list[Onset]:
    """Onsets with their confidence, of those nearer than 50 ms to each other the surest.

    Args:
        samples: The sound, prepared.
        onsets: Of it.
        compatible: As the published script: its suppression leaves some neighbours, as it takes them out of a list that
            it walks through, and it ends where an onset lies within the first 50 ms.

    Raises:
        ScriptFails: with ``compatible``.
    """
    level = np.abs(samples)
    span = float(np.ptp(level)) if len(level) else 0.0
    level = (level - level.min()) / span if span else np.zeros_like(level)
    found = []
    for onset in onsets:
        if onset < WINDOW and compatible:
            raise ScriptFails("the published script cannot judge an onset in the first 50 ms")
        around = level[max(0, onset - WINDOW) : onset + WINDOW]
        found.append(Onset(onset, float(around.max()), float(level[onset])))
    surest = np.argsort([onset.confidence for onset in found])[::-1]
    return _suppressed([found[index] for index in surest], compatible)


def _suppressed(falling: list[Onset], compatible: bool) -> list[Onset]:
    left = sorted(falling, key=lambda onset: onset.sample)
    kept: list[Onset] = []
    for onset in falling:
        if onset not in left:
            continue
        kept.append(onset)
        left.remove(onset)
        for other in left if compatible else left[:]:
            if abs(onset.sample - other.sample) < NEIGHBOUR:
                left.remove(other)
    return sorted(kept, key=lambda onset: onset.sample)


def matched(truth: Sequence[int], sound: Sequence[Onset], *, compatible: bool = False) -> Match:
    """Each true onset, in time order, takes of the free ones nearer than 0.1 s the one with the highest level at it.

    Args:
        truth: True onsets, rising.
        sound: From :func:`judged`, rising.
        compatible: As the published script: once all onsets of the sound are taken, further misses are not counted in
            the average precision.
    """
    free, hits, labels, scores = list(sound), 0, [], []
    for time in truth:
        near = [onset for onset in free if abs(onset.sample - time) < TOLERANCE]
        labels.append(1)
        if not near:
            scores.append(0.0)
            continue
        # Of equals the last, as a rising sort has it at its end.
        best = max(reversed(near), key=lambda onset: onset.level)
        scores.append(best.confidence)
        free.remove(best)
        hits += 1
        if not free and compatible:
            break
    labels += [0] * len(free)
    scores += [onset.confidence for onset in free]
    accuracy = hits / len(truth) if truth else 0.0
    return Match(accuracy, average_precision(labels, scores), hits)


def average_precision(labels: Sequence[int], scores: Sequence[float]) -> float | None:
    """Area under precision over recall as steps: ``Σ (R_n − R_{n−1})·P_n`` over the thresholds, falling.

    As scikit-learn has it, which is no dependency here; a test compares. None without anything to rank, 0 without a
    positive.

    Args:
        labels: 1 for what should be there, 0 for what should not.
        scores: How sure of it.
    """
    if not labels:
        return None
    truth, score = np.asarray(labels, float), np.asarray(scores, float)
    if not truth.any():
        return 0.0
    total = recall = 0.0
    for threshold in sorted(set(score.tolist()), reverse=True):
        taken = truth[score >= threshold]
        reached = float(taken.sum() / truth.sum())
        total += (reached - recall) * float(taken.mean())
        recall = reached
    return total
