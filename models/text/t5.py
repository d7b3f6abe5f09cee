"""The audio tower's text encoder: T5, Stable Audio's projection, and its duration embeddings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from ...core.dialect import Text
from ...core.errors import GeometryError, IncompatibleWeightsError, NonFiniteError
from ..execution import execution_device
from . import TEXT_ENCODERS
from ._encoder import MOST_TEXT_LENGTH, PromptEncoder
from ._weights import text_states

if TYPE_CHECKING:
    from diffusers.pipelines.stable_audio import StableAudioProjectionModel
    from transformers import PreTrainedTokenizerBase, T5EncoderModel


@TEXT_ENCODERS.register("t5")
class T5TextEncoder(PromptEncoder):
    """Texts and durations to Stable Audio's conditioning (BridgeDiT reference, section 4). Prompts are not cleaned.

    Args:
        tokenizer: The Stable Audio folder's tokenizer; its ``model_max_length`` (128) is the length.
        model: Its ``T5EncoderModel``.
        projection: Its ``StableAudioProjectionModel``.

    Raises:
        IncompatibleWeightsError: the tokenizer states no length.
    """

    stock: ClassVar[str] = "transformers.T5EncoderModel"

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, model: T5EncoderModel, projection: StableAudioProjectionModel
    ) -> None:
        length = tokenizer.model_max_length
        # transformers stands a huge number in for "the tokenizer's file states no length"
        if type(length) is not int or not 1 <= length <= MOST_TEXT_LENGTH:
            raise IncompatibleWeightsError(
                "the audio tokenizer states no length",
                got=f"{length!r:.80}",
                expected="model_max_length in tokenizer_config.json (128 for Stable Audio Open)",
            )
        low, high = projection.config.min_value, projection.config.max_value
        if not low < high:
            raise IncompatibleWeightsError(
                "the audio model knows no durations", got=f"{low} to {high} seconds", expected="0 to 512 seconds"
            )
        super().__init__(tokenizer, model, tokenizer.model_max_length)
        self.projection = projection

    @property
    def max_seconds(self) -> float:
        """The longest time the duration embeddings can tell apart (512 for Stable Audio Open)."""
        return self.projection.config.max_value

    def encode(self, texts: list[Text]) -> Tensor:
        """Embed and project texts; rows beyond a text's end token are zeros.

        Args:
            texts: At least one, plain or weighted; ``""`` is allowed.

        Returns:
            ``(B, L, D)`` in the projection's dtype, on its device.

        Raises:
            InputError: not a list of valid strings.
            NonFiniteError: the encoder overflowed.
        """
        with torch.no_grad():
            return self.finished(*text_states(self, texts))

    def finished(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Projected, and zeros beyond a text's end token."""
        # The official code masks the negatives before the projection too. The projection works on each token alone
        # and everything is masked after it, so that first mask changes nothing.
        device = execution_device(self.projection)
        return super().finished(self.projection.text_projection(hidden.to(device)), mask.to(device))

    def taught(self) -> list[nn.Parameter]:
        """The encoder and the projection of its states; durations are told by other layers."""
        return [*super().taught(), *self.projection.text_projection.parameters()]

    def duration(self, seconds_start: float, seconds_end: float, batch: int = 1) -> Tensor:
        """Stable Audio's global states: start and end side by side on the channel axis.

        Args:
            seconds_start: Where the clip begins in its (imagined) recording; 0 in the published system.
            seconds_end: Where it ends.
            batch: Rows to make.

        Returns:
            ``(B, 1, 2D)``.

        Raises:
            NonFiniteError: a time that is NaN or infinite.
            GeometryError: a time outside what the embeddings cover, or an end before the start.
        """
        return torch.cat(self._number_embeddings(seconds_start, seconds_end, batch), dim=2)

    def duration_tokens(self, seconds_start: float, seconds_end: float, batch: int = 1) -> Tensor:
        """The same two embeddings as tokens ``(B, 2, D)``, which stock Stable Audio appends to the text.

        Args and errors as in :meth:`duration`.
        """
        return torch.cat(self._number_embeddings(seconds_start, seconds_end, batch), dim=1)

    def _number_embeddings(self, seconds_start: float, seconds_end: float, batch: int) -> list[Tensor]:
        start, end = float(seconds_start), float(seconds_end)
        low, high = self.projection.config.min_value, self.projection.config.max_value
        for name, value in (("start", start), ("end", end)):
            if not math.isfinite(value):
                raise NonFiniteError(
                    f"the {name} of the sound is not a finite number", got=f"{value} s", expected="seconds"
                )
            if not low <= value <= high:
                raise GeometryError(
                    f"the {name} of the sound is outside what the audio model knows",
                    got=f"{value} s",
                    expected=f"{low} to {high} seconds",
                )
        if end < start:
            raise GeometryError(
                "the sound ends before it starts", got=f"{start} to {end} s", expected="an end after the start"
            )
        device = execution_device(self.projection)
        conditioners = (self.projection.start_number_conditioner, self.projection.end_number_conditioner)
        with torch.no_grad():
            return [
                conditioner(torch.full((batch,), value, dtype=torch.float32, device=device))
                for conditioner, value in zip(conditioners, (start, end), strict=True)
            ]
