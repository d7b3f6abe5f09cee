"""Bridge files: every layout in and out, the kind never guessed, nothing unsafe run, nothing dropped in silence."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
from pathlib import Path

import pytest
import small_models as small
import torch
from safetensors.torch import load_file, save_file
from sounding_video.core.errors import (
    CorruptWeightsError,
    IncompatibleWeightsError,
    InputError,
    MissingModelError,
    UnsafeWeightsError,
)
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.joint import BridgePoints, BridgeStack, JointModel, placement
from sounding_video.models.patching import with_tuned_blocks
from sounding_video.models.weights.bridges import BridgeOptions, load_bridges, outline_bridges, save_bridges
from sounding_video.models.weights.files import read_weights
from sounding_video.nodes.host import standalone
from sounding_video.nodes.loaders import LoadBridge

OPTIONS = BridgeOptions(fusion="dual_cross", num_heads=2, points=BridgePoints((0, 1), (0, 1)))


def same_tensors(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[k].float(), two[k].float()) for k in one)


@pytest.mark.parametrize("kind", BRIDGES.names())
def test_our_file_round_trips_with_kind_points_and_sizes(random_stack, tmp_path, kind) -> None:
    stack = random_stack(kind, points=BridgePoints((0, 2), (1, 2)))
    file = tmp_path / "bridge.safetensors"
    save_bridges(file, stack, trained=False, notes={"recipe": "test"})
    loaded = load_bridges(file)
    assert (loaded.stack.kind, loaded.stack.config, loaded.stack.points) == (kind, stack.config, stack.points)
    assert not loaded.trained
    assert same_tensors(loaded.stack.state_dict(), stack.state_dict())
    assert not any(p.name.endswith(".part") for p in tmp_path.iterdir())


def test_names_in_the_file_are_the_published_ones(random_stack, tmp_path) -> None:
    save_bridges(tmp_path / "b.safetensors", random_stack("dual_cross"))
    names = set(load_file(tmp_path / "b.safetensors"))
    assert {"0.attn.q_proj_1.weight", "1.mlp_2.fc2.bias", "0.adaln_modulation_1.1.weight"} < names
    assert len(names) == 2 * 28


@pytest.fixture
def tuned(wan_tower, audio_tower) -> dict[str, dict[str, torch.Tensor]]:
    """Fine-tuned tensors of the first two video blocks and the first audio block, all shifted by one."""
    return {
        "video": {n: p + 1 for n, p in wan_tower.model.named_parameters() if n.startswith(("blocks.0.", "blocks.1."))},
        "audio": {n: p + 1 for n, p in audio_tower.model.named_parameters() if n.startswith("transformer_blocks.0.")},
    }


def layouts(stack: BridgeStack, tuned, wan_tower, audio_tower) -> dict[str, object]:
    """The published file layouts, built from the same weights."""
    bridges = dict(stack.state_dict())
    flat = {**tuned["video"], **tuned["audio"], **bridges}
    video = {**dict(wan_tower.model.named_parameters()), **tuned["video"]}
    audio = {**dict(audio_tower.model.named_parameters()), **tuned["audio"]}
    prefixed = {f"video_diffusion.{n}": t for n, t in video.items()}
    prefixed |= {f"audio_diffusion.{n}": t for n, t in audio.items()}
    prefixed |= {f"dual_dit_blocks.{n}": t for n, t in bridges.items()} | {"video_vae.x": torch.zeros(1)}
    detach = lambda d: {n: t.detach().clone() for n, t in d.items()}  # noqa: E731
    return {
        "lightning": {
            "epoch": 3,
            "global_step": 9,
            "state_dict": detach(flat),
            "hyper_parameters": {"config_path": "x.yaml"},
        },
        "deepspeed": {"module": detach(prefixed), "dp_world_size": 1},
        "wrapped": detach({f"_forward_module.{n}": t for n, t in prefixed.items()}),
        "flat": detach(flat),
    }


@pytest.mark.parametrize("layout", ["lightning", "deepspeed", "wrapped", "flat"])
def test_published_layouts_give_the_same_bridges_and_tuned_blocks(
    random_stack, tuned, wan_tower, audio_tower, tmp_path, layout
) -> None:
    stack = random_stack("dual_cross")
    file = tmp_path / "model.ckpt"
    torch.save(layouts(stack, tuned, wan_tower, audio_tower)[layout], file)
    loaded = load_bridges(file, BridgeOptions("dual_cross", 2, BridgePoints((0, 1), (0, 1)), tuned_blocks=(2, 1)))
    assert same_tensors(loaded.stack.state_dict(), stack.state_dict())
    assert same_tensors(loaded.tower_weights["video"], tuned["video"])
    assert same_tensors(loaded.tower_weights["audio"], tuned["audio"])
    assert "fine-tuned video blocks [0, 1]" in loaded.summary()
    assert "fine-tuned audio blocks [0]" in loaded.summary()
    assert bool(loaded.ignored) == (layout in ("deepspeed", "wrapped"))


TUNED = BridgeOptions("dual_cross", 2, OPTIONS.points, tuned_blocks=(2, 1))


@pytest.mark.parametrize(
    "place", ["checkpoint/mp_rank_00_model_states.pt", "global_step9/mp_rank_00_model_states.pt", "pytorch_model.bin"]
)
def test_a_deepspeed_folder_is_its_model_file(random_stack, tuned, wan_tower, audio_tower, tmp_path, place) -> None:
    """As Lightning, DeepSpeed alone and accelerate lay it out; the kind stands in the folder's name."""
    stack = random_stack("dual_cross")
    folder = tmp_path / "bicross-14B" / "epoch=1-step=9.ckpt"
    (folder / place).parent.mkdir(parents=True)
    torch.save(layouts(stack, tuned, wan_tower, audio_tower)["deepspeed"], folder / place)
    if "/" in place:
        (folder / "latest").write_text(place.partition("/")[0] + "\n")
        (folder / place).with_name("zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(b"never read")
    loaded = load_bridges(folder, BridgeOptions(None, 2, OPTIONS.points, tuned_blocks=(2, 1)))
    assert loaded.source == folder / place
    assert (loaded.stack.kind, loaded.fusion_source) == ("dual_cross", "directory name")
    assert same_tensors(loaded.stack.state_dict(), stack.state_dict())
    assert same_tensors(loaded.tower_weights["video"], tuned["video"])
    assert outline_bridges(folder, TUNED).points == OPTIONS.points


def test_a_checkpoint_saved_in_parts_names_the_script_that_gathers_them(
    random_stack, tuned, wan_tower, audio_tower, tmp_path
) -> None:
    """ZeRO-3 leaves an empty tensor under each name."""
    contents = layouts(random_stack("dual_cross"), tuned, wan_tower, audio_tower)["deepspeed"]
    contents["module"] = {name: torch.empty(0, dtype=torch.bfloat16) for name in contents["module"]}
    folder = tmp_path / "x.ckpt"
    file = folder / "checkpoint" / "mp_rank_00_model_states.pt"
    file.parent.mkdir(parents=True)
    torch.save(contents, file)
    for path in (file, folder):
        for read in (load_bridges, outline_bridges):
            with pytest.raises(
                CorruptWeightsError, match=r"saved in parts \(ZeRO-3\): got .* empty tensors.*zero_to_fp32\.py"
            ):
                read(path, TUNED)
    file.rename(file.with_name("zero_pp_rank_0_mp_rank_00_model_states.pt"))
    with pytest.raises(CorruptWeightsError, match=r"parts that have to be gathered first.*Run zero_to_fp32\.py"):
        load_bridges(folder, TUNED)


def test_what_is_not_used_of_a_checkpoint_is_not_read_from_disk(random_stack, tuned, wan_tower, tmp_path) -> None:
    file = tmp_path / "model.ckpt"
    contents = {f"dual_dit_blocks.{n}": t for n, t in random_stack("dual_cross").state_dict().items()}
    contents |= {f"video_diffusion.{n}": t.detach() for n, t in tuned["video"].items()}
    contents["video_vae.large"] = torch.zeros(64 << 20, dtype=torch.uint8)
    torch.save({"module": contents}, file)
    del contents
    resident = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()  # noqa: E731
    before = resident()
    kept, _ = read_weights(file, "the file")
    assert resident() - before < 16 << 20
    del kept
    loaded = load_bridges(file, TUNED)
    with file.open("r+b") as stream:
        stream.write(bytes(1 << 20))
    assert same_tensors(loaded.tower_weights["video"], tuned["video"]), "what is kept is no longer the file's"


def test_matrices_with_another_number_of_axes_are_named(random_stack, tmp_path) -> None:
    state = {name: tensor.flatten() for name, tensor in random_stack("dual_cross").state_dict().items()}
    save_file(state, tmp_path / "flat.safetensors")
    with pytest.raises(IncompatibleWeightsError, match=r"another number of axes: got .*expected two axes"):
        load_bridges(tmp_path / "flat.safetensors", OPTIONS)


def test_the_node_lists_the_tuned_blocks(small_models_dir, random_stack, tuned, tmp_path) -> None:
    save_bridges(tmp_path / "tuned.safetensors", random_stack("dual_cross"), tower_weights=tuned)
    shutil.copy(small_models_dir / "bridge.safetensors", tmp_path)
    with standalone.session(standalone.Session((tmp_path,))):
        shown = LoadBridge.execute("tuned.safetensors", "from file").ui["text"][0]
        plain = LoadBridge.execute("bridge.safetensors", "from file").ui["text"][0]
    assert shown == (
        "2 dual_cross bridges (kind from metadata) after video blocks [0, 1] and audio blocks [0, 1]; fine-tuned video "
        "blocks [0, 1] (54 tensors); fine-tuned audio blocks [0] (18 tensors)"
    )
    assert "fine-tuned" not in plain


def test_tuned_blocks_change_a_copy_and_leave_the_tower_alone(wan_tower, tuned, inputs) -> None:
    with torch.no_grad():
        before = wan_tower(inputs["video"])
        patched = with_tuned_blocks(wan_tower, tuned["video"])
        after = patched(inputs["video"])
        assert not torch.equal(before, after)
        assert torch.equal(wan_tower(inputs["video"]), before)
    assert patched.blocks[2] is wan_tower.blocks[2], "blocks that were not tuned are shared, not copied"
    assert patched.model.proj_out is wan_tower.model.proj_out
    assert torch.equal(patched.blocks[0].attn1.to_q.weight, tuned["video"]["blocks.0.attn1.to_q.weight"])
    wrong = {"blocks.0.attn1.to_q.weight": torch.zeros(3, 3)}
    with pytest.raises(
        IncompatibleWeightsError, match=r"do not fit the video tower: got 1 of 1 tensors, .*3 blocks of width 24"
    ):
        with_tuned_blocks(wan_tower, wrong)


def test_the_kind_is_read_or_asked_for_never_guessed(random_stack, tmp_path) -> None:
    stack = random_stack("dual_cross")
    bare = dict(stack.state_dict())
    nameless = tmp_path / "weights.safetensors"
    save_file(bare, nameless)
    with pytest.raises(
        IncompatibleWeightsError, match=r"does not say which fusion kind it is: .*choose the kind yourself"
    ):
        load_bridges(nameless, BridgeOptions(num_heads=2, points=OPTIONS.points))
    assert load_bridges(nameless, OPTIONS).fusion_source == "your choice"
    for folder, kind in (("bicross-1.3B", "dual_cross"), ("full-attn-1.3B", "full"), ("v2a", "video_to_audio")):
        file = tmp_path / folder / "epoch=20-step=3318.ckpt"
        file.parent.mkdir()
        torch.save({"state_dict": bare}, file)
        loaded = load_bridges(file, BridgeOptions(num_heads=2, points=OPTIONS.points))
        assert (loaded.stack.kind, loaded.fusion_source) == (kind, "directory name")
        assert "kind from directory name" in loaded.summary()
    ours = tmp_path / "bicross-1.3B" / "ours.safetensors"
    save_bridges(ours, random_stack("full"))
    assert load_bridges(ours).stack.kind == "full", "metadata wins over the directory"
    with pytest.raises(
        IncompatibleWeightsError, match="chosen fusion kind is not the file's: got dual_cross for a file that is full"
    ):
        load_bridges(ours, BridgeOptions(fusion="dual_cross"))
    with pytest.raises(InputError, match="unknown bridge kind"):
        load_bridges(nameless, BridgeOptions(fusion="crossed"))


def test_additive_is_known_by_its_keys(random_stack, tmp_path) -> None:
    file = tmp_path / "x.safetensors"
    save_file(dict(random_stack("additive").state_dict()), file)
    loaded = load_bridges(file, BridgeOptions(points=OPTIONS.points))
    assert (loaded.stack.kind, loaded.fusion_source) == ("additive", "keys")
    with pytest.raises(IncompatibleWeightsError, match="is not the file's"):
        load_bridges(file, BridgeOptions(fusion="full", points=OPTIONS.points))


def test_published_sizes_imply_heads_and_points() -> None:
    """A bare 1.3B file says neither; the published configuration fills in 12 heads and the early-biased points."""
    from sounding_video.models.weights._bridge_metadata import BridgeNote
    from sounding_video.models.weights.bridges import _config, _points

    note, path = BridgeNote(), Path("x.safetensors")
    with torch.device("meta"):
        from sounding_video.models.bridges.config import BridgeConfig

        block = BRIDGES.get("dual_cross")(BridgeConfig())
        large = BRIDGES.get("dual_cross")(BridgeConfig(video_width=5120, video_time_width=5120))
    config = _config(type(block), block.state_dict(), note, path, BridgeOptions())
    assert config == BridgeConfig()
    assert _points(4, config, note, BridgeOptions()) == placement("uniform_early")
    large_config = _config(type(large), large.state_dict(), note, path, BridgeOptions())
    assert (large_config.video_width, large_config.num_heads) == (5120, 12)
    assert _points(3, large_config, note, BridgeOptions()) == BridgePoints((7, 11, 15), (5, 8, 11))


def test_what_a_bare_file_cannot_say_is_asked_for(random_stack, tmp_path) -> None:
    file = tmp_path / "x.safetensors"
    save_file(dict(random_stack("dual_cross").state_dict()), file)
    with pytest.raises(
        IncompatibleWeightsError, match="does not say how many heads its blocks have: got query width 24"
    ):
        load_bridges(file, BridgeOptions(fusion="dual_cross", points=OPTIONS.points))
    with pytest.raises(InputError, match="does not say after which blocks its bridges stand: got 2 bridges"):
        load_bridges(file, BridgeOptions(fusion="dual_cross", num_heads=2))
    with pytest.raises(IncompatibleWeightsError, match="bridge points do not match the file: got 1 points; expected 2"):
        load_bridges(file, BridgeOptions("dual_cross", 2, BridgePoints((0,), (0,))))


def test_missing_surplus_and_misshapen_tensors_are_counted_and_named(random_stack, tmp_path) -> None:
    state = dict(random_stack("dual_cross").state_dict())
    file = tmp_path / "x.safetensors"
    del state["1.mlp_2.fc1.bias"]
    state["0.attn.extra.weight"] = torch.zeros(2)
    state["0.attn.o_proj_2.bias"] = torch.zeros(5)
    save_file(state, file)
    with pytest.raises(IncompatibleWeightsError) as caught:
        load_bridges(file, OPTIONS)
    message = str(caught.value)
    assert "1 missing: 1.mlp_2.fc1.bias" in message
    assert "1 unexpected: 0.attn.extra.weight" in message
    assert "1 of the wrong shape: 0.attn.o_proj_2.bias (5,) instead of (32,)" in message
    save_file({**random_stack("dual_cross").state_dict(), "lora.weight": torch.zeros(1)}, file)
    with pytest.raises(IncompatibleWeightsError, match=r"holds unknown tensors: got 1: lora.weight"):
        load_bridges(file, OPTIONS)
    save_file({"blocks.0.attn1.to_q.weight": torch.zeros(2, 2)}, file)
    with pytest.raises(IncompatibleWeightsError, match="the file holds no bridges"):
        load_bridges(file, OPTIONS)


def test_files_that_are_not_there_or_cut_short(random_stack, tmp_path) -> None:
    with pytest.raises(MissingModelError, match="bridge file was not found"):
        load_bridges(tmp_path / "nowhere.safetensors")
    with pytest.raises(MissingModelError, match="a folder there"):
        load_bridges(tmp_path)
    file = tmp_path / "x.safetensors"
    save_bridges(file, random_stack("dual_cross"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptWeightsError, match=r"cut short: .*bytes, which its header says"):
        load_bridges(file)
    torch.save({"state_dict": dict(random_stack("dual_cross").state_dict())}, tmp_path / "y.ckpt")
    whole = (tmp_path / "y.ckpt").read_bytes()
    (tmp_path / "y.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptWeightsError, match="cannot be read"):
        load_bridges(tmp_path / "y.ckpt")
    (tmp_path / "z.safetensors").write_bytes(b"not weights at all, just some text")
    with pytest.raises(CorruptWeightsError, match="cannot be read"):
        load_bridges(tmp_path / "z.safetensors")
    (tmp_path / "e.ckpt").write_bytes(b"")
    with pytest.raises(CorruptWeightsError, match="cannot be read"):
        load_bridges(tmp_path / "e.ckpt")


class Canary:
    """Unpickling this would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("writer", ["pickle", "torch", "named safetensors"])
def test_a_malicious_pickle_is_named_and_never_run(tmp_path, writer) -> None:
    canary = tmp_path / "canary"
    file = tmp_path / ("evil.safetensors" if writer == "named safetensors" else "evil.ckpt")
    if writer == "torch":
        torch.save({"state_dict": {"0.attn.q_proj_1.weight": Canary(canary)}}, file)
    else:
        file.write_bytes(pickle.dumps({"a": Canary(canary)}))
    with pytest.raises(UnsafeWeightsError) as caught:
        load_bridges(file)
    assert not canary.exists()
    assert ("named .safetensors but is a pickle" if writer == "named safetensors" else "posix.system") in str(
        caught.value
    )


def test_a_loaded_file_runs_in_the_joint_model(small_models_dir, wan_tower, audio_tower, inputs) -> None:
    loaded = load_bridges(small_models_dir / "bridge.safetensors")
    with torch.no_grad():
        video, audio = JointModel(wan_tower, audio_tower, loaded.stack)(inputs["video"], inputs["audio"])
    assert torch.isfinite(video).all()
    assert torch.isfinite(audio).all()
    assert loaded.stack.config.video_width == small.VIDEO_WIDTH


def test_metadata_that_is_not_json_is_refused(random_stack, tmp_path) -> None:
    file = tmp_path / "x.safetensors"
    save_file(dict(random_stack("full").state_dict()), file, metadata={"fusion": "full", "config": "{broken"})
    with pytest.raises(CorruptWeightsError, match="metadata 'config' is not JSON"):
        load_bridges(file)
    config = {"video_width": 24, "colour": "red"}
    save_file(dict(random_stack("full").state_dict()), file, metadata={"fusion": "full", "config": json.dumps(config)})
    with pytest.raises(CorruptWeightsError, match="unknown keys in a bridge configuration: got colour"):
        load_bridges(file)


def test_equal_bridges_are_equal_bytes_with_the_users_file_mode(random_stack, tmp_path) -> None:
    stack = random_stack("dual_cross")
    for name in ("a", "b"):
        save_bridges(tmp_path / f"{name}.safetensors", stack, notes={"licence": "Apache-2.0 ✓", "recipe": "test"})
    (tmp_path / "plain").touch()
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
