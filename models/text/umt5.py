"""The video tower's text encoder: UMT5 with the official cleaning, length and zero rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from ...core.dialect import Text
from . import TEXT_ENCODERS
from ._cleaning import clean_prompt
from ._encoder import PromptEncoder
from ._weights import text_states

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

# The published system samples with 1024 tokens and was trained with 512, which is also stock Wan's length. The zero
# rows pass the tower's text projection and its biases, so the padded length changes the picture.
OFFICIAL_LENGTH = 1024
STOCK_LENGTH = 512


@TEXT_ENCODERS.register("umt5")
class UMT5TextEncoder(PromptEncoder):
    """Texts to ``(B, max_length, D)`` as the published system encodes them (BridgeDiT reference, section 4).

    Args:
        tokenizer: The Wan folder's tokenizer.
        model: Its ``UMT5EncoderModel``.
        max_length: ``OFFICIAL_LENGTH`` (default) or ``STOCK_LENGTH``; any other length is possible.
    """

    stock: ClassVar[str] = "transformers.UMT5EncoderModel"

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, model: UMT5EncoderModel, max_length: int = OFFICIAL_LENGTH
    ) -> None:
        super().__init__(tokenizer, model, max_length)

    def clean(self, text: str) -> str:
        """The official cleaning: see :func:`~._cleaning.clean_prompt`."""
        return clean_prompt(text)

    def encode(self, texts: list[Text]) -> Tensor:
        """Embed texts; rows beyond a text's end token are zeros, not what the encoder says there.

        Args:
            texts: At least one, plain or weighted; ``""`` is allowed and gives the end token and zeros.

        Returns:
            ``(B, max_length, D)`` in the encoder's dtype, on its device.

        Raises:
            InputError: not a list of valid strings.
            NonFiniteError: the encoder overflowed.
        """
        return self.finished(*text_states(self, texts))
