"""What a generated file says of itself: a workflow that makes it again, the same for ComfyUI's page, all settings."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import __version__
from ..core.clock import Timeline
from ..core.errors import WorkflowError
from ..core.types import Captions
from ..headless.graph import apply_overrides, read_workflow
from ..headless.ui_format import ui_workflow
from ..models.families.base import Found
from ..models.loading import family_of
from ..models.weights._bridge_layouts import bridge_file
from ..models.weights.bridges import OFFICIAL_KINDS
from ..models.weights.find import POCKET, ModelSet
from ..models.weights.hub import is_cached, listed_name
from ..nodes.host.standalone import Session, session
from ..nodes.own import AS_SET
from ..pipeline import SamplingOptions
from .alignment import AUTO
from .bridges import chosen_bridge
from .loras import asked_loras, lora_name, lora_root, with_lora_nodes

TEMPLATE = Path(__file__).resolve().parents[1] / "workflows" / "api" / "text_to_sounding_video_pocket.json"
SETTINGS = ("fusion", "placement", "device", "dtype", "offload", "attention", "tiling", "storage", "free_text_encoders")
# Of a video that goes on, its own hold.
EXTENT = ("num_frames", "width", "height", "fps")
LOADERS = ("T2SVLoadWanTower", "T2SVLoadStableAudioTower")


def clip_tags(
    args: argparse.Namespace,
    *,
    path: Path,
    models: Found,
    captions: Captions,
    negatives: Captions,
    timeline: Timeline,
    options: SamplingOptions,
) -> tuple[dict[str, Any], str]:
    """Tags for the file that ``generate`` writes.

    Args:
        args: The command line.
        path: The file.
        models: What made it; loader nodes are there for towers.
        captions: What is wanted.
        negatives: What is not.
        timeline: Its extent.
        options: How it is sampled.

    Returns:
        ``prompt`` (API format; ``sounding-video run`` executes it), ``workflow`` (the page's format), and
        ``sounding_video`` (every setting as plain values). And why the first two are missing, where the nodes cannot
        be set to what the command line asks for, else an empty text.
    """
    loras, has_nodes = asked_loras(args), isinstance(models, ModelSet)
    roots, names = _model_names(models, args.bridge) if has_nodes else ((), {"model": models.name})
    settings = {
        "version": __version__,
        "text": args.prompt,
        "captions": asdict(captions),
        "negatives": asdict(negatives),
        **{name: getattr(timeline, name) for name in ("num_frames", "width", "height")},
        "fps": str(timeline.fps),
        **asdict(options),
        **{name: getattr(args, name) for name in SETTINGS},
        "models": names,
        "loras": [{"file": lora_name(lora.path), "strength": lora.strength, "part": lora.part} for lora in loras],
    }
    settings, gap = _beyond_the_template(args, settings)
    if gap:
        return {"sounding_video": settings}, gap
    if not has_nodes:
        return {"sounding_video": settings}, f"no node loads {models.name} ({family_of(models).title})"
    graph = with_lora_nodes(read_workflow(TEMPLATE), loras)
    if names["bridge"] is None:
        graph = _without(graph, "T2SVLoadBridge")
    values = _node_values(args, path, names, captions, negatives, timeline, options)
    try:
        with session(Session(model_roots=roots, lora_roots=tuple(lora_root(lora.path) for lora in loras))):
            graph = apply_overrides(graph, _only_widgets(graph, values))
            return {"prompt": graph, "workflow": ui_workflow(graph), "sounding_video": settings}, ""
    except WorkflowError as error:
        return {"sounding_video": settings}, str(error)


def _beyond_the_template(args: argparse.Namespace, settings: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The settings with what no template has a node for, and what that is; empty for a clip made from its prompt."""
    if args.cascade:
        how = {"cascade": args.cascade, "condition_strength": args.condition_strength}
        how["alignment"] = Path(args.alignment or AUTO).name
        return {**settings, **how}, "a cascade is several samplers, which the template of one cannot be set to"
    if args.first_frame:
        begun = {"first_frame": Path(args.first_frame).name}
        return {**settings, **begun}, "the template has no node for a picture that a clip begins with"
    if args.go_on:
        kept = {name: value for name, value in settings.items() if name not in EXTENT}
        return {**kept, "continue": Path(args.go_on).name}, "the template has no node for a video that goes on"
    return settings, ""


def _node_values(
    args: argparse.Namespace,
    path: Path,
    names: Mapping[str, str | None],
    captions: Captions,
    negatives: Captions,
    timeline: Timeline,
    options: SamplingOptions,
) -> dict[str, Any]:
    """Every setting under the node input that carries it."""
    fps = float(timeline.fps)
    values: dict[str, Any] = {
        "T2SVLoadWanTower.video_model": names["video"],
        "T2SVLoadStableAudioTower.audio_model": names["audio"],
        "T2SVEncodeCaptions.video_caption": captions.video,
        "T2SVEncodeCaptions.audio_caption": captions.audio,
        "T2SVEncodeCaptions.video_negative": negatives.video,
        "T2SVEncodeCaptions.audio_negative": negatives.audio,
        "T2SVEncodeCaptions.seconds": float(timeline.seconds),
        "T2SVDecodeAV.fps": fps,
        "T2SVDecodeAV.tiling": args.tiling,
        "T2SVMux.fps": fps,
        "T2SVMux.filename_prefix": path.stem,
        "T2SVMux.format": path.suffix.lower().removeprefix("."),
        "T2SVMux.writer": args.writer,
        "T2SVMux.codec": args.codec,
        "T2SVMux.quality": args.crf,
    }
    for loader in LOADERS:
        values |= {f"{loader}.{name}": getattr(args, name) for name in ("dtype", "attention", "offload", "storage")}
        if args.free_text_encoders:
            values[f"{loader}.text_encoder"] = "free after use"
    values |= {f"T2SVEmptyAVLatent.{name}": getattr(timeline, name) for name in ("width", "height", "num_frames")}
    values["T2SVEmptyAVLatent.fps"] = fps
    sampling = {"steps" if name == "num_steps" else name: value for name, value in asdict(options).items()}
    values |= {f"T2SVJointSampler.{name}": value for name, value in sampling.items()}
    followers = ("T2SVEmptyAVLatent", "T2SVEncodeCaptions", "T2SVJointSampler")
    values |= {f"{node}.defaults": AS_SET for node in followers}
    if names["bridge"] is not None:
        values["T2SVLoadBridge.bridge_file"] = names["bridge"]
        if args.fusion is not None:
            values["T2SVLoadBridge.fusion"] = OFFICIAL_KINDS.get(args.fusion, args.fusion)
        if args.placement is not None:
            values["T2SVLoadBridge.placement"] = args.placement
    return values


def _only_widgets(graph: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Without inputs that a link feeds in the template: the linked value follows by itself."""
    linked = {
        f"{node['class_type']}.{name}"
        for node in graph.values()
        for name, value in node["inputs"].items()
        if isinstance(value, list)
    }
    return {target: value for target, value in values.items() if target not in linked}


def _without(graph: Mapping[str, Any], class_type: str) -> dict[str, Any]:
    """The graph without one node and without the links from it."""
    gone = {node_id for node_id, node in graph.items() if node["class_type"] == class_type}
    return {
        node_id: {
            **node,
            "inputs": {
                name: value
                for name, value in node["inputs"].items()
                if not (isinstance(value, list) and value[0] in gone)
            },
        }
        for node_id, node in graph.items()
        if node_id not in gone
    }


def _model_names(models: ModelSet, bridge: str) -> tuple[tuple[Path, ...], dict[str, str | None]]:
    """How the loader nodes name the chosen models, and the folders in which these names are looked up."""
    chosen = chosen_bridge(bridge, models)
    chosen = chosen and bridge_file(chosen)  # of a checkpoint folder, the file that lists name
    paths = {"video": models.video_path, "audio": models.audio_path, "bridge": chosen}
    is_pocket = models.name == POCKET
    roots = [] if is_pocket else list(models.roots)
    names: dict[str, str | None] = {}
    for kind, path in paths.items():
        if path is None:
            names[kind] = None
        elif is_pocket and (kind != "bridge" or bridge == "auto"):
            names[kind] = POCKET
        elif kind != "bridge" and is_cached(path):
            names[kind] = listed_name(path)
        else:
            root = next((root for root in roots if root in path.parents), path.absolute().parent)
            names[kind] = path.absolute().relative_to(root.absolute()).as_posix()
            roots += [] if root in roots else [root]
    return tuple(roots), names
