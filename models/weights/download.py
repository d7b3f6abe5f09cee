"""Getting models from Hugging Face's hub: only when asked, resumable, with the disk checked first.

Sizes are what the parameter counts and types make (a 1.42 billion parameter transformer in float16 is 2.8 GB); the hub
says the exact ones when a download starts.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ...core.disk import is_file, look, size_of, user_path
from ...core.errors import CorruptWeightsError, InputError, MissingModelError, OutputError, require_choice
from ...core.locks import alone
from ...core.new_files import made_folder, remove
from ...core.progress import SILENT, Progress
from ...core.secrets import redacted

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger(__name__)
T = TypeVar("T")
STAGING, LOCK = ".sounding_video_download", "lock"
# Room that is left free on the disk.
SPARE_BYTES = 500_000_000
WAN_REPACKAGED = "Comfy-Org/Wan_2.1_ComfyUI_repackaged"
DIFFUSERS_PARTS = ("transformer/*", "vae/*", "text_encoder/*", "tokenizer/*", "scheduler/*", "model_index.json")
APACHE = "Apache-2.0"
STABILITY = "Stability AI Community License, which also binds weights made from it"


@dataclass(frozen=True)
class Download:
    """Something that can be fetched.

    Args:
        title: For people.
        repository: On the hub.
        patterns: Which of its files.
        folder: Below the model folder, where its files go; the repository's own paths continue from there.
        num_bytes: About how much it is.
        licence: Of the weights.
        provides: Kinds of models it brings (keys of ``layouts.TITLES``).
        is_gated: The hub asks for a login and an accepted licence.
    """

    title: str
    repository: str
    patterns: tuple[str, ...]
    folder: str
    num_bytes: int
    licence: str
    provides: tuple[str, ...]
    is_gated: bool = False

    def place(self, name: str) -> str:
        """Where a file of the repository goes, below the model folder."""
        below = name.removeprefix("split_files/")
        return f"{self.folder}/{below}" if self.folder else below


DOWNLOADS = {
    "wan-1.3b": Download(
        "Wan 2.1 text to video 1.3B: transformer float16, VAE, UMT5 fp8, in single files",
        WAN_REPACKAGED,
        (
            "split_files/diffusion_models/wan2.1_t2v_1.3B_fp16.safetensors",
            "split_files/vae/wan_2.1_vae.safetensors",
            "split_files/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
        ),
        "",
        9_830_000_000,
        APACHE,
        ("wan", "wan_vae", "umt5"),
    ),
    "wan-1.3b-diffusers": Download(
        "Wan 2.1 text to video 1.3B as a diffusers folder, the text encoder in full",
        "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        DIFFUSERS_PARTS,
        "Wan2.1-T2V-1.3B-Diffusers",
        28_900_000_000,
        APACHE,
        ("wan", "wan_vae", "umt5"),
    ),
    "stable-audio": Download(
        "Stable Audio Open 1.0 as a diffusers folder",
        "stabilityai/stable-audio-open-1.0",
        (*DIFFUSERS_PARTS, "projection_model/*"),
        "stable-audio-open-1.0",
        5_300_000_000,
        STABILITY,
        ("stable_audio", "t5"),
        is_gated=True,
    ),
    "bridge": Download(
        "the published BridgeDiT bridges, among them BridgeDiT/bicross-1.3B/epoch=20-step=3318.ckpt",
        "Guan123/BridgeDiT",
        ("*.ckpt", "*.safetensors"),
        "BridgeDiT",
        3_500_000_000,
        "see the repository; bridges that hold tuned blocks of Stable Audio are under its licence too",
        ("bridge",),
    ),
}


def download(
    name: str, folder: str | Path, *, api: HfApi | None = None, file: str | None = None, progress: Progress = SILENT
) -> list[Path]:
    """Fetch one entry of ``DOWNLOADS`` into a model folder; files that are there in full are not fetched again.

    Args:
        name: The entry.
        folder: The model folder, made if absent. A stopped download goes on where it stopped.
        api: The hub; None takes Hugging Face's with the user's login.
        file: Only files of this name or pattern.
        progress: Megabytes done and in all, as they arrive; asked whether to stop.

    Returns:
        The files, in their places.

    Raises:
        InputError: an unknown name.
        MissingModelError: the hub cannot be reached, refuses, or has no such file; the message says what to do.
        OutputError: too little room on the disk, or the folder cannot be written.
        CorruptWeightsError: a file is not what the hub says it is.
    """
    from huggingface_hub import HfApi

    entry = _entry(name)
    folder = user_path(folder)
    api = api or HfApi()
    sizes = _sizes(api, entry, file)
    places = {remote: folder / entry.place(remote) for remote in sizes}
    todo = [remote for remote, place in places.items() if not (is_file(place) and size_of(place) == sizes[remote])]
    total = sum(sizes.values())
    done = total - sum(sizes[remote] for remote in todo)
    staging = folder / STAGING / entry.repository.replace("/", "--")
    files = {remote: _staged(api, entry, remote, staging) for remote in todo}
    try:
        with made_folder(folder), _staging(staging):
            _require_room(folder, sum(max(0, sizes[remote] - file.num_bytes) for remote, file in files.items()))
            for remote in todo:
                progress.step("download", done // 1_000_000, total // 1_000_000)
                fetched = _fetch(api, entry, files[remote], bar=_reporting(progress, done, total))
                places[remote].parent.mkdir(parents=True, exist_ok=True)
                fetched.replace(places[remote])
                done += sizes[remote]
    except OSError as error:
        raise OutputError(
            "the model folder cannot be written", got=f"{folder} ({error})", expected="a folder with room"
        ) from error
    progress.step("download", total // 1_000_000, total // 1_000_000)
    return list(places.values())


@contextmanager
def _staging(folder: Path) -> Iterator[None]:
    """A folder in which files are gathered: gone in the end; what a stopped run has fetched stays for the next one.

    Raises:
        InputError: another process gathers in it.
    """
    refused = InputError("this model is being downloaded already", got=folder, expected="one download at a time")
    try:
        with made_folder(folder), alone(folder / LOCK, refused):
            try:
                yield
                for entry in folder.iterdir():
                    if entry.name != LOCK:  # which goes while it is still held
                        remove(entry)
            finally:
                for part in look(folder, 1).files:
                    if part.name != LOCK and not size_of(part):  # a file of which nothing has come
                        remove(part)
    finally:
        for empty in (folder, folder.parent):
            with suppress(OSError):
                empty.rmdir()


def _entry(name: str) -> Download:
    require_choice("download", name, DOWNLOADS)
    return DOWNLOADS[name]


def _require_room(folder: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < num_bytes + SPARE_BYTES:
        raise OutputError(
            "there is too little room on the disk",
            got=f"{free / 1e9:.1f} GB free at {folder}",
            expected=f"{(num_bytes + SPARE_BYTES) / 1e9:.1f} GB",
            remedy="Make room, or name a folder on another disk.",
        )


def _sizes(api: HfApi, entry: Download, file: str | None) -> dict[str, int]:
    """Sizes of the wanted files, as the hub has them now."""
    files = _ask(entry, lambda: _listed(api, entry))
    patterns = entry.patterns if file is None else (file, f"*/{file}")
    wanted = {name: size for name, size in files.items() if any(fnmatch(name, pattern) for pattern in patterns)}
    if not wanted:
        raise MissingModelError(
            "the repository has no such file",
            got=f"{file or ', '.join(patterns)} in {entry.repository}",
            expected="one of " + (", ".join(sorted(files)[:12]) or "its files, but it is empty"),
        )
    return wanted


def _listed(api: HfApi, entry: Download) -> dict[str, int]:
    """All files of a repository with their sizes.

    Raises:
        TypeError: the list names something else.
    """
    info = api.model_info(entry.repository, files_metadata=True)
    files = [(sibling.rfilename, sibling.size or 0) for sibling in info.siblings or ()]
    if not all(isinstance(name, str) and isinstance(size, int) for name, size in files):
        raise TypeError("files whose names are no text")
    return dict(files)


@dataclass(frozen=True)
class _Staged:
    """A file that is to be fetched.

    Args:
        remote: Its name in the repository.
        url: Where it is.
        etag: The hub's name for its content.
        size: In bytes, if the hub says it.
        part: Where it is gathered; named after the content, so that another version of the file starts anew.
    """

    remote: str
    url: str
    etag: str | None
    size: int | None
    part: Path

    @property
    def num_bytes(self) -> int:
        """How much of it a stopped run left."""
        return size_of(self.part) if is_file(self.part) else 0


def _staged(api: HfApi, entry: Download, remote: str, staging: Path) -> _Staged:
    """What the hub says of a file, and where it is gathered."""
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(entry.repository, remote, endpoint=api.endpoint)
    about = _ask(entry, lambda: api.get_hf_file_metadata(url=url, token=api.token))
    etag = about.etag or ""
    # A hub that means no good names its content after a file elsewhere.
    name = etag if re.fullmatch(r"\w{1,128}", etag, re.ASCII) else hashlib.sha256(etag.encode()).hexdigest()
    return _Staged(remote, url, about.etag, about.size, staging / f"{name}.part")


def _fetch(api: HfApi, entry: Download, file: _Staged, *, bar: type) -> Path:
    """One file in the staging folder, complete; what a stopped run left of it there is gone on with.

    ``hf_hub_download`` starts every stopped file anew, so its own lower half is used here.
    """
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers
    from huggingface_hub.utils.tqdm import is_tqdm_disabled

    file.part.parent.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"expected_size": file.size, "headers": build_hf_headers(token=api.token)}
    with file.part.open("ab") as target:
        arrived = target.tell()
        log.info("fetching %s from %s, from byte %d", file.remote, entry.repository, arrived)
        if "tqdm_class" in inspect.signature(http_get).parameters:
            options["tqdm_class"] = bar
        else:  # older clients take a bar that is there, and close none
            shown = {"unit": "B", "unit_scale": True, "desc": file.remote, "disable": is_tqdm_disabled(log.level)}
            options["_tqdm_bar"] = bar(total=file.size, initial=arrived, **shown)
        try:
            _ask(entry, lambda: http_get(file.url, target, resume_size=arrived, **options))
        finally:
            if "_tqdm_bar" in options:
                options["_tqdm_bar"].close()
    _require_content(file.part, file.etag, f"{file.remote} of {entry.repository}")
    return file.part


def _require_content(part: Path, etag: str | None, what: str) -> None:
    """Large files are named by their SHA-256 on the hub; what arrived must be that."""
    from .convert import hash_file

    if re.fullmatch(r"[0-9a-f]{64}", etag or "") and hash_file(part) != etag:
        part.unlink()
        raise CorruptWeightsError(
            "a file arrived damaged and was removed", got=what, expected=f"SHA-256 {etag}", remedy="Start it again."
        )


def _reporting(progress: Progress, done: int, total: int) -> type:
    """The hub client's bar, which also tells ``progress`` the megabytes of the whole download."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        """Counts by itself, because a bar that is not shown does not."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.arrived = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            """After each piece of the file."""
            self.arrived += int(n or 0)
            progress.step("download", (done + self.arrived) // 1_000_000, total // 1_000_000)
            return super().update(n)

    return Bar


def _words(error: Exception) -> str:
    """The first line of what went wrong, without the token that a hub may repeat."""
    from huggingface_hub import get_token

    return redacted(str(error), get_token()).strip().partition("\n")[0][:150]


def _ask(entry: Download, question: Callable[[], T]) -> T:
    """Ask the hub, and turn its refusals into sentences."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    page = f"huggingface.co/{entry.repository}"
    try:
        return question()
    except GatedRepoError as error:
        raise MissingModelError(
            "the hub gives this model only to those who accepted its licence",
            got=f"{entry.repository} ({entry.licence})",
            expected="a login whose account has access",
            remedy=f"Accept the licence at {page}, then log in with: hf auth login",
        ) from error
    except RepositoryNotFoundError as error:
        raise MissingModelError(
            "the hub has no such repository, or hides it", got=entry.repository, expected=f"what stands at {page}"
        ) from error
    except HfHubHTTPError as error:
        raise MissingModelError(
            "the hub refused the download",
            got=f"{entry.repository} ({_words(error)})",
            expected="an answer",
            remedy="Try again later; what was fetched is kept.",
        ) from error
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise MissingModelError(
            "the hub's answer cannot be used",
            got=f"{entry.repository} ({type(error).__name__}: {_words(error)})",
            expected="a list of files, and files of a size that can be fetched",
            remedy="Look whether HF_ENDPOINT names the hub or a mirror of it.",
        ) from error
    except (OfflineModeIsEnabled, HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # the disk's error, not the network's
        raise MissingModelError(
            "the hub cannot be reached",
            got=f"{entry.repository} ({_words(error)})",
            expected="a network, and HF_HUB_OFFLINE not set",
            remedy="Download the files elsewhere and put them into the model folder; everything else works offline.",
        ) from error
