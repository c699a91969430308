"""The radius that holds half of all light: that of the profile, and of the patches about it."""

import math

import torch

__all__ = ["growth", "half_light"]

_STEPS = 4  # between two radii
_INNER = 4  # factors of two that the profile is summed from within the first


def half_light(form, parameters, radii, own, more):
    """Half-light radii of discs with patches of light.

    Parameters
    ----------
    form : type
        Of the profile.
    parameters : list of Tensor (n,)
        Its own.
    radii : Tensor (radius,)
        In the plane of the disc, evenly spaced in their logarithm [arcsec]; of none, patches do not count.
    own : Tensor (n,)
        Flux of the profile.
    more : Tensor (n, 1 + radius)
        Flux of the patches, in all and within the radii.

    Returns
    -------
    Tensor (n,)
    """
    of_form = form.half_light_radius(*parameters)
    if not len(radii):
        return of_form
    share = growth(form, parameters, radii)
    # Straight lines between the radii are off by the same in both.
    alone = _crossing(torch.log(radii), share, torch.full_like(own, 0.5))
    whole = _crossing(torch.log(radii), own[:, None] * share + more[:, 1:], 0.5 * (own + more[:, 0]))
    total, beyond = own + more[:, 0], (of_form < radii[0]) | (of_form > radii[-1])
    found = torch.where(beyond & (whole != alone), torch.exp(whole), of_form * torch.exp(whole - alone))
    return torch.where(total > 0, found, of_form)  # patches that take away more than there is say nothing


def growth(form, parameters, radii):
    """What a profile has of its light within radii (n, radius), by the trapezoidal rule in their logarithm."""
    step = math.log(float(radii[1] / radii[0])) / _STEPS
    inner = math.ceil(_INNER * math.log(2) / step / _STEPS) * _STEPS
    number = torch.arange(-inner, _STEPS * (len(radii) - 1) + 1, dtype=radii.dtype)
    at = radii[0] * torch.exp(step * number)
    columns = [column[:, None] for column in parameters]
    rings = form.evaluate(at, *columns) * at**2
    # Within the innermost radius the light is that of its edge.
    sums = torch.cumulative_trapezoid(rings, dx=step, dim=1) + 0.5 * rings[:, :1]
    return 2 * math.pi * sums[:, inner - 1 :: _STEPS] / form.total(*columns)


def _crossing(at, values, level):
    """Where values (n, k) at points (k,) first come to a level (n,), on straight lines between; else at an end."""
    above = (values >= level[:, None]).double()
    above[:, -1] = 1
    k = above.argmax(1).clamp(min=1)[:, None]
    low, high = (values.gather(1, j)[:, 0] for j in (k - 1, k))
    share = ((level - low) / (high - low).where(high > low, torch.ones_like(high))).clamp(0, 1)
    start, end = at[k - 1][:, 0], at[k][:, 0]
    return start + share * (end - start)
