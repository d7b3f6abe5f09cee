"""The loss curve: one JSON object a line, and its picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import TextError
from ..core.json_text import read_json_lines
from ..core.optional import require

LOSS_LOG, LOSS_PICTURE = "loss.jsonl", "loss.png"
NOT_PLOTTED = ("step", "lr", "seconds", "grad_norm")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Every complete line; a last line that a kill cut short is left out."""
    if not path.is_file():
        return []
    rows = []
    for number, row in read_json_lines(path, what="the loss curve", half_last=True):
        if not isinstance(row.get("step"), int):
            raise TextError("a line of the loss curve has no step", got=f"{path}, line {number}", expected="a number")
        rows.append(row)
    return rows


def cut_log(path: Path, step: int) -> None:
    """Drop what lies after ``step`` finished steps, which a continued run will write again."""
    rows = [row for row in read_log(path) if row["step"] <= step]
    partial = path.with_name(f".{path.name}.part")
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    partial.replace(path)


def append_log(path: Path, row: Mapping[str, Any]) -> None:
    """Write one line and hand it to the system at once."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dict(row)) + "\n")


def plot_log(path: Path, picture: Path, title: str) -> None:
    """Draw every loss against the step, thin as logged and bold as a running mean, and the learning rate.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    rows = read_log(path)
    if not rows:
        return
    figure_class = require("matplotlib.figure", "drawing the loss curve").Figure
    figure = figure_class(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(key for row in rows for key in row if key not in NOT_PLOTTED):
        own = [row for row in rows if name in row]  # runs that alternate have other losses at every other step
        steps, values = [row["step"] for row in own], [row[name] for row in own]
        line = axes.plot(steps, values, linewidth=0.5, alpha=0.35)[0]
        axes.plot(steps, _running_mean(values), linewidth=1.6, color=line.get_color(), label=name)
    if all(value > 0 for row in rows for name, value in row.items() if name not in NOT_PLOTTED):
        axes.set_yscale("log")
    steps = [row["step"] for row in rows]
    axes.set(xlabel="step", ylabel="loss", title=title)
    axes.legend(loc="upper right")
    rate = axes.twinx()
    rate.plot(steps, [row["lr"] for row in rows], color="gray", linestyle=":", linewidth=1)
    rate.set_ylabel("learning rate (dotted)")
    partial = picture.with_name(f".{picture.name}.part.png")
    figure.savefig(partial, dpi=110)
    partial.replace(picture)


def _running_mean(values: list[float]) -> list[float]:
    """Mean over the last 2 % of the curve (at least 10 values) at every point."""
    width = max(10, len(values) // 50)
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    return [(sums[i + 1] - sums[max(0, i + 1 - width)]) / min(i + 1, width) for i in range(len(values))]
