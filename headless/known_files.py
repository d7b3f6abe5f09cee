"""Where files that workflows name can be had, for the page: it offers to fetch what is not there.

Only single files that the page may put into ComfyUI's own folders. Hashes are those that ComfyUI's own templates give;
for the others they give none.
"""

from __future__ import annotations

from collections.abc import Iterable

_WAN = "https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
_UMT5 = "umt5_xxl_fp8_e4m3fn_scaled.safetensors"
_WAN_VAE = "wan_2.1_vae.safetensors"
_T5 = "t5-base.safetensors"
_FILES = {
    "wan2.1_t2v_1.3B_fp16.safetensors": (f"{_WAN}/diffusion_models", "diffusion_models"),
    _UMT5: (f"{_WAN}/text_encoders", "text_encoders"),
    _WAN_VAE: (f"{_WAN}/vae", "vae"),
    "stable-audio-open-1.0.safetensors": (
        "https://huggingface.co/Comfy-Org/stable-audio-open-1.0_repackaged/resolve/main",
        "checkpoints",
    ),
    _T5: ("https://huggingface.co/ComfyUI-Wiki/t5-base/resolve/main", "text_encoders"),
}
_SHA256 = {
    _UMT5: "c3355d30191f1f066b26d93fba017ae9809dce6c627dda5f6a66eaa651204f68",
    _WAN_VAE: "2fc39d31359a4b0a64f55876d8ff7fa8d780956ae2cb13463b0223e15148976b",
}
# Our loaders name one file and find the others that belong to it.
_COMPANIONS = {"T2SVLoadWanTower": (_UMT5, _WAN_VAE), "T2SVLoadStableAudioTower": (_T5,)}


def known_files(node: str, values: Iterable[object]) -> list[dict[str, str]]:
    """Entries of the page's ``properties.models`` for a node.

    Args:
        node: Its id.
        values: Its inputs, among them names of files.
    """
    named = [value for value in values if isinstance(value, str) and value in _FILES]
    wanted = [*named, *(_COMPANIONS.get(node, ()) if named else ())]
    return [known_file(name) for name in dict.fromkeys(wanted)]


def known_file(name: str) -> dict[str, str]:
    """Name, address and folder of one file, and its hash where it is known."""
    address, folder = _FILES[name]
    known = {"hash": _SHA256[name], "hash_type": "SHA256"} if name in _SHA256 else {}
    return {"name": name, "url": f"{address}/{name}", **known, "directory": folder}
