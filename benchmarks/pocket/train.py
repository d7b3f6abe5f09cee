"""Train the pocket model: both codecs, both towers apart, bridges between frozen towers; then put it together.

    python benchmarks/pocket/train.py --size 64 --output output/pocket            all of them; logs/ say how long
    python benchmarks/pocket/train.py --size 64 --only pocket_video num_steps=500 one of them, shorter
    python benchmarks/pocket/train.py --size 64 --assemble models/pocket          the trained parts into the bundle

Each is the same as ``sounding-video train RECIPE …`` with the runs before it as overlays. A stopped run goes on from
its last checkpoint when the command is given again. Settings, loss log and loss picture of every run are kept in
``benchmarks/pocket/logs/``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from build import readme
from resumed import train_on
from sounding_video.models.weights.files import read_safetensors, write_safetensors
from sounding_video.models.weights.find import pocket_folder
from sounding_video.training.assembly import assemble, exported
from sounding_video.training.checkpoint import latest_checkpoint
from sounding_video.training.exports import without_folders
from sounding_video.training.log import LOSS_LOG, LOSS_PICTURE, read_log
from sounding_video.training.recipes import recipe

# Each recipe and the runs that it is laid over.
VIDEO_CODEC = ("pocket_wan_vae", "pocket_wan_vae_long")
SOUND_DECODER = ("pocket_oobleck", "pocket_oobleck_long")
TOWERS = ("pocket_video", "pocket_audio")
# The towers go on together with their text encoders, which are random and frozen without these.
TEXTS = ("pocket_video_text", "pocket_audio_text")
STAGES = {
    "pocket_wan_vae": (),
    "pocket_wan_vae_long": ("pocket_wan_vae",),
    "pocket_oobleck": (),
    "pocket_oobleck_long": ("pocket_oobleck",),
    "pocket_oobleck_encoder": SOUND_DECODER,
    "pocket_video": VIDEO_CODEC,
    # Sound latents are the codes themselves, so the audio tower waits for no codec.
    "pocket_audio": (),
    "pocket_video_text": (*VIDEO_CODEC, "pocket_video"),
    "pocket_audio_text": ("pocket_audio",),
    "pocket_bridges_clock": (*VIDEO_CODEC, *TOWERS, *TEXTS),
    "pocket_avlink_v2a": (*VIDEO_CODEC, *TOWERS, *TEXTS),
    "pocket_avlink_a2v": (*VIDEO_CODEC, *TOWERS, *TEXTS),
    "pocket_syncflow": (*VIDEO_CODEC, *TOWERS, *TEXTS),
}
PARTS = {
    "pocket_wan_vae": "wan/vae",
    "pocket_wan_vae_long": "wan/vae",
    "pocket_oobleck": "stable_audio/vae decoder",
    "pocket_oobleck_long": "stable_audio/vae decoder",
    "pocket_oobleck_encoder": "stable_audio/vae encoder",
    "pocket_video": "wan/transformer",
    "pocket_audio": "stable_audio/transformer",
    "pocket_video_text": "wan/text_encoder",
    "pocket_audio_text": "stable_audio/text_encoder",
    "pocket_bridges_clock": "bridge",
}
# Bridges beside the bundled ones, for something else or of another kind; nothing is missing without them.
FURTHER = {
    "pocket_avlink_v2a": "bridge_v2a",
    "pocket_avlink_a2v": "bridge_a2v",
    "pocket_syncflow": "bridge_adaptor",
}
# Making a clip from a prompt does without.
UNHEARD = {"stable_audio/vae encoder"}
# Without runs of their own these stay random and frozen, which the towers are taught with.
FROZEN = {PARTS[name] for name in TEXTS}
LOGS = Path(__file__).with_name("logs")
CONFIG = "config.json"
LOGGED_EVERY = 10
STORED_AS = torch.float16


def runs_before(name: str, output: Path) -> list[Path]:
    """The runs that this one is laid over; those that are not there must have gone into the bundled model."""
    bundled = json.loads((pocket_folder() / "pocket.json").read_text(encoding="utf-8")).get("trained_parts", ())
    runs = []
    for before in STAGES[name]:
        if latest_checkpoint(output / before) is not None:
            runs.append(output / before)
        elif PARTS[before] not in {*bundled, *FROZEN}:
            sys.exit(f"{name} needs {before}, of which {output} holds no checkpoint and the bundled model no weights")
    return runs


def run_stage(name: str, output: Path, size: int, overrides: list[str]) -> None:
    """Train or continue one recipe, and keep its log."""
    overlays = ",".join(str(run) for run in runs_before(name, output))
    settings = [f"data.width={size}", f"data.height={size}", f"data.cache={output / 'cache'}"]
    config = recipe(name, [*settings, f"models.overlays={overlays}", *overrides])
    try:
        train_on(config, output / name)
    finally:
        keep_log(name, output / name)


def keep_log(name: str, folder: Path) -> None:
    """Copy what shows how the run went, without the folders of the machine; of the loss log every tenth line."""
    (LOGS / name).mkdir(parents=True, exist_ok=True)
    if (folder / CONFIG).is_file():
        config = without_folders(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        (LOGS / name / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if (folder / LOSS_PICTURE).is_file():
        shutil.copyfile(folder / LOSS_PICTURE, LOGS / name / LOSS_PICTURE)
    rows = [row for row in read_log(folder / LOSS_LOG) if row["step"] % LOGGED_EVERY == 0]
    (LOGS / name / LOSS_LOG).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def put_together(output: Path, target: Path, size: int) -> None:
    """The base model with every part that has been trained, in 16 bits; marked as trained when clips need no other."""
    done = [name for name in STAGES if latest_checkpoint(output / name) is not None]
    models = assemble("pocket", tuple(output / name for name in done if name in PARTS), output / "models")
    further = [name for name in done if name in FURTHER]
    for name in further:
        shutil.copyfile(exported(output / name) / "bridge.safetensors", models / f"{FURTHER[name]}.safetensors")
    for file in models.rglob("*.safetensors"):
        halve(file, file)
    note = json.loads((target / "pocket.json").read_text(encoding="utf-8"))
    for part in models.iterdir():
        if part.is_dir():
            shutil.rmtree(target / part.name, ignore_errors=True)
            shutil.copytree(part, target / part.name)
        else:
            shutil.copyfile(part, target / part.name)
    parts = sorted({*note.get("trained_parts", ()), *(PARTS[name] for name in done if name in PARTS)})
    missing = set(PARTS.values()) - set(parts) - FROZEN
    note["sizes"] |= {FURTHER[name]: parameters_of(target / f"{FURTHER[name]}.safetensors") for name in further}
    note |= {"trained": missing <= UNHEARD, "trained_parts": parts, "untrained_parts": sorted(missing), "size": size}
    write_note(target, note)
    total = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    print(f"{total / 1e6:.1f} MB in {target}")


def halve(source: Path, target: Path) -> None:
    """Weights as they are bundled, in 16 bits."""
    tensors, notes = read_safetensors(source)
    halves = {name: t.to(STORED_AS) if t.is_floating_point() else t for name, t in tensors.items()}
    write_safetensors(target, halves, notes)
    target.chmod(0o644)


def write_note(target: Path, note: dict[str, Any]) -> None:
    """What is said of the bundled model, for programs and for readers."""
    (target / "pocket.json").write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
    (target / "README.md").write_text(readme(note), encoding="utf-8")


def parameters_of(file: Path) -> int:
    """How many numbers a file of weights holds."""
    tensors, _ = read_safetensors(file)
    return sum(tensor.numel() for tensor in tensors.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for every recipe that is run")
    parser.add_argument("--only", choices=tuple(STAGES), help="one recipe instead of all")
    parser.add_argument("--size", type=int, default=64, help="width and height in pixels (default: 64)")
    parser.add_argument("--output", type=Path, default=Path("output/pocket"), help="folder of the runs")
    parser.add_argument("--assemble", type=Path, metavar="DIR", help="do not train: write the trained parts into DIR")
    arguments = parser.parse_args()
    if arguments.assemble:
        put_together(arguments.output, arguments.assemble, arguments.size)
        return
    for name in [arguments.only] if arguments.only else STAGES:
        print(f"== {name}", file=sys.stderr)
        run_stage(name, arguments.output, arguments.size, arguments.overrides)


if __name__ == "__main__":
    main()
