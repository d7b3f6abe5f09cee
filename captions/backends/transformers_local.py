"""A causal language model on this machine through transformers, its answers held to the schema while it writes."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from ...core.device import resolve_device, resolve_dtype
from ...core.errors import (
    CaptionError,
    InputError,
    MissingModelError,
    PlacementError,
    SoundingVideoError,
    require_choice,
)
from ...core.optional import require
from ..ranks import own_device
from . import BACKENDS
from .base import BackendOptions, Message, never_cancel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LOGGER = logging.getLogger(__name__)
DEFAULT_MODEL = "Qwen/Qwen2.5-7B-Instruct"
LARGE_MODEL = "Qwen/Qwen2.5-72B-Instruct"  # the published system's checker and rewriter
TIMEOUT_SECONDS = 600.0
QUANTIZATIONS = ("none", "bitsandbytes-8bit", "bitsandbytes-4bit", "torchao-int8")
# As the published pipeline (BridgeDiT reference, section 7).
TOP_P = 0.9
REPETITION_PENALTY = 1.05


@BACKENDS.register("transformers_local")
class TransformersLocal:
    """A local folder or a hub id; loaded at the first question, freed by :meth:`close`.

    Args:
        options: All but ``server`` and ``trust_server`` are used.

    Raises:
        InputError: an unknown quantization.
    """

    OPTIONS: ClassVar[frozenset[str]] = frozenset(
        {"model", "device", "dtype", "quantization", "allow_download", "timeout_seconds"}
    )
    SUMMARY: ClassVar[str] = "a language model on this machine"
    name = "transformers_local"

    def __init__(self, options: BackendOptions) -> None:
        require_choice("quantization", options.quantization, QUANTIZATIONS)
        self._options = options
        self._source = options.model or DEFAULT_MODEL
        self._model: PreTrainedModel | None = None
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._compiler: Any = None
        self._control_tokens: list[int] = []

    @property
    def identity(self) -> str:
        """Model and quantization."""
        return f"{self.name} {self._source} {self._options.quantization}"

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
        """See :class:`~.base.ChatBackend`.

        Raises:
            MissingModelError: the model is not on this machine.
            MissingPackageError: the package for schemas or for the quantization is not installed.
            CaptionError: the answer was not finished in time.
        """
        from transformers import StoppingCriteriaList

        patience = timeout_seconds or self._options.timeout_seconds or TIMEOUT_SECONDS
        self._load()
        text = self._tokenizer.apply_chat_template(
            [dict(m) for m in messages], tokenize=False, add_generation_prompt=True
        )
        inputs = self._tokenizer(text, return_tensors="pt", add_special_tokens=False).to(self._model.device)
        sampled = temperature > 0
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=max_tokens,
                do_sample=sampled,
                **({"temperature": temperature, "top_p": TOP_P} if sampled else {}),
                repetition_penalty=REPETITION_PENALTY,
                **(self._constraint(schema) if schema else {}),
                stopping_criteria=StoppingCriteriaList([watch(check_cancelled, patience)]),
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
            )
        return self._tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    def close(self) -> None:
        """Drop the model and give its memory back."""
        self._model = self._tokenizer = self._compiler = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _constraint(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Options for ``generate`` that let only tokens through which keep the schema."""
        from transformers import LogitsProcessorList

        xgrammar = require("xgrammar", "holding a local model to the anchors' schema")
        hf = require("xgrammar.contrib.hf", "holding a local model to the anchors' schema")
        if self._compiler is None:
            size = self._model.get_output_embeddings().weight.shape[0]
            information = xgrammar.TokenizerInfo.from_huggingface(self._tokenizer, vocab_size=size)
            self._compiler = xgrammar.GrammarCompiler(information)
            vocabulary = information.decoded_vocab
            # xgrammar 0.2.8 lets control characters into texts of limited length, where JSON forbids them.
            self._control_tokens = [index for index, token in enumerate(vocabulary) if any(byte < 32 for byte in token)]
        grammar = self._compiler.compile_json_schema(dict(schema), any_whitespace=False)
        return {
            "logits_processor": LogitsProcessorList([hf.LogitsProcessor(grammar)]),
            "suppress_tokens": self._control_tokens or None,
        }

    def _load(self) -> None:
        if self._model is not None:
            return
        from transformers import AutoModelForCausalLM, AutoTokenizer

        device = resolve_device(own_device(self._options.device))
        # Code that comes with weights is never run, nor is anybody asked whether to.
        how = {"local_files_only": not self._options.allow_download, "trust_remote_code": False}
        settings = self._quantized(device)
        started = time.monotonic()
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self._source, **how)
            model = AutoModelForCausalLM.from_pretrained(
                self._source, dtype=resolve_dtype(self._options.dtype, device), **how, **settings
            )
        except Exception as error:
            if isinstance(error, SoundingVideoError):
                raise
            raise MissingModelError(
                "the language model cannot be loaded",
                got=self._source,
                expected="a folder with a transformers causal model, or a hub id that is on this machine",
                remedy=cause_and_remedy(error, allow_download=self._options.allow_download),
            ) from error
        if self._tokenizer.chat_template is None:
            raise InputError(
                "the language model has no chat template", got=self._source, expected="an instruction-tuned model"
            )
        self._model = (model if settings else model.to(device)).eval()
        LOGGER.info("loaded %s on %s in %.1f s", Path(self._source).name, device, time.monotonic() - started)

    def _quantized(self, device: torch.device) -> dict[str, Any]:
        """Loading options for smaller weights."""
        package, _, kind = self._options.quantization.partition("-")
        if not kind:
            return {}
        if device.type != "cuda" and package == "bitsandbytes":
            raise PlacementError("bitsandbytes cannot load here", got=device, expected="an NVIDIA device")
        require(package, f"loading weights as {self._options.quantization}")
        require("accelerate", "loading quantized weights")
        import transformers

        if package == "bitsandbytes":
            config = transformers.BitsAndBytesConfig(load_in_8bit=kind == "8bit", load_in_4bit=kind == "4bit")
        else:
            from torchao.quantization import Int8WeightOnlyConfig

            config = transformers.TorchAoConfig(Int8WeightOnlyConfig())
        return {"quantization_config": config, "device_map": {"": device}}


def cause_and_remedy(error: Exception, *, allow_download: bool) -> str:
    """Why a model could not be loaded, and how to fetch it when nobody allowed that yet."""
    cause = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    if allow_download:
        return cause
    return f"{cause} Fetch it with --allow-download or the node's input 'allow_download'."


def watch(check_cancelled: Callable[[], None], timeout_seconds: float) -> Callable[..., torch.Tensor]:
    """A stopping criterion that stops nothing itself: it raises on a cancel and on the end of patience."""
    deadline = time.monotonic() + timeout_seconds

    def watch(input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        check_cancelled()
        if time.monotonic() > deadline:
            raise CaptionError("the language model did not finish in time", got=f"more than {timeout_seconds:g} s")
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)

    return watch
