"""What both text encoders share: tokenising to a fixed length, and one forward without gradients."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...core.errors import IncompatibleWeightsError, InputError
from ...core.types import require_finite
from ..execution import execution_device

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)
# T5 and UMT5 were trained on 512; attention over more than this takes all memory.
MOST_TEXT_LENGTH = 16_384


class PromptEncoder(nn.Module):
    """A stock T5-family encoder behind a tokenizer that pads to a fixed number of tokens.

    It is an ``nn.Module`` so that ``.to(device)`` and the offload hooks work on it.

    Args:
        tokenizer: A transformers tokenizer with a padding token.
        model: A ``T5EncoderModel`` or ``UMT5EncoderModel``.
        max_length: Tokens per text, padding and end token included.

    Raises:
        InputError: a length below 1 or beyond what any text encoder reads.
        IncompatibleWeightsError: the model's two views of its token table disagree, or nothing fills up texts.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, max_length: int) -> None:
        super().__init__()
        if type(max_length) is not int or not 1 <= max_length <= MOST_TEXT_LENGTH:
            raise InputError(
                "the text length is not usable",
                got=f"{max_length!r:.80}",
                expected=f"a whole number of tokens from 1 to {MOST_TEXT_LENGTH}",
            )
        if tokenizer.pad_token_id is None:
            raise IncompatibleWeightsError(
                "the tokenizer has no token to fill up texts with", expected="pad_token in tokenizer_config.json"
            )
        _require_one_token_table(model)
        self.tokenizer, self.model, self.max_length = tokenizer, model, max_length

    @property
    def device(self) -> torch.device:
        """Where the encoder computes."""
        return execution_device(self.model)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the encoder's weights."""
        return self.model.dtype

    def clean(self, text: str) -> str:
        """What is done to a text before it is tokenised: nothing, unless a variant says otherwise."""
        return text

    def checked(self, text: str) -> str:
        """The text as it is tokenised.

        Raises:
            InputError: a text that is not valid Unicode.
        """
        cleaned = self.clean(text)
        _require_valid_unicode(cleaned)
        return cleaned

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Clean and tokenise; a text that has to be cut is logged as a warning.

        Returns:
            Token ids and attention mask, both ``(B, max_length)`` int64 on the CPU.

        Raises:
            InputError: no list of texts, or a text that is not valid Unicode.
        """
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise InputError(
                "the texts to encode are not a list of strings",
                got=repr(texts)[:80],
                expected="a list with at least one string",
            )
        cleaned = [self.checked(text) for text in texts]
        batch = self.tokens(
            cleaned,
            add_special_tokens=True,
            padding="max_length",
            max_length=self.max_length,
            truncation=True,
            return_attention_mask=True,
            return_tensors="pt",
        )
        full = self.tokens(cleaned, add_special_tokens=True, return_attention_mask=False, verbose=False).input_ids
        for number, ids in enumerate(full, start=1):
            if len(ids) > self.max_length:
                logger.warning(
                    "text %d of %d has %d tokens, %s reads %d: the last %d are lost",
                    *(number, len(full), len(ids), type(self).__name__, self.max_length, len(ids) - self.max_length),
                )
        return batch.input_ids, batch.attention_mask

    def tokens(self, texts: list[str] | str, **how: Any) -> BatchEncoding:
        """What the tokenizer makes of texts.

        Raises:
            IncompatibleWeightsError: it cannot; nothing of its files is tried before.
        """
        try:
            return self.tokenizer(texts, **how)
        except BaseException as error:
            # Its Rust part raises a PanicException, which is no Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise IncompatibleWeightsError(
                "the tokenizer cannot read a text",
                got=f"{type(error).__name__}: {str(error)[:200]}",
                expected="the tokenizer of the text encoder",
            ) from error

    def _require_rows(self, ids: Tensor) -> None:
        rows = self.model.shared.weight.shape[0]
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < rows:
            raise IncompatibleWeightsError(
                "the tokenizer gives tokens that the text encoder does not have",
                got=f"token {int(ids.max())}",
                expected=f"tokens 0 to {rows - 1}",
                remedy="Put the model's own tokenizer beside it.",
            )

    def finished(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """What a tower reads of the encoder's last states: rows beyond a text's end token are zeros.

        Args:
            hidden: ``(B, L, D)``.
            mask: ``(B, L, 1)``, bool.
        """
        return hidden.masked_fill(~mask, 0.0)

    def taught(self) -> list[nn.Parameter]:
        """What texts pass through, and thus may learn."""
        return list(self.model.parameters())

    def hidden_states(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's last states ``(B, L, D)`` and the mask ``(B, L, 1)``, bool, beside them on one device.

        Raises:
            NonFiniteError: the encoder overflowed.
        """
        self.model.eval()
        self._require_rows(ids)
        with torch.no_grad():
            hidden = self.model(ids.to(self.device), attention_mask=mask.to(self.device)).last_hidden_state
        mask = mask.to(hidden.device, torch.bool).unsqueeze(-1)
        # T5 was trained in bfloat16 and overflows in float16 on some prompts.
        hint = "Load the text encoder in bfloat16 or float32."
        require_finite("the text embedding", hidden.masked_fill(~mask, 0.0), hint)
        return hidden, mask


def _require_valid_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            "a prompt contains half of a surrogate pair",
            got=f"{text[error.start]!r} at character {error.start}",
            expected="valid Unicode text",
        ) from error


def _require_one_token_table(model: PreTrainedModel) -> None:
    """T5 has one token table under two names; a loader that fills only one of them leaves the other random."""
    shared, used = model.shared.weight, model.encoder.embed_tokens.weight
    if used is not shared and not torch.equal(used, shared):
        raise IncompatibleWeightsError(
            "the text encoder's token table was loaded under one of its two names only",
            got="shared.weight differs from encoder.embed_tokens.weight",
            expected="one table",
            remedy="Load the folder with transformers' from_pretrained; if it was, the weight file is damaged.",
        )
