"""The last values of one thing, and where they lead."""

from __future__ import annotations

import torch
from torch import Tensor


class History:
    """Extrapolates a tensor by the polynomial through its last values (Taylor's, with divided differences for slopes).

    Args:
        order: 0 to 2; lower while there are not enough values.
    """

    def __init__(self, order: int) -> None:
        self._kept, self._points = order + 1, []

    def __len__(self) -> int:
        return len(self._points)

    @property
    def num_bytes(self) -> int:
        """Of what is kept."""
        return sum(value.nbytes for _, value in self._points)

    def note(self, at: float, value: Tensor) -> None:
        """Keep a value, and forget the oldest one; one at the same place takes the place of the last."""
        if self._points and self._points[-1][0] == at:
            self._points.pop()
        self._points = [*self._points, (at, value)][-self._kept :]

    def __call__(self, at: float) -> Tensor:
        """The value at another place, in the type of those that are known.

        Newton's form, so that a constant stays what it is to the bit.
        """
        places = [place for place, _ in self._points]
        values = [value for _, value in self._points]
        result, factor = values[-1].to(torch.float32), 1.0
        slopes = [value.to(torch.float32) for value in values]
        for degree in range(1, len(values)):
            slopes = [
                (slopes[index + 1] - slopes[index]) / (places[index + degree] - places[index])
                for index in range(len(slopes) - 1)
            ]
            factor *= at - places[-degree]
            result = result + factor * slopes[-1]
        return result.to(values[-1].dtype)
