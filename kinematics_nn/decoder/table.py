"""Speeds at many points from a table in radius, of curves whose formula costs more than that.

Nodes are even, so that a point's is known without a search: three to four times faster than
`kinematics_nn.forms.interpolation.MonotoneCubic` or `numpy.interp`, which would eat up what a table saves.
"""

import math

import torch

__all__ = ["speeds"]

_STEP = 0.03
"""Of the table, in the logarithm of the radius: a cubic is then within 1e-7 of a curve that changes as a power does."""

_SMALLEST = 1e-5  # of the largest radius: nearer to the centre a curve is held


def speeds(form, radius, parameters):
    """A rotation curve at radii: by its formula, or where that is costly and the galaxy one, from a table.

    Parameters
    ----------
    form : type
        A `~kinematics_nn.forms.RotationCurve`.
    radius : Tensor
        [arcsec].
    parameters : list of Tensor
        As its ``evaluate`` takes them.

    Returns
    -------
    Tensor
        [km/s], of the broadcast shape. Gradients are the formula's.
    """
    by_formula = torch.is_grad_enabled() and any(of.requires_grad for of in (radius, *parameters))
    if by_formula or not form.costly or not radius.numel() or any(of.numel() > 1 for of in parameters):
        return form.evaluate(radius, *parameters)
    highest = float(radius.max())
    lowest = max(float(radius.min()), _SMALLEST * highest)
    if not 0 < lowest <= highest < math.inf:
        return form.evaluate(radius, *parameters)
    count = math.ceil(math.log(highest / lowest) / _STEP) + 1
    first = math.log(lowest)
    nodes = first + _STEP * torch.arange(-1, count + 2, dtype=torch.float64, device=radius.device)
    value = form.evaluate(torch.exp(nodes), *(of.double().flatten() for of in parameters)).expand_as(nodes)
    # The root of a sum of squares has no slope where the sum changes sign.
    if float(value.min()) < 0 < float(value.max()):
        return form.evaluate(radius, *parameters)
    cubics = _cubics(value).to(radius.dtype)
    at = (torch.log(radius.clamp(min=lowest)) - first) * (1 / _STEP)
    index = at.long().clamp(max=len(cubics) - 1)
    share = at - index
    constant, slope, square, cube = (of[index] for of in cubics.unbind(1))
    return torch.addcmul(constant, share, torch.addcmul(slope, share, torch.addcmul(square, share, cube)))


def _cubics(value):
    """Coefficients (n - 3, 4) of the cubics through four neighbours of values (n,) each, from the second one on."""
    before, here, next_, after = value[:-3], value[1:-2], value[2:-1], value[3:]
    slope = next_ - before / 3 - here / 2 - after / 6
    square = (before + next_) / 2 - here
    cube = (after - before) / 6 + (here - next_) / 2
    return torch.stack([here, slope, square, cube], 1)
