"""ComfyUI's own nodes that give a workflow a user's files, so that workflows with them run without a server.

The names, inputs and outputs are ComfyUI's. Files are looked for as they are named, then in the session's folder of
inputs, or of outputs where the name ends with ``[output]`` as ComfyUI writes it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..core.disk import is_file, user_path
from ..core.errors import InputError
from ..nodes.host import io
from ..nodes.host.standalone import VideoFile, current
from ..nodes.output import audio_value

if TYPE_CHECKING:
    from torch import Tensor

_PLACE = re.compile(r"\s*\[(input|output|temp)\]$")


class _FromFile(io.ComfyNode):
    """A node whose one input is the name of a file."""

    node_id: str
    title: str
    port: str
    outputs: tuple[io.Output, ...]

    @classmethod
    def define_schema(cls) -> io.Schema:
        """As ComfyUI has it."""
        name = io.String.Input(cls.port, default="")
        return io.Schema(cls.node_id, cls.title, "input", inputs=[name], outputs=list(cls.outputs))


def _checked(name: str | None) -> bool | str:
    """Refuse a missing file before anything runs; a linked name arrives as None."""
    try:
        if name is not None:
            named_file(name)
    except InputError as error:
        return str(error)
    return True


class LoadVideo(_FromFile):
    """A video; it is decoded where its components are asked for."""

    node_id, title, port = "LoadVideo", "Load Video", "file"
    outputs = (io.Video.Output("VIDEO"),)

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        """Whether the file is there."""
        return _checked(file)

    @classmethod
    def execute(cls, *, file: str) -> io.NodeOutput:
        """Name it."""
        return io.NodeOutput(VideoFile(named_file(file)))


class LoadAudio(_FromFile):
    """The sound of a file, mono or stereo."""

    node_id, title, port = "LoadAudio", "Load Audio", "audio"
    outputs = (io.Audio.Output("AUDIO"),)

    @classmethod
    def validate_inputs(cls, audio: str | None = None) -> bool | str:
        """Whether the file is there."""
        return _checked(audio)

    @classmethod
    def execute(cls, *, audio: str) -> io.NodeOutput:
        """Decode it."""
        from ..media.probe import read_clip

        path = named_file(audio)
        sound = audio_value(read_clip(path).audio)
        if sound is None:
            raise InputError("there is no sound in this file", got=path, expected="a sound, or a video with one")
        return io.NodeOutput(sound)


class LoadImage(_FromFile):
    """A picture, upright, and what of it is transparent; of an animation all frames of one size."""

    node_id, title, port = "LoadImage", "Load Image", "image"
    outputs = (io.Image.Output("IMAGE"), io.Custom("MASK").Output("MASK"))

    @classmethod
    def validate_inputs(cls, image: str | None = None) -> bool | str:
        """Whether the file is there."""
        return _checked(image)

    @classmethod
    def execute(cls, *, image: str) -> io.NodeOutput:
        """Decode it."""
        from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

        path, pictures, masks = named_file(image), [], []
        try:
            with Image.open(path) as opened:
                for raw in ImageSequence.Iterator(opened):
                    frame = ImageOps.exif_transpose(raw)
                    pixels = _planes(frame.convert("RGB"))
                    if pictures and pixels.shape != pictures[0].shape:
                        continue
                    clear = frame.has_transparency_data
                    pictures.append(pixels)
                    masks.append(1 - _planes(frame.convert("RGBA"))[..., 3] if clear else torch.zeros(64, 64))
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError) as error:
            raise InputError(
                "this picture cannot be read", got=path, expected="a png, jpg, webp or gif file"
            ) from error
        return io.NodeOutput(torch.stack(pictures), torch.stack(masks))


class GetVideoComponents(io.ComfyNode):
    """Frames, sound and rate of a video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """As ComfyUI has it."""
        return io.Schema(
            "GetVideoComponents",
            "Get Video Components",
            "video",
            inputs=[io.Video.Input("video")],
            outputs=[io.Image.Output("images"), io.Audio.Output("audio"), io.Float.Output("fps")],
        )

    @classmethod
    def execute(cls, *, video: Any) -> io.NodeOutput:
        """Decode it, upright."""
        from ..media.probe import read_clip

        path = Path(video.get_stream_source())
        clip = read_clip(path)
        if clip.video is None:
            raise InputError("there is no picture in this file", got=path, expected="a video")
        return io.NodeOutput(clip.video.frames, audio_value(clip.audio), float(clip.video.fps))


NATIVE_NODES: tuple[type[io.ComfyNode], ...] = (LoadVideo, LoadAudio, LoadImage, GetVideoComponents)


def named_file(name: str) -> Path:
    """The file that a workflow names.

    Args:
        name: A path, or a name in the folder of inputs; ``[input]`` or ``[output]`` behind it says which folder.

    Raises:
        InputError: there is no such file.
    """
    place = _PLACE.search(name)
    plain = name[: place.start()] if place else name
    here = current()
    folder = {"output": here.output_dir, "temp": here.temporary_dir}.get(place[1] if place else "", here.input_dir)
    candidates = [folder / plain] if place else [user_path(plain), folder / plain]
    for candidate in candidates:
        if plain and is_file(candidate):
            return candidate
    raise InputError(
        "a file that the workflow names is not there",
        got=repr(name),
        expected=f"a path, or a file in {folder}",
        remedy="Name another with --set NODE.INPUT=FILE, or its folder with --input-dir.",
    )


def _planes(picture: Any) -> Tensor:
    """``(H, W, C)`` in 0..1."""
    import numpy as np

    return torch.from_numpy(np.array(picture, dtype=np.float32) / 255)
