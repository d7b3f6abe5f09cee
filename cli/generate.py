"""``sounding-video generate "PROMPT" -o out.mp4``: the whole way through ``pipeline.generate``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError, require_choice
from .alignment import add_alignment_options, cascade_clip, reading_of, require_cascade
from .bridges import add_bridge_options, bridge_options, bridge_use
from .clips import Told, Wanted, add_file_options, rehearse_writing, wanted_clips
from .console import Console
from .expand import MODE, MODES_HELP, add_backend_options, expand_prompt, tell_report
from .extent import add_extent_options, extent_at_once, extent_of, require_no_extent, settle_windows, whole_clip
from .given import FILE, MODEL, NEW_FILE, free_text
from .libraries import explain_full_memory, leave_out_unused, quiet_libraries
from .loras import Lora, add_lora_options, apply_loras, asked_loras, distilled_loras
from .models import MODELS_VARIABLE, choose_models
from .options import sampling_options
from .storage import decide_storage

if TYPE_CHECKING:
    from ..core.clock import Timeline
    from ..core.device import Placement
    from ..core.progress import Progress
    from ..core.types import AVClip, Captions
    from ..media.mux import MuxReport
    from ..models.conditioning import ConditioningCache
    from ..models.families.base import FamilyModel, Found
    from ..models.own import OwnSettings
    from ..sampling.options import SamplingOptions
    from ..tasks.reading import Reading


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "generate",
        help="make a video with sound from a prompt",
        description="Make a video with the sound that belongs to it. The prompt is expanded into a caption of what is "
        "seen and one of what is heard; --video-caption and --audio-caption are taken as they are. Of a longer clip "
        "the prompt may change with time: [0] rain falls [10] a drum is struck.",
        **options,
    )
    add = parser.add_argument
    add("prompt", nargs="?", default="", type=free_text, metavar="PROMPT", help="what is seen and heard")
    add("-o", "--output", required=True, type=NEW_FILE, metavar="FILE", help="file to write: .mp4, .webm, .mkv; .wav, "
        ".flac or .m4a for the sound alone; %%date:yyyy-MM-dd%% is filled in")  # fmt: skip
    text = partial(add, type=free_text, metavar="TEXT")
    text("--video-caption", help="what is seen (default: from the prompt); (words:1.2) weighs as in ComfyUI, \\( is a "
         "parenthesis")  # fmt: skip
    text("--audio-caption", help="what is heard (default: from the prompt), likewise")
    text("--negative-video", help="what the picture should not be (default: the published one; pocket: nothing)")
    text("--negative-audio", help="what the sound should not be (default: the published one; pocket: nothing)")
    file = partial(add, type=FILE)
    file("--first-frame", metavar="PICTURE", help="begin with this picture (a still, or a video's first frame)")
    file("--continue", dest="go_on", metavar="CLIP", help="go on where this video ends; what it has stays as it is")
    add_extent_options(parser)
    add_alignment_options(parser.add_argument_group("one side after the other").add_argument, cascade=True)
    add_file_options(parser.add_argument_group("files").add_argument)
    add_model_options(parser)
    add_lora_options(parser)
    add("--mode", type=MODE, metavar="NAME", help=f"how the prompt becomes captions: {MODES_HELP}")
    add("--no-expand", action="store_true", help="both models read the prompt as it is, as with --mode off")
    add_backend_options(parser, model_option="--caption-model")
    return parser


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which models, and how they run on this machine."""
    add = parser.add_argument_group("models and machine").add_argument
    add(
        "--models",
        type=MODEL,
        metavar="DIR",
        help="folder with a Wan and a Stable Audio, the id of a model in Hugging Face's cache, or pocket for the "
        f"bundled model (default: ${MODELS_VARIABLE} if set, else what was downloaded, else pocket)",
    )
    add(
        "--wan",
        type=MODEL,
        metavar="MODEL",
        help="which Wan: a name as the command models shows it, a hub id, or a path",
    )
    add("--stable-audio", type=MODEL, metavar="MODEL", help="which Stable Audio, the same way")
    add_bridge_options(add)
    add("--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda, cuda:1, mps")
    add(
        "--devices",
        metavar="NAME,NAME",
        help="instead: two cards that share the guidance passes, cuda:0,cuda:1; each has the towers in its memory",
    )
    add(
        "--dtype",
        default="auto",
        metavar="NAME",
        help="auto (default), float32, bfloat16, float16 or official-bf16 (the published system's rounding)",
    )
    add(
        "--offload",
        default="auto",
        metavar="MODE",
        help="auto (default): the fastest that fits; none, model, group or sequential: ever less memory",
    )
    add(
        "--storage",
        default="native",
        metavar="NAME",
        help="how weights are kept: native (default), fp8, int8, nf4; auto keeps them native unless only fp8 fits",
    )
    add("--free-text-encoders", action="store_true", help="let go of the text encoders once the captions are encoded")
    add("--cache-captions", action="store_true", help="keep encoded captions on disk; known ones need no text encoder")
    add("--attention", default="auto", metavar="NAME", help="auto (default), sdpa, xformers, flash or sage")
    add("--tiling", default="auto", metavar="MODE", help="decode the picture in tiles: auto (default), on or off")


def run(args: argparse.Namespace, console: Console) -> None:
    """Check everything that can be checked, load, generate, write."""
    started = time.monotonic()
    captions = _captions(args)
    require_cascade(args)
    _require_given(args)
    leave_out_unused(args)

    from ..core.clock import Timeline
    from ..media.mux import has_picture, write_clip
    from ..nodes.host.prefixes import with_date
    from .tags import clip_tags

    if not console.verbose:
        quiet_libraries()
    found = chosen_models(args, console)
    own = found.own
    negatives = negatives_of(args, own)
    extent = extent_of(args, own)
    settle_windows(args, extent)
    options = options_of(args, found)
    placement = placement_of(args, found, extent_at_once(args, extent))
    loras = asked_loras(args)
    wanted = wanted_clips(Path(with_date(args.output)), args.number, options)
    encoding = {"writer": args.writer, "codec": args.codec, "crf": args.crf}
    rehearse_writing(wanted[-1].path, **encoding)
    captions = expanded(args, console, captions, own)
    told_captions = told_captions_of(console, captions, negatives, own)
    reading = reading_of(args, console, found)
    model = loaded(args, console, found, placement, loras)
    timeline = whole_clip(args, console, Timeline(**extent, geometry=model.geometry))
    tags = partial(clip_tags, args, models=found, captions=captions, negatives=negatives, timeline=timeline)
    make = _maker(args, console, model, captions, timeline, negatives, has_picture(wanted[0].path), reading)
    write = partial(write_clip, **encoding)
    told = Told(console, model, wanted, started=started, captions=told_captions)
    with explain_full_memory(), told.kept():
        for each in wanted:
            _make_one(each, make, write, None if args.no_metadata else tags, told)
    told.end()


def loaded(
    args: argparse.Namespace, console: Console, found: Found, placement: Placement, loras: list[Lora]
) -> FamilyModel:
    """The models that were chosen, with bridges and LoRAs."""
    from ..core.progress import stoppable
    from ..models.families.base import Wishes
    from ..models.loading import family_of
    from ..pipeline import load_models

    family = family_of(found)
    family.require(placement, Wishes(args.bridge), loras=bool(loras))
    with stoppable(console.progress):
        model = load_models(
            found,
            placement=placement,
            bridge=args.bridge,
            bridge_options=bridge_options(args),
            free_text=args.free_text_encoders or (args.cache_captions and family.offers.free_text),
        )
    model = apply_loras(model, loras)
    for lora in model.loras:
        if lora.distilled is not None:
            console.note(f"note: {lora.name} is step-distilled ({lora.distilled.title}): {lora.distilled.wants}")
    console.progress.step("load", 1, 1)
    return model


def _maker(
    args: argparse.Namespace,
    console: Console,
    model: FamilyModel,
    captions: Captions,
    timeline: Timeline,
    negatives: Captions,
    with_picture: bool,
    reading: Reading | None,
) -> Callable[..., AVClip]:
    """What makes one clip of some options: from nothing, from a picture, from the end of a video, or in turn."""
    from ..pipeline import generate

    common = {"negatives": negatives, "tiling": args.tiling, "cache": caption_cache(args)}
    if reading is not None:
        common |= {"with_picture": with_picture, "reading": reading}
        return partial(cascade_clip, args.cascade, timeline, model, captions, **common)
    if not (args.first_frame or args.go_on):
        return partial(generate, model, captions, timeline=timeline, with_picture=with_picture, **common)

    from ..media.user_file import open_user_file
    from ..tasks.base import Run
    from ..tasks.extend import go_on
    from ..tasks.first_frame import from_first_frame

    file = open_user_file(args.first_frame or args.go_on)

    def make(options: SamplingOptions, progress: Progress) -> AVClip:
        run = Run(model, captions, options=options, progress=progress, **common)
        clip, notes = from_first_frame(run, file, timeline) if args.first_frame else go_on(run, file)
        for note in notes:
            console.note(f"note: {note}")
        return clip

    return make


def _require_given(args: argparse.Namespace) -> None:
    """Refuse files that cannot be begun with before anything is loaded."""
    require_no_extent(args)
    if args.first_frame and args.go_on:
        raise InputError("a clip begins with a picture or goes on from a video", got="both", expected="one of the two")
    given = args.first_frame or args.go_on
    if given is None:
        return
    from ..media.user_file import open_user_file

    file = open_user_file(given)
    if file.picture is None:
        raise InputError("there is no picture in this file", got=given, expected="a picture or a video")


def chosen_models(args: argparse.Namespace, console: Console, made: str = "joint") -> Found:
    """The models on disk that will be loaded, the bridge for what is made; what there is to say of it is told."""
    found = choose_models(args.models, video=args.wan, audio=args.stable_audio, made=made)
    for note in filter(None, (*found.notes, found.bridge_note if args.bridge == "auto" else "")):
        console.note(f"note: {note}")
    return found


def placement_of(args: argparse.Namespace, found: Found, extent: dict[str, Any]) -> Placement:
    """As asked for; where the way to keep weights is left open, the one that fits is taken."""
    from ..core.device import resolve_devices, resolve_placement

    if args.devices and args.device != "auto":
        raise InputError("one device and two are named", got=f"{args.device} and {args.devices}", expected="one option")
    first, *others = resolve_devices(args.devices) if args.devices else (args.device,)
    asked = {"dtype": args.dtype, "offload": args.offload, "attention": args.attention, "storage": args.storage}
    placement = replace(resolve_placement(device=first, **asked), partners=tuple(others))
    if placement.storage == "auto":
        return decide_storage(placement, found, extent, args.bridge, bridge_options(args))
    return placement


def _make_one(
    wanted: Wanted,
    make: Callable[..., AVClip],
    write: Callable[..., MuxReport],
    tags: Callable[..., tuple[dict[str, Any], str]] | None,
    told: Told,
) -> None:
    """One clip, from its seed to its file."""
    from ..models.plan.fit import noted

    metadata, gap = tags(path=wanted.path, options=wanted.options) if tags else (None, "")
    if gap:
        told.gap(gap)
    progress = told.progress(wanted)
    with noted() as notes:
        clip = make(options=wanted.options, progress=progress)
    report = write(clip, wanted.name, metadata=metadata, progress=progress)
    size = None if clip.video is None else clip.video.frames.shape[2:0:-1]
    told.clip(wanted, report, size=size, plan=notes)


def caption_cache(args: argparse.Namespace) -> ConditioningCache:
    """In memory, or also on disk where that was asked for."""
    from ..captions.cache import default_cache_folder
    from ..models.conditioning import REMEMBERED, ConditioningCache

    return ConditioningCache(default_cache_folder()) if args.cache_captions else REMEMBERED


def _captions(args: argparse.Namespace) -> tuple[Captions, Captions]:
    """What is wanted, and what is not."""
    prompt = args.prompt.strip()
    texts = {"video": args.video_caption, "audio": args.audio_caption}
    for name, text in texts.items():
        if text is None and not prompt:
            raise InputError(
                "the prompt is empty",
                expected="a description of what is seen and heard",
                remedy="Give a prompt, or both --video-caption and --audio-caption.",
            )
        if text is not None and not text.strip():
            raise InputError(f"the {name} caption is empty", expected="a description, or no such option")

    from ..core.script import together
    from ..core.types import Captions

    captions = Captions(*(prompt if text is None else text for text in texts.values()))
    together(captions.video, captions.audio)
    return captions


def negatives_of(args: argparse.Namespace, own: OwnSettings) -> Captions:
    """What neither should be: the model's own, which are none for the pocket model, or those of the command line."""
    from ..core.types import Captions

    return Captions(
        own.video_negative if args.negative_video is None else args.negative_video,
        own.audio_negative if args.negative_audio is None else args.negative_audio,
    )


def expanded(args: argparse.Namespace, console: Console, captions: Captions, own: OwnSettings) -> Captions:
    """The captions that the user did not write, from the prompt; short ones for the pocket model's small encoder.

    Those are plain texts, in which parentheses are no weights.
    """
    from ..core.dialect import escaped
    from ..core.script import parts_of, written
    from ..core.types import Captions

    mode = _mode(args)
    given = args.video_caption is not None and args.audio_caption is not None
    if given or mode == "off":
        named = args.backend or (args.mode if given else None)
        if named is not None:
            raise InputError(
                "a caption backend or a mode is named but there is nothing to expand",
                got=named,
                expected="neither --no-expand nor --mode off, and a caption to be written",
            )
        return captions
    video, audio = [], []
    for start, prompt in parts_of(args.prompt):
        made = expand_prompt(args, console, prompt, mode=mode, profile=own.captions, shared_options=("device",))
        tell_report(console, made)
        video.append((start, escaped(made.captions.video)))
        audio.append((start, escaped(made.captions.audio)))
    return Captions(
        written(video) if args.video_caption is None else args.video_caption,
        written(audio) if args.audio_caption is None else args.audio_caption,
    )


def told_captions_of(console: Console, captions: Captions, negatives: Captions, own: OwnSettings) -> list[str]:
    """What the user should know of the captions before minutes of sampling."""
    from ..captions.known import unknown_to_model
    from ..pipeline import told_of_captions

    unknown = [sentence for sentence in [unknown_to_model(captions, own.knows)] if sentence]
    for sentence in unknown:
        console.warn(f"warning: {sentence}")
    told = told_of_captions(captions, negatives)
    for note in told:
        console.note(f"note: {note}")
    return [*unknown, *told]


def _mode(args: argparse.Namespace) -> str:
    from ..captions.crr import MODES

    mode = args.mode or ("off" if args.no_expand else "full")
    require_choice("expansion mode", mode, MODES)
    if args.no_expand and mode != "off":
        raise InputError("--no-expand is the mode off", got=f"--mode {mode}", expected="one of the two")
    return mode


def options_of(args: argparse.Namespace, found: Found, made: str = "joint") -> SamplingOptions:
    """Sampling options, those of LoRAs, bridges and the model where nothing was asked for; refuses what cannot be."""
    from ..models.bridge_use import settings_for
    from ..models.codecs.wan_vae import TILING
    from ..models.loading import family_of
    from ..models.lora.distilled import settings_with

    require_choice("tiling", args.tiling, TILING)
    own = settings_for(found.own, bridge_use(args.bridge, found), made)
    family = family_of(found)
    if family.offers.loras:
        own = settings_with(own, distilled_loras(asked_loras(args)), made)
    options = sampling_options(args, own)
    options.build_schedule(processes=family.processes)
    return options
