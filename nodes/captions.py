"""Nodes that turn prompts, edited anchors and clips into one caption for the picture and one for the sound."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..captions.backends import (
    BACKENDS,
    DEFAULT_BACKEND,
    SERVER_BACKEND,
    is_chat,
    is_on_device,
    open_backend,
    sharing,
    summaries,
)
from ..captions.backends.base import BackendOptions
from ..captions.crr import MODES
from ..captions.profiles import PROFILES
from ..core.dialect import escaped
from ..core.errors import SoundingVideoError, require_choice
from .host import io, make_room, progress, ui
from .listing import ADVANCED, listing
from .sockets import CATEGORY
from .telling import CAPTIONS_KEY

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ..captions.crr import Backend, Expansion
    from ..captions.media_captioner import Describer
    from ..core.types import AVClip

# Who looks and listens, and the backend options that are for them too.
LOOKING = {"transformers": ("allow_download", "timeout_seconds"), "server": ("server", "timeout_seconds")}


class ExpandPrompt(io.ComfyNode):
    """Node T2SVExpandPrompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVExpandPrompt",
            display_name="Expand Prompt (CRR)",
            category=f"{CATEGORY}/captions",
            description="Turns a short prompt into a caption of what is seen and one of what is heard.",
            **listing("T2SVExpandPrompt"),
            inputs=[
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="",
                    placeholder="prompt",
                    tooltip="What is seen and heard, in a few words.",
                ),
                *_backend_inputs(),
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="full",
                    tooltip="full: checker, anchors, rewriter. The others are the paper's ablation: off, shared (both "
                    "captions for both models), shared_video (the video caption for both), raw and unchecked, direct "
                    "without anchors.",
                ),
                *_local_inputs(),
                _clip_input(),
            ],
            outputs=_caption_outputs(with_anchors=True),
        )

    @classmethod
    def execute(
        cls,
        *,
        prompt: str,
        backend: str,
        profile: str,
        mode: str,
        quantization: str = "none",
        allow_download: bool = False,
        timeout_seconds: float = 0.0,
        clip: Any = None,
        **model: str,
    ) -> io.NodeOutput:
        """Expand, from the cache when the same was asked before; a CLIP's answers are kept by ComfyUI alone."""
        from ..captions.cache import default_cache
        from ..captions.crr import expand

        options = _options(quantization, allow_download, timeout_seconds, **model)
        with _writer(clip, backend, options) as writer:
            cache = default_cache() if clip is None else None
            made = expand(prompt, backend=writer, mode=mode, profile=profile, cache=cache, progress=progress())
        return _output(made, with_anchors=True)


class EditAnchors(io.ComfyNode):
    """Node T2SVEditAnchors."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVEditAnchors",
            display_name="Edit Anchors (CRR)",
            category=f"{CATEGORY}/captions",
            description="Writes both captions from semantic anchors that you edited; nothing else is added.",
            **listing("T2SVEditAnchors"),
            inputs=[
                io.String.Input(
                    "anchors",
                    multiline=True,
                    default="",
                    placeholder="anchors (JSON)",
                    tooltip="The anchors of Expand Prompt, copied here and edited.",
                ),
                *_backend_inputs(),
                *_local_inputs(),
                _clip_input(),
            ],
            outputs=_caption_outputs(with_anchors=False),
        )

    @classmethod
    def execute(
        cls,
        *,
        anchors: str,
        backend: str,
        profile: str,
        quantization: str = "none",
        allow_download: bool = False,
        timeout_seconds: float = 0.0,
        clip: Any = None,
        **model: str,
    ) -> io.NodeOutput:
        """Run the rewriter alone."""
        from ..captions.anchors import from_json
        from ..captions.crr import expand_anchors

        edited = from_json(anchors)
        options = _options(quantization, allow_download, timeout_seconds, **model)
        with _writer(clip, backend, options) as writer:
            made = expand_anchors(edited, backend=writer, profile=profile, progress=progress())
        return _output(made, with_anchors=False)


class CaptionVideo(io.ComfyNode):
    """Node T2SVCaptionVideo."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        backend, *others = _backend_inputs([name for name in BACKENDS if is_chat(name)], default=SERVER_BACKEND)
        return io.Schema(
            node_id="T2SVCaptionVideo",
            display_name="Caption Video (CRR)",
            category=f"{CATEGORY}/captions",
            description="Describes a clip for training: one model looks, one listens, the checker compares.",
            **listing("T2SVCaptionVideo"),
            inputs=[
                io.Video.Input("video", tooltip="A clip with picture and sound."),
                backend,
                *others,
                io.Combo.Input(
                    "looking",
                    options=list(LOOKING),
                    default="server",
                    tooltip="Who looks and listens: the server, if its model takes pictures and sound, or "
                    "Qwen2.5-VL and Qwen2-Audio on this machine.",
                ),
                *_local_inputs(),
                io.String.Input(
                    "looking_model",
                    default="",
                    optional=True,
                    tooltip="Model on the server that looks and listens; empty for the one in model when the server "
                    "also writes, else for its only one.",
                    **ADVANCED,
                ),
            ],
            outputs=_caption_outputs(with_anchors=True),
        )

    @classmethod
    def execute(
        cls,
        *,
        video: Any,
        backend: str,
        profile: str,
        looking: str,
        quantization: str = "none",
        allow_download: bool = False,
        timeout_seconds: float = 0.0,
        looking_model: str = "",
        **model: str,
    ) -> io.NodeOutput:
        """Look, listen, check, write."""
        from ..captions.media_captioner import describe, verified_captions

        require_choice("way of looking", looking, LOOKING)
        options = _options(quantization, allow_download, timeout_seconds, **model)
        with _describer(looking, looking_model, backend, options) as describer:
            raw = describe(_clip(video), describer, progress=progress())
        with _backend(backend, sharing(backend, options, LOOKING[looking])) as writer:
            made = verified_captions(raw, backend=writer, profile=profile, progress=progress())
        return _output(made, with_anchors=True)


def _backend_inputs(names: list[str] | None = None, default: str = DEFAULT_BACKEND) -> list[io.Input]:
    names = BACKENDS.names() if names is None else names
    return [
        io.Combo.Input(
            "backend",
            options=names,
            default=default,
            tooltip=summaries(names),
        ),
        io.Combo.Input(
            "profile",
            options=list(PROFILES),
            default="bridgedit",
            tooltip="Lengths: bridgedit as the released captions (about 216 and 26 words), short for small models.",
        ),
        io.String.Input(
            "server",
            default="",
            tooltip="Base URL for openai_server, e.g. http://127.0.0.1:11434/v1. Keys come from the environment.",
        ),
        io.String.Input(
            "model",
            default="",
            tooltip="Model on the server, hub id or local folder; empty for the default. transformers_local: "
            "Qwen2.5-7B-Instruct; the published system has Qwen/Qwen2.5-72B-Instruct.",
        ),
    ]


def _local_inputs() -> list[io.Input]:
    """Stand after the others: inputs are only ever appended."""
    from ..captions.backends.transformers_local import QUANTIZATIONS

    return [
        io.Combo.Input(
            "quantization",
            options=list(QUANTIZATIONS),
            default="none",
            optional=True,
            tooltip="transformers_local: load smaller weights, with the package that the name begins with.",
            **ADVANCED,
        ),
        io.Boolean.Input(
            "allow_download",
            default=False,
            optional=True,
            tooltip="Models on this machine: fetch a hub id that is not there, once, into the Hugging Face cache.",
        ),
        io.Float.Input(
            "timeout_seconds",
            default=0.0,
            min=0.0,
            max=86400.0,
            step=1.0,
            optional=True,
            tooltip="Longest wait for one answer; 0 for the usual, 120 for a server and 600 for a model on this "
            "machine.",
            **ADVANCED,
        ),
    ]


def _clip_input() -> io.Input:
    return io.Clip.Input(
        "clip",
        optional=True,
        tooltip="A language model of ComfyUI's own (Load CLIP: Qwen3, Gemma …): it writes instead of backend, in "
        "ComfyUI's memory. Needs a ComfyUI with Generate Text.",
    )


def _caption_outputs(*, with_anchors: bool) -> list[io.Output]:
    anchors = io.String.Output("anchors_json", display_name="anchors", tooltip="Semantic anchors as JSON, to edit.")
    return [
        io.String.Output("video_caption", display_name="video_caption", tooltip="What is seen, for Encode Captions."),
        io.String.Output("audio_caption", display_name="audio_caption", tooltip="What is heard, for Encode Captions."),
        *([anchors] if with_anchors else []),
        io.String.Output("report", display_name="report", tooltip="How they came about, what was mended, as JSON."),
    ]


def _options(
    quantization: str, allow_download: bool, timeout_seconds: float, *, server: str, model: str
) -> BackendOptions:
    """What a node's fields say; empty ones mean the backend's defaults.

    The server's address may have come with somebody's workflow, so it is not trusted with a key.
    """
    return BackendOptions(
        server=server.strip() or None,
        model=model.strip() or None,
        quantization=quantization,
        allow_download=allow_download,
        timeout_seconds=timeout_seconds or None,
    )


def _backend(name: str, options: BackendOptions) -> AbstractContextManager[Backend]:
    """The chosen backend for one node; a local model gets room on the device."""
    if is_on_device(name):
        make_room()
    return open_backend(name, options)


def _writer(clip: Any, name: str, options: BackendOptions) -> AbstractContextManager[Backend]:
    """The connected CLIP, else the chosen backend."""
    if clip is None:
        return _backend(name, options)
    from .host.text_generation import ComfyUIWriter

    return nullcontext(ComfyUIWriter(clip))


def _output(made: Expansion, *, with_anchors: bool) -> io.NodeOutput:
    """The captions as sockets; on the node as text, and in parts for our page extension.

    Captions that were written are plain texts: parentheses in them are no weights when they are encoded.
    """
    anchors = "" if made.anchors is None else made.anchors.to_json()
    report = json.dumps(made.report.as_json(), ensure_ascii=False, indent=2)
    video, audio = (
        text if made.report.mode == "off" else escaped(text) for text in (made.captions.video, made.captions.audio)
    )
    values = (video, audio, *([anchors] if with_anchors else []), report)
    shown = f"picture: {video}\n\nsound: {audio}\n\n{anchors}"
    parts = {"video": video, "audio": audio, "anchors": anchors, "report": report}
    return io.NodeOutput(*values, ui={**ui.PreviewText(shown).as_dict(), CAPTIONS_KEY: [parts]})


def anchors_problem(text: str) -> str | None:
    """What keeps a text from being read as anchors, as a sentence; None when nothing does."""
    from ..captions.anchors import from_json

    try:
        from_json(text)
    except SoundingVideoError as error:
        return str(error)
    return None


@contextmanager
def _describer(looking: str, model: str, writer: str, options: BackendOptions) -> Iterator[Describer]:
    """Who looks and listens; what is loaded for it is freed at the end.

    Args:
        looking: A key of :data:`LOOKING`.
        model: Of the server that looks; empty for the writer's where the writer is that server too.
        writer: The writer's backend.
        options: Of the writer; those in :data:`LOOKING` are used.
    """
    from ..captions.media_captioner import ChatDescriber
    from ..captions.qwen_describer import QwenDescriber

    shared = {name: getattr(options, name) for name in LOOKING[looking]}
    if looking == "server":
        usual = options.model if writer == SERVER_BACKEND else None
        with _backend(SERVER_BACKEND, BackendOptions(model=model.strip() or usual, **shared)) as both:
            yield ChatDescriber(both, both)
        return
    make_room()
    with closing(QwenDescriber(**shared)) as describer:
        yield describer


def _clip(video: Any) -> AVClip:
    """The clip of a VIDEO value, which lies in a file or, unsaved, in memory."""
    from ..media.probe import read_clip

    source = video.get_stream_source()
    if isinstance(source, str):
        return read_clip(source)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        path.write_bytes(source.read())
        return read_clip(path)
