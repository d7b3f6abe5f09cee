"""What ComfyUI servers say of their nodes, for workflows of the page with nodes that are not ours."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from ..core.errors import ServerError, WorkflowError
from ..core.json_text import parse_json
from ..core.options import shown
from .client import ServerGoneError, require_address

_PATIENCE_SECONDS = 30.0


class ServerDescriptions:
    """Entries of ``/object_info`` of the first server that answers, each asked for once.

    Args:
        servers: Addresses; they are taken to have the same nodes.
    """

    def __init__(self, servers: Sequence[str]) -> None:
        self._servers = [server.rstrip("/") for server in servers]
        self._known: dict[str, Any] = {}

    def __call__(self, types: list[str]) -> dict[str, Any]:
        """Entries of the classes that the server knows.

        Raises:
            ServerGoneError: no server answers. ServerError: one does, but not like ComfyUI.
        """
        for name in types:
            if name not in self._known:
                answer = self._ask(f"/object_info/{quote(name, safe='')}")
                self._known |= {name: None, **entries_of(answer, [name])}
        return {name: self._known[name] for name in types if self._known[name]}

    def refuse(self, unknown: Mapping[str, str]) -> WorkflowError:
        """The refusal of nodes that the server does not know, by id and class."""
        return WorkflowError(
            "the workflow has nodes that the server does not know",
            got=", ".join(f"{node_id} ({name})" for node_id, name in unknown.items()),
            remedy=f"Install their packs on {self._servers[0]}, or export the API format on a page that has them.",
        )

    def _ask(self, path: str) -> dict[str, Any]:
        """One answer; a server that does not answer is not asked again."""
        last = "nobody who answers"
        for server in list(self._servers):
            require_address(server)
            try:
                content = asyncio.run(_answer(server + path))
            except aiohttp.ClientResponseError as error:
                raise _not_comfyui(server + path, error.status) from error
            except ValueError as error:
                raise _not_comfyui(server + path, error) from error
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
                last = str(error) or "no answer in time"
                self._servers.remove(server)
                continue
            if not isinstance(content, dict):
                raise _not_comfyui(server + path, type(content).__name__)
            return content
        raise ServerGoneError(
            "no ComfyUI server answers",
            got=last,
            remedy="One is needed to read a workflow in the page's format. Start it, or name the right address.",
        )


def entries_of(answer: Any, types: Sequence[str]) -> dict[str, Any]:
    """The entries of these classes in an answer.

    Raises:
        ServerError: an entry that does not describe a node.
    """
    found = {name: answer[name] for name in types if isinstance(answer, dict) and answer.get(name)}
    for name, entry in found.items():
        if not _describes(entry):
            raise _not_comfyui(f"the description of {name}", shown(entry))
    return found


def _describes(entry: Any) -> bool:
    """Whether this is what ``/object_info`` says of a node: inputs by kind, each with a type and its options."""
    if not isinstance(entry, dict) or not isinstance(entry.get("input"), dict):
        return False
    order = entry.get("input_order") or {}
    if not isinstance(order, dict) or not all(map(_are_names, order.values())):
        return False
    return all(_are_ports(entry["input"].get(kind)) for kind in ("required", "optional"))


def _is_port(spec: Any) -> bool:
    if not isinstance(spec, list) or not spec or not isinstance(spec[0], (str, list)):
        return False
    options = (spec[1] if len(spec) > 1 else None) or {}
    if not isinstance(options, dict) or not isinstance(options.get("widgetType") or "", str):
        return False
    choices = options.get("options") or []
    if not isinstance(choices, list):
        return False
    inner = [each.get("inputs") or {} for each in choices if isinstance(each, dict)]
    return all(isinstance(kinds, dict) and all(map(_are_ports, kinds.values())) for kinds in inner)


def _are_names(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _are_ports(ports: Any) -> bool:
    return ports is None or (isinstance(ports, dict) and all(map(_is_port, ports.values())))


async def _answer(address: str) -> Any:
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as http,
        http.get(URL(address, encoded=True)) as answer,
    ):
        return parse_json(await answer.read(), what="the answer", where=address, nan_is_null=True)


def _not_comfyui(where: str, answer: object) -> ServerError:
    return ServerError("the server does not answer like ComfyUI", got=f"{where}: {answer}")
