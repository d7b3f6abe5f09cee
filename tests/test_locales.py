"""Every node speaks six languages: the locales cover exactly the nodes and ports of the frozen surface."""

from __future__ import annotations

import json
import re

import pytest
from sounding_video.nodes import NODES

LANGUAGES = ("en", "zh", "ja", "de", "fr", "es")
OTHERS = LANGUAGES[1:]
# vue-i18n, which the page formats texts with, reads these as markup.
MARKUP = re.compile(r"[{}@|$]")


@pytest.fixture(scope="module")
def surface(root) -> dict:
    return json.loads((root / "tests" / "surface.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def locales(root) -> dict:
    return {
        language: json.loads((root / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
        for language in LANGUAGES
    }


def texts(node: dict) -> dict[str, str]:
    """Every text of one node by its place."""
    found = {"display_name": node["display_name"], "description": node["description"]}
    for kind in ("inputs", "outputs"):
        for name, port in node[kind].items():
            assert set(port) == {"name", "tooltip"}
            found |= {f"{kind}.{name}.{key}": value for key, value in port.items()}
    return found


def test_there_is_a_folder_for_each_language_and_no_other(root):
    assert {folder.name for folder in (root / "locales").iterdir()} == set(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_locales_cover_exactly_the_surface(surface, locales, language):
    assert set(locales[language]) == set(surface)
    for node_id, node in surface.items():
        spoken = locales[language][node_id]
        assert set(spoken) == {"display_name", "description", "inputs", "outputs"}
        assert list(spoken["inputs"]) == [port["id"] for port in node["inputs"]], node_id
        assert list(spoken["outputs"]) == [str(index) for index in range(len(node["outputs"]))], node_id
        assert [place for place, text in texts(spoken).items() if not text.strip()] == [], node_id


def test_english_is_what_the_nodes_themselves_say(locales):
    for node in NODES:
        schema = node.GET_SCHEMA()
        spoken = locales["en"][schema.node_id]
        assert (spoken["display_name"], spoken["description"]) == (schema.display_name, schema.description)
        for port in schema.inputs:
            assert spoken["inputs"][port.id] == {"name": port.id, "tooltip": port.options["tooltip"]}, schema.node_id
        for index, port in enumerate(schema.outputs):
            assert spoken["outputs"][str(index)] == {"name": port.display_name, "tooltip": port.tooltip}


@pytest.mark.parametrize("language", OTHERS)
def test_other_languages_are_translations(locales, language):
    for node_id, node in locales["en"].items():
        english, other = texts(node), texts(locales[language][node_id])
        copied = [
            place
            for place in english
            if place.endswith(("description", "tooltip", "display_name")) and english[place] == other[place]
        ]
        assert copied == [], f"{node_id} in {language}"


@pytest.mark.parametrize("language", OTHERS)
def test_values_that_the_user_types_are_kept(locales, language):
    """Names of choices, variables and units stand untranslated in every language."""
    kept = re.compile(r"%\w+%|https?://[\w.:/]*\w|\b(?:fp8|int8|nf4|bfloat16|float32|dual_cross|late_shifted|4k\+1)\b")
    for node_id, node in locales["en"].items():
        other = texts(locales[language][node_id])
        for place, text in texts(node).items():
            missing = [word for word in kept.findall(text) if word not in other[place]]
            assert missing == [], f"{node_id} {place} in {language}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_holds_markup_of_the_page(locales, language):
    for node_id, node in locales[language].items():
        assert [place for place, text in texts(node).items() if MARKUP.search(text)] == [], node_id


@pytest.mark.parametrize("language", LANGUAGES)
def test_categories_are_named(root, surface, language):
    main = json.loads((root / "locales" / language / "main.json").read_text(encoding="utf-8"))
    wanted = {part for node in surface.values() for part in node["category"].split("/")}
    assert set(main["nodeCategories"]) == wanted
    assert all(name.strip() for name in main["nodeCategories"].values())
