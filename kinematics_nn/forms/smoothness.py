"""How smooth a curve of rings is a priori: the slope of its logarithm walks at random from ring to ring."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from . import ops

__all__ = ["log_prior_norm", "roughness"]


def roughness(values, radii, walk):
    """Changes of the logarithmic slope from ring to ring, each over what the walk allows it.

    Parameters
    ----------
    values : sequence of float, array or tensor
        One for each ring, of shapes that broadcast.
    radii : tuple of float
        Of the rings.
    walk : float
        Standard deviation of the change of slope over a factor e of radius.

    Returns
    -------
    list of float, array or tensor
        Two fewer than the rings, each standard normal a priori.
    """
    x = np.log(radii)
    y = [ops.log(ops.clip(value, 1e-6)) for value in values]
    steps = np.diff(x).tolist()
    slopes = [(b - a) / step for a, b, step in zip(y, y[1:], steps, strict=False)]
    pairs = zip(slopes, slopes[1:], steps, steps[1:], strict=False)
    return [(after - before) / (walk * math.sqrt(0.5 * (one + two))) for before, after, one, two in pairs]


@cache
def log_prior_norm(radii, walk, length, together=None, draws=20_000):
    """Log of the mean of exp(-1/2 residuals**2) over values log-uniform between limits `length` apart.

    The residuals are linear in the logarithms, and without limits the integral over them is a Gaussian's. The share of
    it within the limits is that of curves that are drawn from it: to 1 or 2 % by these many.
    """
    steps = np.diff(np.log(radii))
    scale = walk * np.sqrt(0.5 * (steps[1:] + steps[:-1]))
    generator = np.random.default_rng(0)
    steepest = length / steps[0]
    slope = generator.uniform(-steepest, steepest, (draws, 1))
    bends = generator.standard_normal((draws, len(scale))) * scale
    slopes = np.concatenate([slope, slope + np.cumsum(bends, 1)], 1)
    y = np.concatenate([np.zeros((draws, 1)), np.cumsum(slopes * steps, 1)], 1)
    if together is None:
        inside = np.clip(length - np.ptp(y, axis=1), 0, None)  # where the first value may be
    else:
        y += together * generator.standard_normal((draws, 1)) - y.mean(1, keepdims=True)
        inside = together * math.sqrt(2 * math.pi) * np.all(abs(y) < 0.5 * length, axis=1)
    volume = np.log(steps).sum() + np.log(scale).sum() + 0.5 * len(scale) * math.log(2 * math.pi)
    return float(volume + np.log(np.mean(inside) * 2 * steepest) - len(radii) * math.log(length))
