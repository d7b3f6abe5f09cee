"""A caption encoder that learns together with its tower: captions come as tokens and are encoded at every step."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from ..models.text._encoder import PromptEncoder
from .exports import write_module
from .trainable import Part

TEXT = "_text"


class TaughtText(nn.Module):
    """Token ids in, what the tower reads out, with gradients.

    Args:
        encoder: The one that the tower is used with.
    """

    def __init__(self, encoder: PromptEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """``(B, L, D)`` of ids and mask ``(B, L)``; L as the encoder always has it, whatever the captions need.

        Its dropout stays off: captions are encoded without it elsewhere, and a resumed run must draw the same numbers.
        """
        encoder, length = self.encoder, ids.shape[1]
        encoder.eval()
        # Nothing attends to what fills up a text, so only the longest one's tokens are encoded.
        used = int(mask.sum(1).max()) if type(mask) is Tensor and not mask.is_meta else length
        ids, mask = ids[:, :used], mask[:, :used]
        hidden = encoder.model(ids, attention_mask=mask).last_hidden_state
        return F.pad(encoder.finished(hidden, mask.bool().unsqueeze(-1)), (0, 0, 0, length - used))


def text_part(side: str, step: nn.Module) -> dict[str, Part]:
    """The part ``video_text`` or ``audio_text``; the step has the encoder where the run names the part."""
    name = f"{side}{TEXT}"

    def take(rest: str) -> list[nn.Parameter]:
        if rest:
            raise ValueError(rest)
        return step.texts[side].encoder.taught()

    return {name: Part(name, take)}


def write_text(folder: Path, encoder: PromptEncoder) -> None:
    """Write an encoder, and the projection of its states where there is one, as a model folder has them."""
    write_module(folder / "text_encoder", encoder.model)
    if hasattr(encoder, "projection"):
        write_module(folder / "projection_model", encoder.projection)
