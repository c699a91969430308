"""Errors where the model is not the galaxy: as wide as what it leaves of the emission says."""

import math

import torch

from .space import PA_UNIT

__all__ = ["misfit", "widened"]

_LEAST = 2.0  # mean square of what is left, from where errors are widened: with less, patches of light are at work
_APART = 30.0  # deg, standard deviation of position angles that are not about one mode
_SIGNIFICANT = 5.0  # standard deviations of that mean square


@torch.no_grad()
def misfit(target, best, change=None):
    r"""How much more than the noise a model leaves of a galaxy: the factor that its errors are too small by.

    With white residuals r and a white model m, patches of light and all, the covariance of least squares is too small
    by the mean of :math:`r^2` where the model is sensitive to its parameters (Huber 1967, Proc. 5th Berkeley Symp. 1,
    221), and that is taken to be where it is bright: :math:`\sum m^2 r^2 / \sum m^2`. Clumps, arms and noise leave it
    near one; mergers, bars at high signal, and a dynamic range that no calibration has do not.

    Parameters
    ----------
    target : Target
    best : dict of str to float
        The disc of highest posterior, as `Target.best` gives it.
    change : Tensor (value,), optional
        What a curve that is free makes of the whitened model, see `~kinematics_nn.inference.free_curve.FreeCurve`.

    Returns
    -------
    float
        The root of the mean, or 1 where it is below 1.4 or no more than chance.
    """
    likelihood, patches = target.likelihood, target.patches
    parameters = torch.tensor([[best[name] for name in target.space.names]], dtype=torch.float64)
    model = likelihood.white(parameters)[0]
    if change is not None:
        model = model + change.to(model)
    rest = likelihood.data - model
    if len(patches.power):
        along, shrink = (rest @ patches.basis).double(), patches.variances(target.scatters)
        # At the scatter that is likeliest of these residuals: of f^2 power + 1 = 1 / (1 - shrink power)
        log = 0.5 * (shrink * along**2).sum(1) + 0.5 * torch.log1p(-shrink * patches.power).sum(1)
        found = (patches.basis @ (shrink[log.argmax()] * along).float()).to(rest)
        model, rest = model + found, rest - found
    weight = model.double() ** 2
    mean = float(weight @ rest.double() ** 2 / weight.sum())
    number = float(weight.sum() ** 2 / (weight**2).sum())
    return math.sqrt(mean) if mean > max(_LEAST, 1 + _SIGNIFICANT * math.sqrt(2 / number)) else 1.0


def widened(space, x, weights, factor):
    """Draws whose errors are ``factor`` times as wide, as far as the prior lets them.

    Parameters
    ----------
    space : ParameterSpace
    x : Tensor (n, free)
        Variates, of a standard normal prior but for the position angle.
    weights : Tensor (n,)
        Of sum one.
    factor : float

    Returns
    -------
    Tensor (n, free)
        About the same mean, with what the data add to the inverse of the prior's covariance divided by the square of
        ``factor``. A position angle of several modes, or of nearly none, stays as it is.
    """
    wide, turning = x.clone(), _turning(space, x, weights)
    x = x[:, ~turning]
    mean = weights @ x
    away = x - mean
    covariance = (away * weights[:, None]).T @ away
    scale = torch.diagonal(covariance).clamp(min=1e-18).sqrt()
    whole = covariance / scale / scale[:, None]
    power, axes = torch.linalg.eigh(whole)
    # Few draws in many dimensions: what they leave without any width has little.
    whole = (axes * power.clamp(min=1e-6)) @ axes.T
    prior = torch.diag(_prior_precision(space).to(x)[~turning] * scale**2)
    wanted = prior + (torch.linalg.inv(whole) - prior) / factor**2
    power, axes = torch.linalg.eigh(0.5 * (wanted + wanted.T))
    root = (axes * power.clamp(min=1e-9).rsqrt()) @ axes.T  # symmetric roots: no axis is turned more than it must
    power, axes = torch.linalg.eigh(whole)
    wide[:, ~turning] = mean + (away / scale) @ ((axes * power.rsqrt()) @ axes.T) @ root * scale
    return space.inside(wide)


def _turning(space, x, weights):
    """Which variates (free,) are an angle whose draws are far apart."""
    variance = weights @ (x - weights @ x) ** 2
    return torch.tensor([name == "pa" for name in space.free]) & (variance > (_APART / PA_UNIT) ** 2)


def _prior_precision(space):
    """Inverse variances (free,) of the variates' priors: one, but for the angle's, which is the user's or none."""
    moments = None if space.pa_prior is None else space.pa_prior.moments
    of_angle = 0.0 if moments is None else (PA_UNIT / moments[1]) ** 2
    return torch.tensor([of_angle if name == "pa" else 1.0 for name in space.free])
