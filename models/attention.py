"""One attention kernel for towers and bridges, picked once. Explicit choices run or fail; only ``auto`` may fall back.

Legend: B batch, L tokens, N heads, D head width.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from torch import Tensor, nn

from ..core.device import Placement
from ..core.errors import InputError, PlacementError, require_choice
from ..core.optional import available
from .rope import rotate_half_split

# our name -> diffusers' name of the same kernel
BACKENDS = {"auto": "native", "sdpa": "native", "xformers": "xformers", "flash": "flash", "sage": "sage"}


class AttentionKernel:
    """A kernel as a value: ``kernel(q, k, v, scale=None)`` on ``(B, L, N, D)`` tensors.

    Args:
        name: ``auto``, ``sdpa``, ``xformers``, ``flash`` or ``sage``. ``auto`` is PyTorch's own dispatcher, which
            already picks flash or memory-efficient attention where the card has them.
    """

    def __init__(self, name: str = "auto") -> None:
        require_choice("attention kernel", name, BACKENDS)
        self.name = name
        self.backend = AttentionBackendName(BACKENDS[name])

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None) -> Tensor:
        """Softmax attention; the default scale is 1/√D."""
        return dispatch_attention_fn(query, key, value, scale=scale, backend=self.backend)

    def probe(self, device: torch.device, dtype: torch.dtype) -> None:
        """Run the kernel once on a tiny input.

        Raises:
            PlacementError: it does not run on this device with this dtype.
        """
        sample = torch.zeros(1, 16, 2, 64, device=device, dtype=dtype)
        try:
            self(sample, sample, sample)
        except (RuntimeError, ImportError, NotImplementedError, ValueError, TypeError, AttributeError) as error:
            raise PlacementError(
                f"the attention kernel {self.name!r} does not run here",
                got=f"{device.type}, {dtype} ({type(error).__name__}: {str(error)[:99]!r})",
                expected="a kernel that is installed and supports this device",
                remedy="Choose attention 'auto' or 'sdpa', which run everywhere.",
            ) from error


def kernel_error(name: str, device: torch.device, dtype: torch.dtype) -> float:
    """How far a kernel's results are from exact attention, relative to their size, on random tokens.

    Raises:
        PlacementError: it does not run on this device with this dtype.
    """
    kernel = AttentionKernel(name)
    kernel.probe(device, dtype)
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randn(1, 1024, 4, 128, generator=generator).to(device, dtype) for _ in range(3)]
    exact = DEFAULT_KERNEL(*(each.float() for each in tokens))
    return float((kernel(*tokens).float() - exact).norm() / exact.norm())


@lru_cache
def sage_advice(placement: Placement) -> str:
    """A sentence for whoever leaves the kernel to ``auto`` while sage is installed and runs here; else empty.

    ``auto`` does not take it by itself: it rounds queries and keys to eight bits.
    """
    if placement.attention != "auto" or placement.device.type != "cuda" or not available("sageattention"):
        return ""
    try:
        sage, stock = (kernel_error(name, placement.device, placement.dtype) for name in ("sage", "sdpa"))
    except PlacementError:
        return ""
    return (
        "attention sage is installed and saves time on large clips, where attention takes two thirds; measured here, "
        f"its results are off by {sage:.1%}, those of auto by {stock:.1%}"
    )


DEFAULT_KERNEL = AttentionKernel("auto")


class StableAudioKernelProcessor:
    """Attention processor for ``StableAudioDiTModel`` that uses a chosen kernel.

    The stock processor calls PyTorch's SDPA directly, so a backend set on the model would do nothing. Same maths:
    partial rotary on queries (and keys, in self-attention), grouped key/value heads repeated.

    Args:
        kernel: What to run.
    """

    def __init__(self, kernel: AttentionKernel) -> None:
        self.kernel = kernel

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """``(B, L, D)`` in and out; masks are not used by this system and are refused."""
        if attention_mask is not None:
            raise InputError("this attention processor takes no mask", got=tuple(attention_mask.shape), expected="None")
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = attn.to_q(hidden_states), attn.to_k(source), attn.to_v(source)
        head_width = query.shape[-1] // attn.heads
        query, key, value = (x.unflatten(-1, (-1, head_width)) for x in (query, key, value))
        repeats = attn.heads // key.shape[2]
        if repeats > 1:
            key, value = key.repeat_interleave(repeats, dim=2), value.repeat_interleave(repeats, dim=2)
        if attn.norm_q is not None:
            query = attn.norm_q(query)
        if attn.norm_k is not None:
            key = attn.norm_k(key)
        if rotary_emb is not None:
            query = rotate_half_split(query, *rotary_emb)
            if not attn.is_cross_attention:
                key = rotate_half_split(key, *rotary_emb)
        out = self.kernel(query, key, value).flatten(2)
        return attn.to_out[1](attn.to_out[0](out))


def use_kernel(module: nn.Module, kernel: AttentionKernel) -> None:
    """Make every attention below ``module`` (Wan, Stable Audio, bridges) use one kernel; ``auto`` leaves stock ones.

    Only processors of this module are set; nothing global is touched.
    """
    for child in module.modules():
        if hasattr(child, "kernel") and isinstance(child.kernel, AttentionKernel):
            child.kernel = kernel
        processor = getattr(child, "processor", None)
        if processor is None or kernel.name == "auto":
            continue
        if hasattr(processor, "_attention_backend"):
            processor._attention_backend = kernel.backend
        elif type(processor).__name__ in ("StableAudioAttnProcessor2_0", "StableAudioKernelProcessor"):
            child.set_processor(StableAudioKernelProcessor(kernel))
