"""Bring modules to the device for as long as they are used, and leave nothing behind.

Offload hooks fire on a module's own ``forward``. Towers are walked block by block, so the stock root's forward never
runs: its direct parameters go to the device, and hooks are set on its children.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..core.device import Placement
from ..core.residency import current_residency
from .counting import stopping
from .joint import JointModel
from .text._encoder import PromptEncoder


@contextmanager
def on_device(module: nn.Module, placement: Placement) -> Iterator[nn.Module]:
    """A codec or text encoder, ready to be called on the device.

    It is moved in whole, and out again unless all stays there. Text encoders are streamed where the towers are; codecs
    are small, and Oobleck cannot be streamed. The user may stop it within one layer.
    """
    if placement.offload in ("group", "sequential") and isinstance(module, PromptEncoder):
        with _streamed(module, _text_pieces(module), [], placement), stopping(module):
            yield module
        return
    with current_residency().hold(module, placement), stopping(module):
        yield module


@contextmanager
def running(joint: JointModel, placement: Placement) -> Iterator[JointModel]:
    """The joint model, ready to be called on ``placement.device`` with the asked offload mode.

    The user may stop it within one layer.
    """
    if placement.offload in ("none", "model"):
        with on_device(joint, placement):
            yield joint
        return
    parents = [tower.model for tower in (joint.video, joint.audio) if tower is not None]
    with _streamed(joint, list(_pieces(joint)), parents, placement), stopping(joint):
        yield joint


@contextmanager
def _streamed(
    root: nn.Module, pieces: list[nn.Module], parents: list[nn.Module], placement: Placement
) -> Iterator[None]:
    """Layers of ``pieces`` come to the device one at a time; what stands directly in ``parents`` stays there."""
    attach = _attach_sequential if placement.offload == "sequential" else _attach_group
    with current_residency().stream(root, placement):
        for parent in parents:
            _move_direct(parent, placement.device)
        try:
            for piece in pieces:
                attach(piece, placement.device)
            yield
        finally:
            for piece in pieces:
                _detach(piece, placement.offload)
            root.to("cpu")


def _text_pieces(encoder: PromptEncoder) -> list[nn.Module]:
    """The modules that an encoder really calls."""
    projection = getattr(encoder, "projection", None)
    return [encoder.model, *(projection.children() if projection is not None else ())]


def _pieces(joint: JointModel) -> Iterator[nn.Module]:
    """The modules whose forward really is called: children of the towers, one block at a time, and each bridge."""
    for tower in (joint.video, joint.audio):
        for child in () if tower is None else tower.model.children():
            yield from child if isinstance(child, nn.ModuleList) else (child,)
    yield from joint.bridges or ()


def _move_direct(module: nn.Module, device: torch.device) -> None:
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
        tensor.data = tensor.data.to(device)


def _attach_sequential(module: nn.Module, device: torch.device) -> None:
    from accelerate import cpu_offload

    if any(True for _ in module.parameters()):
        cpu_offload(module, execution_device=device)
    else:
        module.to(device)


def _attach_group(module: nn.Module, device: torch.device) -> None:
    from diffusers.hooks import apply_group_offloading

    if any(True for _ in module.parameters()):
        apply_group_offloading(
            module,
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type="leaf_level",
            use_stream=device.type == "cuda",
        )
    else:
        module.to(device)


def _detach(module: nn.Module, mode: str) -> None:
    if mode == "sequential":
        from accelerate.hooks import remove_hook_from_module

        remove_hook_from_module(module, recurse=True)
        return
    from diffusers.hooks import HookRegistry

    for child in module.modules():
        registry = getattr(child, "_diffusers_hook", None)
        if isinstance(registry, HookRegistry):
            for name in list(registry.hooks):
                if name in ("group_offloading", "lazy_prefetch_group_offloading", "layer_execution_tracker"):
                    registry.remove_hook(name, recurse=False)
