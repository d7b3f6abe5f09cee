"""Where a stock module computes, also when offload hooks keep its weights elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def execution_device(module: nn.Module | Any) -> torch.device:
    """The device on which a diffusers or transformers module runs its forward.

    Accelerate's hooks (model and sequential offload) leave the weights on the CPU or on ``meta`` between calls, so
    the parameters do not tell; the hooks know. diffusers' own ``device`` already answers for group offload.

    Args:
        module: A stock module with a ``device`` property.
    """
    for part in module.modules():
        device = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
        if device is not None:
            return torch.device(device)
    return module.device
