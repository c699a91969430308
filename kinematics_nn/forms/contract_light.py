"""What a surface brightness must keep beside its values: its total, which sets the flux, and its half-light radius."""

from __future__ import annotations

import itertools
import math

import numpy as np

from ..errors import FormError

__all__ = ["TYPICAL_SCALES", "check_light", "prior_corners"]

TYPICAL_SCALES = {"r_scale": 5.0, "beam": 3.0, "field": 30.0}
"""Scales [arcsec] of a well resolved galaxy, at which relative priors are tried."""

_INTEGRALS = ("total", "half_light_radius")
_MOST = 5  # parameters whose corners are all tried: 32 of them
_LOG_RADIUS = np.linspace(math.log(1e-6), math.log(1e6), 2**14)  # of the half-light radius
# The sums of the base class end at 300 scales, where a profile that falls as R**-3 has 0.3 % left; a sharp edge between
# two of the radii above costs 0.3 %. A formula that is wrong is so by a factor.
_TOLERANCE = 1e-2
_FAR = 1000  # half-light radii: a profile that falls as R**-3 has 0.1 % beyond


def prior_corners(form):
    """The defaults, and parameter values at the limits of all priors, where these are finite: those that a fit meets.

    At most 32 corners: of more than five parameters all at their lower, all at their upper limits, and each alone.
    """
    defaults = [parameter.default for parameter in form.parameters]
    limits = [_limits(parameter) for parameter in form.parameters]
    if len(limits) <= _MOST:
        return [defaults, *map(list, itertools.product(*limits))]
    alone = [[*defaults[:i], end, *defaults[i + 1 :]] for i, ends in enumerate(limits) for end in ends]
    return [defaults, *([ends[side] for ends in limits] for side in (0, 1)), *alone]


def _limits(parameter):
    prior = parameter.prior.resolve(TYPICAL_SCALES)
    ends = np.clip(prior.ppf([1e-4, 1 - 1e-4]), *parameter.bounds)
    return [float(own if math.isfinite(own) else end) for own, end in zip((prior.lo, prior.hi), ends, strict=True)]


def check_light(form):
    """Check `total` and `half_light_radius` against sums of `evaluate`, and their values and gradients under torch.

    Where the fit goes: at the limits of the priors. Those of the bounds can lie eight decades apart, further than any
    sum reaches. Imports torch.
    """
    label = f"{form.kind} {form.name!r}"
    for values in prior_corners(form):
        at = ", ".join(f"{name}={value:g}" for name, value in zip(form.names(), values, strict=True))
        total, half = (_called(form, name, values, label, at) for name in _INTEGRALS)
        with np.errstate(all="ignore"):  # what is not finite is found below
            radius = half * np.exp(_LOG_RADIUS)
            light = 2 * math.pi * radius**2 * np.asarray(form.evaluate(radius, *values), dtype=float)
        grown = np.append(0.0, np.cumsum(0.5 * (light[1:] + light[:-1])) * (_LOG_RADIUS[1] - _LOG_RADIUS[0]))
        wanted = grown[-1]
        if wanted == 0:  # no light, and no radius that holds half of it
            continue
        beyond = 1 - float(np.interp(math.log(_FAR), _LOG_RADIUS, grown)) / wanted
        if beyond > _TOLERANCE:
            raise FormError(
                f"{label} at {at}: {beyond:.0%} of its light lies beyond {_FAR} half-light radii",
                "light whose total is finite: it falls faster than R**-2",
                "an end, a factor such as ops.exp(-radius / r_end)",
            )
        if not abs(total - wanted) <= _TOLERANCE * wanted:
            raise FormError(
                f"{label} at {at}: total() is {total:g}",
                f"2 pi times the integral of evaluate(R) R dR, {wanted:g}",
                "leaving total() out: it is then summed, at radii about radial_scale()",
            )
        share = float(np.interp(0.0, _LOG_RADIUS, grown)) / wanted
        if not abs(share - 0.5) <= _TOLERANCE:
            raise FormError(
                f"{label} at {at}: half_light_radius() is {half:g}, which holds {share:.3g} of the light",
                "the radius that holds half of it",
                "leaving half_light_radius() out: it is then summed, at radii about radial_scale()",
            )
        for name in _INTEGRALS:
            _check_under_torch(form, name, values, label, at)


def _called(form, name, values, label, at):
    value = float(getattr(form, name)(*values))
    if not (math.isfinite(value) and value >= 0):
        raise FormError(f"{label} at {at}: {name}() is {value}", "a positive number")
    return value


def _check_under_torch(form, name, values, label, at):
    import torch

    integral, name = getattr(form, name), f"{name}()"
    inputs = [torch.full((2,), float(value), dtype=torch.float64, requires_grad=True) for value in values]
    try:
        found = integral(*inputs)
    except Exception as error:  # a stranger's code: whatever it raises, it is named
        raise FormError(
            f"{label}: {name} raises {type(error).__name__} for torch tensors: {error}",
            "a formula that takes arrays and tensors",
            "the functions of kinematics_nn.forms.ops in the place of numpy's",
        ) from error
    if not (isinstance(found, torch.Tensor) and found.shape == (2,) and found.requires_grad):
        raise FormError(
            f"{label}: {name} returns {type(found).__name__} {tuple(np.shape(found))} for tensors of shape (2,)",
            "a tensor of that shape that holds its gradient",
            "the functions of kinematics_nn.forms.ops in the place of numpy's",
        )
    # a sum of numpy's in another order, or its root by another step
    if not np.allclose(found.detach().numpy(), integral(*values), rtol=1e-6, atol=0):
        raise FormError(f"{label} at {at}: {name} differs between numpy and torch", "agreement to 1e-6")
    gradients = torch.autograd.grad(found.sum(), inputs, allow_unused=True, materialize_grads=True)
    for i, (known, gradient) in enumerate(zip(form.parameters, gradients, strict=True)):
        size, slope = abs(values[i]) or 1.0, float(gradient[0])
        ends = np.clip([values[i] - 1e-3 * size, values[i] + 1e-3 * size], *known.bounds)
        below, above = (float(integral(*values[:i], end, *values[i + 1 :])) for end in ends)
        wanted = (above - below) / (ends[1] - ends[0])
        # differences over a thousandth of the value: the sums' own noise is 1e-6 of the integral, 1e-3 of its slope
        if not abs(slope - wanted) <= 1e-2 * (abs(float(found[0].detach())) / size + abs(slope)):
            raise FormError(
                f"{label} at {at}: the gradient of {name} by {known.name} is {slope:g}",
                f"that of finite differences, {wanted:g}",
                "no numpy, no detach() and no float() in it",
            )
