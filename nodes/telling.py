"""What the stages decided about memory, told on the page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .host import managed_memory

# Under this name the page finds sentences in a node's results.
REPORT_KEY = "sounding_video_report"


@contextmanager
def managed_stage() -> Iterator[dict[str, list[str]]]:
    """Run a stage in the host's memory; gives what the page is to show of it.

    After the block it holds a sentence for every plan that was picked and every second attempt after an out-of-memory,
    each once. An empty list takes an earlier run's sentences off the node.
    """
    from ..models.plan.fit import noted

    with managed_memory(), noted() as notes:
        shown = {REPORT_KEY: notes}
        yield shown
    notes[:] = dict.fromkeys(notes)
