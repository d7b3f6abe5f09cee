"""Stand-in for the part of ComfyUI's V3 ``io`` that our nodes use, under the same names.

It exists so that node files are written once: with ComfyUI absent they describe themselves, are checked and run through
these classes. :meth:`ComfyNode.GET_NODE_INFO_V1` gives what ComfyUI's ``/object_info`` gives for the same class, in a
version that knows all that our nodes say of themselves; a test compares the two over every node.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

# Options whose name differs in the description that ComfyUI's page reads.
_PAGE_NAMES = {"force_input": "forceInput", "display_mode": "display", "dynamic_prompts": "dynamicPrompts"}
_WIDGET_OPTIONS = frozenset({"default", "socketless", "force_input"})
_NUMBER_OPTIONS = _WIDGET_OPTIONS | {"min", "max", "step", "display_mode"}


class FolderType(str, Enum):
    """The folders a result may lie in."""

    input = "input"
    output = "output"
    temp = "temp"


class Hidden(str, Enum):
    """Values the host hands to a node beside its inputs."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"


@dataclass(frozen=True)
class Input:
    """One input of a node: its type, name and the options that ComfyUI's page reads."""

    io_type: str
    id: str
    optional: bool
    options: dict[str, Any]


@dataclass(frozen=True)
class Output:
    """One output of a node."""

    io_type: str
    id: str
    display_name: str | None
    tooltip: str | None
    is_output_list: bool


class SocketType:
    """One kind of value that travels between nodes; makes inputs and outputs of that kind.

    Args:
        io_type: ComfyUI's name of the type, e.g. ``"IMAGE"``.
        options: Option names its inputs accept beside the common ones.
        always: Options that ComfyUI writes out for this type even when they are not given.
    """

    def __init__(
        self, io_type: str, options: frozenset[str] = frozenset(), always: dict[str, Any] | None = None
    ) -> None:
        self.io_type, self._options, self._always = io_type, options, always or {}

    def Input(
        self,
        id: str,
        *,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        advanced: bool | None = None,
        **options: Any,
    ) -> Input:
        """Describe an input of this type.

        Raises:
            TypeError: an option that ComfyUI does not know for this type.
        """
        unknown = set(options) - self._options
        if unknown:
            raise TypeError(
                f"{self.io_type} inputs have no option {sorted(unknown)}; they have {sorted(self._options)}"
            )
        given = {"display_name": display_name, "tooltip": tooltip, "advanced": advanced, **self._always, **options}
        page = {_PAGE_NAMES.get(name, name): value for name, value in given.items() if value is not None}
        return Input(self.io_type, id, optional, page)

    def Output(
        self,
        id: str,
        *,
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ) -> Output:
        """Describe an output of this type."""
        return Output(self.io_type, id, display_name, tooltip, is_output_list)


Int = SocketType("INT", _NUMBER_OPTIONS | {"control_after_generate"})
Float = SocketType("FLOAT", _NUMBER_OPTIONS | {"round"})
String = SocketType("STRING", _WIDGET_OPTIONS | {"multiline", "placeholder", "dynamic_prompts"}, {"multiline": False})
Boolean = SocketType("BOOLEAN", _WIDGET_OPTIONS | {"label_on", "label_off"})
Combo = SocketType("COMBO", _WIDGET_OPTIONS | {"options", "control_after_generate"}, {"multiselect": False})
Image = SocketType("IMAGE")
Audio = SocketType("AUDIO")
Video = SocketType("VIDEO")
Latent = SocketType("LATENT")
Model = SocketType("MODEL")
Vae = SocketType("VAE")
Clip = SocketType("CLIP")
Conditioning = SocketType("CONDITIONING")


def Custom(io_type: str) -> SocketType:
    """A socket type of our own; any Python object may travel on it."""
    return SocketType(io_type)


@dataclass
class Schema:
    """What a node is called, takes and gives. Fields and defaults as in ComfyUI's V3 schema."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_dev_only: bool = False
    search_aliases: list[str] = field(default_factory=list)
    essentials_category: str | None = None
    has_intermediate_output: bool = False

    def __post_init__(self) -> None:
        ids = [port.id for port in (*self.inputs, *self.outputs)]
        repeated = sorted({name for name in ids if ids.count(name) > 1})
        if repeated:
            raise ValueError(
                f"{self.node_id}: ids must be unique over inputs and outputs together, repeated: {repeated}"
            )
        if self.is_output_node:  # ComfyUI gives these two to every output node
            self.hidden = [
                *self.hidden,
                *(name for name in (Hidden.prompt, Hidden.extra_pnginfo) if name not in self.hidden),
            ]

    def input(self, name: str) -> Input | None:
        """The input of that name, None when the node has none."""
        return next((port for port in self.inputs if port.id == name), None)


class HiddenValues:
    """Hidden values of one execution; a name that was not asked for reads as None."""

    def __init__(self, values: dict[str, Any] | None = None) -> None:
        self._values = values or {}

    def __getattr__(self, name: str) -> Any:
        return self._values.get(name)


class NodeOutput:
    """What ``execute`` returns: values in the order of the outputs, and what the page should show.

    Args:
        *args: One value an output.
        ui: An object with ``as_dict()``, or the dict itself.
    """

    def __init__(self, *args: Any, ui: Any = None) -> None:
        self.args, self.ui = args, ui

    @property
    def result(self) -> tuple[Any, ...] | None:
        """The values, None when there are none."""
        return self.args or None


class ComfyNode:
    """Base of every node: a schema and an ``execute``, both class methods."""

    hidden: ClassVar[HiddenValues] = HiddenValues()

    @classmethod
    def define_schema(cls) -> Schema:
        """Describe the node."""
        raise NotImplementedError

    @classmethod
    def execute(cls, **kwargs: Any) -> NodeOutput:
        """Do the node's work."""
        raise NotImplementedError

    @classmethod
    def validate_inputs(cls) -> bool | str:
        """Look at inputs given as values before anything runs: True, or what is wrong.

        A node names the inputs it wants as parameters with defaults; linked ones are not handed in.
        """
        return True

    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        """The schema; options that list files are read afresh at each call."""
        return cls.define_schema()

    @classmethod
    def GET_NODE_INFO_V1(cls) -> dict[str, Any]:
        """The node's description in the form of ComfyUI's ``/object_info``."""
        schema = cls.GET_SCHEMA()
        inputs: dict[str, dict[str, Any]] = {"required": {}}
        for port in schema.inputs:
            inputs.setdefault("optional" if port.optional else "required", {})[port.id] = (port.io_type, port.options)
        if schema.hidden:
            inputs["hidden"] = {hidden.name: (hidden.value,) for hidden in schema.hidden}
        return {
            "input": inputs,
            "input_order": {kind: list(ports) for kind, ports in inputs.items()},
            "output": [port.io_type for port in schema.outputs],
            "output_is_list": [port.is_output_list for port in schema.outputs],
            "output_name": [port.display_name or port.io_type for port in schema.outputs],
            "output_tooltips": [port.tooltip for port in schema.outputs],
            "name": schema.node_id,
            "display_name": schema.display_name,
            "description": schema.description,
            "python_module": "nodes",
            "category": schema.category,
            "output_node": schema.is_output_node,
            "deprecated": schema.is_deprecated,
            "experimental": schema.is_experimental,
            "api_node": False,
            "dev_only": schema.is_dev_only,
            "search_aliases": schema.search_aliases or None,
            "essentials_category": schema.essentials_category,
            "has_intermediate_output": schema.has_intermediate_output,
        }
