"""What the recipes share whose tower is told of the other side frame by frame (SAVA)."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig


def by_frames(first: TrainConfig, name: str, side: str, *, rank: int) -> TrainConfig:
    """A run by tokens as one by frames; the LoRA stands beside self-attention too, which is where the stream is read.

    Args:
        first: The run by tokens.
        name: Of the recipe.
        side: Whose tower is told, ``video`` or ``audio``.
        rank: Of the LoRA.
    """
    return replace(
        first,
        recipe=name,
        trainable=(f"{side}_frames", f"{side}_lora:{rank}::attn1+attn2"),
        alignment=replace(first.alignment, inject="frames"),
    )
