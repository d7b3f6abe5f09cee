"""What to disconnect where a part of the graph is missing: a muted or bypassed loader takes its links with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError

if TYPE_CHECKING:
    from ..core.types import Conditioning
    from ..pipeline import FamilyModel

LOADERS = {"video": "Load Wan Tower", "audio": "Load Stable Audio Tower"}
_A = {"video": "a video", "audio": "an audio"}
_NUM_AXES = {"video": 5, "audio": 3}  # B C T H W and B C L


def incomplete(what: str, *, connect: str, disconnect: str = "", got: Any = None) -> InputError:
    """The refusal of a graph in which something is missing.

    Args:
        what: One clause that names it.
        connect: What would make it whole.
        disconnect: What would make do without; empty where nothing would.
        got: The offending value.
    """
    ways = f"Disconnect {disconnect}, or connect {connect}" if disconnect else f"Connect {connect}"
    return InputError(what, got=got, remedy=f"{ways}; a node on the way may be muted or bypassed.")


def require_sides(model: FamilyModel, conditioning: Conditioning, latents: Mapping[str, dict[str, Any] | None]) -> None:
    """Refuse to sample what has no tower or no caption, or nothing at all.

    Args:
        model: The joint model.
        conditioning: Encoded captions.
        latents: ComfyUI's LATENT by modality, None where nothing is connected.

    Raises:
        InputError: it says what to disconnect.
    """
    if not any(latents.values()):
        raise incomplete(
            "there is nothing to generate: both latents are absent",
            connect="video_latent, audio_latent or both to Empty AV Latent",
        )
    for name, latent in latents.items():
        if latent is None:
            continue
        require_latent(f"{name}_latent", name, latent, "Empty AV Latent")
        if not model.makes(name):
            raise incomplete(
                f"there is {_A[name]} latent but no {name} tower in the joint model",
                disconnect=f"{name}_latent of this sampler",
                connect=f"{LOADERS[name]} to Join Towers",
            )
        if getattr(conditioning, name) is None:
            raise incomplete(
                f"there is {_A[name]} latent but no encoded {name} caption",
                disconnect=f"{name}_latent of this sampler",
                connect=f"{LOADERS[name]}'s text encoder to Encode Captions",
            )


def require_latent(port: str, name: str, latent: dict[str, Any], source: str) -> None:
    """Refuse the other modality's latent: a bypassed sampler hands on the first one it has.

    Raises:
        InputError: with the shape.
    """
    samples = latent["samples"]
    if samples.ndim != _NUM_AXES[name]:
        raise incomplete(
            f"{port} holds no {name} latent",
            got=f"shape {tuple(samples.shape)}",
            disconnect=port,
            connect=f"{port} of {source}",
        )


def idle_bridge(model_video: object, model_audio: object, bridge: object) -> str:
    """A sentence where a bridge has nothing to join; it is left out then."""
    missing = [name for name, parts in (("video", model_video), ("audio", model_audio)) if parts is None]
    if bridge is None or len(missing) != 1:
        return ""
    (name,) = missing
    return (
        f"The bridge is not used, because there is no {name} tower: disconnect it, or connect {LOADERS[name]}; "
        "a node on the way may be muted or bypassed."
    )
