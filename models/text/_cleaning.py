"""The prompt cleaning of the published video tower (BridgeDiT reference, section 4; the stock Wan pipeline's)."""

from __future__ import annotations

import html
import re

import ftfy


def clean_prompt(text: str) -> str:
    """Repair broken Unicode, undo HTML escapes twice, and collapse white space.

    The order is the official one: ftfy, two rounds of unescaping (``&amp;amp;`` becomes ``&``), strip, every run of
    white space to one blank, strip.
    """
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return re.sub(r"\s+", " ", text).strip()
