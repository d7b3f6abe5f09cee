"""Caption backends as variants: the lexicon is one among others, and a new file is listed and run everywhere."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from sounding_video.captions import rewriter
from sounding_video.captions.anchors import Entity, Event, SemanticAnchors, Sound
from sounding_video.captions.backends import BACKENDS, DEFAULT_BACKEND, is_chat, is_on_device, summaries
from sounding_video.captions.backends.base import Checked
from sounding_video.captions.profiles import PROFILES
from sounding_video.cli import main
from sounding_video.core.errors import InputError
from sounding_video.core.types import Captions
from sounding_video.nodes.captions import CaptionVideo, EditAnchors, ExpandPrompt

ANCHORS = SemanticAnchors(
    environment="an open field",
    ambient_sound="a light wind",
    mood="calm",
    style="natural",
    camera="a still frame",
    entities=(Entity("parrot", (), "a small parrot on a branch"),),
    events=(Event("e1", 1, None, None, "parrot", "opens its beak", Sound("a parrot squawking", "a parrot")),),
)
PACKAGE = Path(rewriter.__file__).parents[1]


@pytest.fixture
def parrot():
    """A backend of rules, and one that answers messages, each entered as a file of its own would be."""

    @BACKENDS.register("parrot")
    class Parrot:
        OPTIONS = frozenset()
        SUMMARY = "says it again"
        name = "parrot"

        def __init__(self, options=None):
            pass

        def check(self, prompt):
            return Checked(ANCHORS, (f"Heard {prompt}.",))

        def rewrite(self, anchors, profile):
            return Captions("A small parrot opens its beak.", "A parrot squawking.")

        def rewrite_directly(self, prompt, profile):
            return self.rewrite(ANCHORS, profile)

    @BACKENDS.register("talker")
    class Talker:
        OPTIONS = frozenset({"device", "model"})
        name = "talker"

        def __init__(self, options):
            self.identity = f"talker {options.model}"

        def complete(self, messages, *, schema=None, max_tokens=0, temperature=0, check_cancelled=None, **_):
            if "entities" in json.dumps(schema):
                return ANCHORS.to_json()
            assert any("beak" in message["content"] for message in messages)  # it is shown the anchors
            return json.dumps({"video": "A small parrot opens its beak.", "audio": "A parrot squawking."})

        def close(self):
            pass

    yield Parrot
    for name in ("parrot", "talker"):
        del BACKENDS._entries[name]


def choices(node) -> list[str]:
    return list(next(port for port in node.GET_SCHEMA().inputs if port.id == "backend").options["options"])


def tooltip(node) -> str:
    return next(port for port in node.GET_SCHEMA().inputs if port.id == "backend").options["tooltip"]


def test_a_new_backend_is_listed_by_the_nodes_that_can_use_it(parrot):
    for node in (ExpandPrompt, EditAnchors):
        assert {"parrot", "talker", *BACKENDS.names()} <= set(choices(node))
        assert "parrot: says it again." in tooltip(node) and "talker." in tooltip(node)
    assert "talker" in choices(CaptionVideo)
    assert not {"parrot", DEFAULT_BACKEND} & set(choices(CaptionVideo))
    assert "parrot" not in tooltip(CaptionVideo)


@pytest.mark.parametrize("name", ["parrot", "talker"])
def test_a_new_backend_runs_in_the_node_and_the_command(parrot, name, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    made = ExpandPrompt.execute(prompt="a parrot", backend=name, profile="short", mode="full", server="", model="")
    assert "small parrot" in made.result[0] and "squawking" in made.result[1]
    assert main(["expand", "a parrot", "--backend", name, "--profile", "short", "--no-cache", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["video"], told["audio"]) == ("A small parrot opens its beak.", "A parrot squawking.")
    assert told["report"]["backend"].startswith(name)


def test_the_command_lists_it(parrot, capsys):
    assert main(["expand", "a dog", "--backend", "gpt"]) == 2
    assert "expected one of lexicon, openai_server, parrot, talker, transformers_local" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["expand", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "one of lexicon, openai_server, parrot, talker, transformers_local (default: lexicon" in text


def test_rules_cannot_caption_clips(parrot, capsys, tmp_path):
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"looked at later")
    arguments = ["caption", str(clip), "-o", str(tmp_path / "out.jsonl"), "--looking", "server"]
    arguments += ["--server", "http://127.0.0.1:9/v1"]
    for backend in ([], ["--backend", "parrot"]):
        assert main([*arguments, *backend]) == 2
        said = capsys.readouterr().err
        assert f"a language model: got backend '{backend[-1] if backend else DEFAULT_BACKEND}'" in said
        assert "--backend openai_server or talker or transformers_local" in said


def test_what_a_backend_is_follows_from_its_class(parrot):
    assert [name for name in BACKENDS if is_chat(name)] == ["openai_server", "talker", "transformers_local"]
    assert [name for name in BACKENDS if is_on_device(name)] == ["talker", "transformers_local"]
    assert summaries(["talker", "parrot"]) == "talker. parrot: says it again."
    with pytest.raises(InputError, match="unknown caption backend: got 'gpt'"):
        is_chat("gpt")


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_captions_in_another_language_are_written_by_the_default_backend(parrot, monkeypatch, modality):
    """The rewriter knows the role and not the lexicon: another default writes them."""
    assert rewriter._by_rules(modality, ANCHORS, PROFILES.get("short"))
    monkeypatch.setattr(rewriter, "DEFAULT_BACKEND", "parrot")
    captions = parrot().rewrite(ANCHORS, None)
    assert rewriter._by_rules(modality, ANCHORS, PROFILES.get("short")) == getattr(captions, modality)


def _imports(file: Path) -> set[str]:
    """Modules of ``captions`` that a file of it imports, anywhere in it."""
    found = set()
    package = list(file.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            stem = ".".join([*base, *([node.module] if node.module else [])])
            found |= {stem, *(f"{stem}.{alias.name}" for alias in node.names)}
    return found


def test_nobody_but_the_backend_knows_the_lexicon():
    """No import of its room or its file, and its name as a value stands in two places: its own file and the default."""
    own = PACKAGE / "captions" / "lexicon"
    importing, naming = [], []
    for file in PACKAGE.rglob("*.py"):
        where = file.relative_to(PACKAGE).as_posix()
        if where.split("/")[0] in ("tests", "benchmarks", ".venv", "build") or own in file.parents:
            continue
        if any(name.startswith(("captions.lexicon", "captions.backends.lexicon")) for name in _imports(file)):
            importing.append(where)
        constants = (
            node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)
        )
        naming += [where for node in constants if node.value == "lexicon"]
    assert importing == ["captions/backends/lexicon.py"]
    assert sorted(set(naming)) == ["captions/backends/__init__.py", "captions/backends/lexicon.py"]


def test_the_checks_run_without_any_backend(python_with_package):
    """Purity and vocabulary stand alone: a caption is checked, and neither the lexicon nor a backend was loaded."""
    code = """
from sounding_video.captions.purity import find_impurities, is_english
from sounding_video.core.types import Captions
print(sorted(item.text for item in find_impurities(Captions("A dog barks.", "a red ball bouncing"))))
print(is_english("Ein Hund bellt im Park und die Sonne scheint auf den See."))
loaded = [name.removeprefix("sounding_video.captions.") for name in sys.modules if "captions." in name]
print([name for name in loaded if name.startswith(("lexicon", "backends"))])
"""
    out, err = python_with_package(code).communicate(timeout=60)
    assert out.splitlines() == ["['barks', 'red']", "False", "[]"], err
