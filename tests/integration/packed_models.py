"""A native Wan whose matrices stay packed and are unpacked at each use, as loaders of GGUF files keep them."""

from __future__ import annotations

from typing import Any

import comfy.lora
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.utils
import gguf
import torch

KIND = gguf.GGMLQuantizationType.Q8_0


class Packed(torch.Tensor):
    """The bytes of a quantised matrix, which gives itself out for the matrix."""

    matrix_shape: torch.Size
    patches: tuple[str, list[Any]] | None = None

    @classmethod
    def of(cls, matrix: torch.Tensor) -> Packed:
        raw = torch.from_numpy(gguf.quants.quantize(matrix.numpy(), KIND)).as_subclass(cls)
        raw.matrix_shape = matrix.shape
        return raw

    @property
    def shape(self) -> torch.Size:
        return self.matrix_shape

    def bytes_(self) -> torch.Tensor:
        return self.as_subclass(torch.Tensor)

    def unpacked(self) -> torch.Tensor:
        return torch.from_numpy(gguf.quants.dequantize(self.bytes_().numpy(), KIND).copy())

    def detach(self) -> Packed:
        return self

    def to(self, *where: Any, **how: Any) -> Packed:
        return self  # there is only one device in these tests


class PackedOps(comfy.ops.manual_cast):
    class Linear(comfy.ops.manual_cast.Linear):
        def __init__(self, in_features: int, out_features: int, bias: bool = True, **rest: Any) -> None:
            torch.nn.Module.__init__(self)
            self.in_features, self.out_features, self.weight, self.bias = in_features, out_features, None, None

        def _load_from_state_dict(self, state: dict[str, torch.Tensor], prefix: str, *rest: Any) -> None:
            for name in ("weight", "bias"):
                if prefix + name in state:
                    setattr(self, name, torch.nn.Parameter(state[prefix + name], requires_grad=False))

        def _save_to_state_dict(self, destination: dict[str, torch.Tensor], prefix: str, keep_vars: bool) -> None:
            """What ComfyUI sums up to know the memory: the bytes, not the matrices."""
            for name, value in self.named_parameters(recurse=False):
                raw = value.bytes_() if isinstance(value, Packed) else value
                destination[prefix + name] = torch.empty_like(raw, device="meta")

        def forward_comfy_cast_weights(self, input: torch.Tensor) -> torch.Tensor:
            if not isinstance(self.weight, Packed):
                return super().forward_comfy_cast_weights(input)
            weight = self.weight.unpacked()
            if self.weight.patches is not None:
                key, patches = self.weight.patches
                weight = comfy.lora.calculate_weight(patches, weight, key)
            return torch.nn.functional.linear(input, weight.to(input), self.bias)


class PackedPatcher(comfy.model_patcher.ModelPatcher):
    """Lays patches beside packed matrices, to be applied to what is unpacked."""

    def patch_weight_to_device(self, key: str, device_to: Any = None, inplace_update: bool = False) -> None:
        weight = comfy.utils.get_attr(self.model, key)
        if not isinstance(weight, Packed):
            super().patch_weight_to_device(key, device_to, inplace_update)
        elif key in self.patches:
            weight.patches = (key, self.patches[key])

    def unpatch_model(self, device_to: Any = None, unpatch_weights: bool = True) -> None:
        if unpatch_weights:
            for parameter in self.model.parameters():
                if isinstance(parameter, Packed):
                    parameter.patches = None
        super().unpatch_model(device_to, unpatch_weights)


def packed_wan(state: dict[str, torch.Tensor]) -> tuple[PackedPatcher, dict[str, torch.Tensor]]:
    """A model of packed matrices, and the state that they stand for."""
    packed = {name: Packed.of(tensor) if tensor.ndim == 2 else tensor for name, tensor in state.items()}
    meaning = {name: value.unpacked() if isinstance(value, Packed) else value for name, value in packed.items()}
    model = comfy.sd.load_diffusion_model_state_dict(packed, model_options={"custom_operations": PackedOps})
    return PackedPatcher(model.model, model.load_device, model.offload_device), meaning
