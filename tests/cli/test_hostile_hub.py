"""A hub that means no good, or is none: sentences, no token in them, and files only where they belong."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from sounding_video.core.errors import SoundingVideoError
from sounding_video.models.weights import download as downloads

# The hub server and its fixture are those of the command's tests.
_spec = importlib.util.spec_from_file_location("hub_tests", Path(__file__).with_name("test_models_doctor.py"))
_tests = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_tests)
hub, FILES = _tests.hub, _tests.FILES
VAE = next(name for name in FILES if "vae" in name)
TOKEN = "hf_verysecrettoken0123456789"
Answer = tuple[int, dict[str, str], bytes]


def _echo(sent: str) -> Answer:
    return 403, {"X-Error-Message": f"not with {sent}", "X-Request-Id": sent}, sent.encode()


def _lists(listed: bytes) -> Callable[[str], Answer]:
    return lambda sent: (200, {}, listed)


def _exabyte(sent: str) -> Answer:
    listed = json.dumps({"id": "a", "siblings": [{"rfilename": name, "size": 5} for name in FILES]})
    return 200, {"ETag": '"a"', "X-Repo-Commit": "d" * 40, "X-Linked-Size": str(2**60)}, listed.encode()


ANSWERS: dict[str, Callable[[str], Answer]] = {
    "the token comes back": _echo,
    "no JSON": _lists(b"<html>"),
    "a list": _lists(b"[]"),
    "deep": _lists(b"[" * 100_000),
    "names that are lists": _lists(b'{"id": "a", "siblings": [{"rfilename": ["a"]}]}'),
    "names that are numbers": _lists(b'{"id": "a", "siblings": [{"rfilename": 5}]}'),
    "no names": _lists(b'{"id": "a", "siblings": [{}]}'),
    "sizes that are texts": _lists(b'{"id": "a", "siblings": [{"rfilename": "a", "size": "5"}]}'),
    "files of an exabyte": _exabyte,
}


@pytest.mark.parametrize("case", ANSWERS)
def test_every_answer_ends_in_a_sentence(case, hub, tmp_path, monkeypatch) -> None:
    class Handler(hub.server.RequestHandlerClass):
        def _answer(self, *, send_body: bool) -> None:
            status, headers, body = ANSWERS[case](self.headers.get("Authorization", ""))
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if send_body:
                self.wfile.write(body)

    hub.server.RequestHandlerClass = Handler
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(SoundingVideoError) as caught:
        downloads.download("wan-1.3b", tmp_path / "new", api=HfApi(endpoint=hub.api.endpoint, token=TOKEN))
    assert len(str(caught.value)) < 600 and "verysecret" not in str(caught.value)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("name", ["../../../canary", "{folder}/canary", "..", "a/b", "x" * 300, "..\\canary", "ab12"])
def test_it_cannot_choose_where_files_are_gathered(name, hub, tmp_path, monkeypatch) -> None:
    """It names the content of its files, and parts of downloads are called after that."""
    seen, fetch = [], downloads._fetch

    def watched(api: HfApi, entry: downloads.Download, file: downloads._Staged, **how: object) -> Path:
        seen.append(file.part)
        return fetch(api, entry, file, **how)

    hub.server.etags[VAE] = name.format(folder=tmp_path)
    monkeypatch.setattr(downloads, "_fetch", watched)
    models = tmp_path / "a" / "b"
    downloads.download("wan-1.3b", models, file="wan_2.1_vae.safetensors", api=hub.api)
    assert [part.parent.parent for part in seen] == [models / downloads.STAGING]
    assert (models / "vae" / "wan_2.1_vae.safetensors").read_bytes() == FILES[VAE]
