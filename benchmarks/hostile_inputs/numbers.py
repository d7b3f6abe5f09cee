"""Kinds 4 and 5: what is no number, numbers that nothing can have, and words for a choice that are none of it."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator

from .case import EITHER, REFUSED, SMALL, Case

# Beside those of the tests: other digits, other signs, other languages' numbers, and what programs take for one.
NONE = (
    "\u0967", "\u2460", "\u2167", "\u4e00", "\u221e", "\u00b2", "\u2212" + "1", "\uff0d1", "1\u00a0000", "1\u202f000",
    "1'000",
    "0b101", "0o7", "0x1p4", "1e+", "NaN(1)", "nan0x1", "1#QNAN", "true", "None", "[1]", "{}", "1;2", "%31", "1/0",
    "1:2", "1f", "1L", "1.2.3", "..", "--", "1-1", "2**63", "1e5_0", "\u0661\u0662", "1\u200b", "\ufeff1", "1\u0301",
    "${SEED}", "$(id)", "9" * 4299 + "x", "1e-99999999999999999999", "-" * 10_000, "1e" + "9" * 10_000,
    "0." + "0" * 100_000 + "x",
)  # fmt: skip
HUGE = (
    str(2**63), str(2**64), str(2**64 - 1), str(2**31), "4294967297", "9007199254740993", "1e308", "1e18", "1e15",
    "5e-324",
    "-0", "-0.0", "+5", "1.", ".5", "1/999999999", "999999999/1", "1000000/1000001", "0.0000001", "100001", "999999937",
)  # fmt: skip
SIZES = ("16\u00d716", "16*16", "1e2x1e2", "16x-16", "0016x0016", "16x16px", "16x1000000", "1048576x16",
    "100000x100000", "2147483648x2",
    "16 x 16", "x", "16xx16", "4294967296x4294967296", "17x17")  # fmt: skip
BLANK = (
    "\u00a0",
    "\u3000",
    "\u200b",
    "\ufeff",
    "\u2060",
    "\t",
    "\u2800",
    "''",
    "None",
    "null",
    "-",
    "*",
    "\u180e",
)
DRY = ("--models", "pocket", "--no-expand")
COMMANDS: dict[str, list[str]] = {
    "generate": ["generate", "x", "-o", "new/c.mp4", *SMALL],
    "sound": ["sound", "{shared}/clip.mp4", "-o", "new/c.mp4", *DRY, "--steps", "1"],
    "synth": ["synth", "-n", "1", "-o", "new", "--size", "32x32", "--frames", "5"],
    "doctor": ["doctor", "--plan", "--models", "pocket"],
    "convert": ["convert", "{pocket}", "-o", "new/b.safetensors"],
    "evaluate": ["evaluate", "{shared}/world"],
    "expand": ["expand", "rain", "--backend", "openai_server", "--server", "http://127.0.0.1:9/v1", "--model", "x"],
    "queue": ["queue", "{workflow}", "--server", "http://127.0.0.1:9", "--output-dir", "new"],
}


def options() -> dict[str, list[argparse.Action]]:
    """Options of the commands by whether they take a number, a size, or a word of a few."""
    from sounding_video.cli import build_parser
    from sounding_video.cli.options import Checked

    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    found: dict[str, list] = {"numbers": [], "words": []}
    for name, parser in commands.choices.items():
        for action in parser._actions if name in COMMANDS else ():
            if action.option_strings and action.nargs != 0:
                is_word = action.metavar in ("NAME", "MODE", "KIND") or action.choices is not None
                kind = "numbers" if isinstance(action.type, Checked) else "words" if is_word else ""
                if kind:
                    found[kind].append((name, action.option_strings[-1]))
    return found


def line(name: str, option: str, value: str) -> object:
    """The command with the option, in place of the usual one."""
    from .texts import POCKET, WORKFLOW

    def words(place: object) -> list[str]:
        usual = [part.format(shared=place.shared, pocket=POCKET / "bridge.safetensors", workflow=WORKFLOW)
            if "{" in part else part for part in COMMANDS[name]]  # fmt: skip
        return [*usual, f"{option}={value}"]

    return words


def cases(chance: random.Random) -> Iterator[Case]:
    """Drawn pairs of option and value; what may be a value is refused or done, but at once."""
    known = options()
    for value in NONE:
        name, option = chance.choice(known["numbers"])
        yield Case(4, f"{name} {option}={value!r:.30}", line(name, option, value))
    for value in HUGE:
        for name, option in chance.sample(known["numbers"], 2):
            codes = (0, 1, 2, 3) if name in ("expand", "queue") else EITHER
            yield Case(4, f"{name} {option}={value}", line(name, option, value), codes)
    for value in SIZES:
        name = chance.choice(("generate", "synth"))
        yield Case(4, f"{name} --size={value}", line(name, "--size", value), EITHER)
    yield from _too_much()
    for value in BLANK:
        name, option = chance.choice(known["words"])
        yield Case(5, f"{name} {option}={value!r}", line(name, option, value))
    choices = {"--schedule": "flow", "--solver": "euler", "--mode": "full", "--given-how": "replace",
    "--dtype": "float32",
        "--offload": "none", "--device": "cpu", "--step-cache": "off", "--windows": "off",
        "--tiling": "auto"}  # fmt: skip
    for option, word in choices.items():
        odd = (word.upper(), word[:-1], word + "\u200b", word + "\n", f"{word},{word}",
        word.replace("e", "\u0435") + "\u0301",
            f"../{word}", f"{word}.py", f"__{word}__", word + " \x1b[31m")  # fmt: skip
        for value in chance.sample(odd, 3):
            yield Case(5, f"generate {option}={value!r}", line("generate", option, value), EITHER)
    for extra in (
        ["--nosuch"],
        ["--"],
        ["--json=1"],
        ["-o"],
        ["-"],
        ["x"] * 3,
        ["@/etc/passwd"],
        ["--seed", "1", "--seed"],
        ["--q", "--v"],
        ["--mod", "pocket"],
        ["-o=", "-o", " "],
        ["--lora="],
        ["--help=1"],
        ["-n", "1", "-n", ""],
        ["--device=cpu", "--devices=cpu,cpu"],
    ):
        yield Case(5, f"generate … {' '.join(extra)}", [*COMMANDS["generate"], *extra], EITHER)
    for words in (
        [],
        ["nosuch"],
        [""],
        ["generate"],
        ["--json"],
        ["generate", "sound"],
        ["\u202e"],
        ["-o"],
        ["probe", "a", "b"],
        ["--version", "x"],
    ):
        yield Case(5, f"the line {words}", words, EITHER)


def _too_much() -> Iterator[Case]:
    """Whole numbers that are numbers, and too many of them together."""
    lines = {
        "an hour of picture": ["generate", "x", "-o", "new/c.mp4", *DRY, "--seconds", "3600", "--size", "1920x1088"],
        "ten million clips": ["generate", "x", "-o", "new/c.mp4", *SMALL, "-n", "10000000"],
        "clips of a year": ["synth", "-n", "1000000", "-o", "new", "--frames", "99997", "--size", "4096x4096"],
        "a plan of a month": ["doctor", "--plan", "--shapes", "wan-14b", "--frames", "40000001"],
        "a plan of a wall": ["doctor", "--plan", "--shapes", "wan-1.3b", "--width", "1600000", "--height", "1600000"],
        "a card of a byte": ["doctor", "--plan", "--models", "pocket", "--memory", "1"],
        "a card of 2**80 bytes": ["doctor", "--plan", "--models", "pocket", "--memory", f"{2**80}"],
        "a card of parts": ["doctor", "--plan", "--models", "pocket", "--memory", "0.000001GB"],
        "a million steps": ["generate", "x", "-o", "new/c.mp4", *SMALL[:4], "--steps", "1000000000", "--no-expand"],
        "a rate of a million": ["generate", "x", "-o", "new/c.mp4", *SMALL, "--fps", "1000000"],
        "a rate of a frame a day": ["generate", "x", "-o", "new/c.mp4", *SMALL, "--fps", "1/86400"],
        "a rate of a frame a day, synth": ["synth", "-n", "1", "-o", "new", "--frames", "5", "--fps", "1/86400",
            "--size", "32x32"],
        "seeds past the last": ["synth", "-n", "5", "-o", "new", "--seed", str(2**64 - 2), "--size", "32x32",
            "--frames", "5"],
        "windows of nothing": ["generate", "x", "-o", "new/c.mp4", *DRY, "--windows", "given", "--seconds", "2",
            "--window-seconds", "1e-9"],
        "overlaps of all": ["generate", "x", "-o", "new/c.mp4", *DRY, "--windows", "blended", "--seconds", "1",
            "--overlap", "1e9"],
        "strengths of 10**30": ["generate", "x", "-o", "new/c.mp4", *SMALL, "--video-cfg", "1e30", "--audio-cfg",
            "1e30"],
        "a shift of 10**12": ["generate", "x", "-o", "new/c.mp4", *SMALL, "--flow-shift", "1e12"],
        "a bend of a million": ["generate", "x", "-o", "new/c.mp4", *SMALL, "--step-bend", "1e6"],
        "a quality of 99": ["generate", "x", "-o", "new/c.mp4", *SMALL, "--crf", "99"],
        "guidance backwards": ["generate", "x", "-o", "new/c.mp4", *SMALL, "--guidance-start", "1", "--guidance-end",
            "0"],
        "a given time of two": ["generate", "x", "-o", "new/c.mp4", *SMALL, "--given-how", "fixed", "--given-time",
            "2"],
        "points of 2**40": ["convert", "{pocket}", "-o", "new/b.safetensors", "--points", f"{2**40}/{2**40}"],
        "a million points": ["convert", "{pocket}", "-o", "new/b.safetensors", "--points",
            ",".join(map(str, range(20_000))) + "/0"],
        "heads of zero": ["convert", "{pocket}", "-o", "new/b.safetensors", "--num-heads", "0"],
        "tuned blocks of 10**9": ["convert", "{pocket}", "-o", "new/b.safetensors", "--tuned-blocks", "1000000000,1"],
        "onsets of nothing": ["evaluate", "{shared}/world", "--onset-seconds", "1e-300"],
        "onsets of a century": ["evaluate", "{shared}/world", "--onset-seconds", "3e9"],
        "a lock of a strength": ["generate", "x", "-o", "new/c.mp4", *SMALL, "--condition-strength", "2"],
    }  # fmt: skip
    for name, words in lines.items():
        yield Case(4, name, _formatted(words), EITHER)
    recipes = ("num_steps=1e400", "num_steps=-1", "batch_size=0", "batch_size=10000000000", "optimizer.lr=nan",
    "optimizer.lr=-1",
        "optimizer.lr=1e300", "data.num_frames=100001", "data.width=1e9", "data.height=0",
        "seed=99999999999999999999999",
        "saving.keep=-1", "saving.every=0", "data.num_clips=1000000000000", "accumulation=0", "data.fps=0",
        "data.fps=1/0",
        "data.fps=1e99999999", "bridges.num_heads=-3", "trainable=bridges,video_lora:1000000000",
        "models.text_length=0",
        "bridges.video_points=[-1]", "bridges.qk_width=10000000000", "optimizer.warmup_steps=-5",
        "data.expanded_share=7")  # fmt: skip
    for text in recipes:
        yield Case(4, f"train {text}", ["train", "pocket_bridges", "--output", "new", "device=cpu", text], REFUSED)


def _formatted(words: list[str]) -> object:
    from .texts import POCKET

    def made(place: object) -> list[str]:
        return [part.format(shared=place.shared, pocket=POCKET / "bridge.safetensors") if "{" in part else part
            for part in words]  # fmt: skip

    return made
