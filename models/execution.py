"""Where a stock module computes, also when offload hooks keep its weights elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def execution_device(module: nn.Module | Any) -> torch.device:
    """The device on which a diffusers or transformers module runs its forward.

    Offload hooks leave the weights on the CPU or on ``meta`` between calls, so the parameters do not tell; the hooks
    know: accelerate's (model and sequential offload) and diffusers' (group offload).

    Args:
        module: A stock module with a ``device`` property.
    """
    for part in module.modules():
        device = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
        registry = getattr(part, "_diffusers_hook", None)
        hook = registry and registry.get_hook("group_offloading")
        if hook is not None:
            return torch.device(hook.group.onload_device)
    return module.device
