"""``sounding-video doctor``: what works on this machine, found out by trying it."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.sizes import size_text
from .console import Console
from .given import MODEL
from .libraries import quiet_libraries
from .models import add_models_option, collect, model_folders
from .plan import add_plan_options, run_plan

if TYPE_CHECKING:
    import torch

COMFYUI_VARIABLE = "COMFYUI_PATH"
OLDEST_COMFYUI = (0, 3, 64)
PROBED_DTYPES = ("float32", "bfloat16", "float16", "float8_e4m3fn")
# encoder -> (what it is for, how a small one is opened)
VIDEO_ENCODERS = {"libx264": "mp4 and mkv picture", "libvpx-vp9": "webm picture"}
AUDIO_ENCODERS = {"aac": "mp4 sound", "libopus": "webm sound", "flac": "mkv sound"}
# import name -> (what pip installs, what it is for)
REQUIRED = {
    "torch": ("torch", "everything"),
    "diffusers": ("diffusers", "the towers and codecs"),
    "transformers": ("transformers", "the text encoders"),
    "accelerate": ("accelerate", "loading and offload"),
    "safetensors": ("safetensors", "weights"),
    "huggingface_hub": ("huggingface-hub", "finding and getting models"),
    "torchsde": ("torchsde", "the audio sampler"),
    "av": ("av", "reading and writing media"),
    "ftfy": ("ftfy", "captions"),
    "aiohttp": ("aiohttp", "servers: the queue client, language models"),
    "platformdirs": ("platformdirs", "the cache of captions"),
    "tqdm": ("tqdm", "progress bars"),
}
OPTIONAL = {
    "gguf": ("gguf", "GGUF weights"),
    "torchao": ("torchao", "weight storage int8"),
    "bitsandbytes": ("bitsandbytes", "weight storage nf4"),
    "xformers": ("xformers", "the xformers attention kernel"),
    "flash_attn": ("flash-attn", "the flash attention kernel"),
    "sageattention": ("sageattention", "the sage attention kernel"),
    "moviepy": ("moviepy", "the moviepy writer"),
    "librosa": ("librosa", "captioning clips by a local audio model"),
    "cv2": ("opencv-python-headless", "evaluation, motion peaks"),
    "matplotlib": ("matplotlib", "evaluation plots"),
    "peft": ("peft", "training with LoRA"),
}


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "doctor",
        help="try what works on this machine",
        description="Try what works on this machine: devices, number types, attention kernels, media encoders, "
        "packages, models, ComfyUI. Everything listed as working was run just now.",
        **options,
    )
    add_models_option(parser)
    parser.add_argument(
        "--comfyui", type=MODEL, metavar="DIR", help=f"a ComfyUI checkout (default: ${COMFYUI_VARIABLE} if set)"
    )
    add_plan_options(parser)
    return parser


def run(args: argparse.Namespace, console: Console) -> None:
    """Examine and print."""
    quiet_libraries()
    if args.plan:
        run_plan(args, console)
        return
    from ..core.disk import user_path

    comfyui = args.comfyui or os.environ.get(COMFYUI_VARIABLE)
    report = {
        "versions": versions(),
        "devices": devices(),
        "encoders": encoders(),
        "codecs": codecs(),
        "packages": packages(),
        "models": collect(model_folders(args.models)),
        "comfyui": comfyui_version(user_path(comfyui)) if comfyui else None,
    }
    report["problems"] = problems(report)
    console.report(describe(report), report)


def versions() -> dict[str, str | None]:
    """This package, Python, the system, torch and what it was built for."""
    import torch

    from .. import __version__

    return {
        "sounding_video": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def devices() -> list[dict[str, Any]]:
    """Every device torch sees, with what number types and attention kernels do on it when tried."""
    import torch

    from ..core.device import resolve_dtype

    found = [torch.device("cpu")]
    found += [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    found += [torch.device("mps")] if torch.backends.mps.is_available() else []
    rows = []
    for device in found:
        row: dict[str, Any] = {"device": str(device), "name": platform.processor() or platform.machine()}
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            row |= {"name": torch.cuda.get_device_name(device), "free_bytes": free, "total_bytes": total}
        auto = resolve_dtype("auto", device)
        row["auto_dtype"] = str(auto).removeprefix("torch.")
        row["dtypes"] = {name: probe_dtype(device, name) for name in PROBED_DTYPES}
        row["attention"] = probe_kernels(device, auto)
        rows.append(row)
    return rows


def probe_dtype(device: torch.device, name: str) -> str:
    """``works``, or the first line of what torch says; fp8 is for storing weights, so it is cast and not multiplied."""
    import torch

    dtype = getattr(torch, name)
    try:
        numbers = torch.eye(16, device=device).to(dtype)
        result = numbers.float() if name.startswith("float8") else numbers @ numbers
        right = bool((result.float() == torch.eye(16, device=device)).all())
    except (RuntimeError, TypeError, NotImplementedError) as error:
        return f"fails: {str(error).splitlines()[0]}"
    return "works" if right else "fails: wrong numbers"


def probe_kernels(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Each attention kernel, run once."""
    from ..core.device import ATTENTION_KERNELS
    from ..core.errors import PlacementError
    from ..models.attention import kernel_error

    results = {}
    for name in ATTENTION_KERNELS:
        try:
            error = kernel_error(name, device, dtype)
            results[name] = "works" if name != "sage" else f"works; its results are off by {error:.1%}"
        except PlacementError as error:
            results[name] = f"fails: {error.got}"
    return results


def encoders() -> dict[str, str]:
    """Each encoder this project writes with, opened and given one piece to encode."""
    import av

    results = {}
    for name in (*VIDEO_ENCODERS, *AUDIO_ENCODERS):
        try:
            num_bytes = _encode_picture(name) if name in VIDEO_ENCODERS else _encode_sound(name)
            results[name] = "works" if num_bytes else "fails: it wrote nothing"
        except (av.FFmpegError, ValueError, RuntimeError) as error:
            results[name] = f"fails: {str(error).splitlines()[0] or type(error).__name__}"
    return results


def codecs() -> dict[str, bool]:
    """Which of the codecs that can be chosen this build of PyAV has."""
    from ..media.codecs import CODECS, can_encode

    return {name: can_encode(name) for name in CODECS}


def _encode_picture(name: str) -> int:
    from fractions import Fraction

    import av

    context = av.CodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt, context.time_base = 64, 64, "yuv420p", Fraction(1, 15)
    frame = av.VideoFrame(64, 64, "yuv420p")
    frame.pts = 0
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    packets = [*context.encode(frame), *context.encode(None)]
    return sum(packet.size for packet in packets)


def _encode_sound(name: str) -> int:
    from fractions import Fraction

    import av

    context = av.CodecContext.create(name, "w")
    sample_format = {"aac": "fltp", "libopus": "flt", "flac": "s16"}[name]
    context.sample_rate, context.layout, context.format = 48_000, "stereo", sample_format
    context.time_base = Fraction(1, 48_000)
    context.open()
    frame = av.AudioFrame(sample_format, "stereo", context.frame_size or 1024)
    frame.sample_rate, frame.pts = 48_000, 0
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    packets = [*context.encode(frame), *context.encode(None)]
    return sum(packet.size for packet in packets)


def packages() -> dict[str, dict[str, Any]]:
    """Each package, imported: its version, or why it does not import and the line that installs it."""
    from ..core.errors import MissingPackageError
    from ..core.optional import require

    rows = {}
    for name, (pip_name, purpose) in (REQUIRED | OPTIONAL).items():
        row: dict[str, Any] = {"required": name in REQUIRED, "purpose": purpose, "version": None, "pip": None}
        try:
            module = require(name, purpose)
            row["version"] = _version(pip_name) or getattr(module, "__version__", "unknown")
        except MissingPackageError as error:
            row |= {"pip": f"pip install {pip_name}", "problem": error.what}
        rows[name] = row
    return rows


def _version(pip_name: str) -> str | None:
    try:
        return importlib.metadata.version(pip_name)
    except importlib.metadata.PackageNotFoundError:
        return None


def comfyui_version(folder: Path) -> dict[str, Any]:
    """Version of a ComfyUI checkout, and whether it is new enough.

    Raises:
        MissingModelError: the folder is not a ComfyUI checkout.
    """
    from ..core.disk import is_file
    from ..core.errors import MissingModelError

    file = folder / "comfyui_version.py"
    text = file.read_text(encoding="utf-8", errors="replace") if is_file(file) else ""
    match = re.search(r'__version__ = "([^"]+)"', text)
    if match is None:
        raise MissingModelError(
            "the folder is not a ComfyUI checkout", got=folder, expected="a folder with comfyui_version.py"
        )
    numbers = tuple(int(number) for number in re.findall(r"\d+", match[1])[:3])
    return {"path": str(folder), "version": match[1], "is_new_enough": numbers >= OLDEST_COMFYUI}


def problems(report: dict[str, Any]) -> list[str]:
    """What keeps the product from working, a sentence each; missing optional things are not among them."""
    found = [
        f"The package {row['pip'].removeprefix('pip install ')} is missing ({row['purpose']}): {row['pip']}"
        for row in report["packages"].values()
        if row["required"] and row["version"] is None
    ]
    for name, result in report["encoders"].items():
        if result != "works":
            purpose = (VIDEO_ENCODERS | AUDIO_ENCODERS)[name]
            found.append(f"The encoder {name} ({purpose}) {result}. Install the av package from PyPI: pip install av")
    for device in report["devices"]:
        if device["attention"]["auto"] != "works":
            found.append(f"Attention does not run on {device['device']}: {device['attention']['auto']}")
    models = report.get("models") or {}
    found += models.get("refused", [])
    found += [f"{row['path']} was passed over: {row['reason']}." for row in models.get("passed_over", [])]
    if report["comfyui"] and not report["comfyui"]["is_new_enough"]:
        oldest = ".".join(map(str, OLDEST_COMFYUI))
        found.append(f"ComfyUI {report['comfyui']['version']} is older than {oldest}; update it.")
    return found


def describe(report: dict[str, Any]) -> str:
    """The report as text."""
    lines = [", ".join(f"{name} {value}" for name, value in report["versions"].items() if value)]
    for row in report["devices"]:
        memory = (
            f", {size_text(row['free_bytes'])} of {size_text(row['total_bytes'])} free" if "free_bytes" in row else ""
        )
        lines.append(f"device {row['device']}: {row['name']}{memory}; dtype auto is {row['auto_dtype']}")
        lines += [f"  {name}: {result}" for name, result in row["dtypes"].items()]
        lines += [f"  attention {name}: {result}" for name, result in row["attention"].items()]
    purposes = VIDEO_ENCODERS | AUDIO_ENCODERS
    lines += [f"encoder {name} ({purposes[name]}): {result}" for name, result in report["encoders"].items()]
    lacking = [name for name, there in report["codecs"].items() if not there]
    choices = ", ".join(name for name, there in report["codecs"].items() if there)
    lines.append(f"codecs to choose: {choices}" + (f"; not here: {', '.join(lacking)}" if lacking else ""))
    for name, row in report["packages"].items():
        need = "" if row["required"] else ", optional"
        state = row["version"] or f"not there; for {row['purpose']}{need}: {row['pip']}"
        lines.append(f"package {name}: {state}")
    if report["comfyui"]:
        lines.append(f"ComfyUI {report['comfyui']['version']} in {report['comfyui']['path']}")
    from .models import describe as describe_models

    # What cannot be used stands among the problems.
    lines.append(describe_models(report["models"] | {"refused": [], "passed_over": []}))
    lines += [f"problem: {problem}" for problem in report["problems"]] or ["no problems found"]
    return "\n".join(lines)
