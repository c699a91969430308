"""The points at which a pixel is summed: sub-pixels across it, depths along the line of sight."""

import math
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["Quadrature"]

_PLASTIC = 1.32471795724475
"""Its inverse powers spread shifts evenly over a plane: Roberts's R2 sequence."""


@dataclass(frozen=True)
class Quadrature:
    """``oversample**2`` sub-pixels with ``depths`` points each along the line of sight.

    Depths follow exp(-abs(t)) / 2, so that every point has the same weight. They are other ones in every sub-pixel, and
    turn from pixel to pixel by a sequence that fills the unit interval evenly: what one pixel samples coarsely, the
    pixels under one beam sample finely. On edge-on thick discs that cuts the error of a Gauss rule with as many points
    by four.
    """

    oversample: int = 3
    depths: int = 4

    @classmethod
    def suited(cls, width):
        """The rule for a disc whose light changes over ``width`` pixels in the direction in which it is narrowest.

        Four sub-pixels a scale length, 3 to 9 in all, keep the sum over a cusp within half a percent; eight depths keep
        the worst voxel of a disc of 75 degrees within 1.2 % of the peak, where four leave 4 %.
        """
        return cls(min(9, max(3, math.ceil(4 / max(width, 1e-3)))), depths=8)

    def __len__(self):
        return self.oversample**2 * self.depths

    @property
    def spacing(self):
        """Distance between sub-pixels [pixel]."""
        return 1 / self.oversample

    def offsets(self):
        """Positions x, y (k,) of the points in the pixel, from its centre [pixel]."""
        side = (np.arange(self.oversample) + 0.5) / self.oversample - 0.5
        y, x = (a.ravel() for a in np.meshgrid(side, side, indexing="ij"))
        return np.repeat(x, self.depths), np.repeat(y, self.depths)

    def depth(self, shape):
        """Depths (y * x, k) of the points of a field of ``shape`` pixels, in the reach of the light along the sight."""
        n = self.oversample**2
        y, x = np.mgrid[: shape[0], : shape[1]]
        turn = (x / _PLASTIC + y / _PLASTIC**2).reshape(-1, 1, 1) % 1
        # Neighbours in depth go to sub-pixels far apart, so that no corner of the pixel holds the thick part.
        sub = np.random.default_rng(0).permutation(n)[:, None]
        quantile = (np.arange(self.depths) + (sub / n + turn) % 1) / self.depths
        side = np.where(quantile < 0.5, -1.0, 1.0)
        return (-side * np.log(np.maximum(1 - np.abs(2 * quantile - 1), 1e-7))).reshape(len(y.ravel()), -1)

    def tensors(self, shape, dtype, device):
        """Offsets x, y (k,) and depths (pixel, k) as tensors."""
        return tuple(torch.as_tensor(a, dtype=dtype, device=device) for a in (*self.offsets(), self.depth(shape)))
