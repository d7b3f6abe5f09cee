"""Bridge points: after which block of each tower the bridges stand, and placements that have names."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import IncompatibleWeightsError, InputError, require_choice


@dataclass(frozen=True)
class BridgePoints:
    """After which block of each tower the bridges stand.

    Args:
        video: 0-based block indices of the video tower, strictly increasing.
        audio: 0-based block indices of the audio tower, strictly increasing, as many.
    """

    video: tuple[int, ...]
    audio: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.video) != len(self.audio) or not self.video:
            raise InputError(
                "video and audio need the same number of bridge points",
                got=f"{list(self.video)} and {list(self.audio)}",
                expected="two lists of one length, at least one point each",
            )
        for name, points in (("video", self.video), ("audio", self.audio)):
            if list(points) != sorted(set(points)) or points[0] < 0:
                raise InputError(
                    f"the {name} bridge points are not usable",
                    got=list(points),
                    expected="increasing block numbers from 0",
                )

    def require_depth(self, num_video_blocks: int, num_audio_blocks: int) -> None:
        """Refuse points past a tower's last block.

        Raises:
            IncompatibleWeightsError: names the point, the tower and its depth.
        """
        for name, points, depth in (("video", self.video, num_video_blocks), ("audio", self.audio, num_audio_blocks)):
            if points[-1] >= depth:
                raise IncompatibleWeightsError(
                    f"a bridge point lies past the {name} tower",
                    got=f"point {points[-1]} of {list(points)}, tower of {depth} blocks",
                    expected=f"block numbers 0 to {depth - 1}",
                    remedy="Choose other points or the tower these bridges were trained with.",
                )


def interleaved(num_bridges: int, num_video_blocks: int, num_audio_blocks: int) -> BridgePoints:
    """So many bridges, spread over both towers: bridge i behind block ⌊(i + ½)·N / bridges⌋ (AV-Link, AVLINK 1.7)."""
    depths = (num_video_blocks, num_audio_blocks)
    return BridgePoints(
        *(tuple((2 * index + 1) * depth // (2 * num_bridges) for index in range(num_bridges)) for depth in depths)
    )


# BridgeDiT Table 7 for Wan 1.3B (30 blocks) and Stable Audio Open (24 blocks). "late" is printed with video layer 30
# and audio layer 24, which do not exist when layers are counted from 0; it is kept as printed and refused by
# require_depth, and "late_shifted" is the same placement moved back by one layer, which fits. The others are not of
# that table.
PLACEMENTS: dict[str, BridgePoints] = {
    "early": BridgePoints((0, 1, 2, 3), (0, 1, 2, 3)),
    "middle": BridgePoints((13, 14, 15, 16), (10, 11, 12, 13)),
    "late": BridgePoints((27, 28, 29, 30), (21, 22, 23, 24)),
    "late_shifted": BridgePoints((26, 27, 28, 29), (20, 21, 22, 23)),
    "uniform": BridgePoints((6, 12, 18, 24), (2, 8, 13, 18)),
    "uniform_early": BridgePoints((3, 7, 11, 15), (2, 5, 8, 11)),
    # SyncFlow pairs all layers: audio block j with the video block at the same share of the depth, or every third j.
    "layerwise": BridgePoints(tuple((j + 1) * 30 // 24 - 1 for j in range(24)), tuple(range(24))),
    "layerwise_8": BridgePoints(tuple((j + 1) * 30 // 24 - 1 for j in range(2, 24, 3)), tuple(range(2, 24, 3))),
    "interleaved_8": interleaved(8, 30, 24),
}


def placement(name: str) -> BridgePoints:
    """A named placement: BridgeDiT's Table 7, or AV-Link's ``interleaved_8``.

    Raises:
        InputError: unknown name; lists the choices.
    """
    require_choice("bridge placement", name, PLACEMENTS)
    return PLACEMENTS[name]
