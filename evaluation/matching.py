"""Pairing events of two lists one to one.

mir_eval finds as many pairs (a test compares). Ours are also the nearest ones, in order, for the pictures to join, and
the node that measures a clip needs no further package.
"""

from __future__ import annotations

from collections.abc import Sequence

Pair = tuple[int, int]
# Times in a manifest have six decimals: a gap of exactly the tolerance must not fail on the last bit.
SLACK_SECONDS = 1e-6


def greedy_pairs(first: Sequence[float], second: Sequence[float], limit_seconds: float) -> list[Pair]:
    """AV-Align's matching: each event of ``first``, in order, takes the first free one of ``second`` that is near.

    Args:
        first: Seconds, in the order in which they choose.
        second: Seconds.
        limit_seconds: Gaps must be smaller than this.

    Returns:
        Indices into both lists.
    """
    free = list(range(len(second)))
    pairs = []
    for index, time in enumerate(first):
        near = next((other for other in free if abs(time - second[other]) < limit_seconds), None)
        if near is not None:
            free.remove(near)
            pairs.append((index, near))
    return pairs


def best_pairs(first: Sequence[float], second: Sequence[float], tolerance_seconds: float) -> list[Pair]:
    """The largest one-to-one matching within a tolerance that keeps the order, with the smallest sum of gaps.

    Dynamic programming over prefixes. On a line no matching that crosses is larger than the best that does not.

    Args:
        first: Seconds, rising.
        second: Seconds, rising.
        tolerance_seconds: Largest gap of a pair, included.

    Returns:
        Indices into both lists, rising.
    """
    # best[i][j]: (pairs, minus the sum of their gaps) among the first i and the first j events
    best = [[(0, 0.0)] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i, time in enumerate(first, 1):
        for j, other in enumerate(second, 1):
            best[i][j] = max(best[i - 1][j], best[i][j - 1])
            gap = abs(time - other)
            if gap <= tolerance_seconds + SLACK_SECONDS:
                num_pairs, saved = best[i - 1][j - 1]
                best[i][j] = max(best[i][j], (num_pairs + 1, saved - gap))
    pairs = []
    i, j = len(first), len(second)
    while i and j:
        if best[i][j] == best[i - 1][j]:
            i -= 1
        elif best[i][j] == best[i][j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]
