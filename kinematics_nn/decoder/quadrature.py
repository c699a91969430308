"""The points at which a pixel is summed: sub-pixels across it, depths along the line of sight."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

__all__ = ["Fineness", "Quadrature"]

_PLASTIC = 1.32471795724475
"""Its inverse powers spread shifts evenly over a plane: Roberts's R2 sequence."""

_TURNS = 4096
"""As many as a field of 64 x 64 pixels has; of a larger field they are shared, or they would outgrow its cube."""

_LATTICES = {1: 0, 5: 2, 13: 5, 29: 12, 65: 18, 145: 12}
"""Numbers of sub-pixels, and the step of the second coordinate while the first goes on by one."""

_FLAT = 0.05  # pixels: a disc that reaches no farther along the line of sight has one depth
_FEW = 1.0  # pixels, up to where half the depths are enough
_LIGHTEST = 1e-5  # weight of a depth: half of the nodes of a high order are farther out, with next to none
_TURNING = 0.4  # reach along the line of sight over the scale of the light, from where depths turn


@dataclass(frozen=True)
class Fineness:
    """How many points discs are summed at, beyond what their geometry says.

    What is enough depends on how far the speed changes along the line of sight, in widths of the line, and on how
    bright the disc is: a likelihood measures it (`~kinematics_nn.inference.quality.suit`).

    Attributes
    ----------
    depths : int
        Along the line of sight, even: the order of a Gauss rule.
    across : float
        Sub-pixels to the scale of the light where it is narrowest.
    least : int
        Sub-pixels at least.
    turned : int
        Sub-pixels at least, of eight depths each that turn, beyond ``ratio``.
    ratio : float
        Reach along the line of sight over the scale of the light, up to which a Gauss rule is taken of thick discs.
    """

    depths: int = 8
    across: float = 3.5
    least: int = 5
    turned: int = 13
    ratio: float = _TURNING


@dataclass(frozen=True)
class Quadrature:
    """Points in a pixel: ``sub_pixels`` across it with ``depths`` each along the line of sight.

    The sub-pixels (1, 5, 13, 29, 65 or 145) of all pixels make one square lattice, which is turned against the pixels:
    a thin disc on edge along a row of pixels then crosses it at as many levels as a pixel has points, and not at their
    square root.

    Depths follow exp(-abs(t)) / 2. Where the light and the speed change little over the reach of that law, a Gauss
    rule (Laguerre's, on both sides; ``depths`` is its order) takes ``turned=False``. Where they do not, near edge-on,
    equally weighted depths do better that are other ones in every sub-pixel and turn from pixel to pixel by a sequence
    that fills the unit interval evenly: what one pixel samples coarsely, the pixels under one beam sample finely.
    """

    sub_pixels: int = 13
    depths: int = 8
    turned: bool = True

    def __post_init__(self):
        if self.sub_pixels not in _LATTICES:
            raise ValueError(f"{self.sub_pixels} sub-pixels: they are one of {', '.join(map(str, _LATTICES))}")
        if not self.turned and self.depths % 2 and self.depths != 1:
            raise ValueError(f"{self.depths} depths that do not turn: they are one, or an even number")

    @classmethod
    def suited(cls, minor, reach, ratio, fineness=None):
        """The rule for a disc, by measures of how fast it changes.

        Parameters
        ----------
        minor : float
            Scale of the light where it is narrowest, across the major axis [pixel].
        reach : float
            What the scale height comes to in the plane of the disc, seen along the line of sight, h tan i [pixel].
        ratio : float
            The same over the scale of the light.
        fineness : Fineness, optional
            By default what keeps most discs within 0.3 % of their peak.
        """
        own = fineness or Fineness(depths=4 if reach < _FEW else 8)
        flat = reach <= _FLAT
        if ratio > (_TURNING if flat else own.ratio):
            return cls(_lattice(2 / max(minor, 1e-3), own.turned, max(own.turned, 29)), 8, turned=True)
        most = 65 if own.across <= Fineness.across else 145
        return cls(_lattice(own.across / max(minor, 1e-3), own.least, most), 1 if flat else own.depths, turned=False)

    def finer(self):
        """The rule for the pixels at the centre, where everything is steepest."""
        return replace(self, sub_pixels=_lattice(3 / self.spacing, 65, 145))

    def __len__(self):
        return self.sub_pixels * (self.depths if self.turned else len(_gauss(self.depths)[0]))

    @property
    def spacing(self):
        """Distance between sub-pixels [pixel]."""
        return self.sub_pixels**-0.5

    def offsets(self, dtype=torch.float64, device=None):
        """Positions x, y (sub-pixel,) of the sub-pixels, from the pixel's centre [pixel]."""
        n = self.sub_pixels
        k = torch.arange(n, dtype=dtype, device=device)
        x, y = k / n, torch.remainder(k * _LATTICES[n], n) / n
        return x - x.round(), y - y.round()

    def turn(self, x, y):
        """Which of the turns of `depth` (pixel,) the pixels in columns ``x`` and rows ``y`` (pixel,) take."""
        turn = (x.double() / _PLASTIC + y.double() / _PLASTIC**2) % 1
        return (turn * _TURNS).long()

    def depth(self, dtype=torch.float64, device=None):
        """Depths in the reach of the light along the line of sight, and their weights.

        Returns
        -------
        depth : Tensor (depth, sub-pixel, turn) or (depth, 1, 1)
        weight : Tensor (depth, 1, 1)
            They sum to one.
        """
        if not self.turned:
            node_and_weight = _gauss(self.depths)
            return tuple(torch.as_tensor(a, dtype=dtype, device=device)[:, None, None] for a in node_and_weight)
        n = self.sub_pixels
        turn = (torch.arange(_TURNS, dtype=dtype, device=device) + 0.5) / _TURNS
        # Neighbours in depth go to sub-pixels far apart, so that no corner of the pixel holds the thick part.
        sub = torch.as_tensor(np.random.default_rng(0).permutation(n) / n, dtype=dtype, device=device)
        shift = (sub[:, None] + turn) % 1
        quantile = (torch.arange(self.depths, dtype=dtype, device=device)[:, None, None] + shift) / self.depths
        away = 2 * quantile - 1
        depth = torch.sign(away) * -torch.log1p(-away.abs().clamp(max=1 - 1e-6))
        return depth, torch.full_like(depth[:, :1, :1], 1 / self.depths)


@lru_cache
def _gauss(order):
    """Nodes and weights for exp(-abs(t)) / 2: those of Laguerre's rule, on both sides, that weigh anything."""
    if order == 1:
        return np.zeros(1), np.ones(1)
    node, weight = np.polynomial.laguerre.laggauss(order // 2)
    node, weight = (of[weight > _LIGHTEST] for of in (node, weight))
    node, weight = np.append(-node[::-1], node), np.append(weight[::-1], weight)
    return node, weight / weight.sum()


def _lattice(across, least, most):
    """The sub-pixels that lie ``across`` to the side of a pixel, within limits."""
    enough = [n for n in _LATTICES if n >= across**2]
    return min(max(min(enough, default=most), least), most)
