"""Kind 10: files of picture and sound that are cut, lie, name others, or are something else."""

from __future__ import annotations

import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

from .case import EITHER, SMALL, Case, Place
from .stand_in import answer, says, serve

PIECES = ("clip.mp4", "clip.mkv", "clip.wav", "clip.webm", "clip.flac")
MAKE = ("--models", "pocket", "--steps", "1", "--no-expand")
USES: dict[str, Callable[[str], list[str]]] = {
    "probe": lambda name: ["probe", name],
    "probe --json": lambda name: ["probe", name, "--json"],
    "sound": lambda name: ["sound", name, "x", "-o", "new/c.mkv", *MAKE],
    "picture": lambda name: ["picture", name, "x", "-o", "new/c.mp4", *MAKE],
    "--first-frame": lambda name: ["generate", "x", "-o", "new/c.mp4", *SMALL, "--first-frame", name],
    "--continue": lambda name: ["generate", "x", "-o", "new/c.mp4", *SMALL, "--continue", name],
    "run": lambda name: ["run", name, "--output-dir", "new"],
    "evaluate": lambda name: ["evaluate", "."],
    "caption": lambda name: ["caption", name, "-o", "new/l.jsonl", "--looking", "server", "--server",
        "http://127.0.0.1:9/v1",
        "--looking-model", "x"],
    "probe --picture": lambda name: ["probe", name, "--picture", "new/p.png"],
}  # fmt: skip


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, more: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    """A whole picture of so many points, black."""
    rows = zlib.compress((b"\0" + b"\0" * (width * 3)) * height)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + more + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def wav(
    rate: int, channels: int, bits: int = 16, form: int = 1, data: bytes = b"\0" * 800, size: int | None = None
) -> bytes:
    """A sound whose head may lie."""
    head = struct.pack("<HHIIHH", form, channels, rate, 0, (channels * bits // 8) & 0xFFFF, bits)
    body = (
        b"WAVEfmt "
        + struct.pack("<I", 16)
        + head
        + b"data"
        + struct.pack("<I", len(data) if size is None else size)
        + data
    )
    return b"RIFF" + struct.pack("<I", len(body) & 0xFFFFFFFF) + body


def tiff(following: int) -> bytes:
    """A picture whose directory goes on at a place of itself."""
    entries = b"".join(
        struct.pack("<HHII", *one) for one in ((256, 4, 1, 8), (257, 4, 1, 8), (273, 4, 1, 8), (279, 4, 1, 64))
    )
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 4) + entries + struct.pack("<I", following) + b"\0" * 64


def box(kind: bytes, data: bytes) -> bytes:
    """A part of an mp4."""
    return struct.pack(">I", len(data) + 8) + kind + data


# What names other files and addresses; {other} is a server that nobody may ask, {secret} a file with a word in it.
LISTS: dict[str, tuple[str, str]] = {
    "a list of addresses": ("a.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other}/a.ts\n#EXT-X-ENDLIST\n"),
    "a list called mp4": ("a.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n"),
    "a list with a key": ("a.mp4",
        '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{other}/k"\n#EXTINF:9,\nclip.ts\n#EXT-X-ENDLIST\n'),
    "a list of lists": ("a.m3u", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u\n"),
    "a list that maps": ("a.mkv", '#EXTM3U\n#EXT-X-MAP:URI="{secret}"\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n'),
    "a concatenation": ("a.mp4", "ffconcat version 1.0\nfile {secret}\nfile {shared}/clip.mp4\n"),
    "a concatenation with options": ("a.txt",
        "ffconcat version 1.0\nfile '{other}/a.mp4'\noption protocol_whitelist all\n"),
    "a description for DASH": ("a.mpd",
        '<?xml version="1.0"?><MPD type="static"><Period><AdaptationSet><Representation><BaseURL>{other}/a'
        "</BaseURL></Representation></AdaptationSet></Period></MPD>"),
    "a picture of lines": ("a.svg",
        '<svg xmlns:x="http://www.w3.org/1999/xlink"><image x:href="{other}/a.png"/></svg>'),
    "lines called mp4": ("a.mp4", '<svg><image href="file://{secret}"/></svg>'),
    "ASX": ("a.asx", '<asx><entry><ref href="{other}/a"/></entry></asx>'),
    "PLS": ("a.pls", "[playlist]\nFile1={other}/a\nNumberOfEntries=1\n"),
    "a cue sheet": ("a.cue", 'FILE "{secret}" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n'),
    "a reference": ("a.mp4", "RTSPtext\nrtsp://127.0.0.1:9/a\n"),
    "a redirect of Microsoft": ("a.wmv", "[Reference]\nRef1={other}/a.asf\n"),
    "an index of IMF": ("a.xml",
        '<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2013"><Id>a</Id></CompositionPlaylist>'),
    "words of a script": ("a.avs", 'DirectShowSource("{secret}")\n'),
    "VapourSynth": ("a.vpy", "open('canary', 'w')\n"),
    "subtitles": ("a.srt", "1\n00:00:00,000 --> 00:00:09,000\n{secret}\n"),
    "subtitles called mp4": ("a.mp4", "[Script Info]\n[Events]\nDialogue: 0,0:00:00.00,0:00:09.00,,,,,,,a\n"),
    "a graph": ("a.mp4", "movie={secret}"),
    "notes of FFmpeg": ("a.mp4", ";FFMETADATA1\ntitle={secret}\n[CHAPTER]\nTIMEBASE=1/0\nSTART=-5\nEND=1e99\n"),
}  # fmt: skip
ADDRESSES = ("concat:{secret}|{secret}", "subfile,,start,0,end,9,,:{secret}", "data:video/mp4;base64,AAAA",
    "crypto:{secret}", "file:{secret}",
    "{other}/a.mp4", "pipe:0", "lavfi:testsrc", "cache:{other}/a", "async:{secret}", "rtp://127.0.0.1:9",
    "udp://127.0.0.1:9", "tcp://127.0.0.1:9",
    "unix:/x", "fd:0", "hls+{other}/a.m3u8", "tee:{secret}", "mmsh://127.0.0.1:9/a")  # fmt: skip
ODD: dict[str, bytes] = {
    "a point": png(1, 1), "a line": png(1, 40_000), "a line that lies": png(40_000, 1),
    "a picture of 16 bits that has 8": png(4, 4, depth=16),
    "a text that unpacks to 100 MB": png(4, 4, chunk(b"zTXt", b"a\0\0" + zlib.compress(b"0" * 100_000_000))),
    "colours that unpack": png(4, 4, chunk(b"iCCP", b"a\0\0" + zlib.compress(b"0" * 50_000_000))),
    "frames without end": png(4, 4, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))),
    "colours of a camera": png(4, 4, chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(b"\0" * 3000))),
    "a turn of nine": png(4, 4, chunk(b"eXIf", b"II*\0\x08\0\0\0\1\0\x12\x01\3\0\1\0\0\0\x09\0\0\0\0\0\0\0")),
    "a directory in a ring": tiff(8), "a directory behind the end": tiff(2**32 - 1),
    "eight thousand channels": wav(8000, 8192), "channels of 65535": wav(8000, 65_535), "no channels": wav(8000, 0),
    "a rate of 2**32": wav(2**32 - 1, 1),
    "a sound of nothing": wav(8000, 1, data=b""), "a sound that claims 4 GB": wav(8000, 1, size=2**32 - 1),
    "33 bits": wav(8000, 1, bits=33),
    "a form that is not": wav(8000, 1, form=0x7777), "numbers of 64 bits": wav(8000, 1, bits=64, form=3,
    data=struct.pack("<9d", *[1e308] * 9)),
    "an RF64": b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<IQQQI", 28, 2**63, 2**63, 2**63, 0) + wav(8000, 1)[12:],
    "only a tag": b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + b"\0" * 100,
    "a tag and no sound": b"ID3\x03\0\0\0\0\0\x14TIT2\0\0\0\x0a\0\0\1\xff\xfea\0b\0c\0",
    "FLAC with a picture of 16 MB": b"fLaC\x06\xff\xff\xff" + b"\0" * 64,
    "FLAC of nothing": b"fLaC\x80\0\0\x22" + b"\0" * 34,
    "Ogg without end": (b"OggS\0\0" + b"\0" * 8 + b"\1\0\0\0" + b"\0" * 8 + b"\1\0") * 2000,
    "a film of Flash": b"FLV\1\5\0\0\0\x09" + b"\0" * 40,
    "a film of frames below zero": b"DKIF\0\0\x20\0VP80\xff\xff\xff\xff\0\0\0\0\1\0\0\0\xff\xff\xff\xff\0\0\0\0",
    "Y4M of 10**9": b"YUV4MPEG2 W1000000000 H9 F1:0 Ip\nFRAME\n",
    "Y4M of a rate of zero": b"YUV4MPEG2 W2 H2 F0:0 Ip C420\nFRAME\n" + b"\0" * 6,
    "Y4M below zero": b"YUV4MPEG2 W-2 H2 F25:1\nFRAME\n" + b"\0" * 6,
    "an mp4 of tables without end": box(b"ftyp", b"isom\0\0\0\0") + box(b"moov",
        box(b"trak", box(b"mdia", box(b"minf", box(b"stbl",
        box(b"stts", b"\0\0\0\0\xff\xff\xff\xff") + box(b"stsz", b"\0\0\0\0\0\0\0\0\xff\xff\xff\xff")))))),
    "an mp4 in itself": box(b"ftyp", b"isom\0\0\0\0") + box(b"moov", b"") * 5000,
    "boxes in boxes": struct.pack(">I", 2**30) + b"moov" + (struct.pack(">I", 2**30) + b"trak") * 2000,
    "a packed head": box(b"ftyp", b"isom\0\0\0\0") + box(b"moov",
        box(b"cmov", box(b"dcom", b"zlib") + box(b"cmvd", struct.pack(">I",
            2**31) + zlib.compress(b"\0" * 9_000_000)))),
    "an AVIF of nothing": box(b"ftyp", b"avif\0\0\0\0avif") + box(b"meta", b"\0\0\0\0"),
    "HEIC of items": box(b"ftyp", b"heic\0\0\0\0") + box(b"meta", b"\0\0\0\0" + box(b"iinf", b"\0\0\0\0\xff\xff")),
    "WebP of 16384": b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f\xff\xff\xff\x0f" + b"\0" * 12,
    "a PSD": b"8BPS\0\1" + b"\0" * 6 + b"\0\3\0\0\x75\x30\0\0\x75\x30\0\x08\0\3",
    "GIF in a ring": b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff"
        + b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0" + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0" * 2000 + b";",
    "GIF of no size": b"GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\2\0\0;", "EXR": b"v/1\1\2\0\0\0" + b"\0" * 60,
    "a JPEG of 65535": b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\1\1\x11\0\xff\xd9",
    "a module of music": b"Extended Module: " + b"\0" * 60, "MIDI": b"MThd\0\0\0\6\0\1\xff\xff\0\0",
    "letters": b"\x1b[2J" * 50,
}  # fmt: skip


def _written(path: Path, streams: Callable[[object], None], *, tags: dict[str, str] | None = None) -> None:
    import av

    with av.open(str(path), "w") as output:
        output.metadata.update(tags or {})
        streams(output)


def _frames(
    output: object,
    times: list[int],
    size: tuple[int, int] = (32, 32),
    codec: str = "ffv1",
    base: Fraction = Fraction(1, 1000),
) -> None:
    import av
    import numpy as np

    stream = output.add_stream(codec, rate=15)
    stream.width, stream.height, stream.pix_fmt, stream.time_base = *size, "yuv420p", base
    stream.codec_context.time_base = base
    for time in times:
        frame = av.VideoFrame.from_ndarray(np.zeros((size[1], size[0], 3), np.uint8), format="rgb24")
        frame.pts, frame.time_base = time, base
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


OURS = "sounding_video"
FILMS: dict[str, Callable[[Path], None]] = {
    "times below zero": lambda path: _written(path, lambda out: _frames(out, [-5000, -4000, 10])),
    "times that all are one": lambda path: _written(path, lambda out: _frames(out, [0, 1, 2, 3, 4])),
    "a frame after three years": lambda path: _written(path, lambda out: _frames(out, [0, 94_608_000_000])),
    "a thousand frames in a second": lambda path: _written(path, lambda out: _frames(out, list(range(1000)))),
    "one frame": lambda path: _written(path, lambda out: _frames(out, [0])),
    "two points": lambda path: _written(path, lambda out: _frames(out, [0, 66, 133], (2, 2))),
    "a wall": lambda path: _written(path, lambda out: _frames(out, [0, 66], (16, 8000))),
    "a tag of ours that is deep": lambda path: _written(path, lambda out: _frames(out, [0, 66, 133]),
        tags={OURS: "[" * 50_000}),
    "a tag of ours that lies": lambda path: _written(path, lambda out: _frames(out, [0, 66, 133]),
        tags={OURS: json.dumps({"seed": "x", "captions": 5, "events": [None], "steps": 1e300})}),
    "a workflow in a tag that is none": lambda path: _written(path, lambda out: _frames(out, [0, 66, 133]),
        tags={"prompt": "{", "workflow": "["}),
    "a workflow of code": lambda path: _written(path, lambda out: _frames(out, [0, 66, 133]),
        tags={"prompt": json.dumps({"1": {"class_type": "os.system", "inputs": {"a": "touch canary"}}})}),
    "tags of 8 MB": lambda path: _written(path, lambda out: _frames(out, [0, 66, 133]),
        tags={"comment": "x" * 8_000_000, OURS: "{}"}),
    "tags that steer": lambda path: _written(path, lambda out: _frames(out, [0, 66, 133]),
        tags={"title": "\x1b[2J\x07", "\x1b[31m": "a"}),
    "ten thousand tags": lambda path: _written(path, lambda out: _frames(out, [0, 66, 133]),
        tags={f"tag{number}": "a" for number in range(10_000)}),
    "subtitles alone": lambda path: _subtitles(path),
}  # fmt: skip


def _subtitles(path: Path) -> None:
    """Matroska by hand: one track of text."""

    def element(kind: bytes, data: bytes) -> bytes:
        return (
            kind + b"\x08" + struct.pack(">I", len(data))[1:]
            if len(data) > 2**24
            else kind + b"\x10" + struct.pack(">I", len(data))[1:] + data
        )

    track = element(
        b"\xae",
        element(b"\xd7", b"\1")
        + element(b"\x73\xc5", b"\1")
        + element(b"\x83", b"\x11")
        + element(b"\x86", b"S_TEXT/UTF8"),
    )
    head = element(b"\x1a\x45\xdf\xa3", element(b"\x42\x82", b"matroska"))
    cluster = element(b"\x1f\x43\xb6\x75", element(b"\xe7", b"\0") + element(b"\xa3", b"\x81\0\0\x80hello"))
    path.write_bytes(head + element(b"\x18\x53\x80\x67", element(b"\x16\x54\xae\x6b", track) + cluster))


def _laid(name: str, write: Callable[[Path, Place], object], use: str) -> Callable[[Place], list[str]]:
    def line(place: Place) -> list[str]:
        write(place.work / name, place)
        return USES[use](name)

    return line


def cases(chance: random.Random) -> Iterator[Case]:
    """All of the kind."""
    codes = {"caption": (0, 1, 2, 3), "evaluate": (0, 1, 2, 3)}
    for name in PIECES:
        for tenth in range(1, 10):
            use = chance.choice(list(USES))

            def cut(path: Path, place: Place, name: str = name, tenth: int = tenth) -> None:
                data = (place.shared / name).read_bytes()
                path.write_bytes(data[: len(data) * tenth // 10])

            yield Case(
                10, f"{use}: {name} of which {tenth} tenths are there", _laid(name, cut, use), codes.get(use, EITHER)
            )
    for what, (name, text) in LISTS.items():
        use = chance.choice(("probe", "sound", "--first-frame", "run", "picture", "probe --json"))

        def listed(path: Path, place: Place, text: str = text) -> None:
            path.write_text(_named(text, place))

        yield Case(10, f"{use}: {what}", _laid(name, listed, use), check=_no_secret)
    for text in ADDRESSES:
        use = chance.choice(("probe", "sound", "--continue", "caption"))
        yield Case(
            10,
            f"{use}: {text}",
            lambda place, text=text, use=use: USES[use](_named(text, place)),
            (1, 2, 3),
            check=_no_secret,
        )
    for what, content in ODD.items():
        name = chance.choice(("a.mp4", "a.png", "a.wav", "a.mkv", "a.gif", "a"))
        for use in chance.sample(list(USES), 2):
            yield Case(
                10,
                f"{use}: {what}",
                _laid(name, lambda path, place, content=content: path.write_bytes(content), use),
                codes.get(use, EITHER),
            )
    for what, write in FILMS.items():
        for use in chance.sample(list(USES), 2):
            yield Case(
                10,
                f"{use}: {what}",
                _laid("a.mkv", lambda path, place, write=write: write(path), use),
                codes.get(use, EITHER),
            )


def _named(text: str, place: Place) -> str:
    secret = place.root / "secret.txt"
    secret.write_text("xyzzy\n" * 400)
    other = serve(says(answer(b"xyzzy")), log=place.elsewhere) if "{other}" in text else ""
    return text.format(other=other, secret=secret, shared=place.shared)


def _no_secret(place: Place, code: int, out: str, err: str) -> str:
    return "it tells what another file holds" if "xyzzy" in out + err else ""
