"""The ladder of fusion kinds on the pocket towers (BridgeDiT Table 5; AV-Link Table 2; SyncFlow Table 4).

    python benchmarks/fusion_ladder.py ~/ladder --steps 800 --seeds 0 1 2 --clips 40 --write

Joint rows make both sides from text; V2A rows make the sound of a true picture, A2V rows the picture of a true sound.
Runs of one seed see the same clips and noises at each step, and where their recipe is the same also the same times and
captions left out; clips that are judged have the same prompts and first noises, and what is given is guided alike in
all rows. Rows that were trained jointly learned at other times and with more captions, and one set for both tasks had
each in half of its clips, as their titles say; losses stand only where they are those of the base's own task and times.
Values carry intervals over prompts, differences are paired with ``dual_cross``, and a
difference whose interval holds 0 is called undecided. The rows of one side given are judged on validation clips and on
clips the like of which no training saw (``pocket/unseen.py``).

All state lies in the folder that is given, outside this repository. What is there is kept, so a stopped ladder goes on
with the same command, and seeds or parts may be climbed one after the other; ``--report`` only writes what is there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from sounding_video.pipeline import SamplingOptions
from sounding_video.training.assembly import exported
from sounding_video.training.config import TrainConfig
from sounding_video.training.log import read_log
from sounding_video.training.recipes import recipe

sys.path.insert(0, str(Path(__file__).with_name("pocket")))
from clips import Wish, load_pocket, make_clips, pocket_options, pocket_size, wishes
from given import make_given
from judged import Judged, judge
from ladder_tables import draw_differences, table_of
from resumed import is_done, train_on
from unseen import unseen_wishes

FILE = Path(__file__).with_suffix(".md")
PICTURE = Path(__file__).with_suffix(".png")
BASE = "dual_cross"
# Blocks of eight after which three bridges stand; the names are those of the paper's Table 7.
PLACES = {"early": "0,1,2", "middle": "2,3,4", "late": "5,6,7"}
# Losses of the tables are means over the last steps.
WINDOW = 100
LIKE_TRAINING, UNSEEN = "validation", "unseen"


@dataclass(frozen=True)
class Rung:
    """One variant.

    Args:
        title: In the table.
        recipe: What it is trained by; None for no bridge.
        overrides: Of the recipe.
        how: The way in which a given side is shown.
    """

    title: str
    recipe: str | None = None
    overrides: tuple[str, ...] = ()
    how: str = "fixed"


@dataclass(frozen=True)
class Part:
    """A table.

    Args:
        title: Above it.
        makes: ``both``, ``sound`` or ``picture``.
        rungs: Its rows.
    """

    title: str
    makes: str
    rungs: tuple[Rung, ...]

    @property
    def sets(self) -> tuple[str, ...]:
        """Which clips its rows are judged on."""
        return (LIKE_TRAINING,) if self.makes == "both" else (LIKE_TRAINING, UNSEEN)


# Not the identity at the start, or without attention: neither start of an attention helps it.
PLAIN_START = ("bridges.gate_bias=0", "bridges.moment_bias=0")
NO_GATES = ("bridges.gate_bias=0",)
NO_MOMENT = ("bridges.moment_bias=0",)
FUSION = ("bridges.kind=fusion_block", "bridges.rope=token_clock", "bridges.settings=time_rank=64")
NONE = Rung("no bridge", how="replace")


def _joint(title: str, kind: str, *more: str) -> Rung:
    return Rung(title, "pocket_bridges", (f"bridges.kind={kind}", *more), "replace")


def _v2a(title: str, *more: str) -> Rung:
    return Rung(title, "pocket_avlink_v2a", more)


def _at(place: str) -> tuple[str, str]:
    return f"bridges.video_points={PLACES[place]}", f"bridges.audio_points={PLACES[place]}"


DUAL_CROSS = _joint(BASE, BASE)
ADAPTOR = _joint("modality_adaptor", "modality_adaptor", *NO_GATES)
JOINT = (
    NONE,
    DUAL_CROSS,
    _joint("dual_cross, clock", "dual_cross", "bridges.rope=clock"),
    _joint("dual_cross, official positions", "dual_cross", "bridges.rope=official", *NO_MOMENT),
    _joint("fusion_block", *FUSION[0].split("=")[1:], *FUSION[1:]),
    ADAPTOR,
    _joint("video_features", "video_features", *NO_GATES),
    _joint("full, scaled as attention is", "full", "bridges.reading=paper"),
    _joint("video_to_audio", "video_to_audio"),
    _joint("audio_to_video", "audio_to_video"),
    _joint("additive, of means", "additive", *PLAIN_START),
    _joint("additive, moment by moment", "additive", *PLAIN_START, "bridges.reading=paper"),
)
NO_SETTINGS = "bridges.settings="
LIKE_AVLINK = ("bridges.kind=dual_cross", "bridges.rope=clock", "bridges.moment_bias=3", NO_SETTINGS)
V2A = (
    NONE,
    _v2a(BASE, *LIKE_AVLINK),
    _v2a("fusion_block"),
    replace(DUAL_CROSS, title="dual_cross, trained jointly, by replacement"),
    replace(ADAPTOR, title="modality_adaptor, trained jointly, by replacement"),
    _v2a("fusion_block, given time uniform", "objective.given_draw=uniform"),
    *(_v2a(f"fusion_block, {place}", *_at(place)) for place in PLACES),
    _v2a("fusion_block, without reinjection", "bridges.settings=time_rank=64,reinject=false"),
    _v2a("fusion_block, untimed rotary", "bridges.rope=official", *NO_MOMENT),
    _v2a("direct alignment (additive)", "bridges.kind=additive", *PLAIN_START, "bridges.reading=paper", NO_SETTINGS),
    Rung("fusion_block, one set for both tasks", "pocket_avlink_both"),
)
A2V = (
    NONE,
    Rung(BASE, "pocket_avlink_a2v", LIKE_AVLINK),
    Rung("fusion_block", "pocket_avlink_a2v"),
    replace(DUAL_CROSS, title="dual_cross, trained jointly, by replacement"),
    Rung("fusion_block, one set for both tasks", "pocket_avlink_both"),
)
PARTS = {
    "joint": Part("Both made from text", "both", JOINT),
    "v2a": Part("Sound for a true picture", "sound", V2A),
    "a2v": Part("Picture for a true sound", "picture", A2V),
}


def configuration(rung: Rung, seed: int, args: argparse.Namespace) -> TrainConfig:
    """The run of a rung."""
    size = pocket_size(args.models)
    return recipe(
        rung.recipe,
        [
            f"models.root={args.models}",
            f"data.width={size}",
            f"data.height={size}",
            f"data.cache={args.output / 'cache'}",
            f"num_steps={args.steps}",
            f"seed={seed}",
            *rung.overrides,
            *args.set,
        ],
    )


def run_folder(rung: Rung, seed: int, args: argparse.Namespace) -> Path:
    """Where a rung's bridges are trained; rungs that differ only in how something is given share it."""
    return args.output / "runs" / configuration(rung, seed, args).hash


def bridge_of(rung: Rung, seed: int, args: argparse.Namespace) -> Path | str:
    """Train a rung's bridges, or go on with them, and give their file."""
    if rung.recipe is None:
        return "none"
    folder = run_folder(rung, seed, args)
    if not is_done(folder, args.steps):
        train_on(configuration(rung, seed, args), folder)
    return exported(folder) / "bridge.safetensors"


def wanted_clips(which: str, seed: int, args: argparse.Namespace) -> list[Wish]:
    """Prompts of a seed: no two seeds have one in common."""
    size = pocket_size(args.models)
    if which == UNSEEN:
        return unseen_wishes(args.clips, size, first_seed=1000 * seed)
    return wishes(args.clips, size, split="validation", first_seed=1000 * seed)


def options_of(rung: Rung, makes: str, args: argparse.Namespace) -> SamplingOptions:
    """Equal steps and scales in every row; a bridge trained as AV-Link's is guided and given as AV-Link's."""
    options = pocket_options(
        args.models,
        steps=args.sampling_steps,
        video_guidance_scale=args.guidance,
        audio_guidance_scale=args.guidance,
        video_modality_scale=1.0,
        audio_modality_scale=1.0,
    )
    if makes == "both":
        return options
    options = replace(options, unconditional="alone")  # towards what is given, by the same scale in every row
    if rung.how == "replace":
        return options
    return replace(options, given_how=rung.how, given_time=0.04 if makes == "sound" else 0.1855)


def note_of(part: Part, rung: Rung, which: str, seed: int, args: argparse.Namespace) -> Path:
    """Where it stands what the clips of a row are."""
    run = "none" if rung.recipe is None else configuration(rung, seed, args).hash
    name = f"{part.makes}-{which}-{run}-{rung.how}-seed{seed}-{args.clips}-{args.sampling_steps}-{args.guidance:g}"
    return args.output / "judged" / f"{name}.json"


def climbed(part: Part, rung: Rung, which: str, seed: int, args: argparse.Namespace) -> Judged | None:
    """Train, make the clips, judge them; None where that is not done and shall not be."""
    note = note_of(part, rung, which, seed, args)
    if note.is_file():
        return Judged.read(note)
    if args.report:
        return None
    model = load_pocket(args.models, bridge=bridge_of(rung, seed, args))
    folder, wanted = args.output / "clips" / note.stem, wanted_clips(which, seed, args)
    options = options_of(rung, part.makes, args)
    if part.makes == "both" or rung.recipe is None:
        # Without bridges nothing can be given: a tower that hears nobody makes what it makes.
        make_clips(model, wanted, folder, options=options)
    else:
        make_given(part.makes, model, wanted, folder, options)
    return judge(folder, wanted, part.makes).write(note)


def loss_of(part: Part, rung: Rung, seed: int, args: argparse.Namespace, side: str) -> float | None:
    """Mean over the last steps of training; None where it is of another task, or of other times, than the base's."""
    base = next(each for each in part.rungs if each.title == BASE)
    if rung.recipe is None or not _learn_alike(*(configuration(each, seed, args) for each in (rung, base))):
        return None
    log = run_folder(rung, seed, args) / "loss.jsonl"
    if not log.is_file():
        return None
    losses = [row[side] for row in read_log(log) if side in row]
    return mean(losses[-WINDOW:]) if len(losses) >= WINDOW else None


def _learn_alike(one: TrainConfig, other: TrainConfig) -> bool:
    return (one.task, one.objective) == (other.task, other.objective)


def work(args: argparse.Namespace) -> Iterator[None]:
    """One row after the other, a seed of all rows before the next seed; what is there already is passed over."""
    for seed in args.seeds:
        for name in args.parts:
            part = PARTS[name]
            for rung in part.rungs:
                for which in part.sets:
                    if not note_of(part, rung, which, seed, args).is_file():
                        climbed(part, rung, which, seed, args)
                        yield


def report(args: argparse.Namespace) -> str:
    """All tables of what is done."""
    texts, drawn = [], []
    done = argparse.Namespace(**{**vars(args), "report": True})
    for part in (PARTS[name] for name in args.parts):
        for which in part.sets:
            rows = {}
            for rung in part.rungs:
                runs = {seed: climbed(part, rung, which, seed, done) for seed in args.seeds}
                losses = {
                    side: [loss_of(part, rung, seed, args, side) for seed in args.seeds if runs[seed]]
                    for side in ("video", "audio")
                }
                rows[rung.title] = ({seed: run for seed, run in runs.items() if run}, losses)
            heading = part.title + (": looks, tempi and materials that no training saw" if which == UNSEEN else "")
            texts.append(f"## {heading}\n\n{table_of(rows, base=BASE, seeds=args.seeds)}")
            drawn.append((heading, {title: runs for title, (runs, _) in rows.items()}))
    if args.write:
        draw_differences(drawn, base=BASE, path=PICTURE)
    return "\n\n".join(texts)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("output", type=Path, metavar="DIR", help="where all state lies, outside this repository")
    add("--models", default="pocket", help="pocket, or a folder with trained towers")
    add("--steps", type=int, default=800, help="training steps of every rung")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--clips", type=int, default=40, help="prompts a rung, seed and set of clips")
    add("--sampling-steps", type=int, default=25)
    add("--guidance", type=float, default=3.0, help="scale of both modalities")
    add("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    add("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further overrides of the recipes, for every rung")
    add("--report", action="store_true", help="train nothing, show what is done")
    add("--write", action="store_true", help=f"write {FILE.name} and {PICTURE.name}")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if not args.report:
        for _ in work(args):
            print(report(argparse.Namespace(**{**vars(args), "write": False})), flush=True)
    text = report(args)
    print(text)
    if args.write:
        seeds, settings = " ".join(map(str, args.seeds)), " ".join(args.set)
        command = (
            f"python benchmarks/{Path(__file__).name} DIR --steps {args.steps} --seeds {seeds} --clips {args.clips}"
        )
        command += (
            f" --sampling-steps {args.sampling_steps} --guidance {args.guidance:g} --parts {' '.join(args.parts)}"
        )
        command += f"{f' --set {settings}' if settings else ''} --write"
        words = (
            f"{args.steps} training steps a rung, seeds {seeds.replace(' ', ', ')}; {args.clips} prompts a rung, seed "
            f"and set, {args.sampling_steps} sampling steps, guidance {args.guidance:g}. Event F1 is pooled over "
            "clips; intervals are 95 % over prompts, paired with the row `dual_cross` of the same table. They do not "
            "hold what another training seed changes: each seed's value stands in round brackets. Rows that are not "
            "done are missing."
        )
        picture = f"![differences to dual_cross]({PICTURE.name})"
        FILE.write_text(
            f"# The ladder of fusion kinds\n\n`{command}`\n\n{words}\n\n{picture}\n\n{text}\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
