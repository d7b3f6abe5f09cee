"""How the page's search and its reloads treat our nodes, where the running ComfyUI asks for it."""

from __future__ import annotations

from typing import Any

from .host import io, newer

# What people type who do not know our names, by node.
SEARCH_WORDS = {
    "T2SVLoadWanTower": ("wan 2.1", "video model", "load diffusion model"),
    "T2SVLoadStableAudioTower": ("stable audio open", "audio model", "sound model"),
    "T2SVLoadBridge": ("BridgeDiT", "bicross", "dual cross-attention", "sounding"),
    "T2SVJoinTowers": ("wan audio", "sounding video model", "memory plan"),
    "T2SVLoadLora": ("lora loader", "style"),
    "T2SVEncodeCaptions": ("prompt", "text encode", "clip text encode", "negative prompt"),
    "T2SVEmptyAVLatent": ("empty latent", "audio video latent", "video size", "frames"),
    "T2SVJointSampler": (
        "ksampler",
        "sounding video",
        "video with sound",
        "text to video with sound",
        "audio video",
        "wan audio",
        "foley",
        "sound",
    ),
    "T2SVNativeSampler": (
        "ksampler",
        "wan audio",
        "sound for wan",
        "sounding video",
        "video with sound",
        "foley",
        "sound",
    ),
    "T2SVDecodeAV": ("vae decode", "vae decode audio", "decode audio video"),
    "T2SVMux": (
        "save video",
        "save video with sound",
        "video with sound",
        "video combine",
        "add sound to video",
        "audio video",
        "mp4",
    ),
    "T2SVSyncReport": ("av-align", "onsets", "audio video sync", "sound sync", "evaluate"),
    "T2SVExpandPrompt": ("enhance prompt", "prompt rewriter", "llm", "caption", "foley prompt"),
    "T2SVEditAnchors": ("semantic anchors", "events", "storyboard"),
    "T2SVCaptionVideo": ("describe video", "video to text", "video to prompt"),
    "T2SVEncodeClip": ("vae encode", "vae encode audio", "encode video", "foley", "sound for a video", "extend video"),
    "T2SVJoinClips": ("concatenate video", "extend video", "append", "combine clips", "crossfade"),
    "T2SVLoadAlignment": ("SAVA", "cascade", "one after the other"),
    "T2SVConditionOnPicture": ("sound for a video", "foley", "video to audio", "SAVA", "cascade"),
    "T2SVConditionOnSound": ("picture for a sound", "audio to video", "SAVA", "cascade"),
    "T2SVLoadPavDit": ("PAV-DiT", "ProAV-DiT", "sounding video model", "one model for picture and sound"),
    "T2SVDownloadModels": ("missing models", "hugging face", "get models"),
}
# Servers send the results of these again by themselves; the others stand in the middle of a graph.
ENDS = frozenset({"T2SVMux", "T2SVSyncReport", "T2SVDownloadModels"})
# For inputs that few ever change: newer pages put them behind a button.
ADVANCED = newer(io.Combo.Input, advanced=True)


def listing(node_id: str) -> dict[str, Any]:
    """Fields of a node's schema, those that the running host knows.

    With ``has_intermediate_output`` a panel comes back after a reload although the run that is asked for is cached.
    """
    return newer(io.Schema, search_aliases=list(SEARCH_WORDS[node_id]), has_intermediate_output=node_id not in ENDS)
