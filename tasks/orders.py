"""Orders of a cascade, which a command line knows before anything is loaded."""

from __future__ import annotations

# The side that is made from its text alone, and the sides that are made after it.
ORDERS = {
    "video-first": ("video", "audio"),
    "audio-first": ("audio", "video"),
    "both-ways": ("video", "audio", "video"),
}
