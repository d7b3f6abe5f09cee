"""What a user types about the machine becomes a placement, or is refused."""

from __future__ import annotations

import pytest
import torch
from sounding_video.core.device import (
    ATTENTION_KERNELS,
    DTYPE_NAMES,
    OFFLOAD_MODES,
    Placement,
    resolve_device,
    resolve_dtype,
    resolve_placement,
)
from sounding_video.core.errors import InputError, PlacementError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("auto", torch.float32),
        ("float32", torch.float32),
        ("bfloat16", torch.bfloat16),
        ("float16", torch.float16),
        ("official-bf16", torch.bfloat16),
    ],
)
def test_dtypes_on_a_cpu(name, dtype):
    assert resolve_dtype(name, CPU) is dtype
    assert name in DTYPE_NAMES


@pytest.mark.parametrize(("supported", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_card_without_bfloat16_gets_float16(monkeypatch, supported, dtype):
    """Turing emulates it, which CUDA reports as support unless asked."""
    answer = lambda including_emulation=True: including_emulation or supported  # noqa: E731
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", answer)
    assert resolve_dtype("auto", torch.device("cuda")) is dtype
    assert resolve_dtype("bfloat16", torch.device("cuda")) is torch.bfloat16, "an explicit word stays"


@pytest.mark.parametrize("error", [None, TypeError, RuntimeError])
def test_other_devices_are_tried(monkeypatch, error):
    """The device's own answer stands in for MPS: a CPU multiplies, an old macOS refuses the type."""
    eye = torch.eye

    def on_a_mac(size: int, *, device: torch.device) -> torch.Tensor:
        assert device.type == "mps"
        if error is not None:
            raise error("BFloat16 is not supported on MPS")
        return eye(size)

    monkeypatch.setattr(torch, "eye", on_a_mac)
    assert resolve_dtype("auto", torch.device("mps")) is (torch.bfloat16 if error is None else torch.float16)


def test_a_placement_says_what_was_asked():
    placement = resolve_placement(device="cpu", dtype="official-bf16", offload="group", attention="sdpa")
    assert placement == Placement(CPU, torch.bfloat16, "group", "sdpa", cast_everything=True)
    assert resolve_placement(device=CPU) == Placement(CPU, torch.float32)


@pytest.mark.parametrize(
    ("options", "sentence", "choices"),
    [
        ({"dtype": "fp8"}, "unknown dtype: got 'fp8'", DTYPE_NAMES),
        ({"offload": "disk"}, "unknown offload mode: got 'disk'", OFFLOAD_MODES),
        ({"attention": "flush"}, "unknown attention kernel: got 'flush'", ATTENTION_KERNELS),
    ],
)
def test_an_unknown_word_lists_the_choices(options, sentence, choices):
    with pytest.raises(InputError) as caught:
        resolve_placement(device="cpu", **options)
    assert sentence in str(caught.value)
    assert ", ".join(choices) in str(caught.value)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "meta:x"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(PlacementError, match="the device cannot be used") as caught:
        resolve_device(name)
    assert caught.value.got == name and caught.value.remedy and caught.value.exit_code == 2


def test_auto_picks_a_device_that_works():
    device = resolve_device("auto")
    assert torch.ones(2, device=device).sum().item() == 2
    assert (device.type == "cuda") == torch.cuda.is_available()


def test_weights_wait_on_the_device_or_on_the_cpu():
    card = torch.device("cuda")
    assert Placement(card, torch.float16).rest_device == card
    for mode in OFFLOAD_MODES[1:]:
        assert Placement(card, torch.float16, mode).rest_device == CPU
