"""How our nodes are found, and what older classes are spared."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from sounding_video.headless.graph import node_classes
from sounding_video.nodes import NODES
from sounding_video.nodes.host import io, newer
from sounding_video.nodes.listing import ENDS, SEARCH_WORDS
from sounding_video.nodes.renames import RENAMES

WANTED = ("sound", "sounding", "foley", "video with sound", "wan audio", "save video", "audio video")


@dataclass
class OldSchema:
    node_id: str
    category: str = "sd"


def test_an_older_class_gets_only_what_it_knows():
    assert newer(OldSchema, category="a", search_aliases=["b"], has_intermediate_output=True) == {"category": "a"}
    assert newer(io.Schema, search_aliases=["b"], unheard_of=1) == {"search_aliases": ["b"]}
    assert newer(lambda **fields: fields, search_aliases=["b"]) == {"search_aliases": ["b"]}


@pytest.mark.parametrize("typed", WANTED)
def test_what_a_newcomer_types_is_a_word_of_some_node(typed):
    names = {node: (*words, node_classes()[node].GET_SCHEMA().display_name) for node, words in SEARCH_WORDS.items()}
    assert [node for node, words in names.items() if any(typed in word.lower() for word in words)]


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)
def test_every_node_can_be_found_and_keeps_what_it_shows(node):
    schema = node.GET_SCHEMA()
    assert schema.search_aliases and len(schema.search_aliases) == len(set(schema.search_aliases))
    assert schema.is_output_node is (schema.node_id in ENDS)
    info = node.GET_NODE_INFO_V1()
    assert info["search_aliases"] == schema.search_aliases
    assert info["has_intermediate_output"] is not schema.is_output_node


def test_no_input_is_hidden_that_a_newcomer_needs():
    hidden = {port.id for node in NODES for port in node.GET_SCHEMA().inputs if port.options.get("advanced")}
    assert {"dtype", "flow_sigmas", "writer"} <= hidden
    assert not hidden & {"prompt", "video_caption", "seed", "steps", "width", "video_model", "bridge_file", "offload"}


def test_a_rename_names_a_node_that_is_there_and_one_that_is_gone():
    for rename in RENAMES:
        assert rename.new in node_classes() and rename.old not in node_classes()
        assert set(rename.inputs) | set(rename.values) <= {p.id for p in node_classes()[rename.new].GET_SCHEMA().inputs}
