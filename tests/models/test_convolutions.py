"""Convolutions of small pictures on a CPU run in oneDNN, with the same result, and leave the layers as they were."""

from __future__ import annotations

import pytest
import torch
from sounding_video.core.device import resolve_placement
from sounding_video.models.codecs._convolutions import quick_convolutions
from sounding_video.pipeline import load_models
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

SLOW, QUICK = "aten::slow_conv3d_forward", "aten::mkldnn_convolution"
needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


class Ops(TorchDispatchMode):
    """Names of what runs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function._schema.name)
        return function(*args, **(kwargs or {}))


@pytest.fixture
def layer() -> nn.Conv3d:
    torch.manual_seed(0)
    return nn.Conv3d(16, 24, 3, padding=(0, 1, 1), stride=(1, 2, 1))


@pytest.fixture
def small() -> Tensor:
    return torch.randn(1, 16, 5, 12, 12, generator=torch.Generator().manual_seed(1))


def ops_of(layer: nn.Module, x: Tensor) -> list[str]:
    with Ops() as ops:
        layer(x)
    return ops.names


@needs_onednn
@torch.no_grad()
def test_a_small_picture_is_convolved_by_onednn(layer, small) -> None:
    plain = layer(small)
    with quick_convolutions(nn.Sequential(layer)):
        assert QUICK in ops_of(layer, small)
        torch.testing.assert_close(layer(small), plain, atol=1e-5, rtol=1e-5)
    assert QUICK not in ops_of(layer, small) and "_conv_forward" not in vars(layer)
    assert torch.equal(layer(small), plain)


@torch.no_grad()
def test_how_numbers_lie_changes_no_bit(layer, small) -> None:
    other = small.contiguous(memory_format=torch.channels_last_3d)
    with quick_convolutions(layer):
        assert other.stride() != small.stride() and torch.equal(layer(other), layer(small))
        assert layer(other).is_contiguous()


@torch.no_grad()
def test_an_error_leaves_the_layer_as_it_was(layer, small) -> None:
    with pytest.raises(RuntimeError), quick_convolutions(layer):
        layer(small[:, :3])
    assert "_conv_forward" not in vars(layer)


@torch.no_grad()
def test_two_decodings_at_once_do_not_disturb_each_other(layer, small) -> None:
    plain = layer(small)
    with quick_convolutions(layer):
        with quick_convolutions(layer):
            torch.testing.assert_close(layer(small), plain, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(layer(small), plain, atol=1e-5, rtol=1e-5)
    assert "_conv_forward" not in vars(layer)


def test_gradients_and_other_types_run_as_always(layer, small) -> None:
    with quick_convolutions(layer):
        assert QUICK not in ops_of(layer, small)
        layer(small).sum().backward()
        assert layer.weight.grad is not None
        with torch.no_grad():
            assert QUICK not in ops_of(layer.double(), small.double())


@torch.no_grad()
def test_layers_that_pad_otherwise_are_left_alone(small) -> None:
    for kind in ({"padding": "same"}, {"padding": 1, "padding_mode": "replicate"}):
        layer = nn.Conv3d(16, 8, 3, **kind)
        plain = layer(small)
        with quick_convolutions(layer):
            assert torch.equal(layer(small), plain)


@needs_onednn
def test_the_codec_encodes_and_decodes_with_it(small_models_dir) -> None:
    codec = load_models(small_models_dir, placement=resolve_placement(device="cpu")).video.codec
    frames = torch.rand(5, 16, 16, 3, generator=torch.Generator().manual_seed(2))
    with Ops() as ops:
        codec.decode(codec.encode(frames))
    # What lies outside encoder and decoder are two layers of one place each.
    assert ops.names.count(QUICK) > 20
