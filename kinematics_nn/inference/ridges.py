"""A mixture for a density that lies along a bent ridge: a Gaussian at each of many draws, with the curvature there."""

import torch

from .importance import Component, effective_number

__all__ = ["along_ridges"]

_CENTRES = 200  # on a toy that is twenty times as long as thin, 50 leave 0.2 to 0.3 of draws effective, 300 leave 0.4
_TEMPER = 0.7  # power of the weights that centres are chosen by: more of them in the tails
_EFFECTIVE = 4.0  # draws a variate that the covariance of all is of, by a power of the weights
_LEAST_POWER = 1e-3
_THINNEST = 1e-4  # of that covariance's axes, of a component's: beyond it a curvature is noise
_STEP = 1e-3  # of a standard deviation of all draws, for differences of gradients
_LONGEST = 2.0  # standard deviations there, that a centre may move to the top of the ridge
_LOST = 1.0  # of the log density, at most, in such a move
_FREEDOM = 7.0  # of Student's t, as for the Laplace posteriors of the modes


def along_ridges(log_target, draws, generator):
    """Components at draws of a density, each moved to the top of the ridge, with the covariance of the curvature there.

    Of a few components with the covariances of draws, as `importance.adapted` fits them, each is as thick as the ridge
    is bent over its length. Here a component is as thick as the ridge, and no longer than all draws together: where the
    density is no narrower at a draw than over all of them, it has the covariance of all.

    Parameters
    ----------
    log_target : callable
        Log density (n,), unnormalised, of variates (n, d), that torch can differentiate.
    draws : WeightedDraws
        Of it, or nearly so.
    generator : torch.Generator

    Returns
    -------
    list of Component
        Their shares are equal. Draws at an edge, where the density has no curvature that is known, have none.
    """
    x = draws.x
    # Of few large weights the covariance would be that of as few draws.
    power = 1.0
    while effective_number(power * draws.log_weight) < _EFFECTIVE * x.shape[1] and power > _LEAST_POWER:
        power *= _TEMPER
    counted = torch.softmax(power * draws.log_weight, 0)
    away = x - counted @ x
    whole = (away * counted[:, None]).T @ away
    whole = whole + 1e-3 * torch.diag(torch.diagonal(whole)) + 1e-9 * torch.eye(x.shape[1], dtype=x.dtype)
    chances = torch.softmax(min(power, _TEMPER) * draws.log_weight, 0)
    known = int((chances > 0).sum())
    centres = x[torch.multinomial(chances, min(_CENTRES, known), generator=generator)]
    # In coordinates in which all draws together have unit covariance.
    lower = torch.linalg.cholesky(whole)
    gradient, curvature = _derivatives(log_target, centres, lower)
    good = torch.isfinite(gradient).all(1) & torch.isfinite(curvature).flatten(1).all(1)
    centres, gradient, curvature = centres[good], gradient[good], curvature[good]
    precision, axes = torch.linalg.eigh(curvature)
    precision = precision.clamp(1.0, _THINNEST**-2)
    along = (axes.mT @ gradient[..., None])[..., 0] / precision.sqrt()
    along = along * (_LONGEST / along.norm(dim=1).clamp(min=_LONGEST))[:, None]
    spread = lower @ axes / precision.sqrt()[:, None]
    moved = centres + (spread @ along[..., None])[..., 0]
    better = log_target(moved) > log_target(centres) - _LOST
    centres = torch.where(better[:, None], moved, centres)
    scales = spread @ spread.mT
    return [Component(c, s, 1 / len(centres), _FREEDOM) for c, s in zip(centres, scales, strict=True)]


def _derivatives(log_target, x, lower):
    """Gradients (n, d) and the negative second derivatives (n, d, d) at x (n, d), by coordinates z, x = lower z."""
    n, d = x.shape
    steps = _STEP * torch.cat([lower.T, -lower.T])
    with torch.enable_grad():
        at = torch.cat([x[:, None], x[:, None] + steps], 1).flatten(0, 1).requires_grad_(True)
        log = log_target(at)
        (slopes,) = torch.autograd.grad(log.sum(), at)
    slopes = torch.where(torch.isfinite(log)[:, None], slopes, torch.nan)
    slopes = slopes.reshape(n, 1 + 2 * d, d) @ lower
    second = (slopes[:, 1 : d + 1] - slopes[:, d + 1 :]) / (-2 * _STEP)
    return slopes[:, 0], 0.5 * (second + second.mT)
