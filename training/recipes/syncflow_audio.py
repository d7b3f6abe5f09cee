"""Recipe ``syncflow_audio``."""

from __future__ import annotations

from ...models.points import placement
from ..config import TrainConfig
from ..sections import BridgesConfig, DataConfig, ModelsConfig, ObjectiveConfig
from . import RECIPES

_PLACES = placement("layerwise_8")
SYNCFLOW_BRIDGES = BridgesConfig(
    kind="modality_adaptor", rope="time_aligned", video_points=_PLACES.video, audio_points=_PLACES.audio
)
# One level and one draw of the texts for both sides, noise paired with clips: as printed.
SYNCFLOW_OBJECTIVE = ObjectiveConfig(times="flow", drop_together=True, pairing="ot")


@RECIPES.register("syncflow_audio")
def syncflow_audio() -> TrainConfig:
    """SyncFlow's stage 2: modality adaptors and the whole audio tower beside a frozen video tower (section 3.3).

    150 000 steps of 16 clips a process (the paper: 32 of them), of two seconds at 256×256; one uniform flow level for
    both sides, both texts dropped in a tenth of the clips, minibatch optimal transport. The paper gives no optimizer:
    the defaults. Its clips are small for Wan: at Wan's own size (``data.width=832 data.height=480
    data.num_frames=81``) one clip has as many tokens as 14 of them. Stage 1, a video tower alone, is the published Wan.
    """
    return TrainConfig(
        recipe="syncflow_audio",
        task="joint",
        trainable=("bridges", "audio_tower"),
        num_steps=150_000,
        batch_size=16,
        models=ModelsConfig(root="models", gradient_checkpointing=True),
        bridges=SYNCFLOW_BRIDGES,
        data=DataConfig(source="data/manifest.jsonl", crops_per_clip=4, num_frames=33, fps="16", width=256, height=256),
        objective=SYNCFLOW_OBJECTIVE,
    )
