"""What a node says on the page: one key for all of them, whatever it is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .host import managed_memory, ui

# Under these names nodes say sentences, and show the captions that they wrote.
REPORT_KEY = "sounding_video_report"
CAPTIONS_KEY = "sounding_video_captions"


def told(text: str, *, as_text: bool = False) -> dict[str, Any]:
    """What a node shows: each line of ``text`` is a sentence.

    Args:
        text: Lines; empty ones are left out.
        as_text: Also under ``text``, where ComfyUI's own text preview puts it and queue clients read it.
    """
    shown = {REPORT_KEY: [line for line in text.splitlines() if line.strip()]}
    return {**ui.PreviewText(text).as_dict(), **shown} if as_text else shown


@contextmanager
def managed_stage(sentence: str = "") -> Iterator[dict[str, list[str]]]:
    """Run a stage in the host's memory; gives what the page is to show of it.

    Args:
        sentence: What the node says beside, first; may be empty.

    After the block it holds a sentence for every plan that was picked and every second attempt after an out-of-memory,
    each once. An empty list takes an earlier run's sentences off the node.
    """
    from ..models.plan.fit import noted

    with managed_memory(), noted() as notes:
        shown = {REPORT_KEY: notes}
        yield shown
    notes[:] = dict.fromkeys(filter(None, (sentence, *notes)))
