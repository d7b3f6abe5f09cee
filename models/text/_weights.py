"""Weighted texts: each token moved away from, or towards, what the encoder says of an empty text.

The formula is that of ComfyUI's text encoders: ``(z - z_empty) * weight + z_empty``, a token at a time, where beyond an
empty text's end token everything is zero. Pieces are tokenised one by one, as there.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...core.dialect import Text, WeightedText

if TYPE_CHECKING:
    from ._encoder import PromptEncoder

logger = logging.getLogger(__name__)


def text_states(encoder: PromptEncoder, texts: list[Text]) -> tuple[Tensor, Tensor]:
    """What an encoder says of texts, the weighted ones among them weighted.

    Args:
        encoder: Tokenises and embeds.
        texts: Plain ones are embedded together, exactly as without any weights.

    Returns:
        States ``(B, L, D)`` and their mask ``(B, L, 1)``; weighted texts are zero outside the mask.

    Raises:
        InputError, NonFiniteError: as :meth:`~._encoder.PromptEncoder.hidden_states`.
    """
    if not isinstance(texts, list) or not any(isinstance(text, WeightedText) for text in texts):
        return encoder.hidden_states(*encoder.tokenize(texts))
    rows = [
        _weighted_states(encoder, text) if isinstance(text, WeightedText) else text_states(encoder, [text])
        for text in texts
    ]
    states, masks = zip(*rows, strict=True)
    return torch.cat(states), torch.cat(masks)


def _weighted_states(encoder: PromptEncoder, text: WeightedText) -> tuple[Tensor, Tensor]:
    ids, mask, weights = _tokenize(encoder, text)
    empty_ids, empty_mask = encoder.tokenize([""])
    hidden, masks = encoder.hidden_states(torch.cat([ids, empty_ids]), torch.cat([mask, empty_mask]))
    found, empty = hidden.masked_fill(~masks, 0.0).float().chunk(2)
    weights = weights.to(found.device).reshape(1, -1, 1)
    moved = torch.where(weights == 1, found, (found - empty) * weights + empty)
    return moved.to(hidden.dtype), masks[:1]


def _tokenize(encoder: PromptEncoder, text: WeightedText) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens and mask ``(1, L)`` and weights ``(L,)``; the end token and the padding weigh 1."""
    tokenizer, length = encoder.tokenizer, encoder.max_length
    pairs: list[tuple[int, float]] = []
    for piece, weight in text.parts:
        ids = encoder.tokens(encoder.checked(piece), add_special_tokens=False, verbose=False).input_ids
        pairs += [(token, weight) for token in ids]
    lost = len(pairs) + 1 - length
    if lost > 0:
        logger.warning(
            "a text has %d tokens, %s reads %d: the last %d are lost",
            *(len(pairs) + 1, type(encoder).__name__, length, lost),
        )
    pairs = [*pairs[: length - 1], (tokenizer.eos_token_id, 1.0)]
    missing = length - len(pairs)
    ids = torch.tensor([[token for token, _ in pairs] + [tokenizer.pad_token_id] * missing])
    mask = torch.tensor([[1] * len(pairs) + [0] * missing])
    return ids, mask, torch.tensor([weight for _, weight in pairs] + [1.0] * missing)
