"""What a LoRA can change in a joint model, under every name that files have for it.

Linear layers and convolutions take LoRAs beside them. Norms, and parameters that stand alone (Wan's modulation), are
small: the model with the LoRA gets its own, with the differences summed into it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from torch import nn

from ..joint import JointModel
from .layers import LayerWithLora
from .names import flat

# Part of the joint model -> where its layers are below it, and what it is called.
PARTS = {
    "video": ("video.model.", "video tower"),
    "audio": ("audio.model.", "audio tower"),
    "bridge": ("bridges.", "bridges"),
}
# Layers that both towers have under one name, and many other models too: they do not tell whose the file is.
SHARED_NAMES = ("proj_in", "proj_out")
# Diffusers' name of a Wan layer -> the original one (tested against diffusers' own renaming of whole files).
ORIGINAL_WAN = (
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_([qkv])$", r".\1"),
    (r"\.to_out\.0$", ".o"),
    (r"\.ffn\.net\.0\.proj$", ".ffn.0"),
    (r"\.ffn\.net\.2$", ".ffn.2"),
    (r"\.norm2$", ".norm3"),
    (r"^(blocks\.\d+)\.scale_shift_table$", r"\1.modulation"),
    (r"^scale_shift_table$", "head.modulation"),
    (r"^condition_embedder\.(text|time)_embedder\.linear_1$", r"\1_embedding.0"),
    (r"^condition_embedder\.(text|time)_embedder\.linear_2$", r"\1_embedding.2"),
    (r"^condition_embedder\.time_proj$", "time_projection.1"),
    (r"^proj_out$", "head.head"),
)
# Diffusers' name of a Stable Audio layer -> the original one; joined layers have one name for two or three.
ORIGINAL_AUDIO = (
    (r"^timestep_proj\.", "to_timestep_embed."),
    (r"^global_proj\.", "to_global_embed."),
    (r"^cross_attention_proj\.", "to_cond_embed."),
    (r"^proj_(in|out)$", r"transformer.project_\1"),
    (r"^transformer_blocks\.", "transformer.layers."),
    (r"\.norm1$", ".pre_norm"),
    (r"\.norm2$", ".cross_attend_norm"),
    (r"\.norm3$", ".ff_norm"),
    (r"\.attn1\.to_[qkv]$", ".self_attn.to_qkv"),
    (r"\.attn2\.to_[kv]$", ".cross_attn.to_kv"),
    (r"\.attn1\.", ".self_attn."),
    (r"\.attn2\.", ".cross_attn."),
    (r"\.to_out\.0$", ".to_out"),
    (r"\.ff\.net\.", ".ff.ff."),
)
# Words of other models in front of a name: what follows only looks like a layer of ours.
FOREIGN_PREFIX = re.compile(r"control|vace|text|clip|vae|motion|(?:transformer|dit|unet)_?2")
# Name of a layer, with underscores -> its path below the joint model; several for a joined layer, in their order.
Table = Mapping[str, tuple[str, ...]]


def tables_of(joint: JointModel) -> dict[str, Table]:
    """Every name of everything that can be changed, for each part of the model; an absent part has none."""
    return {part: _table(joint, part) for part in PARTS}


def _table(joint: JointModel, part: str) -> Table:
    root = {"video": joint.video, "audio": joint.audio, "bridge": joint.bridges}[part]
    table: dict[str, tuple[str, ...]] = {}
    for path in () if root is None else changeable(root if part == "bridge" else root.model):
        for name in _names(path, part):
            table[name] = (*table.get(name, ()), PARTS[part][0] + path)
    return table


def _names(path: str, part: str) -> set[str]:
    """With underscores, so that files with dots and files without are found alike."""
    names = {path}
    if part != "bridge":
        original = path
        for pattern, replacement in ORIGINAL_WAN if part == "video" else ORIGINAL_AUDIO:
            original = re.sub(pattern, replacement, original)
        names |= {original, original.removeprefix("transformer.")}
    return {flat(name) for name in names}


def changeable(module: nn.Module) -> Iterator[str]:
    """Paths of all layers with a weight, also of those that have LoRAs already, and of parameters that stand alone."""
    inside: set[int] = set()
    for name, child in module.named_modules():
        if isinstance(child, LayerWithLora):
            inside |= {id(part) for part in child.modules()}
            yield name
        elif id(child) not in inside:
            own = dict(child.named_parameters(recurse=False))
            if "weight" in own:
                yield name
            yield from (f"{name}.{leaf}".lstrip(".") for leaf in own if leaf not in ("weight", "bias"))


def with_known_names(layers: Iterable[str], tables: Mapping[str, Table]) -> dict[str, str]:
    """The file's layers -> their names in the tables: the same, or without a prefix that nobody told us of.

    A prefix counts as one when at least half of the layers have it, when the rest of the name is a layer of the model,
    and when no layer fits as it stands.
    """
    layers = list(layers)
    every = {name for table in tables.values() for name in table} - set(SHARED_NAMES)
    found = {layer: flat(layer) for layer in layers}
    if every & set(found.values()):
        return found
    votes: Counter[str] = Counter()
    for layer in layers:
        ends = (match.end() for match in re.finditer(r"\.", layer))
        votes.update(next(([layer[:end]] for end in ends if flat(layer[end:]) in every), []))
    prefix, count = votes.most_common(1)[0] if votes else ("", 0)
    if 2 * count < len(layers) or FOREIGN_PREFIX.search(prefix):
        return found
    return {layer: flat(layer.removeprefix(prefix)) for layer in layers}
