"""Kind 8: folders of diffusers whose files say what is not so."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from .case import EITHER, SMALL, Case, Place
from .texts import models_with
from .weights import _Calls

LINE = ["generate", "a" * 60 + "!", "-o", "new/c.mp4", "--models", "m", "--size", "64x64", *SMALL[2:]]
EVIL = "open({!r}, 'w')\nclass Evil:\n    from_pretrained = staticmethod(lambda *a, **k: None)\n"
# The file, and what is laid over it.
SETTINGS: dict[str, tuple[str, object]] = {
    "a pipeline of its own": ("wan/model_index.json", {"_class_name": ["evil", "Evil"]}),
    "a pipeline by its name": ("wan/model_index.json", {"custom_pipeline": "evil"}),
    "a part of the system": ("wan/model_index.json", {"transformer": ["os", "system"]}),
    "a part of the folder": ("wan/model_index.json", {"vae": ["evil", "Evil"]}),
    "a part that is null": ("wan/model_index.json", {"transformer": [None, None]}),
    "a part above": ("wan/model_index.json", {"../../etc": ["diffusers", "AutoencoderKLWan"]}),
    "code of another": ("wan/vae/config.json", {"auto_map": {"AutoModel": "evil--evil.Evil"}}),
    "trust": ("wan/text_encoder/config.json", {"trust_remote_code": True, "auto_map": {"AutoConfig": "evil.Evil"}}),
    "another place": ("wan/text_encoder/config.json", {"_name_or_path": "http://127.0.0.1:9/evil"}),
    "a newer diffusers": ("wan/transformer/config.json", {"_diffusers_version": "999.0"}),
    "a version of code": ("wan/transformer/config.json", {"_diffusers_version": "__import__('os')"}),
    "another architecture": ("stable_audio/text_encoder/config.json",
        {"architectures": ["Evil"], "model_type": "evil"}),
    "numbers of code": ("stable_audio/text_encoder/config.json",
        {"torch_dtype": "__import__('os').system('touch canary')"}),
    "a type of torch": ("stable_audio/text_encoder/config.json", {"dtype": "save"}),
    "an embedding that is tied to nothing": ("stable_audio/text_encoder/config.json", {"vocab_size": 5}),
    "pruned heads": ("wan/text_encoder/config.json", {"pruned_heads": {"0": [0, 1, 2, 3]}}),
    "labels": ("wan/text_encoder/config.json", {"id2label": {"x": 1}, "num_labels": -1}),
    "a sub-configuration": ("wan/text_encoder/config.json", {"text_config": {"model_type": "evil"}}),
    "a decoder that is no number": ("wan/text_encoder/config.json",
        {"num_decoder_layers": "many", "is_encoder_decoder": "no"}),
    "distances of zero": ("wan/text_encoder/config.json", {"relative_attention_max_distance": 0}),
    "a picture's channels": ("wan/transformer/config.json", {"out_channels": 0}),
    "frequencies of another width": ("wan/transformer/config.json", {"freq_dim": 7}),
    "frequencies without end": ("wan/transformer/config.json", {"freq_dim": 2**31}),
    "a text of another width": ("wan/transformer/config.json", {"text_dim": 3}),
    "an image's embedding": ("wan/transformer/config.json", {"image_dim": -1}),
    "positions of an image": ("wan/transformer/config.json", {"pos_embed_seq_len": 10**9}),
    "a deviation of none": ("wan/vae/config.json", {"latents_std": [1e-400] * 16}),
    "a mean of infinity": ("wan/vae/config.json", {"latents_mean": ["inf"] * 16}),
    "attention everywhere": ("wan/vae/config.json", {"attn_scales": [1.0] * 10_000}),
    "strides of text": ("wan/vae/config.json", {"temperal_downsample": "no"}),
    "patches": ("wan/vae/config.json", {"patch_size": 2, "is_residual": True}),
    "a hop of a million": ("stable_audio/vae/config.json", {"downsampling_ratios": [1000, 1000, 2]}),
    "half a rate": ("stable_audio/vae/config.json", {"sampling_rate": 22050.5}),
    "a rate of text": ("stable_audio/vae/config.json", {"sampling_rate": "44100"}),
    "a rate of none": ("stable_audio/vae/config.json", {"sampling_rate": None}),
    "nine channels": ("stable_audio/vae/config.json", {"audio_channels": 9}),
    "multiples below zero": ("stable_audio/vae/config.json", {"channel_multiples": [-1, 2, 4]}),
    "seconds that are none": ("stable_audio/projection_model/config.json", {"min_value": "0", "max_value": []}),
    "seconds backwards": ("stable_audio/projection_model/config.json", {"min_value": 100, "max_value": 0}),
    "a schedule of 10**12 times": ("stable_audio/scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}),
    "a schedule of code": ("wan/scheduler/scheduler_config.json", {"_class_name": "os.system"}),
    "a schedule of a list": ("wan/scheduler/scheduler_config.json", {"_class_name": [], "prediction_type": {}}),
    "a schedule of NaN": ("stable_audio/scheduler/scheduler_config.json", {"sigma_max": "nan", "sigma_min": -1}),
    "a shift of zero": ("wan/scheduler/scheduler_config.json", {"flow_shift": 0, "solver_order": 10**6}),
    "a template of code": ("wan/tokenizer/tokenizer_config.json",
        {"chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}"}),
    "a tokenizer elsewhere": ("wan/tokenizer/tokenizer_config.json",
        {"tokenizer_file": "/etc/passwd", "vocab_file": "/etc/passwd"}),
    "a tokenizer of another": ("wan/tokenizer/tokenizer_config.json", {"tokenizer_class": "evil.Evil", "auto_map": {}}),
    "words without end": ("wan/tokenizer/tokenizer_config.json",
        {"added_tokens_decoder": {str(number): {"content": f"w{number}"} for number in range(20_000)}}),
    "words below zero": ("wan/tokenizer/tokenizer_config.json", {"added_tokens_decoder": {"-5": {"content": "a"}}}),
    "words that are numbers": ("wan/tokenizer/tokenizer_config.json",
        {"added_tokens_decoder": {"a": 5}, "pad_token": 7}),
    "a side that is none": ("wan/tokenizer/tokenizer_config.json", {"padding_side": "up", "truncation_side": []}),
    "frames below zero": ("pocket.json", {"frames": -33, "fps": 0}),
    "frames of text": ("pocket.json", {"frames": "33", "size": "64"}),
    "a size of a wall": ("pocket.json", {"size": 10**9, "fps": "1e999999999"}),
    "steps of NaN": ("pocket.json", {"num_steps": "nan", "video_cfg": None}),
    "words it does not know": ("pocket.json", {"knows": {"a": 5, "b": [None]}, "captions": ["short"]}),
    "negatives that are lists": ("pocket.json", {"video_negative": ["a"], "text_length": -1}),
    "a text of 10**12": ("pocket.json", {"text_length": 10**12}),
    "sizes that are none": ("pocket.json", {"sizes": "many", "trained": "yes", "trained_parts": 5}),
}  # fmt: skip


def _expression(pattern: str) -> dict:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


WORDS: dict[str, Callable[[dict], dict]] = {
    "an expression without end": lambda found: found | {"pre_tokenizer": _expression("(a+)+$")},
    "an expression of doubles": lambda found: found | {"pre_tokenizer": _expression("(a|a)*b")},
    "an expression that is none": lambda found: found | {"pre_tokenizer": _expression("(((")},
    "letters that grow": lambda found: found | {"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 100}] * 4}},
    "letters that vanish": lambda found: found | {"normalizer": {"type": "Replace", "pattern": {"Regex": "."},
        "content": ""}},
    "a word of 2**31": lambda found: found | {"added_tokens": [{"id": 2**31, "content": "a", "single_word": False,
        "lstrip": False, "rstrip": False, "normalized": False, "special": True}]},
    "no vocabulary": lambda found: found | {"model": found["model"] | {"vocab": {}}},
    "a vocabulary of one": lambda found: found | {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}},
    "a vocabulary twice": lambda found: found | {"model": found["model"] | {
        "vocab": dict.fromkeys(found["model"].get("vocab", {}), 1) if isinstance(found["model"].get("vocab"),
            dict) else []}},
    "an ending that is not": lambda found: found | {"post_processor": {"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "gone", "type_id": 0}}], "pair": [], "special_tokens": {}}},
    "fillings of 10**9": lambda found: found | {"padding": {"strategy": {"Fixed": 10**9}, "direction": "Right",
        "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"}},
    "cuts of zero": lambda found: found | {"truncation": {"direction": "Right", "max_length": 0,
        "strategy": "LongestFirst", "stride": 5}},
}  # fmt: skip


def _links(folder: Path, name: str, make: Callable[[Path], object]) -> None:
    path = folder / name
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    make(path)


WEIGHTS = "wan/transformer/diffusion_pytorch_model.safetensors"
FORMS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a configuration that is a folder": ("wan/vae/config.json", Path.mkdir),
    "a configuration that is a pipe": ("wan/transformer/config.json", os.mkfifo),
    "a part that is a link around": ("wan/text_encoder", lambda path: path.symlink_to("..")),
    "a part that is a link to itself": ("stable_audio/vae", lambda path: path.symlink_to(path)),
    "a part that is a file": ("stable_audio/transformer", Path.touch),
    "a tokenizer that is a device": ("wan/tokenizer/tokenizer.json", lambda path: path.symlink_to("/dev/zero")),
    "weights that are a folder": (WEIGHTS, Path.mkdir),
    "weights that are a ring": (WEIGHTS, lambda path: path.symlink_to(path.name)),
    "weights of the system": (WEIGHTS, lambda path: path.symlink_to("/proc/self/mem")),
    "empty weights": (WEIGHTS, Path.touch),
    "a model beside it": ("wan/tokenizer/evil.py", lambda path: path.write_text("raise SystemExit(7)")),
    "words that are deep": ("wan/tokenizer/special_tokens_map.json", lambda path: path.write_text("[" * 100_000)),
    "more words": ("wan/tokenizer/added_tokens.json", lambda path: path.write_text('{"a": -1, "b": 99999999999}')),
    "a template in a file": ("wan/tokenizer/chat_template.jinja",
        lambda path: path.write_text("{% for a in range(10**9) %}{% endfor %}")),
    "a way to write": ("wan/text_encoder/generation_config.json", lambda path: path.write_text('{"max_length": "x"}')),
    "a list of shards that are above": (f"{WEIGHTS}.index.json",
        lambda path: path.write_text('{"weight_map": {"a": "../../../../../etc/passwd"}}')),
    "a list of shards in a ring": (f"{WEIGHTS}.index.json",
        lambda path: path.write_text(json.dumps({"weight_map": {"a": path.name}}))),
}  # fmt: skip


def cases(chance: random.Random) -> Iterator[Case]:
    """One file of a good folder is another one."""
    for what, (name, changed) in SETTINGS.items():

        def line(place: Place, name: str = name, changed: dict = changed) -> list[str]:
            from .texts import POCKET

            content = json.loads((POCKET / name).read_text(encoding="utf-8"))
            folder = models_with(place, name, json.dumps(content | changed).encode())
            for part in ("", "wan", Path(name).parent):
                (folder / part / "evil.py").write_text(EVIL.format(str(place.canary)))
            return LINE

        yield Case(8, f"{what} ({name})", line, EITHER)
    for what, change in WORDS.items():

        def line(place: Place, change: Callable = change) -> list[str]:
            from .texts import POCKET

            name = "wan/tokenizer/tokenizer.json"
            content = json.loads((POCKET / name).read_text(encoding="utf-8"))
            models_with(place, name, json.dumps(change(content)).encode())
            return LINE

        yield Case(8, f"{what} (tokenizer.json)", line, EITHER)
    for what, (name, make) in FORMS.items():

        def line(place: Place, name: str = name, make: Callable = make) -> list[str]:
            _links(models_with(place, "pocket.json", b"{}"), name, make)
            return LINE

        yield Case(8, what, line, EITHER)
    for name in (
        "wan/transformer/diffusion_pytorch_model",
        "wan/text_encoder/model",
        "stable_audio/vae/diffusion_pytorch_model",
    ):
        for keep in (True, False):

            def line(place: Place, name: str = name, keep: bool = keep) -> list[str]:
                folder = models_with(place, f"{name}.nothing", None)
                evil = pickle.dumps({"a": _Calls(os.system, f"touch {place.canary}")})
                for ending in (".bin", ".pt", ".ckpt"):
                    (folder / f"{name}{ending}").write_bytes(evil)
                if not keep:
                    (folder / f"{name}.safetensors").unlink()
                return LINE

            yield Case(8, f"a pickle {'beside' if keep else 'in place of'} {name}.safetensors", line, EITHER)
