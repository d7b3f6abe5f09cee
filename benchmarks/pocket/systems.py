"""The other systems' bridges on the pocket towers: AV-Link's for a given picture or sound, SyncFlow's.

    python benchmarks/pocket/systems.py --v2a DIR/bridge.safetensors --adaptor DIR/bridge.safetensors --unseen --write

Prompts, captions and seeds are those of ``evaluate.py`` and ``given.py``; every row has its own bridge file, and is
shown what is given as it was trained to be. Differences are paired with the bundled ``dual_cross``, and where both
sides are made with no bridge: ``evaluation.md`` has the bundled bridges on the same prompts. Without a file a row takes
the bundled one, and is left out where there is none. Clips that are there already are kept.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

from clips import Wish, load_pocket, make_clips, pocket_options, pocket_size, wishes
from given import make_given
from judged import Judged, judge
from ladder_tables import NO_LOSSES, Losses, Runs, table_of
from sounding_video.models.weights.find import pocket_folder
from sounding_video.pipeline import JoinedModel, SamplingOptions
from unseen import unseen_wishes

FILE = Path(__file__).with_name("systems.md")
BASE, NONE = "dual_cross, trained jointly", "no bridge"
GIVEN_TIMES = {"sound": 0.04, "picture": 0.1855}
HEADINGS = {
    "sound": "Sound for a true picture (V2A)",
    "picture": "Picture for a true sound (A2V)",
    "both": "Both made from text",
}
# Options of the command line, and what their bridges make.
KEYS = {"v2a": "sound", "a2v": "picture"}


@dataclass(frozen=True)
class Row:
    """One line.

    Args:
        title: In the table.
        makes: ``both``, ``sound`` or ``picture``.
        bridge: A file, ``auto`` or ``none``.
        fixed: Whether what is given keeps one level, and guidance leads away from the tower alone (AV-Link).
    """

    title: str
    makes: str
    bridge: str
    fixed: bool = False

    def options(self, args: argparse.Namespace) -> SamplingOptions:
        """The bundled model's own, or AV-Link's."""
        options = pocket_options(steps=args.steps)
        if not self.fixed:
            return options
        scales = {f"{side}_guidance_scale": args.guidance for side in ("video", "audio")}
        alone = {f"{side}_modality_scale": 1.0 for side in ("video", "audio")}
        how = {"unconditional": "alone", "given_how": "fixed", "given_time": GIVEN_TIMES[self.makes]}
        return replace(options, **scales, **alone, **how)


def rows_of(args: argparse.Namespace) -> list[Row]:
    """Those that have a bridge."""
    own = str(pocket_folder() / "bridge.safetensors")
    rows = [Row(NONE, makes, "none") for makes in HEADINGS] + [Row(BASE, makes, own) for makes in KEYS.values()]
    rows += [Row("fusion_block (AV-Link)", makes, getattr(args, key), fixed=True) for key, makes in KEYS.items()]
    rows.append(Row("modality_adaptor (SyncFlow)", "both", args.adaptor))
    return [row for row in rows if row.bridge]


def make(row: Row, model: JoinedModel, wanted: list[Wish], folder: Path, options: SamplingOptions) -> None:
    """Clips that are not there yet."""
    if row.makes == "both" or row.bridge == "none":
        make_clips(model, wanted, folder, options=options)
        return
    make_given(row.makes, model, wanted, folder, options)


def judged(row: Row, unseen: bool, args: argparse.Namespace) -> Judged:
    """Make and measure a row."""
    name = "".join(letter if letter.isalnum() else "_" for letter in f"{row.title} {row.makes}")
    folder = args.output / ("unseen" if unseen else "test") / name
    note = folder.with_suffix(f".{args.clips}.json")
    if note.is_file():
        return Judged.read(note)
    wanted = (unseen_wishes if unseen else wishes)(args.clips, pocket_size())
    make(row, load_pocket(bridge=row.bridge), wanted, folder, row.options(args))
    return judge(folder, wanted, row.makes).write(note)


def bundled(name: str) -> str:
    """A file beside the bundled bridges, or nothing."""
    path = pocket_folder() / f"bridge_{name}.safetensors"
    return str(path) if path.is_file() else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--v2a", default=bundled("v2a"), help="bridges of AV-Link for a given picture")
    add("--a2v", default=bundled("a2v"), help="bridges of AV-Link for a given sound")
    add("--adaptor", default=bundled("adaptor"), help="bridges of SyncFlow")
    add("--clips", type=int, default=100, help="test prompts, scenes in turn (default: 100)")
    add("--steps", type=int, default=25)
    add("--guidance", type=float, default=3.0, help="of AV-Link's rows, away from the tower alone")
    add("--makes", nargs="+", choices=tuple(HEADINGS), default=list(HEADINGS))
    add("--unseen", action="store_true", help="also clips whose looks, tempi and materials no training saw")
    add("--output", type=Path, default=Path("output/pocket/systems"), help="folder of the clips")
    add("--write", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args()
    texts = []
    for makes in args.makes:
        for unseen in (False, True) if args.unseen and makes != "both" else (False,):
            rows: dict[str, tuple[Runs, Losses]] = {}
            for row in rows_of(args):
                if row.makes == makes:
                    rows[row.title] = ({0: judged(row, unseen, args)}, NO_LOSSES)
            heading = HEADINGS[makes] + (": looks, tempi and materials that no training saw" if unseen else "")
            texts.append(f"## {heading}\n\n{table_of(rows, base=NONE if makes == 'both' else BASE, seeds=[0])}")
            print(texts[-1], flush=True)
    if args.write:
        command = f"`python benchmarks/pocket/{Path(__file__).name} --clips {args.clips} --steps {args.steps}"
        command += f" --guidance {args.guidance:g}{' --unseen' if args.unseen else ''}"
        command += f" --makes {' '.join(args.makes)} --write`"
        words = (
            "Test prompts of the world. The rows of one side given are judged against the exact times of the true "
            "side; Onset ACC is AV-Link's, against the true sound. Intervals are 95 % over prompts; differences are "
            "paired. `dual_cross` has what is given by replacement, without training for it; both made from text by "
            "`dual_cross`: `evaluation.md`."
        )
        FILE.write_text(
            "\n\n".join(["# Systems on the pocket towers", command, words, *texts]) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
