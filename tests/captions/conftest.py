"""A real misbehaving server, a real tiny language model, and anchors to write from."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from chat_server import ChatServer
from packaging.version import Version
from sounding_video.captions.anchors import Entity, Event, SemanticAnchors, Sound


@pytest.fixture(autouse=True)
def _no_keys(no_keys_of_the_machine: None) -> None:
    """Of the machine that runs the tests."""


@pytest.fixture(scope="session")
def anchors() -> SemanticAnchors:
    return SemanticAnchors(
        entities=(
            Entity("dog", ("brown", "wet fur"), "a brown dog with wet fur"),
            Entity("gate", ("iron",), "a tall iron gate"),
        ),
        environment="a paved yard under a grey sky",
        events=(
            Event("e1", 1, 0.0, 0.4, "dog", "runs up to the gate", Sound("claws tapping on stone", "claws on paving")),
            Event("e2", 2, 0.4, 1.0, "dog", "throws its head up and opens its mouth", Sound("two hoarse barks", "dog")),
        ),
        ambient_sound="light wind",
        camera="low tracking shot",
        style="photorealistic",
        mood="alert",
    )


SHORT_VIDEO = (
    "In a paved yard under a grey sky a brown dog with wet fur runs up to a tall iron gate, throws its head up and "
    "opens its mouth wide, in a low tracking shot, photorealistic, the mood alert."
)
SHORT_AUDIO = "Claws tap on stone, then two hoarse barks of a dog over light wind."


@pytest.fixture
def good_captions() -> dict[str, str]:
    """Pure captions for ``anchors`` in the lengths of the profile ``short``."""
    return {"video": SHORT_VIDEO, "audio": SHORT_AUDIO}


@pytest.fixture
def server(chat_server: ChatServer) -> ChatServer:
    """Misbehaves on command."""
    return chat_server


@pytest.fixture
def stop_after() -> Callable[[float], Callable[[], None]]:
    """A cancel check that begins to raise after some seconds."""
    from sounding_video.core.errors import Cancelled

    def make(seconds: float) -> Callable[[], None]:
        started = time.monotonic()

        def check() -> None:
            if time.monotonic() - started > seconds:
                raise Cancelled

        return check

    return make


TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with random weights and a small trained tokenizer, as a folder on disk."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-llm")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([json.dumps({"name": "a dog", "heard": "a bark", "visual": "x"})] * 4, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", chat_template=TEMPLATE
    ).save_pretrained(folder)
    size = tokenizer.get_vocab_size()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=size,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=8192,
            bos_token_id=None,
            eos_token_id=1,
            pad_token_id=0,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_qwens(tiny_language_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of a tiny random Qwen2.5-VL and a tiny random Qwen2-Audio, with real processors."""
    import transformers as tf

    if Version(tf.__version__) < Version("4.52"):
        pytest.skip("older transformers have other fields in the configuration of Qwen2.5-VL")
    folder = tmp_path_factory.mktemp("qwens")
    names = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", "<|AUDIO|>", "<|audio_bos|>"]
    tokenizer = tf.AutoTokenizer.from_pretrained(tiny_language_model)
    tokenizer.add_special_tokens({"additional_special_tokens": [*names, "<|audio_eos|>"]})
    ids = dict(zip(names, tokenizer.convert_tokens_to_ids(names), strict=True))
    template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{% if m['content'] is string %}{{ m['content'] }}{% else %}"
        "{% for p in m['content'] %}{% if p['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
        "{% elif p['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>{% else %}{{ p['text'] }}{% endif %}"
        "{% endfor %}{% endif %}\n{% endfor %}<|assistant|>"
    )
    text = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 4096}
    text |= {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        looks = tf.Qwen2_5_VLForConditionalGeneration(
            tf.Qwen2_5_VLConfig(
                text_config={
                    **text,
                    "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
                },
                vision_config={
                    "depth": 1,
                    "hidden_size": 16,
                    "intermediate_size": 16,
                    "num_heads": 2,
                    "out_hidden_size": 16,
                    "fullatt_block_indexes": [0],
                },
                image_token_id=ids["<|image_pad|>"],
                video_token_id=ids["<|video_pad|>"],
                vision_start_token_id=ids["<|vision_start|>"],
                vision_end_token_id=ids["<|vision_end|>"],
            )
        )
        listens = tf.Qwen2AudioForConditionalGeneration(
            tf.Qwen2AudioConfig(
                text_config=tf.Qwen2Config(**text),
                audio_config={
                    "model_type": "qwen2_audio_encoder",
                    "d_model": 16,
                    "encoder_layers": 1,
                    "encoder_attention_heads": 2,
                    "encoder_ffn_dim": 16,
                    "num_mel_bins": 16,
                },
                audio_token_index=ids["<|AUDIO|>"],
            )
        )
    looks.save_pretrained(folder / "vl")
    tf.Qwen2_5_VLProcessor(
        tf.Qwen2VLImageProcessor(), tokenizer, tf.Qwen2VLVideoProcessor(), chat_template=template
    ).save_pretrained(folder / "vl")
    listens.save_pretrained(folder / "audio")
    tf.Qwen2AudioProcessor(
        tf.WhisperFeatureExtractor(feature_size=16), tokenizer, chat_template=template
    ).save_pretrained(folder / "audio")
    return folder / "vl", folder / "audio"
