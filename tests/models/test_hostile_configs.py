"""Configurations of diffusers folders that lie: a sentence before a module is made, and no code is run."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import IncompatibleWeightsError, SoundingVideoError, UnsafeWeightsError, WeightsError
from sounding_video.models.plan.outline import outline_models
from sounding_video.models.weights._folders import load_part
from sounding_video.models.weights.find import find_models
from sounding_video.models.weights.load import load_stable_audio, load_wan

CPU = resolve_placement(device="cpu")
SECONDS = 10.0
ODD: tuple[Any, ...] = (10**6, 10**9, 10**30, 0, -1, 1.5, True, "8", "", None, [8], [], {}, float("inf"), float("nan"))
# Settings of each part, and which of the odd values a class may have there.
SETTINGS: dict[tuple[str, str], tuple[str, ...]] = {
    ("wan", "transformer"): ("num_layers", "num_attention_heads", "attention_head_dim", "in_channels", "ffn_dim"),
    ("wan", "vae"): ("base_dim", "z_dim", "num_res_blocks"),
    ("wan", "text_encoder"): ("num_layers", "num_heads", "d_kv", "vocab_size", "relative_attention_num_buckets"),
    ("stable_audio", "transformer"): ("num_layers", "num_key_value_attention_heads", "attention_head_dim"),
    ("stable_audio", "vae"): ("encoder_hidden_size", "audio_channels"),
    ("stable_audio", "text_encoder"): ("num_layers", "d_model"),
    ("stable_audio", "projection_model"): ("text_encoder_dim", "conditioning_dim"),
}


@pytest.fixture(scope="module")
def models(small_models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(small_models_dir, tmp_path_factory.mktemp("hostile") / "models")


def load(models: Path, tower: str, part: str) -> object:
    """The part as its tower loads it."""
    import diffusers
    import transformers
    from diffusers.pipelines.stable_audio import StableAudioProjectionModel

    classes = {
        ("wan", "transformer"): diffusers.WanTransformer3DModel,
        ("wan", "vae"): diffusers.AutoencoderKLWan,
        ("wan", "text_encoder"): transformers.UMT5EncoderModel,
        ("stable_audio", "transformer"): diffusers.StableAudioDiTModel,
        ("stable_audio", "vae"): diffusers.AutoencoderOobleck,
        ("stable_audio", "text_encoder"): transformers.T5EncoderModel,
        ("stable_audio", "projection_model"): StableAudioProjectionModel,
    }
    return load_part(classes[tower, part], models / tower, part, CPU.dtype)


def with_config(
    models: Path, tower: str, part: str, text: str | Callable[[dict], object], run: Callable[[], None]
) -> None:
    """Run something while a part's configuration is another one."""
    path = models / tower / part / "config.json"
    whole = path.read_text()
    try:
        path.write_text(text if isinstance(text, str) else json.dumps(text(json.loads(whole))))
        start = time.monotonic()
        run()
        assert time.monotonic() - start < SECONDS
    finally:
        path.write_text(whole)


@pytest.mark.parametrize(("tower", "part"), SETTINGS)
def test_sizes_that_no_model_has(tower, part, models) -> None:
    """Each is refused; null stands for the class's default where it has one, which these weights do not fit."""
    for name in SETTINGS[tower, part]:
        for value in ODD:

            def run(name: str = name, value: Any = value) -> None:
                with pytest.raises(WeightsError) as caught:
                    load(models, tower, part)
                assert len(str(caught.value)) < 1200, (name, value)

            with_config(models, tower, part, lambda config, n=name, v=value: config | {n: v}, run)


ELSEWHERE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "patch size of two": ("wan", "transformer", {"patch_size": [2, 2]}),
    "patch size of zeros": ("wan", "transformer", {"patch_size": [0, 2, 2]}),
    "patch size that is a number": ("wan", "transformer", {"patch_size": 2}),
    "patch size of a million": ("wan", "transformer", {"patch_size": [1, 2, 10**6]}),
    "eps text": ("wan", "transformer", {"eps": "1e-6"}),
    "eps zero": ("wan", "transformer", {"eps": 0}),
    "eps one": ("wan", "transformer", {"eps": 1.0}),
    "eps true": ("wan", "transformer", {"eps": True}),
    "rope length zero": ("wan", "transformer", {"rope_max_seq_len": 0}),
    "rope length below": ("wan", "transformer", {"rope_max_seq_len": -5}),
    "rope length without end": ("wan", "transformer", {"rope_max_seq_len": 10**12}),
    "rope length of gigabytes": ("wan", "transformer", {"rope_max_seq_len": 16_000_000}),
    "a norm that is a list": ("wan", "transformer", {"qk_norm": ["rms_norm_across_heads"]}),
    "a flag that is text": ("wan", "transformer", {"cross_attn_norm": "yes"}),
    "an image width without end": ("wan", "transformer", {"image_dim": 10**6, "added_kv_proj_dim": 10**6}),
    "a class that is a list": ("wan", "vae", {"_class_name": ["AutoencoderKLWan"]}),
    "another class": ("wan", "vae", {"_class_name": "AutoencoderKL"}),
    "another type": ("wan", "text_encoder", {"model_type": "t5"}),
    "a type that is a number": ("wan", "text_encoder", {"model_type": 5}),
    "means of another length": ("wan", "vae", {"latents_mean": [0.0]}),
    "means of text": ("wan", "vae", {"latents_mean": ["0"] * 4}),
    "deviations of zero": ("wan", "vae", {"latents_std": [0.0] * 4}),
    "deviations of NaN": ("wan", "vae", {"latents_std": [float("nan")] * 4}),
    "a stride that is not": ("wan", "vae", {"scale_factor_spatial": 16}),
    "a stride in time that is not": ("wan", "vae", {"scale_factor_temporal": 1}),
    "strides without end": ("wan", "vae", {"dim_mult": [1] * 4000}),
    "multiples that are text": ("wan", "vae", {"dim_mult": "1111"}),
    "a rate of zero": ("stable_audio", "vae", {"sampling_rate": 0}),
    "a rate of a gigahertz": ("stable_audio", "vae", {"sampling_rate": 10**7}),
    "ratios of zero": ("stable_audio", "vae", {"downsampling_ratios": [0, 2, 4]}),
    "ratios of another length": ("stable_audio", "vae", {"downsampling_ratios": [2]}),
    "nested ratios": ("stable_audio", "vae", {"downsampling_ratios": [[2], [2], [4]]}),
    "an eps of text": ("stable_audio", "text_encoder", {"layer_norm_epsilon": "x"}),
    "an activation that is not": ("stable_audio", "text_encoder", {"feed_forward_proj": "gated-evil"}),
    "an activation that is a list": ("stable_audio", "text_encoder", {"feed_forward_proj": ["relu"]}),
    "labels without end": ("stable_audio", "text_encoder", {"num_labels": 10**9}),
    "a dropout of two": ("stable_audio", "text_encoder", {"dropout_rate": 2}),
    "a type of numbers that is not": ("stable_audio", "text_encoder", {"dtype": ["float16"]}),
    "packed weights": ("stable_audio", "text_encoder", {"quantization_config": {"quant_method": "bitsandbytes"}}),
    "durations of text": ("stable_audio", "projection_model", {"max_value": "512"}),
    "durations backwards": ("stable_audio", "projection_model", {"max_value": -1}),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_settings_that_no_model_has(case, models) -> None:
    tower, part, changed = ELSEWHERE[case]

    def run() -> None:
        loader = load_wan if tower == "wan" else load_stable_audio
        with pytest.raises(SoundingVideoError):
            loader(models / tower, CPU)

    with_config(models, tower, part, lambda config: config | changed, run)


FORMS = {
    "a list": "[]", "null": "null", "a number": "7", "a text": '"x"', "nothing": "", "deep": '{"a":' * 100_000,
    "deep values": '{"a":' + "[" * 200 + "]" * 200 + "}", "keys twice": '{"num_layers": 1, "num_layers": 2}',
    "digits": '{"num_layers": ' + "9" * 5000 + "}", "a pickle": "\x80\x04", "empty": "{}",
}  # fmt: skip


@pytest.mark.parametrize("case", FORMS)
def test_configurations_that_are_none(case, models) -> None:
    for tower, part in SETTINGS:

        def run(tower: str = tower, part: str = part) -> None:
            with pytest.raises(WeightsError):
                load(models, tower, part)

        with_config(models, tower, part, FORMS[case], run)


EVIL = "import pathlib\npathlib.Path({!r}).touch()\n"
CODE: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a tokenizer": ("wan/tokenizer", "tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}),
    "a tokenizer of a class": (
        "stable_audio/tokenizer",
        "tokenizer_config.json",
        {"auto_map": {"AutoTokenizer": "evil.Evil"}, "tokenizer_class": "Evil"},
    ),
    "a text encoder": ("wan/text_encoder", "config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
    "a transformer": ("wan/transformer", "config.json", {"auto_map": {"AutoModel": "owner/name--evil.Evil"}}),
    "a kernel": ("wan/text_encoder", "config.json", {"attn_implementation": "owner/kernel"}),
    "a kernel inside": ("wan/text_encoder", "config.json", {"sub": {"_attn_implementation": "owner/kernel@main"}}),
}


@pytest.mark.parametrize("case", CODE)
def test_code_that_comes_with_weights_is_never_run(case, small_models_dir, tmp_path, monkeypatch, capsys) -> None:
    """Nor is anybody asked: an answer of yes waits on standard input and is not read."""
    models, canary = shutil.copytree(small_models_dir, tmp_path / "models"), tmp_path / "ran"
    folder, name, changed = CODE[case]
    path = models / folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    (models / folder / "evil.py").write_text(EVIL.format(str(canary)))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked"))
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    monkeypatch.setenv("HF_HUB_TRUST_REMOTE_CODE", "1")
    loader = load_wan if folder.startswith("wan") else load_stable_audio
    with pytest.raises(UnsafeWeightsError, match="names code to run"):
        loader(models / folder.partition("/")[0], CPU)
    assert not canary.exists()
    assert "custom code" not in "".join(capsys.readouterr())


TOKENIZERS: dict[str, dict[str, Any] | str] = {
    "no length": {"model_max_length": 10**30},
    "a length of text": {"model_max_length": "128"},
    "a length of zero": {"model_max_length": 0},
    "a length of a million": {"model_max_length": 10**6},
    "a fraction": {"model_max_length": 1.5},
    "a class that is a list": {"tokenizer_class": ["T5Tokenizer"]},
    "no filling": {"pad_token": None},
    "a list": "[]",
    "deep": "[" * 100_000,
}


TOKENIZER = Path("stable_audio", "tokenizer", "tokenizer.json")


@contextmanager
def rewritten(path: Path, changed: dict[str, Any] | str) -> Iterator[None]:
    """The models are shared: their file is another, or has other entries, only inside."""
    whole = path.read_text()
    try:
        path.write_text(changed if isinstance(changed, str) else json.dumps(json.loads(whole) | changed))
        yield
    finally:
        path.write_text(whole)


@pytest.mark.parametrize("case", TOKENIZERS)
def test_tokenizers_that_lie(case, models) -> None:
    path = models / "stable_audio" / "tokenizer" / "tokenizer_config.json"
    with rewritten(path, TOKENIZERS[case]), pytest.raises(SoundingVideoError):
        load_stable_audio(models / "stable_audio", CPU)


@pytest.mark.parametrize(
    "text", ["{}", "[]", "null", "[" * 100_000, '{"model": 7}', '{"version": "1.0", "model": {}}', "\0"]
)
def test_tokenizer_files_that_are_none(text, models) -> None:
    with rewritten(models / TOKENIZER, text), pytest.raises(SoundingVideoError):
        load_stable_audio(models / "stable_audio", CPU)


def test_tokens_that_the_encoder_does_not_have(models) -> None:
    model = json.loads((models / TOKENIZER).read_text())["model"]
    model["vocab"] |= {word: number + 10**6 for word, number in model["vocab"].items() if number > 9}
    with rewritten(models / TOKENIZER, {"model": model}), pytest.raises(SoundingVideoError):
        load_stable_audio(models / "stable_audio", CPU).text.encode(["rain on a roof"])


@pytest.mark.parametrize("changed", [{"num_layers": 10**6}, {"rope_max_seq_len": 10**9}, {"num_layers": "8"}])
def test_the_plan_refuses_the_same(changed, models) -> None:
    def run() -> None:
        with pytest.raises(WeightsError):
            outline_models(find_models(models), CPU)

    with_config(models, "wan", "transformer", lambda config: config | changed, run)


def test_an_adapter_in_a_part_is_not_followed(models) -> None:
    path = models / "wan" / "text_encoder" / "adapter_config.json"
    path.write_text(json.dumps({"base_model_name_or_path": "/etc", "peft_type": "LORA"}))
    try:
        with pytest.raises(IncompatibleWeightsError, match="not a model of their own"):
            load_wan(models / "wan", CPU)
    finally:
        path.unlink()


def test_what_does_not_lie_is_loaded(models) -> None:
    for tower, part in SETTINGS:
        assert load(models, tower, part)


def _expression(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _replace(content: str, times: int = 1) -> dict[str, Any]:
    return {
        "type": "Sequence",
        "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": content}] * times,
    }


AT_WORK: dict[str, dict[str, Any]] = {
    "an expression without end": {"pre_tokenizer": _expression("(a+)+$")},
    "an ending that is not": {
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "gone", "type_id": 0}}],
            "pair": [],
            "special_tokens": {},
        }
    },
    "letters that grow": {"normalizer": _replace("a" * 100, 4)},
    "one letter that grows": {"normalizer": {"type": "Prepend", "prepend": "a" * 10**6}},
}


@pytest.mark.parametrize("case", AT_WORK)
@pytest.mark.parametrize("weighted", [False, True])
def test_tokenizers_that_fail_at_work(case, weighted, models) -> None:
    """Their Rust part ends in a panic, which is no Exception, or takes all memory for a few letters."""
    from sounding_video.core.dialect import WeightedText

    text = WeightedText((("a" * 60 + "!", 1.2),)) if weighted else "a" * 60 + "!"
    with (
        rewritten(models / TOKENIZER, AT_WORK[case]),
        pytest.raises(IncompatibleWeightsError, match="the tokenizer"),
    ):
        load_stable_audio(models / "stable_audio", CPU).text.encode([text])


def test_a_tokenizer_that_changes_a_few_letters_is_taken(models) -> None:
    with rewritten(models / TOKENIZER, {"normalizer": _replace("aa", 3)}):
        assert load_stable_audio(models / "stable_audio", CPU).text.encode(["rain"]) is not None
