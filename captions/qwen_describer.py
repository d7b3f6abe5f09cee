"""Looking with Qwen2.5-VL and listening with Qwen2-Audio on this machine, one model in memory at a time."""

from __future__ import annotations

import gc
import logging
import time
from pathlib import Path
from typing import Any

import torch

from ..core.device import resolve_device, resolve_dtype
from ..core.errors import MissingModelError, SoundingVideoError
from ..core.optional import require
from ..core.progress import SILENT, Progress
from ..core.types import AudioClip, VideoClip
from .backends.transformers_local import cause_and_remedy, watch
from .dialogue import MAX_TOKENS, TEMPERATURE
from .media_captioner import AUDIO_TEMPERATURE, AUDIO_TOKENS, sampled_frames
from .prompts import load_prompt
from .ranks import own_device

LOGGER = logging.getLogger(__name__)
VIDEO_MODEL = "Qwen/Qwen2.5-VL-7B-Instruct"
AUDIO_MODEL = "Qwen/Qwen2-Audio-7B-Instruct"
TIMEOUT_SECONDS = 900.0


class QwenDescriber:
    """Both models through transformers; the one that is not needed is dropped before the other loads.

    Args:
        video_model: Folder or hub id of a model of the kind "image-text-to-text".
        audio_model: Folder or hub id of a Qwen2-Audio model.
        device: Torch device, or auto.
        dtype: Weight type, or auto.
        allow_download: Whether a hub id may be downloaded.
        timeout_seconds: Longest wait for one answer; None for 900.
    """

    def __init__(
        self,
        video_model: str = VIDEO_MODEL,
        audio_model: str = AUDIO_MODEL,
        *,
        device: str = "auto",
        dtype: str = "auto",
        allow_download: bool = False,
        timeout_seconds: float | None = None,
    ) -> None:
        self._sources = {"AutoModelForImageTextToText": video_model, "Qwen2AudioForConditionalGeneration": audio_model}
        self._device, self._dtype, self._allow_download = device, dtype, allow_download
        self._timeout_seconds = timeout_seconds or TIMEOUT_SECONDS
        self._loaded: tuple[str, Any, Any] | None = None

    def see(self, clip: VideoClip, *, progress: Progress = SILENT) -> str:
        """A raw caption of the picture (see :class:`~.media_captioner.Describer`).

        Raises:
            MissingModelError: the model is not on this machine.
        """
        model, processor = self._load("AutoModelForImageTextToText")
        frames = sampled_frames(clip)
        system, user = load_prompt("raw_video").messages({})
        conversation = [
            {"role": "system", "content": [{"type": "text", "text": system["content"]}]},
            {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": user["content"]}]},
        ]
        text = processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        # The model reads times from the rate, and the frames are sampled already.
        rate = len(frames) / float(clip.seconds)
        metadata = {"total_num_frames": len(frames), "fps": rate, "frames_indices": list(range(len(frames)))}
        inputs = processor(
            text=[text],
            videos=[frames.permute(0, 3, 1, 2)],
            video_metadata=[metadata],
            do_sample_frames=False,
            return_tensors="pt",
        )
        return self._write(model, processor, inputs, MAX_TOKENS, TEMPERATURE, progress)

    def hear(self, clip: AudioClip, *, progress: Progress = SILENT) -> str:
        """A raw caption of the sound (see :class:`~.media_captioner.Describer`).

        Raises:
            MissingModelError: the model is not on this machine.
        """
        model, processor = self._load("Qwen2AudioForConditionalGeneration")
        rate = processor.feature_extractor.sampling_rate
        mono = clip.waveform.mean(dim=0).cpu().numpy()
        if clip.sample_rate != rate:
            librosa = require("librosa", "giving the audio model its sample rate")
            mono = librosa.resample(mono, orig_sr=clip.sample_rate, target_sr=rate)
        system, user = load_prompt("raw_audio").messages({})
        conversation = [
            {"role": "system", "content": system["content"]},
            {"role": "user", "content": [{"type": "audio"}, {"type": "text", "text": user["content"]}]},
        ]
        text = processor.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        inputs = processor(text=text, audio=[mono], sampling_rate=rate, return_tensors="pt")
        return self._write(model, processor, inputs, AUDIO_TOKENS, AUDIO_TEMPERATURE, progress)

    def close(self) -> None:
        """Drop the model that is loaded."""
        self._loaded = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _load(self, kind: str) -> tuple[Any, Any]:
        if self._loaded is not None and self._loaded[0] == kind:
            return self._loaded[1:]
        self.close()
        import transformers

        source, device = self._sources[kind], resolve_device(own_device(self._device))
        # Code that comes with weights is never run, nor is anybody asked whether to.
        how = {"local_files_only": not self._allow_download, "trust_remote_code": False}
        started = time.monotonic()
        try:
            processor = transformers.AutoProcessor.from_pretrained(source, **how)
            model = getattr(transformers, kind).from_pretrained(source, dtype=resolve_dtype(self._dtype, device), **how)
        except Exception as error:
            if isinstance(error, SoundingVideoError):
                raise
            raise MissingModelError(
                "the captioning model cannot be loaded",
                got=source,
                expected="a folder with a transformers model, or a hub id that is on this machine",
                remedy=cause_and_remedy(error, allow_download=self._allow_download),
            ) from error
        self._loaded = kind, model.to(device).eval(), processor
        LOGGER.info("loaded %s on %s in %.1f s", Path(source).name, device, time.monotonic() - started)
        return self._loaded[1:]

    def _write(
        self, model: Any, processor: Any, inputs: Any, max_tokens: int, temperature: float, progress: Progress
    ) -> str:
        from transformers import StoppingCriteriaList

        inputs = inputs.to(model.device)
        with torch.inference_mode():
            output = model.generate(
                **inputs,
                max_new_tokens=max_tokens,
                do_sample=True,
                temperature=temperature,
                stopping_criteria=StoppingCriteriaList([watch(progress.check_cancelled, self._timeout_seconds)]),
            )
        answer = processor.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]
        return " ".join(answer.split())
