"""Download Models against a small hub on this machine: never unasked, resumable, stoppable, in sentences."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import pytest
from sounding_video.core.errors import Cancelled, CorruptWeightsError, InputError, MissingModelError, OutputError
from sounding_video.core.progress import Progress
from sounding_video.models.weights import download as downloads
from sounding_video.nodes.download import DownloadModels
from sounding_video.nodes.host import standalone

# The hub server and its fixture are those of the command's tests.
_file = Path(__file__).parents[1] / "cli" / "test_models_doctor.py"
_spec = importlib.util.spec_from_file_location("models_doctor_tests", _file)
_tests = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_tests)
hub, FILES = _tests.hub, _tests.FILES


@pytest.fixture
def asked(hub, monkeypatch, tmp_path):
    """Run the node with this machine's hub in place of Hugging Face's."""
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub.api)

    def run(what: str, now: bool, *, progress: Progress | None = None, file: str = "") -> str:
        session = standalone.Session((tmp_path / "models",), progress=progress or Progress())
        with standalone.session(session):
            return DownloadModels.execute(what, now, file).args[0]

    return run


@pytest.mark.parametrize("what", downloads.DOWNLOADS)
def test_without_being_told_it_only_says_what_it_would_do(asked, hub, tmp_path, what):
    text = asked(what, False)
    entry = downloads.DOWNLOADS[what]
    for words in (entry.repository, entry.licence, "GB", str(tmp_path / "models"), "Nothing was fetched"):
        assert words in text
    assert ("asks for a login" in text) is entry.is_gated
    assert hub.server.seen == []
    assert not (tmp_path / "models").exists()


def test_it_fetches_when_told_and_reports_every_megabyte(asked, hub, tmp_path, monkeypatch):
    wanted = next(name for name in FILES if "vae" in name)
    monkeypatch.setitem(FILES, wanted, b"v" * 25_000_000)
    seen = []
    progress = Progress(report=lambda stage, done, total, preview=None: seen.append((stage, done, total)))
    text = asked("wan-1.3b", True, progress=progress, file="wan_2.1_vae.safetensors")
    place = tmp_path / "models" / "vae" / "wan_2.1_vae.safetensors"
    assert str(place) in text and place.stat().st_size == 25_000_000
    assert seen == sorted(seen) and seen[0] == ("download", 0, 25) and seen[-1] == ("download", 25, 25)
    assert any(0 < done < 25 for _, done, _ in seen), "the bar moves inside of a file"


def stop_after_15_mb(asked) -> None:
    """Begin to download the VAE and stop on the way."""
    reached = []

    def stop() -> None:
        if reached and reached[-1] >= 15:
            raise Cancelled

    progress = Progress(lambda stage, done, total, preview=None: reached.append(done), stop)
    with pytest.raises(Cancelled):
        asked("wan-1.3b", True, progress=progress, file="wan_2.1_vae.safetensors")


def test_a_stopped_download_goes_on_where_it_stopped(asked, hub, tmp_path, monkeypatch):
    wanted = next(name for name in FILES if "vae" in name)
    monkeypatch.setitem(FILES, wanted, b"v" * 25_000_000)
    stop_after_15_mb(asked)
    models = tmp_path / "models"
    assert not (models / "vae").exists(), "half a file is never where a loader looks"
    (half,) = models.rglob("*.part")
    arrived = half.stat().st_size
    assert 0 < arrived < 25_000_000
    before = len(hub.server.seen)
    asked("wan-1.3b", True, file="wan_2.1_vae.safetensors")
    asked_for = [header for method, path, header in hub.server.seen[before:] if method == "GET" and "/resolve/" in path]
    assert asked_for == [f"bytes={arrived}-"]
    assert (models / "vae" / "wan_2.1_vae.safetensors").read_bytes() == FILES[wanted]


def test_what_a_stopped_download_left_needs_no_room_again(asked, hub, tmp_path, monkeypatch):
    wanted = next(name for name in FILES if "vae" in name)
    monkeypatch.setitem(FILES, wanted, b"v" * 25_000_000)
    stop_after_15_mb(asked)
    (half,) = (tmp_path / "models").rglob("*.part")
    rest = 25_000_000 - half.stat().st_size
    usage = downloads.shutil.disk_usage
    for room, fits in ((rest - 1, False), (rest, True)):
        free = downloads.SPARE_BYTES + room
        monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path, free=free: usage(path)._replace(free=free))
        if fits:
            assert "fetched:" in asked("wan-1.3b", True, file="wan_2.1_vae.safetensors")
        else:
            with pytest.raises(OutputError, match="too little room on the disk"):
                asked("wan-1.3b", True, file="wan_2.1_vae.safetensors")


def test_a_damaged_file_is_not_put_in_place(asked, hub, tmp_path):
    wanted = next(name for name in FILES if "vae" in name)
    hub.server.etags[wanted] = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(CorruptWeightsError, match=r"arrived damaged and was removed: got .*wan_2\.1_vae"):
        asked("wan-1.3b", True, file="wan_2.1_vae.safetensors")
    assert not list((tmp_path / "models").rglob("*.safetensors")) and not list((tmp_path / "models").rglob("*.part"))
    hub.server.etags[wanted] = hashlib.sha256(FILES[wanted]).hexdigest()
    assert "fetched:" in asked("wan-1.3b", True, file="wan_2.1_vae.safetensors")


def test_refusals_are_sentences(asked, hub, tmp_path, monkeypatch):
    with pytest.raises(MissingModelError, match=r"accepted its licence.*hf auth login"):
        asked("stable-audio", True)
    for now in (False, True):
        with pytest.raises(InputError, match="unknown download: got 'wan'"):
            asked("wan", now)
    monkeypatch.setattr(downloads, "SPARE_BYTES", 10**18)
    with pytest.raises(OutputError, match="too little room on the disk"):
        asked("wan-1.3b", True)
    hub.server.shutdown()
    hub.server.server_close()
    with pytest.raises(MissingModelError, match="everything else works offline"):
        asked("wan-1.3b", True)
    assert "Nothing was fetched" in asked("wan-1.3b", False)
