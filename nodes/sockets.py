"""The socket types of our own and what travels on each. Everything else travels on ComfyUI's native types.

The three sockets of a loader carry the same value, its parts: each stage takes what it needs of them, and finds in them
where it should run. Three types keep the graph readable and let only fitting sockets connect.
"""

from __future__ import annotations

from .host import io

CATEGORY = "Sounding Video"

VideoTower = io.Custom("T2SV_VIDEO_TOWER")  # models.parts.VideoParts
VideoText = io.Custom("T2SV_VIDEO_TEXT")  # models.parts.VideoParts
VideoCodec = io.Custom("T2SV_VIDEO_CODEC")  # models.parts.VideoParts
AudioTower = io.Custom("T2SV_AUDIO_TOWER")  # models.parts.AudioParts
AudioText = io.Custom("T2SV_AUDIO_TEXT")  # models.parts.AudioParts
AudioCodec = io.Custom("T2SV_AUDIO_CODEC")  # models.parts.AudioParts
Bridge = io.Custom("T2SV_BRIDGE")  # models.weights.bridges.LoadedBridges
Alignment = io.Custom("T2SV_ALIGNMENT")  # models.weights.alignment.LoadedAlignment
JointModel = io.Custom("T2SV_MODEL")  # pipeline.FamilyModel
Conditioning = io.Custom("T2SV_CONDITIONING")  # core.types.Conditioning
