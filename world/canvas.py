"""A small anti-aliased renderer: shapes as signed distances, painted only where they are.

The unit is half the shorter side, the origin the centre, y points down: the square -1..1 is always in view. Only
operations that IEEE 754 rounds exactly are used on pixels (no powers, no exponentials), and pictures leave in 8 bits,
so that they are the same bytes on every machine.
"""

from __future__ import annotations

import math

import numpy as np

from .palette import RGB

Point = tuple[float, float]
Window = tuple[slice, slice, np.ndarray, np.ndarray]


class Canvas:
    """One picture being painted.

    Args:
        width: Pixels.
        height: Pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self._scale = min(width, height) / 2
        self._x = ((np.arange(width) + 0.5 - width / 2) / self._scale).astype(np.float32)[None, :]
        self._y = ((np.arange(height) + 0.5 - height / 2) / self._scale).astype(np.float32)[:, None]
        self.right, self.bottom = width / 2 / self._scale, height / 2 / self._scale
        self.pixels = np.zeros((height, width, 3), np.float32)

    def copy_from(self, other: Canvas) -> None:
        """Start from another picture of the same size."""
        self.pixels[:] = other.pixels

    def as_bytes(self) -> np.ndarray:
        """``(H, W, 3)`` uint8."""
        return np.floor(np.clip(self.pixels, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)

    def gradient(self, top: RGB, bottom: RGB, *, start: float = -math.inf, stop: float = math.inf) -> None:
        """Fill the rows between two heights from one colour to another; by default the whole picture."""
        start, stop = max(start, -self.bottom), min(stop, self.bottom)
        rows = (self._y[:, 0] >= start) & (self._y[:, 0] < stop)
        share = ((self._y[rows] - np.float32(start)) / np.float32(max(stop - start, 1e-6)))[..., None]
        first, second = np.asarray(top, np.float32), np.asarray(bottom, np.float32)
        self.pixels[rows] = first + (second - first) * share

    def disc(self, centre: Point, radius: float, colour: RGB, alpha: float = 1.0) -> None:
        """A filled circle."""
        window = self._window(centre, radius)
        if window is not None:
            self._cover(window, self._distance(window, centre) - np.float32(radius), colour, alpha)

    def ellipse(
        self, centre: Point, radius: float, flatness: float, colour: RGB, *, alpha: float = 1.0, width: float = 0.0
    ) -> None:
        """An ellipse of half-width ``radius`` and half-height ``radius · flatness``; an outline where width > 0."""
        window = self._window(centre, radius + width)
        if window is None:
            return
        x, y = window[2:]
        dx, dy = x - np.float32(centre[0]), (y - np.float32(centre[1])) / np.float32(flatness)
        distance = np.sqrt(dx * dx + dy * dy) - np.float32(radius)
        if width > 0:
            distance = np.abs(distance) - np.float32(width / 2)
        self._cover(window, distance, colour, alpha)

    def line(self, start: Point, stop: Point, width: float, colour: RGB, alpha: float = 1.0) -> None:
        """A thick line with round ends."""
        centre = ((start[0] + stop[0]) / 2, (start[1] + stop[1]) / 2)
        reach_x, reach_y = abs(stop[0] - start[0]) / 2 + width, abs(stop[1] - start[1]) / 2 + width
        window = self._window(centre, reach_x, reach_y)
        if window is None:
            return
        x, y = window[2] - np.float32(start[0]), window[3] - np.float32(start[1])
        along_x, along_y = stop[0] - start[0], stop[1] - start[1]
        length_squared = max(along_x * along_x + along_y * along_y, 1e-12)
        along_x, along_y = np.float32(along_x), np.float32(along_y)
        share = np.clip((x * along_x + y * along_y) / np.float32(length_squared), 0, 1)
        dx, dy = x - along_x * share, y - along_y * share
        self._cover(window, np.sqrt(dx * dx + dy * dy) - np.float32(width / 2), colour, alpha)

    def box(
        self,
        centre: Point,
        half: Point,
        colour: RGB,
        *,
        angle: float = 0.0,
        corner: float = 0.0,
        alpha: float = 1.0,
    ) -> None:
        """A rectangle of half-width and half-height ``half``, turned by ``angle`` radians, with round corners."""
        reach = math.hypot(*half)
        window = self._window(centre, reach)
        if window is None:
            return
        cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        x, y = window[2] - np.float32(centre[0]), window[3] - np.float32(centre[1])
        across = np.abs(x * cos + y * sin) - np.float32(half[0] - corner)
        along = np.abs(y * cos - x * sin) - np.float32(half[1] - corner)
        outside_x, outside_y = np.maximum(across, 0), np.maximum(along, 0)
        outside = np.sqrt(outside_x * outside_x + outside_y * outside_y)
        self._cover(window, outside + np.minimum(np.maximum(across, along), 0) - np.float32(corner), colour, alpha)

    def polygon(self, points: list[Point], colour: RGB, alpha: float = 1.0) -> None:
        """A convex polygon, corners clockwise as seen."""
        xs, ys = [point[0] for point in points], [point[1] for point in points]
        centre = ((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2)
        window = self._window(centre, (max(xs) - min(xs)) / 2, (max(ys) - min(ys)) / 2)
        if window is None:
            return
        distance: np.ndarray | None = None
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            length = max(math.hypot(x1 - x0, y1 - y0), 1e-9)
            normal_x, normal_y = np.float32((y1 - y0) / length), np.float32((x0 - x1) / length)
            edge = (window[2] - np.float32(x0)) * normal_x + (window[3] - np.float32(y0)) * normal_y
            distance = edge if distance is None else np.maximum(distance, edge)
        self._cover(window, distance, colour, alpha)

    def glow(self, centre: Point, radius: float, colour: RGB, strength: float = 1.0) -> None:
        """Light that fades to nothing at ``radius``, added as by a screen: it never overflows."""
        window = self._window(centre, radius)
        if window is None or strength <= 0:
            return
        rows, columns, x, y = window
        dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
        fade = np.maximum(1 - (dx * dx + dy * dy) / np.float32(radius * radius), 0)
        light = np.clip(fade * fade * np.float32(strength), 0, 1)[..., None] * np.asarray(colour, np.float32)
        part = self.pixels[rows, columns]
        part += light * (1 - part)

    def ball(self, centre: Point, radius: float, colour: RGB, shine: float = 0.5) -> None:
        """A sphere lit from the upper left; ``shine`` 0 is matt, 1 polished."""
        x, y = centre
        dark = tuple(0.62 * value for value in colour)
        self.disc(centre, radius, dark)
        self.disc((x - 0.08 * radius, y - 0.10 * radius), 0.86 * radius, colour)
        self.glow((x - 0.32 * radius, y - 0.38 * radius), 0.62 * radius, (1.0, 1.0, 1.0), 0.25 + 0.75 * shine)

    def _window(self, centre: Point, reach_x: float, reach_y: float | None = None) -> Window | None:
        """The rows and columns within reach of a point; None when they are out of the picture."""
        height, width, _ = self.pixels.shape
        reach_y = reach_x if reach_y is None else reach_y
        left = max(math.floor((centre[0] - reach_x + self.right) * self._scale) - 1, 0)
        right = min(math.ceil((centre[0] + reach_x + self.right) * self._scale) + 1, width)
        top = max(math.floor((centre[1] - reach_y + self.bottom) * self._scale) - 1, 0)
        bottom = min(math.ceil((centre[1] + reach_y + self.bottom) * self._scale) + 1, height)
        if left >= right or top >= bottom:
            return None
        rows, columns = slice(top, bottom), slice(left, right)
        return rows, columns, self._x[:, columns], self._y[rows]

    @staticmethod
    def _distance(window: Window, centre: Point) -> np.ndarray:
        dx, dy = window[2] - np.float32(centre[0]), window[3] - np.float32(centre[1])
        return np.sqrt(dx * dx + dy * dy)

    def _cover(self, window: Window, distance: np.ndarray, colour: RGB, alpha: float) -> None:
        """Blend a colour in where the signed distance is negative; the edge is one pixel wide."""
        coverage = np.clip(np.float32(0.5) - distance * np.float32(self._scale), 0, 1) * np.float32(alpha)
        part = self.pixels[window[0], window[1]]
        part += (np.asarray(colour, np.float32) - part) * coverage[..., None]
