"""Curves through given points that overshoot none of them, for numpy and torch."""

from __future__ import annotations

import sys

import numpy as np
from scipy.interpolate import PchipInterpolator

from . import ops

__all__ = ["MonotoneCubic"]


class MonotoneCubic:
    """Piecewise cubic with a continuous slope that is monotonic wherever the points are; constant beyond them.

    Source: Fritsch & Butland (1984, SIAM J. Sci. Stat. Comput. 5, 300), with scipy's coefficients.

    Parameters
    ----------
    x, y : (n,) array
        The points, `x` ascending; at least 2.
    """

    def __init__(self, x, y):
        self.nodes = np.asarray(x, dtype=float)
        self.coefficients = PchipInterpolator(self.nodes, np.asarray(y, dtype=float)).c  # highest power first

    def __call__(self, x):
        """The curve at each element of an array or tensor, whose dtype and device are kept."""
        offset, (cubic, square, slope, value) = self._pieces(x)
        return value + offset * (slope + offset * (square + offset * cubic))

    def slope(self, x):
        """The curve's slope at each element; 0 beyond the points."""
        offset, (cubic, square, slope, _) = self._pieces(x)
        inside = (x >= float(self.nodes[0])) & (x <= float(self.nodes[-1]))
        return ops.where(inside, slope + offset * (2 * square + 3 * offset * cubic), 0 * offset)

    def _pieces(self, x):
        """How far each element is into its piece, and the piece's coefficients."""
        if ops.is_tensor(x):
            torch = sys.modules["torch"]
            nodes, coefficients = (x.new_tensor(array) for array in (self.nodes, self.coefficients))
            held = x.clamp(float(self.nodes[0]), float(self.nodes[-1]))
            piece = torch.bucketize(held.detach(), nodes, right=True).sub(1).clamp(0, len(nodes) - 2)
        else:
            x = np.asarray(x)
            dtype = x.dtype if x.dtype.kind == "f" else float
            nodes, coefficients = self.nodes.astype(dtype), self.coefficients.astype(dtype)
            held = np.clip(x, nodes[0], nodes[-1])
            piece = np.clip(np.searchsorted(nodes, held, side="right") - 1, 0, len(nodes) - 2)
        return held - nodes[piece], coefficients[:, piece]
