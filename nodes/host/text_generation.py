"""ComfyUI's own text-generation models as a caption backend: a CLIP that can also write.

Newer ComfyUI writes texts with its language models; they are CLIP values and live in its memory
management. Of a CLIP only ``tokenize``, ``generate`` and ``decode`` are used, as ComfyUI's own node does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...captions.backends.base import Message, never_cancel
from ...core.errors import InputError

# As the published pipeline's rewriter (BridgeDiT reference, section 7); the seed keeps answers the same.
SAMPLING = {"top_k": 64, "top_p": 0.9, "min_p": 0.0, "repetition_penalty": 1.05, "seed": 0}


@dataclass(frozen=True)
class _Turns:
    """How a family of models marks the turns of a conversation."""

    mark: str  # a token of its own in the family's vocabulary
    turn: str
    answer: str
    assistant: str
    ending: str = ""

    def text(self, messages: Sequence[Message]) -> str:
        """The conversation, up to where the model goes on."""
        roles = {"assistant": self.assistant}
        turns = [self.turn.format(role=roles.get(one["role"], one["role"]), text=one["content"]) for one in messages]
        return "".join(turns) + self.answer


_CHAT_ML = _Turns("<|im_start|>", "<|im_start|>{role}\n{text}<|im_end|>\n", "<|im_start|>assistant\n", "assistant")
_GEMMA_3 = _Turns("<start_of_turn>", "<start_of_turn>{role}\n{text}<end_of_turn>\n", "<start_of_turn>model\n", "model")
_GEMMA_4 = _Turns("<|turn>", "<|turn>{role}\n{text}<turn|>\n", "<|turn>model\n<|channel>final\n", "model")
FAMILIES = (_CHAT_ML, _GEMMA_3, _GEMMA_4)
# Models that think aloud are shown that they have thought.
_THOUGHT_TOKEN, _THOUGHT = "</think>", "<think>\n\n</think>\n\n"


class ComfyUIWriter:
    """A chat backend (:class:`~...captions.backends.base.ChatBackend`) over a CLIP value.

    Args:
        clip: What a CLIP socket carries.

    Raises:
        InputError: this ComfyUI writes no texts, or this CLIP does not.
    """

    OPTIONS: ClassVar[frozenset[str]] = frozenset()
    name = "comfyui"

    def __init__(self, clip: Any) -> None:
        require_writer(clip)
        self._clip = clip

    @property
    def identity(self) -> str:
        """The class of the model; weights are not told apart, so answers are not to be cached under it."""
        return f"{self.name} {type(getattr(self._clip, 'cond_stage_model', self._clip)).__name__}"

    def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        max_tokens: int = 1536,
        temperature: float = 0.1,
        check_cancelled: Callable[[], None] = never_cancel,
        timeout_seconds: float | None = None,
    ) -> str:
        """See :class:`~...captions.backends.base.ChatBackend`; ComfyUI itself stops a running answer on a cancel.

        Raises:
            InputError: the model cannot write after all.
        """
        check_cancelled()
        text, is_whole = self._conversation(messages)
        # ComfyUI takes these escapes off again; in some of its tokenizers bare parentheses would be weights.
        text = text.replace("(", r"\(").replace(")", r"\)")
        tokens = self._clip.tokenize(text, skip_template=is_whole, min_length=1, thinking=False)
        writing = {"do_sample": temperature > 0, "max_length": max_tokens, "temperature": temperature, **SAMPLING}
        try:
            answer = self._clip.generate(tokens, **writing)
        except (AttributeError, NotImplementedError) as error:
            if "generate" not in str(error):
                raise
            raise no_writer(self._clip) from error
        check_cancelled()
        return self._clip.decode(answer)

    def close(self) -> None:
        """ComfyUI keeps and frees its models itself."""

    def _conversation(self, messages: Sequence[Message]) -> tuple[str, bool]:
        """The text to go on with, and whether it is marked as the model's family does it.

        A model of another family gets all in one turn, in the form that ComfyUI knows for it.
        """
        vocabulary = vocabulary_of(self._clip)
        family = next((one for one in FAMILIES if one.mark in vocabulary), None)
        if family is None:
            return "\n\n".join(
                f"{one['role'].upper()}:\n{one['content']}" for one in messages
            ) + "\n\nASSISTANT:", False
        thought = _THOUGHT if family is _CHAT_ML and _THOUGHT_TOKEN in vocabulary else ""
        return family.text(messages) + thought, True


def require_writer(clip: Any) -> None:
    """Refuse a CLIP that cannot write, before anything is loaded for it.

    Raises:
        InputError: with a sentence about this ComfyUI, or about this CLIP.
    """
    if not callable(getattr(clip, "generate", None)):
        raise InputError(
            "this ComfyUI cannot write texts with a CLIP",
            got=f"a {type(clip).__name__} without text generation",
            expected="ComfyUI 0.15 or newer",
            remedy="Update ComfyUI, or leave clip open and choose a backend.",
        )
    model = getattr(clip, "cond_stage_model", None)
    if model is not None and hasattr(model, "modules") and not any(map(_writes, model.modules())):
        raise no_writer(clip)


def no_writer(clip: Any) -> InputError:
    """The sentence for a CLIP that only encodes."""
    return InputError(
        "this CLIP cannot write texts",
        got=type(getattr(clip, "cond_stage_model", clip)).__name__,
        expected="a language model, for example Qwen3, Qwen3-VL or Gemma, as for ComfyUI's Generate Text",
        remedy="Load one with Load CLIP, or leave clip open and choose a backend.",
    )


def _writes(module: Any) -> bool:
    """Whether a part writes by itself: ComfyUI's wrappers around every text encoder only hand the question on."""
    method = getattr(type(module), "generate", None)
    return callable(method) and not str(getattr(method, "__module__", "")).endswith("sd1_clip")


def vocabulary_of(clip: Any) -> Mapping[str, int]:
    """The words of a CLIP's tokenizer; empty where it does not say."""
    tokenizer = getattr(clip, "tokenizer", None)
    for _ in range(4):  # the CLIP's tokenizer holds the model's, which holds the one that knows its words
        if tokenizer is None:
            break
        if callable(getattr(tokenizer, "get_vocab", None)):
            return tokenizer.get_vocab()
        tokenizer = getattr(tokenizer, str(getattr(tokenizer, "clip", "")), None) or getattr(
            tokenizer, "tokenizer", None
        )
    return {}
