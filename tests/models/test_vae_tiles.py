"""A picture that does not fit whole is cut into as few pieces as fit: which, their peak, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from diffusers import AutoencoderKLWan
from fake_card import ON_CARD, PUBLISHED_FIGURES, VIDEO_SHAPE, SizedCard, fake_card, published
from sounding_video.core.clock import Timeline
from sounding_video.core.device import Placement
from sounding_video.core.errors import InputError
from sounding_video.core.progress import Progress
from sounding_video.core.residency import managed_by
from sounding_video.core.types import JointLatents
from sounding_video.models.codecs._tiles import Tiles, larger_tiles
from sounding_video.models.codecs.wan_vae import WanVAECodec
from sounding_video.models.plan.fit import noted
from sounding_video.models.plan.needs import Needs, Workload
from sounding_video.models.plan.outline import Outline
from sounding_video.models.plan.plans import Plan, choose, plans
from sounding_video.models.plan.published import SHAPES
from sounding_video.models.plan.runs import decoding_video, tilings
from sounding_video.pipeline import decode_latents
from torch.utils.flop_counter import FlopCounterMode

PUBLISHED_PIXELS, LATENT = 832 * 480, (60, 104)
WAYS = tilings(PUBLISHED_PIXELS, "auto")
# From the third latent frame on each takes the same.
FEW_FRAMES = (*VIDEO_SHAPE[:2], 4, *VIDEO_SHAPE[3:])
CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def outline() -> Outline:
    return published(SHAPES[0])


def test_ways_of_cutting_come_fewest_pieces_first() -> None:
    assert WAYS == ("off", "2 tiles", "3 tiles", "6 tiles", "on")
    assert tilings(1280 * 720, "auto") == ("3 tiles", "5 tiles", "9 tiles", "on")
    assert tilings(256 * 256, "auto") == ("off", "on") == tilings(64 * 64, "auto")
    assert tilings(PUBLISHED_PIXELS, "on") == ("on",) and tilings(10**9, "off") == ("off",)
    assert tilings(PUBLISHED_PIXELS, "3 tiles") == ("3 tiles",)
    assert all(way.endswith(" tiles") for way in larger_tiles(3840 * 2160, largest=PUBLISHED_PIXELS, least=256 * 256))


@pytest.mark.parametrize("size", [LATENT, (104, 60), (90, 160), (33, 35), (8, 200), (1, 1)])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 12])
def test_pieces_cover_the_picture_and_cost_no_more_than_those_of_the_codec(count: int, size: tuple[int, int]) -> None:
    own = Tiles(32, 32, 24, 24)
    tiles = own.cut(count, *size)
    assert tiles.count(*size) <= count and size[0] * size[1] <= tiles.work(*size)
    for tile, stride, side in zip(
        (tiles.height, tiles.width), (tiles.stride_height, tiles.stride_width), size, strict=True
    ):
        assert 1 <= stride <= tile <= side
        assert tile == side or tile - stride == 8, "neighbours overlap as those of the codec do"
    if count <= 6 and size in (LATENT, (104, 60), (90, 160)):
        assert tiles.work(*size) < own.work(*size)


def test_what_the_pieces_of_the_published_picture_cost() -> None:
    own, whole = Tiles(32, 32, 24, 24), LATENT[0] * LATENT[1]
    costs = [own.cut(count, *LATENT).work(*LATENT) / whole for count in (1, 2, 3, 6)]
    assert costs == pytest.approx([1, 1.077, 1.154, 1.308], abs=0.001)
    assert own.work(*LATENT) / whole == pytest.approx(1.656, abs=0.001)


@pytest.fixture(scope="module")
def candidates(outline: Outline) -> list[Plan]:
    """Of the whole system; counted once."""
    placement = replace(ON_CARD, offload="auto")
    return plans(lambda _: outline, Workload.of(Timeline()), placement, tilings=WAYS)


@PUBLISHED_FIGURES
@pytest.mark.parametrize(
    ("size", "alone", "whole_run"), [(24, "off", "3 tiles"), (12, "off", "off"), (8, "2 tiles", "2 tiles")]
)
def test_the_tiles_of_a_card(size: int, alone: str, whole_run: str, candidates: list[Plan]) -> None:
    """Of the stage alone, and of a whole run, in which 24 GB keep all weights on the card while it is decoded."""
    free, device = int(size * 1e9), ON_CARD.device
    moving = [plan for plan in candidates if plan.offload != "none"]
    assert choose(moving, free, device, stage="decode video").plan.tiling == alone
    chosen = choose(candidates, free, device)
    told = "whole" if whole_run == "off" else f"in {whole_run}"
    assert chosen.plan.tiling == whole_run and f"picture decoded {told}:" in chosen.sentence


def decoding(tiling: str) -> tuple[int, int]:
    """Peak on the card and arithmetic of few frames."""
    with fake_card() as card, torch.no_grad(), FlopCounterMode(display=False) as counter:
        codec = WanVAECodec(AutoencoderKLWan().eval())
        latents = JointLatents(torch.empty(FEW_FRAMES), None)
        made = decode_latents(
            latents, video_codec=codec, audio_codec=None, fps=Fraction(15), placement=ON_CARD, tiling=tiling
        )
        assert made.video.frames.shape == (13, 480, 832, 3)
    return card.peak, counter.get_total_flops()


@pytest.fixture(scope="module")
def whole() -> tuple[int, int]:
    return decoding("off")


@pytest.mark.parametrize(
    ("tiling", "more"),
    [
        ("2 tiles", 1.077),
        ("3 tiles", 1.154),
        pytest.param("6 tiles", 1.308, marks=pytest.mark.slow),
        pytest.param("on", 1.656, marks=pytest.mark.slow),
    ],
)
def test_pieces_take_what_is_foretold(tiling: str, more: float, outline: Outline, whole: tuple[int, int]) -> None:
    needs = Needs(replace(outline, joint=None), Workload(FEW_FRAMES, None))
    peak, operations = decoding(tiling)
    foretold = needs.weights()["video codec"] + needs.activations("decode video", tiling=tiling)
    assert foretold == pytest.approx(peak, rel=0.05)
    assert operations / whole[1] == pytest.approx(more, rel=0.01)
    foretold_more = needs.operations("decode video", tiling=tiling) / needs.operations("decode video")
    assert foretold_more == pytest.approx(more, rel=0.01)


@pytest.fixture
def small(small_models_dir) -> Iterator[WanVAECodec]:
    vae = AutoencoderKLWan.from_pretrained(small_models_dir / "wan/vae").eval()
    before = dict(vars(vae))
    yield WanVAECodec(vae)
    after = vars(vae)
    assert {name: after[name] for name in before if name.startswith(("tile_", "use_"))} == {
        name: value for name, value in before.items() if name.startswith(("tile_", "use_"))
    }, "the stock codec is as it was"


LATENTS = torch.randn(1, 4, 1, 40, 72, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("tiling", ["2 tiles", "3 tiles", "6 tiles", "on"])
def test_pieces_are_joined_to_the_whole_picture(tiling: str, small: WanVAECodec) -> None:
    done: list[tuple[int, int]] = []
    progress = Progress(report=lambda stage, count, total, preview=None: done.append((count, total)))
    made, exact = (
        small.decode(LATENTS, tiling=way, progress=told) for way, told in ((tiling, progress), ("off", Progress()))
    )
    assert made.shape == exact.shape == (1, 320, 576, 3)
    # Inside of a piece nothing differs but what its borders change: normalisation is by pixel, attention by frame.
    assert (made - exact).abs().mean() < 0.1 * exact.std()
    cut = Tiles.own(small.vae) if tiling == "on" else Tiles.own(small.vae).cut(int(tiling[0]), 40, 72)
    assert done[-1] == (cut.count(40, 72),) * 2


def test_pictures_are_encoded_in_pieces_too(small: WanVAECodec) -> None:
    frames = torch.rand(1, 320, 576, 3, generator=torch.Generator().manual_seed(2))
    exact, made = (small.encode(frames, tiling=way) for way in ("off", "3 tiles"))
    assert made.shape == exact.shape == (1, 4, 1, 40, 72)
    assert (made - exact).abs().mean() < 0.1 * exact.std()


def test_larger_pieces_are_nearer_to_the_whole_picture(small: WanVAECodec) -> None:
    exact = small.decode(LATENTS, tiling="off")
    two, own = ((small.decode(LATENTS, tiling=way) - exact).abs().mean() for way in ("2 tiles", "on"))
    assert two < own


@pytest.mark.parametrize("word", ["0 tiles", "2tiles", "tiles", "2 TILES", "99999 tiles", ""])
def test_other_words_are_refused(word: str, small: WanVAECodec) -> None:
    with pytest.raises(InputError, match="unknown tiling"):
        small.decode(LATENTS, tiling=word)


def test_a_picture_that_is_always_cut_takes_the_largest_pieces_that_fit(small: WanVAECodec) -> None:
    """Also where the way of offload was asked for, so that no plan is picked."""
    shape, asked = (1, 4, 2, 90, 160), []
    stage = decoding_video(small, shape, "auto")
    needs = Needs(stage.outline(), stage.workload)
    sizes = {
        way: needs.activations("decode video", tiling=way) + needs.weights()["video codec"] for way in stage.tilings
    }

    for way, free in ((stage.tilings[0], 1e12), ("9 tiles", 1.2 * sizes["9 tiles"] + 3e8), ("on", 10)):
        with managed_by(SizedCard(free)):
            fitting = stage._tilings(replace(CPU, device=torch.device("cuda")))
        asked.append(fitting[0] == way)
        assert fitting[-1] == "on"
    assert all(asked), sizes


def test_pieces_of_a_plan_that_run_out_of_memory_all_the_same_become_small(small: WanVAECodec) -> None:
    def refuse(_: torch.nn.Module, args: tuple[torch.Tensor]) -> None:
        if args[0].shape[-1] > 32:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    handle = small.vae.decoder.register_forward_pre_hook(refuse)
    rest = {"video_codec": small, "audio_codec": None, "fps": Fraction(15), "placement": CPU}
    with noted() as notes:
        made = decode_latents(JointLatents(LATENTS, None), **rest, tiling="2 tiles")
    handle.remove()
    assert "once more with" in notes[0] and "picture decoded in tiles" in notes[0]
    assert torch.equal(made.video.frames, decode_latents(JointLatents(LATENTS, None), **rest, tiling="on").video.frames)
