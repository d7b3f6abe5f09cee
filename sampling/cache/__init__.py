"""Step caches: at some steps the picture is not computed but extrapolated from steps that were. One kind a file.

What is extrapolated, and what is not:

* Of the picture, its predictions, each guidance pass by itself, in the time that its tower is told. The video tower
  does not run at such a step.
* Of the sound, nothing: its tower is a thousandth of the arithmetic and runs at every step, with its own noise, text
  and time. It still hears the picture: at a computed step it is noted what each bridge adds to the audio tokens, and at
  the others that is repeated in the bridge's place. It is a few megabytes where the picture's streams at the bridges
  would be two gigabytes. Repeated, not continued along a line: the sound's solver draws noise at every step, and a
  slope makes it louder (on three pocket clips of 25 steps the sound came out two thirds as far off when repeated).
  ``sound="cached"`` extrapolates its predictions as well, for comparison, and for models that are one transformer;
  ``sound="itself"`` where the kind finds that the sound has not changed enough either.
* A given picture has no prediction; its tower is left out all the same, and the sound hears it as above.

The hooks of diffusers (``FirstBlockCacheConfig`` and others) replace the forwards of blocks in one tower: in walked
towers bridges would fire on streams of skipped blocks, and blocks of Stable Audio are unknown to them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ...core.errors import InputError, require_choice
from ...core.registry import Registry

if TYPE_CHECKING:
    from .base import StepCache

CACHES: Registry[type[StepCache]] = Registry("step cache", __name__)
OFF = "off"
SOUNDS = ("auto", "fresh", "cached", "itself")


@dataclass(frozen=True)
class Preset:
    """A kind with its settings.

    Args:
        kind: A key of ``CACHES``.
        settings: Fields of that kind.
    """

    kind: str
    settings: dict[str, float]


PRESETS = {
    "gentle": Preset("interval", {"every": 2}),
    "fast": Preset("interval", {"every": 3}),
    "fastest": Preset("interval", {"every": 4}),
}


def cache_names() -> tuple[str, ...]:
    """What can be asked for: nothing, a preset, or a kind."""
    return (OFF, *PRESETS, *CACHES.names())


def build_cache(name: str, *, order: int = 1, sound: str = "auto", walked: bool = True, **own: Any) -> StepCache | None:
    """A cache by its name; None for ``off``.

    Args:
        name: One of :func:`cache_names`.
        order: Of the extrapolation, 0 to 2.
        sound: ``fresh``, ``cached``, ``itself``, or ``auto``: fresh where the model's towers can run by themselves.
        walked: Whether they can.
        own: Settings of the kind; 0 leaves each as the preset or the kind has it.

    Raises:
        InputError: an unknown name, a setting that the kind does not have, or a model that cannot do it.
    """
    require_choice("step cache", name, cache_names())
    require_choice("way of the sound with a step cache", sound, SOUNDS)
    if name == OFF:
        return None
    preset = PRESETS.get(name, Preset(name, {}))
    kind = CACHES.get(preset.kind)
    asked = {key: value for key, value in own.items() if value}
    foreign = sorted(set(asked) - {field.name for field in fields(kind)})
    if foreign:
        raise InputError(
            f"the step cache {name} has no such setting",
            got=", ".join(f"{key} {asked[key]:g}" for key in foreign),
            expected="0, or a cache that has it: "
            + ", ".join(each for each in CACHES if set(foreign) <= {field.name for field in fields(CACHES.get(each))}),
        )
    if not walked and (sound in ("fresh", "itself") or kind.looks):
        raise InputError(
            "this model is one whole, of which no part can run by itself",
            got=f"step cache {name}" + (f", sound {sound}" if sound in ("fresh", "itself") else ""),
            expected="sound auto or cached, and a cache that does not look into the model, such as interval",
        )
    sound = ("fresh" if walked else "cached") if sound == "auto" else sound
    return kind(order=order, sound=sound, **{**preset.settings, **asked})
