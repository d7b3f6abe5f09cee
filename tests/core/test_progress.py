"""Progress and cancel are callables that are handed in."""

from __future__ import annotations

import pytest
from sounding_video.core.errors import Cancelled
from sounding_video.core.progress import SILENT, Progress


def test_a_step_reports_first_and_then_asks():
    events = []

    def check() -> None:
        events.append("asked")
        raise Cancelled

    progress = Progress(report=lambda *values: events.append(values), check_cancelled=check)
    with pytest.raises(Cancelled):
        progress.step("sample", 3, 50)
    assert events == [("sample", 3, 50, None), "asked"]


def test_a_preview_is_made_only_when_it_is_looked_at():
    made = []

    def preview() -> str:
        made.append(1)
        return "picture"

    SILENT.step("sample", 1, 2, preview)
    assert made == []
    seen = []
    Progress(report=lambda stage, done, total, preview: seen.append(preview())).step("sample", 1, 2, preview)
    assert seen == ["picture"] and made == [1]


def test_a_part_of_the_work_is_told_under_one_name():
    events = []

    def check() -> None:
        raise Cancelled

    part = Progress(lambda *values: events.append(values), check).told_as("preview")
    part.report("encode", 1, 2)
    with pytest.raises(Cancelled):
        part.step("decode", 1, 5, None)
    assert events == [("preview", 1, 2, None), ("preview", 1, 5, None)]


def test_a_host_interrupt_of_its_own_kind_passes_through():
    class HostInterrupt(Exception):
        pass

    def check() -> None:
        raise HostInterrupt

    with pytest.raises(HostInterrupt):
        Progress(check_cancelled=check).step("decode", 1, 1)
