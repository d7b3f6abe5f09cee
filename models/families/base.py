"""What every family offers: it recognises and loads a model, and the model says and does what the stages need."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torch import nn

from ...core.clock import ClipTimes, LatentGeometry, Timeline
from ...core.errors import InputError
from ...core.pair import THINGS, Pair
from ...core.progress import SILENT, Progress
from ...core.types import AVClip, JointLatents
from ..clip_decoding import decode_clip
from ..clip_encoding import encode_clip
from ..own import OwnSettings, folder_settings
from ..parts import AudioParts, VideoParts
from ..placement import on_device
from ..plan.base import ModelOutline, Workload
from ..plan.duration import quick_or_seconds
from ..weights.hub import listed_name

if TYPE_CHECKING:
    from ...core.device import Placement
    from ...core.protocols import AudioCodec, Denoiser, VideoCodec
    from ..bridge_use import BridgeUse
    from ..lora.apply import LoraReport
    from ..lora.files import LoraFile
    from ..text._encoder import PromptEncoder
    from ..text._handle import TextEncoderHandle
    from ..weights.bridges import BridgeOptions


class Found(Protocol):
    """A model on disk, as its family found it.

    Args:
        family: Key of the family.
        name: How lists name it.
        own: What it was made for.
        notes: What the user should know of the choice, a sentence each.
        bridge_note: The same of its bridges; empty where there was no choice.
    """

    family: str
    name: str
    own: OwnSettings
    notes: tuple[str, ...]
    bridge_note: str


@dataclass(frozen=True)
class FoundFolder:
    """A model that is one folder.

    Args:
        family: Key of the family.
        path: The folder.
        notes: See :class:`Found`.
        bridge_note: See :class:`Found`.
    """

    family: str
    path: Path
    notes: tuple[str, ...] = ()
    bridge_note: str = ""

    @property
    def name(self) -> str:
        """The folder's own, or its repository's."""
        return listed_name(self.path, (self.path.parent,))

    @property
    def own(self) -> OwnSettings:
        """From the note ``model.json`` in the folder."""
        return folder_settings(self.path)


@dataclass(frozen=True)
class Wishes:
    """What may be asked of a model beside where it runs.

    Args:
        bridge: A file, ``none``, or ``auto`` for the one beside the model.
        bridge_options: What a bridge file without metadata does not say.
        free_text: Read the text encoders when they are used and let go of them afterwards.
    """

    bridge: str = "auto"
    bridge_options: BridgeOptions | None = None
    free_text: bool = False


@dataclass(frozen=True)
class Offers:
    """What a family can do beside the plain way; whatever else is asked for is refused before anything is loaded.

    Args:
        bridges: Whether it has bridges that can be chosen.
        loras: Whether it takes LoRAs.
        free_text: Whether its text encoders can be let go of.
        storages: How its weights can be kept.
        offloads: How they can be moved.
    """

    bridges: bool = False
    loras: bool = False
    free_text: bool = False
    storages: tuple[str, ...] = ("native", "auto")
    offloads: tuple[str, ...] = ("none", "model", "auto")


class Family(ABC):
    """One kind of models: a value without state."""

    title: ClassVar[str]  # for lists
    offers: ClassVar[Offers] = Offers()
    processes: ClassVar[Pair[str] | None] = None  # of the noise of each modality; None leaves it to the schedule

    @abstractmethod
    def recognise(self, folder: Path) -> Found | None:
        """The model that a folder is; None for another family's, and for any other folder. Nothing raises."""

    @abstractmethod
    def load(self, found: Found, placement: Placement, wishes: Wishes) -> FamilyModel:
        """Load it; what the family does not offer has been refused already.

        Raises:
            MissingModelError, WeightsError: it is not whole.
        """

    @abstractmethod
    def outline(self, found: Found, placement: Placement, wishes: Wishes) -> ModelOutline:
        """The same without weights, for plans before anything is loaded."""

    def require(self, placement: Placement, wishes: Wishes, *, loras: bool = False) -> None:
        """Refuse what the family does not offer.

        Raises:
            InputError: it says what can be asked for instead.
        """
        offers, described = self.offers, wishes.bridge_options
        named = wishes.bridge not in ("auto", "none")
        told = described is not None and described != type(described)()
        if (named or told) and not offers.bridges:
            self._refuse("has no bridges", wishes.bridge if named else "a description of bridges", "no bridge")
        if loras and not offers.loras:
            self._refuse("takes no LoRA", "a LoRA", "none")
        if wishes.free_text and not offers.free_text:
            self._refuse("keeps its text encoders", "text encoders that are let go of", "encoders that stay")
        if placement.storage not in offers.storages:
            self._refuse("cannot keep its weights so", f"storage {placement.storage}", " or ".join(offers.storages))
        if placement.offload not in offers.offloads:
            self._refuse("cannot be moved so", f"offload {placement.offload}", " or ".join(offers.offloads))

    def _refuse(self, what: str, got: str, expected: str) -> None:
        raise InputError(f"this model ({self.title}) {what}", got=got, expected=expected)


class FamilyModel(ABC):
    """A loaded model, as everything after the loader sees it. Subclasses are frozen dataclasses.

    What is a property here is one there too, or a value of the class; a field of that name would never be filled.

    Args:
        placement: Where it runs.
        bridges: One line about its bridges; None without.
        loras: What was laid beside its layers.
        use: What its bridges were trained for; None where nothing says it.
        walked: Whether its root runs a side alone with what it has ``heard``, and the first block alone (step caches).
    """

    placement: Placement
    bridges: str | None = None
    loras: tuple[LoraReport, ...] = ()
    processes: Pair[str] | None = None  # see Family
    use: BridgeUse | None = None
    walked: bool = False

    @property
    @abstractmethod
    def description(self) -> str:
        """One line for the user."""

    @property
    @abstractmethod
    def own(self) -> OwnSettings:
        """What the model was made for."""

    @property
    @abstractmethod
    def trained(self) -> bool:
        """False when any part is random and only shows the form."""

    @property
    @abstractmethod
    def hears(self) -> frozenset[str]:
        """The modalities that receive something from the other one."""

    @property
    @abstractmethod
    def geometry(self) -> LatentGeometry:
        """What extents there are, and which shapes their latents have."""

    @property
    @abstractmethod
    def texts(self) -> Pair[PromptEncoder | TextEncoderHandle]:
        """The caption encoder of each modality; one may serve both."""

    @property
    @abstractmethod
    def codecs(self) -> Pair[VideoCodec | AudioCodec]:
        """Between media and the model's latents; two faces of one autoencoder name it as their ``whole``."""

    @property
    @abstractmethod
    def root(self) -> nn.Module:
        """What denoises: the module whose weights are on the device while the sampler runs."""

    @abstractmethod
    def outline(self) -> ModelOutline:
        """All parts without weights, for the planner."""

    @abstractmethod
    def sampling_outline(self, text_lengths: tuple[int, int]) -> ModelOutline:
        """What denoises, without weights.

        Args:
            text_lengths: Tokens of the video and of the audio text; 0 without.
        """

    @property
    def sides(self) -> Pair[VideoParts | AudioParts]:
        """What travels on the nodes' sockets of each side: codec and text encoder, and a tower where there is one."""
        rest = {"placement": self.placement, "name": self.description, "trained": self.trained, "own": self.own}
        made = {"video": VideoParts, "audio": AudioParts}
        parts = {side: make(None, self.codecs[side], self.texts[side], **rest) for side, make in made.items()}
        return Pair(**{side: each for side, each in parts.items() if self.makes(side)})

    def makes(self, modality: str) -> bool:
        """Whether it has a side, ``video`` or ``audio``."""
        return self.codecs[modality] is not None

    def shapes(self, timeline: Timeline) -> Pair[tuple[int, ...]]:
        """Of the latents of one clip: ``(1, C, T, H, W)`` and ``(1, C, L)``; None for a side that it does not make."""
        shapes = Pair((1, *timeline.video_latent_shape), (1, *timeline.audio_latent_shape))
        return Pair(*(shape if self.makes(side) else None for side, shape in shapes.present.items()))

    def times(self, shapes: Pair[tuple[int, ...]]) -> ClipTimes | None:
        """When latent steps lie where nobody knows the frame rate; None where the model has no use for it."""
        if shapes.video is None or shapes.audio is None:
            return None
        return self.geometry.times_from_counts(shapes.video[2], shapes.audio[2])

    def denoiser(self, times: ClipTimes | None) -> Denoiser:
        """What the sampler drives.

        Args:
            times: When the latent steps lie, where that is known.
        """
        return self.root

    def resident(self, placement: Placement) -> AbstractContextManager[Any]:
        """:attr:`root` is ready to be called on the device inside the block."""
        return on_device(self.root, placement)

    def why_deaf(self, modality: str) -> tuple[str, str]:
        """Of a side that hears nothing of the other one: what there is, and what would do."""
        thing = THINGS[modality]
        return f"a model whose {thing} does not hear the other side", f"a model that makes the {thing} for it"

    def encode(
        self, clips: AVClip | Sequence[AVClip], timeline: Timeline, *, tiling: str = "auto", progress: Progress = SILENT
    ) -> JointLatents:
        """Latents of clips that fit a timeline; arguments and errors as :func:`~..clip_encoding.encode_clip`."""
        codecs = {"video_codec": self.codecs.video, "audio_codec": self.codecs.audio}
        return encode_clip(clips, timeline, **codecs, placement=self.placement, tiling=tiling, progress=progress)

    def decode(
        self, latents: JointLatents, *, fps: Fraction, tiling: str = "auto", progress: Progress = SILENT
    ) -> AVClip:
        """A clip of latents; arguments and errors as :func:`~..clip_decoding.decode_clip`."""
        rest = {"placement": self.placement, "tiling": tiling, "progress": progress}
        return decode_clip(latents, self.codecs, fps=fps, **rest, own_seconds=self.own.seconds)

    def sampling_seconds(self, work: Workload, *, num_steps: int, passes: int) -> float:
        """How long sampling takes here, of the right order; 0 for what is quick anywhere.

        Args:
            work: The shapes.
            num_steps: Denoising steps.
            passes: Forwards a step.
        """
        step = self.outline().cost("sample", work, batched=False, tiling="off").operations
        return quick_or_seconds(num_steps * step, self.placement)

    def alone(self, modality: str) -> FamilyModel:
        """The model of one side only, without what leads to the other; only its tower is moved to the device.

        Raises:
            InputError: this family makes both sides at once, or there is no such side.
        """
        raise InputError("this model makes picture and sound at once", got=self.description, expected="two towers")

    def with_lora(self, lora: LoraFile, strength: float = 1.0, *, part: str | None = None) -> FamilyModel:
        """The model with a LoRA beside its layers.

        Raises:
            InputError: this family takes none.
        """
        raise InputError("this model takes no LoRA", got=f"a LoRA for {self.description}", expected="none")
