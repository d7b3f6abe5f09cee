"""LoRAs of step distillation: with one of them Wan makes a picture in few steps, and without guidance.

Nothing in their tensors says so. They are known by the names that people have, of the file or in the title that its
header has; the steps and shifts are those that their authors or most of their users name, and a number of steps in
the name goes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..own import OwnSettings

# Words of a name, whatever stands between them -> what people call it, its usual steps, and its shift where one is
# usual. The first match wins: a file that merges several is called by the merge.
_KNOWN = (
    (r"fusion ?x\b", "FusionX", 8, None),
    (r"caus ?vid", "CausVid", 8, 8.0),
    (r"acc ?vid(?:eo)?\b", "AccVideo", 10, None),
    (r"fast ?(?:wan|video)\b", "FastWan", 3, 8.0),
    (r"light ?x2v", "LightX2V", 4, 5.0),
    (r"self ?forcing", "Self Forcing", 4, 5.0),
    (r"(?:step|cfg) ?distill", "step distillation", 4, 5.0),
    (r"\brcm\b", "rCM", 4, None),
    (r"\bdmd ?2?\b", "DMD", 4, None),
    (r"turbo ?(?:wan|diffusion)|wan ?turbo", "TurboDiffusion", 4, None),
)
# Words that styles have too: they count only beside a number of steps.
_UNSURE = re.compile(r"\b(?:distill(?:ed|ation)?|lightning|turbo|hyper|lcm|dcm)\b")
_STEPS = re.compile(r"\b(\d{1,2}) ?steps?\b")
_MOST = 16
# Where trainers and converters write a title, and names of files that say nothing but that they are adapters.
_TITLES = ("ss_output_name", "modelspec.title")
_NAMELESS = ("adapter_model", "pytorch_lora_weights")


@dataclass(frozen=True)
class Distilled:
    """What a LoRA of step distillation was made for.

    Args:
        title: What people call its kind.
        num_steps: Denoising steps.
        flow_shift: Of the picture's points; None leaves the model's own.
    """

    title: str
    num_steps: int
    flow_shift: float | None = None

    @property
    def wants(self) -> str:
        """For the user."""
        shift = "" if self.flow_shift is None else f", shift {self.flow_shift:g}"
        return f"{self.num_steps} steps, no guidance of the picture (scale 1){shift}"


def distilled(path: Path, metadata: Mapping[str, str]) -> Distilled | None:
    """What a file was made for; None for one that nothing calls distilled.

    Args:
        path: Its name counts; of an adapter in a folder of its own, that of the folder.
        metadata: Of its header.
    """
    name = path.parent.name if path.stem in _NAMELESS else path.stem
    return next(filter(None, map(_read, (name, *(metadata.get(key, "") for key in _TITLES)))), None)


def _read(text: str) -> Distilled | None:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", text[:400])  # StepDistill
    words = re.sub(r"[\W_]+", " ", apart).lower()
    found = _STEPS.search(words)
    steps = int(found.group(1)) if found and 1 <= int(found.group(1)) <= _MOST else None
    for pattern, title, usual, shift in _KNOWN:
        if re.search(pattern, words):
            return Distilled(title, steps or usual, shift)
    return Distilled("step distillation", steps) if steps and _UNSURE.search(words) else None


def strongest(loras: Iterable[Distilled | None]) -> Distilled | None:
    """Of several, the one that decides: that with the most steps."""
    return max(filter(None, loras), key=lambda one: one.num_steps, default=None)


def settings_with(own: OwnSettings, loras: Iterable[Distilled | None], made: str) -> OwnSettings:
    """What a model was made for with LoRAs beside its layers; the sound keeps its own guidance.

    Args:
        own: Without them.
        loras: What those in use were made for.
        made: ``joint``, ``v2a`` or ``a2v``; of a given picture nothing is made.
    """
    found = strongest(loras)
    if found is None or made == "v2a":
        return own
    shift = own.flow_shift if found.flow_shift is None else found.flow_shift
    scales = {"video_guidance_scale": 1.0, "video_modality_scale": 1.0}
    return replace(own, num_steps=found.num_steps, flow_shift=shift, **scales)


def asked_otherwise(found: Distilled | None, num_steps: int, scale: float) -> str:
    """A sentence where a picture is made otherwise than its LoRA was made for; else empty.

    Args:
        found: From :func:`strongest`.
        num_steps: Asked for; from half to three times as many as named are usual.
        scale: Of the picture's guidance.
    """
    if found is None:
        return ""
    asked = [] if found.num_steps <= 2 * num_steps <= 6 * found.num_steps else [f"{num_steps} steps"]
    asked += [f"guidance scale {scale:g}"] if scale > 1 else []
    if not asked:
        return ""
    return f"the picture's LoRA ({found.title}) is made for {found.wants}; {', '.join(asked)} will look worse with it"
