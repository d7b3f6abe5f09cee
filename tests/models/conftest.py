"""Small stock models and matching inputs for the tests of the model room."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import small_models as small
import torch
from sounding_video.core.types import Conditioning, JointLatents, Modality, ModalityConditioning
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.bridges.base import BridgeInputs
from sounding_video.models.bridges.config import BridgeConfig
from sounding_video.models.joint import BridgePoints, BridgeStack, JointModel
from sounding_video.models.rope import bridge_rope
from sounding_video.models.towers.base import TokenGrid
from sounding_video.models.towers.stable_audio import StableAudioTower
from sounding_video.models.towers.wan import WanTower
from sounding_video.sampling.noise import draw_noise


@pytest.fixture(scope="session")
def wan_tower(small_models_dir: Path) -> WanTower:
    from diffusers import WanTransformer3DModel

    return WanTower(WanTransformer3DModel.from_pretrained(small_models_dir / "wan/transformer").eval()).eval()


@pytest.fixture(scope="session")
def audio_tower(small_models_dir: Path) -> StableAudioTower:
    from diffusers import StableAudioDiTModel

    folder = small_models_dir / "stable_audio/transformer"
    return StableAudioTower(StableAudioDiTModel.from_pretrained(folder).eval()).eval()


@pytest.fixture
def texts() -> Conditioning:
    g = torch.Generator().manual_seed(4)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(1, *shape, generator=g)

    sound = ModalityConditioning(
        draw(8, small.TEXT_WIDTH_AUDIO), draw(8, small.TEXT_WIDTH_AUDIO), draw(1, 2 * small.TEXT_WIDTH_AUDIO)
    )
    return Conditioning(ModalityConditioning(draw(10, small.TEXT_WIDTH_VIDEO), draw(10, small.TEXT_WIDTH_VIDEO)), sound)


@pytest.fixture
def noise() -> JointLatents:
    return draw_noise(5, video_shape=(1, 4, 3, 4, 6), audio_shape=(1, 6, 11))


@pytest.fixture
def inputs() -> dict[str, Modality]:
    g = torch.Generator().manual_seed(7)
    return {
        "video": Modality(
            torch.randn(2, 4, 3, 4, 6, generator=g),
            torch.tensor([900, 30]),
            torch.randn(2, 10, small.TEXT_WIDTH_VIDEO, generator=g),
        ),
        "audio": Modality(
            torch.randn(2, 6, 11, generator=g),
            torch.tensor([0.9, 0.03]),
            torch.randn(2, 8, small.TEXT_WIDTH_AUDIO, generator=g),
            torch.randn(2, 1, 2 * small.TEXT_WIDTH_AUDIO, generator=g),
        ),
    }


@pytest.fixture
def bridge_config() -> BridgeConfig:
    return BridgeConfig(
        video_width=small.VIDEO_WIDTH,
        audio_width=small.AUDIO_WIDTH,
        qk_width=24,
        v_width=16,
        num_heads=2,
        video_time_width=small.VIDEO_WIDTH,
        audio_time_width=small.AUDIO_WIDTH,
    )


@pytest.fixture
def config_of(bridge_config: BridgeConfig) -> Callable[..., BridgeConfig]:
    """``config_of(kind, rope, reading)``: the small configuration as this kind's own."""

    def make(kind: str, rope: str = "official", reading: str = "official") -> BridgeConfig:
        shared = {field.name: getattr(bridge_config, field.name) for field in dataclasses.fields(BridgeConfig)}
        return BRIDGES.get(kind).Config(**{**shared, "rope": rope, "reading": reading})

    return make


@pytest.fixture
def make_bridge_inputs() -> Callable[..., BridgeInputs]:
    """``make_bridge_inputs(config, video_grid, audio_grid, batch=2)``: random streams; one audio time for all rows."""

    def make(config: BridgeConfig, video_grid: TokenGrid, audio_grid: TokenGrid, *, batch: int = 2) -> BridgeInputs:
        g = torch.Generator().manual_seed(1)
        return BridgeInputs(
            torch.randn(batch, video_grid.num_tokens, config.video_width, generator=g),
            torch.randn(batch, audio_grid.num_tokens, config.audio_width, generator=g),
            torch.randn(batch, config.video_time_width, generator=g),
            torch.randn(1, config.audio_time_width, generator=g),
            *bridge_rope(config.rope, config.head_width, video_grid, audio_grid),
            video_grid,
            audio_grid,
        )

    return make


@pytest.fixture
def random_stack(config_of: Callable[..., BridgeConfig]) -> object:
    """Makes a stack of two blocks with random weights, so that it is not the identity."""

    def make(kind: str, config: BridgeConfig | None = None, points: BridgePoints | None = None) -> BridgeStack:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            stack = BridgeStack(kind, config or config_of(kind), points or BridgePoints((0, 1), (0, 1))).eval()
            for parameter in stack.parameters():
                torch.nn.init.normal_(parameter, std=0.2)
        return stack

    return make


@pytest.fixture
def joint(wan_tower: WanTower, audio_tower: StableAudioTower, random_stack: object) -> JointModel:
    """Both small towers with bridges that are not the identity. Do not change it: the towers are shared."""
    return JointModel(wan_tower, audio_tower, random_stack("dual_cross")).eval()


@pytest.fixture(scope="session")
def sentencepiece_model() -> bytes:
    """A small tokenizer of T5's kind, trained here. Do not change it."""
    sentencepiece = pytest.importorskip("sentencepiece")
    words = ["dog", "barks", "twice", "thunder", "rolls", "over", "the", "hill", "bell", "rings", "naïve", "ﬁre"]
    lines = [" ".join(words[(i * j) % len(words)] for j in range(1, 9)) for i in range(1, 200)]
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, vocab_size=330, byte_fallback=True,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return out.getvalue()
