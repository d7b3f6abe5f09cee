"""3-D convolutions of small pictures on a CPU.

With one clip in a batch torch takes a slow kernel of its own where C·T·H does not exceed 20 480 (``use_mkldnn`` in
ATen's ``Convolution.cpp``). Of the bundled model's 64×64 pixels it takes three to six times as long as oneDNN's, which
torch takes for larger pictures by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn


@contextmanager
def quick_convolutions(module: nn.Module) -> Iterator[None]:
    """Within it, 3-D convolutions in float32 on a CPU run in oneDNN where torch has it, whatever their size.

    Args:
        module: All such layers of it. Those on other devices, of other types and with gradients run as always.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv3d) and _is_plain(layer)]
    for layer in layers:
        layer._conv_forward = partial(_convolved, layer)
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("_conv_forward", None)  # another decoding of the same codec may have ended before


def _is_plain(layer: nn.Conv3d) -> bool:
    return torch.backends.mkldnn.is_available() and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _convolved(layer: nn.Conv3d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    is_real = type(x) is Tensor and x.device.type == "cpu" and x.dtype == torch.float32
    if not is_real or torch.is_grad_enabled() or not torch.backends.mkldnn.enabled:
        return nn.Conv3d._conv_forward(layer, x, weight, bias)
    # By how numbers lie oneDNN chooses a kernel, and another one rounds otherwise: the same picture, the same bits.
    x, weight = x.contiguous(), weight.contiguous()
    return torch.mkldnn_convolution(x, weight, bias, layer.padding, layer.stride, layer.dilation, layer.groups)
