"""Stage I of SAVA: laws 3 to 8 of its reference, on toys that take seconds."""

from __future__ import annotations

import pytest
import torch
from sounding_video.core.pair import MODALITIES, Pair
from sounding_video.models.alignment.masks import MASKS
from sounding_video.models.alignment.selective import OTHER, Alignment, AlignmentConfig, Selection
from sounding_video.training.align_step import (
    UNIT,
    AlignStep,
    align_losses,
    decoded_leak,
    distance,
    find_support,
    probed_leak,
)
from torch import nn

WEIGHTS = torch.tensor([1, 0.7, 0.5, 0.35, 0.2, 0.1, 0, 0])
DELTAS = WEIGHTS.square()
PRICES = (0.0, 0.005, 0.02, 0.08, 0.2, 0.35, 0.7, 2.0)
SEEDS = 3


def toy(kind: str = "bernoulli", steps: int = 1500) -> tuple[torch.Tensor, torch.Tensor]:
    """Section 6: targets ``w·z`` of independent coordinates, a free linear decoder; all prices and seeds at once.

    Returns:
        p ``(prices, seeds, 8)``, the mean of the last steps, and the errors ``(prices, seeds)`` of settled masks.
    """
    mask, generator = MASKS.get(kind)(), torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        logits = torch.full((len(PRICES), SEEDS, 1, 8), 2.0, requires_grad=True)
        decoder = (0.3 * torch.randn(len(PRICES), SEEDS, 1, 8, generator=generator)).requires_grad_(True)
        optimizer = torch.optim.Adam([logits, decoder], betas=(0.9, 0.99))
        prices, seen = torch.tensor(PRICES).view(-1, 1, 1, 1), []
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * 0.2 ** (step / steps)
            p = torch.sigmoid(logits).expand(-1, -1, 32, -1)
            error = (WEIGHTS - decoder * mask.drawn(p)).square().sum(-1).mean(-1)  # the coordinates' variance is 1
            ramp = min(1.0, step / (steps / 10))
            optimizer.zero_grad()
            (error + ramp * (prices * p).sum(-1).mean(-1)).sum().backward()
            optimizer.step()
            if step >= steps - 500:
                seen.append(torch.sigmoid(logits.detach())[:, :, 0])
        p = torch.stack(seen).mean(0)
        error = (WEIGHTS - decoder.detach()[:, :, 0] * mask.settled(p)).square().sum(-1)
    return p, error


@pytest.fixture(scope="module")
def sampled() -> tuple[torch.Tensor, torch.Tensor]:
    return toy()


def test_law_3_sampled_masks_keep_exactly_what_is_worth_its_price(sampled) -> None:
    p, _ = sampled
    for number, price in enumerate(PRICES[1:], start=1):
        wanted = (price < DELTAS).tolist()
        assert [(row > 0.5).tolist() for row in p[number]] == [wanted] * SEEDS, f"at {price}"
        assert sum(wanted) <= float(DELTAS.sum()) / price, "no more than R² / θ"


def test_law_3_sampled_probabilities_are_one_minus_half_the_price_over_the_worth(sampled) -> None:
    p, _ = sampled
    for number, price in enumerate(PRICES[1:], start=1):
        worth = price < DELTAS
        wanted = 1 - price / (2 * DELTAS[worth])
        torch.testing.assert_close(p[number].mean(0)[worth], wanted, rtol=0, atol=0.02)


def test_law_3_no_price_keeps_all_that_helps_and_a_high_one_nothing(sampled) -> None:
    p, error = sampled
    assert bool((p[0][:, DELTAS > 0] > 0.5).all())
    assert not bool((p[-1] > 0.5).any())
    torch.testing.assert_close(error[-1], DELTAS.sum().expand(SEEDS))
    kept = (p > 0.5).sum(-1)
    assert bool((kept[1:-1] >= kept[2:]).all()), "never more at a higher price"


def test_at_an_open_hard_gate_only_the_price_is_felt_which_is_why_it_flips() -> None:
    """A fitted decoder needs nothing there; a sampled gate is sometimes closed, and the error says so."""
    pulls = {}
    for kind in ("hard", "bernoulli"):
        torch.manual_seed(0)
        logits = torch.full((4000, 8), 0.5, dtype=torch.float64, requires_grad=True)
        (WEIGHTS - WEIGHTS * MASKS.get(kind)().drawn(torch.sigmoid(logits))).square().sum().backward()
        pulls[kind] = logits.grad.mean(0)
    assert not pulls["hard"].any()
    p = torch.sigmoid(torch.tensor(0.5))
    wanted = (-2 * DELTAS * (1 - p) * p * (1 - p)).double()
    torch.testing.assert_close(pulls["bernoulli"], wanted, rtol=0.05, atol=1e-6)


FACTORS = 4
CONFIG = AlignmentConfig(width=2 * FACTORS, hidden=16, grid=1, positions=1, video_channels=8, audio_channels=8)


def planted(order: tuple[list[int], list[int]], clips: int, seed: int) -> tuple[Pair, Pair]:
    """Coordinates of both sides: shared ones and each side's own, in some order; targets mix them."""
    generator = torch.Generator().manual_seed(seed)
    common, picture, sound = (torch.randn(clips, 1, FACTORS, generator=generator) for _ in range(3))
    plain = Pair(torch.cat([common, picture], -1), torch.cat([common, sound], -1))
    mixing = Pair(*(torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(n)))[0] for n in (1, 2)))
    targets = Pair(*(each @ matrix for each, matrix in zip(plain, mixing, strict=True)))
    return Pair(*(each[..., places] for each, places in zip(plain, order, strict=True))), targets


class Planted(Selection):
    """Identity adapters: the coordinates are the shared space."""

    def __init__(self) -> None:
        super().__init__(Alignment(CONFIG))
        self.alignment.video = self.alignment.audio = nn.Identity()


ORDERS = {
    "in order": (list(range(8)), list(range(8))),
    "permuted": ([3, 7, 0, 5, 1, 6, 2, 4], [6, 0, 4, 3, 7, 2, 5, 1]),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_law_4_planted_factors_are_found_on_both_sides(order) -> None:
    torch.manual_seed(0)
    selection = Planted()
    optimizer = torch.optim.Adam(selection.parameters(), lr=0.01)
    for step in range(450):
        coordinates, targets = planted(order, 64, seed=step)
        p = Pair(*(selection.probabilities(side, coordinates) for side in MODALITIES))
        parts = align_losses(selection, targets, coordinates, p, p.map(selection.mask))
        optimizer.zero_grad()
        (parts.sound + parts.picture + min(1, step / 45) * 0.015 * parts.open).backward()
        optimizer.step()
    coordinates, _ = planted(order, 256, seed=-1 & 0xFFFF)
    find_support(selection.eval(), coordinates)
    for side, places in zip(MODALITIES, order, strict=True):
        wanted = [float(place < FACTORS) for place in places]
        assert getattr(selection.alignment, f"{side}_support").tolist() == wanted, side


def small(mask_input: str = "both", *, mask: str = "bernoulli", seed: int = 0) -> tuple[AlignStep, dict]:
    """A step whose masks say something, and a batch."""
    torch.manual_seed(seed)
    config = AlignmentConfig(width=6, hidden=10, grid=1, positions=1, video_channels=8, audio_channels=8,
                             video_text_width=4, audio_text_width=4)  # fmt: skip
    selection = Selection(Alignment(config), mask=mask, mask_input=mask_input)
    for side in MODALITIES if mask_input != "none" else ():
        nn.init.normal_(getattr(selection, f"{side}_mask")[-1].weight)
    batch = {side: torch.randn(12, 3, 8) for side in MODALITIES} | {"ramp": torch.ones(12)}
    return AlignStep(selection, sparsity=5.0, pull=0.1).double(), {name: t.double() for name, t in batch.items()}


@pytest.mark.parametrize("mask_input", ["own", "both"])
def test_law_5_the_prices_gradient_is_theta_on_every_p(mask_input: str) -> None:
    step, batch = small(mask_input)
    seen = []
    plain = step.selection.probabilities

    def probabilities(side, adapted):
        p = plain(side, adapted)
        p.retain_grad()
        seen.append(p)
        return p

    step.selection.probabilities = probabilities
    step.selection.mask = lambda p: torch.ones_like(p)  # nothing but the price reaches p
    step(batch)["total"].backward()
    moments = 12 * 3
    for p in seen:
        torch.testing.assert_close(p.grad, torch.full_like(p, 5.0 / UNIT / moments))
    half, _ = small(mask_input)
    parts = [float(s({**batch, "ramp": torch.full((12,), ramp)})["total"]) for s, ramp in ((half, 0.0), (half, 0.0))]
    assert parts[0] != parts[1], "the draws differ"


def test_law_5_the_price_is_raised_by_the_ramp_and_absent_without_masks() -> None:
    step, batch = small("both")
    step.eval()  # settled masks: only the ramp differs
    none, half, whole = (float(step({**batch, "ramp": torch.full((12,), r)})["total"]) for r in (0.0, 0.5, 1.0))
    assert half - none == pytest.approx((whole - none) / 2) and whole > none
    without, _ = small("none")
    losses = without(batch)
    assert float(losses["total"]) == pytest.approx(
        float(losses["sound"] + losses["picture"] + 0.1 * losses["pull"]), rel=1e-12
    )


def test_law_6_the_pull_is_two_minus_two_cosines() -> None:
    a, b = (torch.randn(5, 7, dtype=torch.float64, requires_grad=True) for _ in range(2))
    value = distance(a, b)
    assert 0 <= float(value) <= 4 and float(distance(b, a)) == pytest.approx(float(value))
    assert float(distance(3 * a, 0.2 * b)) == pytest.approx(float(value))
    assert float(distance(a, 2 * a)) == pytest.approx(0, abs=1e-12)
    assert float(distance(a, -a)) == pytest.approx(4)
    value.backward()
    for each in (a, b):
        torch.testing.assert_close((each.grad * each).sum(-1), torch.zeros(5, dtype=torch.float64))
        assert bool(each.grad.any())


PARTS = ("alignment.video", "alignment.audio", "video_mask", "audio_mask", "video_decoder", "audio_decoder")


def learning(step: AlignStep, batch: dict, loss: str) -> set[str]:
    step.zero_grad()
    step(batch)[loss].backward()
    named = {name: step.selection.get_submodule(name) for name in PARTS}
    return {name for name, part in named.items() if any(p.grad is not None and p.grad.any() for p in part.parameters())}


@pytest.mark.parametrize("mask_input", ["own", "both"])
@pytest.mark.parametrize("loss", ["sound", "picture"])
def test_law_7_who_learns_from_what(mask_input: str, loss: str) -> None:
    step, batch = small(mask_input)
    made = {"sound": "audio", "picture": "video"}[loss]
    given = OTHER[made]
    wanted = {f"alignment.{given}", f"{given}_mask", f"{made}_decoder"}
    wanted |= {f"alignment.{made}"} if mask_input == "both" else set()
    assert learning(step, batch, loss) == wanted
    tokens = [p for side in MODALITIES for p in step.selection.alignment.reader_for(side).parameters()]
    assert all(p.grad is None for p in tokens)


def test_law_7_exchanging_the_modalities_exchanges_the_losses() -> None:
    step, batch = small(mask="hard")
    state = step.state_dict()
    turned = {}
    for name, tensor in state.items():
        swapped = name.replace("video", "\0").replace("audio", "video").replace("\0", "audio")
        turned[swapped] = tensor
    for side in MODALITIES:  # a mask of both reads its own side first, so it needs no more
        assert turned[f"selection.{side}_mask.0.weight"].shape == state[f"selection.{side}_mask.0.weight"].shape
    other, _ = small(mask="hard")
    other.load_state_dict(turned)
    mine = step(batch)
    theirs = other({"video": batch["audio"], "audio": batch["video"], "ramp": batch["ramp"]})
    for a, b in (("sound", "picture"), ("picture", "sound"), ("pull", "pull"), ("kept_video", "kept_audio")):
        torch.testing.assert_close(mine[a], theirs[b])


def leaky(step: AlignStep) -> None:
    """Masks that write down the other side's adapted vector, and a decoder could read it."""
    for side in MODALITIES:
        gate = getattr(step.selection, f"{side}_mask")
        nn.init.zeros_(gate[-1].bias)
        gate[-1].weight.data.mul_(8)


@pytest.mark.parametrize("side", MODALITIES)
def test_law_8_without_a_mask_of_its_own_a_clip_cannot_leak(side: str) -> None:
    step, _ = small("both")
    generator = torch.Generator().manual_seed(5)
    vectors = Pair(*(torch.randn(2000, 3, 8, generator=generator).double() for _ in MODALITIES))
    vectors = Pair(vectors.video, vectors.audio + vectors.video)  # they do tell of one another within a clip
    leaky(step)
    selection = step.selection.eval()
    assert probed_leak(selection, vectors, side) > 0.01, "masks of both sides do leak"
    plain = selection.probabilities
    selection.probabilities = lambda name, adapted: plain(name, adapted).mean((0, 1)).expand_as(adapted.video)
    assert probed_leak(selection, vectors, side) <= 1e-3
    adapted = Pair(*(selection.alignment.adapted(name, vectors[name]) for name in MODALITIES))
    masks = Pair(*(selection.mask(selection.probabilities(name, adapted)) for name in MODALITIES))
    assert 0 <= float(decoded_leak(selection, vectors, adapted, masks, side).detach()) <= 1e-3


def test_law_8_the_decoder_itself_tells_what_leaks() -> None:
    """A decoder that reads the picture's latent as it is, and masks that open where the sound is loud."""
    step, _ = small("both")
    selection = step.selection.eval()
    selection.alignment.video = selection.alignment.audio = nn.Identity()
    generator = torch.Generator().manual_seed(5)
    vectors = Pair(*(torch.randn(500, 3, 6, generator=generator).double() for _ in MODALITIES))
    vectors = Pair(vectors.video.abs() + 1, vectors.audio)
    selection.audio_decoder = nn.Identity()
    loud = Pair((vectors.audio > 0).double(), torch.ones_like(vectors.audio))
    assert float(decoded_leak(selection, vectors, vectors, loud, "audio")) > 0.3
    assert float(decoded_leak(selection, vectors, vectors, Pair(loud.audio, loud.audio), "audio")) <= 1e-3


def test_too_few_clips_for_a_probe_say_so() -> None:
    step, _ = small()
    vectors = Pair(torch.randn(3, 2, 8).double(), torch.randn(3, 2, 8).double())
    assert probed_leak(step.selection.eval(), vectors, "audio") != probed_leak(step.selection.eval(), vectors, "audio")
