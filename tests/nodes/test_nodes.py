"""Laws over every node: described, thin, defaults in one voice, ComfyUI behind one door."""

from __future__ import annotations

import ast
import inspect
import os
import textwrap

import pytest
from sounding_video.core.errors import MissingModelError
from sounding_video.core.optional import available
from sounding_video.nodes import NODES, extension
from sounding_video.nodes.conditioning import AUDIO_NEGATIVE, VIDEO_NEGATIVE
from sounding_video.nodes.host import HOST_NAME, standalone
from sounding_video.nodes.host.folders import resolve_model
from sounding_video.nodes.host.io import NodeOutput, Schema
from sounding_video.nodes.options import SAMPLING
from sounding_video.nodes.output import Mux
from sounding_video.pipeline import DEFAULT_NEGATIVES, SamplingOptions

MAX_EXECUTE_STATEMENTS = 12
KNOW_COMFYUI = ("comfy", "comfy_memory", "native", "native_preview", "native_towers")
each_node = pytest.mark.parametrize("node", NODES, ids=lambda node: node.__name__)


@each_node
def test_every_port_has_a_tooltip_and_every_node_a_description(node):
    schema = node.GET_SCHEMA()
    bare = [port.id for port in schema.inputs if not port.options.get("tooltip")]
    assert bare + [port.id for port in schema.outputs if not port.tooltip] == []
    assert schema.description
    assert schema.node_id.startswith("T2SV")
    assert schema.category.startswith("Sounding Video/")


@each_node
def test_every_node_has_a_help_page_that_names_its_ports(node, root):
    schema = node.GET_SCHEMA()
    page = (root / "web" / "docs" / f"{schema.node_id}.md").read_text(encoding="utf-8")
    names = [port.id for port in schema.inputs] + [port.display_name for port in schema.outputs]
    assert [name for name in names if f"`{name}`" not in page] == []


# Settings of the sampler: a node takes them as a whole, and what ComfyUI leaves out has the option's own default.
DECLARED = {setting.port for setting in SAMPLING.values()}


@each_node
def test_execute_takes_exactly_the_inputs_and_is_thin(node):
    schema = node.GET_SCHEMA()
    parameters = inspect.signature(node.execute).parameters.values()
    named = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
        assert named == {port.id for port in schema.inputs}
    else:
        assert named <= {port.id for port in schema.inputs}
    optional = {parameter.name for parameter in parameters if parameter.default is not parameter.empty}
    left_out = {port.id for port in schema.inputs if port.optional} - optional
    assert left_out <= DECLARED, (
        "ComfyUI leaves optional inputs out; only declared options have their default elsewhere"
    )
    tree = ast.parse(textwrap.dedent(inspect.getsource(node.execute)))
    body = next(item for item in ast.walk(tree) if isinstance(item, ast.FunctionDef)).body
    assert len(body) <= MAX_EXECUTE_STATEMENTS


@each_node
def test_every_widget_has_a_default_inside_its_range(node):
    for port in node.GET_SCHEMA().inputs:
        is_socket = port.options.get("forceInput", False)
        if port.io_type in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO") and not is_socket:
            default = port.options["default"]
            assert port.options.get("min", default) <= default <= port.options.get("max", default)
            assert default in port.options.get("options", [default])


def test_defaults_are_the_pipeline_s():
    defaults = {port.id: port.options.get("default") for node in NODES for port in node.GET_SCHEMA().inputs}
    assert (DEFAULT_NEGATIVES.video, DEFAULT_NEGATIVES.audio) == (VIDEO_NEGATIVE, AUDIO_NEGATIVE)
    options = vars(SamplingOptions())
    assert {name: defaults["steps" if name == "num_steps" else name] for name in options} == options


def test_the_extension_lists_every_node():
    coroutine = extension().get_node_list()
    with pytest.raises(StopIteration) as finished:
        coroutine.send(None)
    assert finished.value.value == list(NODES)
    assert HOST_NAME == "standalone"


def test_comfyui_is_imported_only_by_the_host(root):
    owned = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "execution", "server"}
    guilty = []
    for path in (root / "nodes").rglob("*.py"):
        for item in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in item.names] if isinstance(item, ast.Import) else []
            names += [item.module] if isinstance(item, ast.ImportFrom) and item.level == 0 else []
            if owned.intersection(name.split(".")[0] for name in names):
                guilty.append(path.relative_to(root).as_posix())
    assert set(guilty) == {f"nodes/host/{name}.py" for name in KNOW_COMFYUI}


def test_the_stand_in_refuses_what_comfyui_would():
    with pytest.raises(ValueError, match="unique over inputs and outputs together"):
        Schema("X", inputs=[standalone.io.Int.Input("fps")], outputs=[standalone.io.Int.Output("fps")])
    with pytest.raises(TypeError, match=r"FLOAT inputs have no option \['mim'\]"):
        standalone.io.Float.Input("fps", mim=1.0)
    assert NodeOutput().result is None


def test_a_missing_model_is_named_with_what_is_there(small_models_dir):
    with standalone.session(standalone.Session((small_models_dir,))), pytest.raises(MissingModelError) as caught:
        resolve_model("wan", "absent")
    assert "no Wan 2.1 of that name was found: got 'absent'; expected one of pocket, wan" in str(caught.value)
    assert str(small_models_dir) in str(caught.value)


def test_models_are_found_where_the_variable_says(monkeypatch, small_models_dir, tmp_path):
    monkeypatch.setenv("SOUNDING_VIDEO_MODELS", os.pathsep.join([str(tmp_path), str(small_models_dir)]))
    assert resolve_model("wan", "wan") == small_models_dir / "wan"
    assert resolve_model("bridge", "bridge.safetensors") == small_models_dir / "bridge.safetensors"


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"filename_prefix": "../x"}, "does not name a file inside the output folder"),
        ({"format": "avi"}, "unknown format: got 'avi'; expected one of mp4, webm, mkv"),
        ({"writer": "ffmpeg"}, "unknown writer: got 'ffmpeg'; expected one of pyav, moviepy"),
    ],
)
def test_the_muxer_refuses_before_the_sampler_runs(inputs, words):
    assert words in Mux.validate_inputs(**inputs)
    assert Mux.validate_inputs() is True
    assert Mux.validate_inputs(filename_prefix="a/b", format="mkv", writer="pyav") is True


def test_moviepy_is_offered_only_where_it_is_installed():
    verdict = Mux.validate_inputs(writer="moviepy")
    assert verdict is True if available("moviepy") else "pip install moviepy" in verdict


def test_importing_the_nodes_loads_no_model_library(python_with_package):
    """ComfyUI imports them at its start; diffusers and transformers take seconds and are loaded at first use."""
    code = (
        "import sys, sounding_video.nodes\n"
        "print(sorted({'diffusers', 'transformers', 'av', 'moviepy'} & set(sys.modules)))"
    )
    process = python_with_package(code)
    output, errors = process.communicate(timeout=120)
    assert (output.strip(), process.returncode) == ("[]", 0), errors
