"""Tables and a picture of variants and seeds, with intervals and what they decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

from intervals import TOLERANCES, Estimate, f1, f1_difference, mean_difference, mean_of
from judged import Judged

Runs = Mapping[int, Judged]
Losses = Mapping[str, Sequence[float | None]]
# Of rows that were not trained for the table.
NO_LOSSES: Losses = {"video": [], "audio": []}


def together(runs: Runs, field: str) -> dict[tuple[int, str], object]:
    """One dictionary of all seeds."""
    return {(seed, file): value for seed, run in runs.items() for file, value in getattr(run, field).items()}


def difference_of(runs: Runs, base: Runs, within: str) -> Estimate | None:
    """Pooled F1 less the base's, over the seeds and prompts that both have."""
    return f1_difference(together(runs, "events"), together(base, "events"), within)


def table_of(rows: Mapping[str, tuple[Runs, Losses]], *, base: str, seeds: Sequence[int]) -> str:
    """Markdown, one line a variant that has a seed done."""
    done = {title: row for title, row in rows.items() if row[0]}
    if not done:
        return "Nothing is done yet."
    has_onset = any(together(runs, "onset") for runs, _ in done.values())
    onset_titles = ["Onset ACC", f"less {base}"] if has_onset else []
    events = [title for sign in TOLERANCES.values() for title in (f"event F1 {sign}", f"less {base}")]
    titles = ["row", "seeds", *events, *onset_titles, "scene, picture", "scene, sound", "loss, video", "loss, audio"]
    lines = [f"| {' | '.join(titles)} |", "|---|" + "---:|" * (len(titles) - 1)]
    against = rows[base][0]
    for title, (runs, losses) in done.items():
        cells = [f"{len(runs)} of {len(seeds)}"]
        for within in TOLERANCES:
            each = ", ".join(f"{f1(run.events, within).value:.2f}" for run in runs.values())
            apart = None if title == base else difference_of(runs, against, within)
            cells += [f"{f1(together(runs, 'events'), within)} ({each})", "–" if apart is None else apart.difference()]
        if has_onset:
            cells += _onset_cells(runs, {} if title == base else against)
        cells += [_share(together(runs, f"scene_{side}")) for side in ("picture", "sound")]
        cells += [_loss(losses[side]) for side in ("video", "audio")]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _onset_cells(runs: Runs, against: Runs) -> list[str]:
    values = together(runs, "onset")
    apart = mean_difference(values, together(against, "onset"))
    return [str(mean_of(values)) if values else "–", "–" if apart is None else apart.difference()]


def _share(values: Mapping[object, float]) -> str:
    return f"{mean(values.values()):.3f}" if values else "–"


def _loss(values: Sequence[float | None]) -> str:
    found = [value for value in values if value is not None]
    return f"{mean(found):.4f}" if found else "–"


def draw_differences(parts: Sequence[tuple[str, Mapping[str, Runs]]], *, base: str, path: Path) -> None:
    """Event F1 within two frames less the base's, with its interval; grey where that holds 0."""
    from matplotlib.figure import Figure

    shown = []
    for heading, rows in parts:
        found = {title: difference_of(runs, rows[base], "2_frames") for title, runs in rows.items() if title != base}
        found = {title: estimate for title, estimate in found.items() if estimate is not None}
        if found:
            shown.append((heading, found))
    if not shown:
        return
    heights = [len(found) for _, found in shown]
    figure = Figure(figsize=(9, 0.9 * len(shown) + 0.32 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (heading, found) in zip(axes, shown, strict=True):
        for place, estimate in enumerate(reversed(found.values())):
            colour = "tab:blue" if estimate.decided else "0.6"
            axis.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=2)
            axis.plot(estimate.value, place, "o", color=colour, markersize=5)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_yticks(range(len(found)), list(reversed(found)), fontsize=8)
        axis.set_title(heading, fontsize=9, loc="left")
    axes[-1].set_xlabel(f"event F1 ±2, less {base}; 95 % over prompts, grey where undecided")
    figure.savefig(path, dpi=100)
