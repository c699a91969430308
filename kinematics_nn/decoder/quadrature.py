"""The points at which a pixel is summed: sub-pixels across it, depths along the line of sight."""

from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["Quadrature"]


@dataclass(frozen=True)
class Quadrature:
    """``k`` points a pixel.

    Attributes
    ----------
    x, y : Tensor (k,)
        Position in the pixel, from its centre [pixel].
    depth : Tensor (k,)
        Position along the line of sight, in the units of `~kinematics_nn.decoder.geometry.line_of_sight`.
    weight : Tensor (k,)
        Weights; they sum to one. The rule integrates a function over the pixel and, against the density
        exp(-abs(depth)) / 2, along the line of sight.
    spacing : float
        Distance between sub-pixels [pixel].
    """

    x: torch.Tensor
    y: torch.Tensor
    depth: torch.Tensor
    weight: torch.Tensor
    spacing: float

    @classmethod
    def product(cls, oversample=3, depths=6, dtype=torch.float32, device=None):
        """``oversample``^2 sub-pixels with ``depths`` (even, or 1: a thin disc) points along each line of sight.

        Along the line of sight it is Gauss-Laguerre on either side of the middle, exact for the exponential law in
        face-on discs.
        """
        if depths == 1:
            t, weight = np.zeros(1), np.ones(1)
        else:
            half, half_weight = np.polynomial.laguerre.laggauss(depths // 2)
            t, weight = np.concatenate([-half[::-1], half]), np.concatenate([half_weight[::-1], half_weight]) / 2
        offset = (np.arange(oversample) + 0.5) / oversample - 0.5
        y, x, t = (a.ravel() for a in np.meshgrid(offset, offset, t, indexing="ij"))
        weight = np.tile(weight, oversample**2) / oversample**2
        return cls._of(x, y, t, weight, 1 / oversample, dtype, device)

    @classmethod
    def staggered(cls, oversample=2, dtype=torch.float32, device=None):
        """``oversample``^2 sub-pixels with two depths each, other ones in every sub-pixel: 2 ``oversample``^2 points.

        Coarse, for simulations by the million, where neighbouring pixels share a beam: all depths together are
        equally probable slices of the exponential law, scaled to its variance.
        """
        n = oversample**2
        depth = -np.log1p(-(np.arange(n) + 0.5) / n)
        depth *= np.sqrt(2 / np.mean(depth**2))
        # Neighbours in depth go to sub-pixels far apart, so that no corner of the pixel holds the thick part.
        depth = depth[np.random.default_rng(0).permutation(n)]
        offset = (np.arange(oversample) + 0.5) / oversample - 0.5
        y, x = (a.ravel() for a in np.meshgrid(offset, offset, indexing="ij"))
        t = np.concatenate([depth, -depth])
        return cls._of(np.tile(x, 2), np.tile(y, 2), t, np.full(2 * n, 0.5 / n), 1 / oversample, dtype, device)

    @classmethod
    def _of(cls, x, y, depth, weight, spacing, dtype, device):
        x, y, depth, weight = (torch.as_tensor(a, dtype=dtype, device=device) for a in (x, y, depth, weight))
        return cls(x, y, depth, weight, spacing)

    def __len__(self):
        return len(self.x)
