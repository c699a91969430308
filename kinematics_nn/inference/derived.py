"""What every disc has whatever its form: sizes, speeds and widths that follow from the parameters."""

import numpy as np
import torch
from scipy.interpolate import make_interp_spline

from ..network.targets import LIGHT_FLOOR, MULTIPLES
from .free_curve import bent_speed
from .line_width import line_width

__all__ = ["derived", "derived_of_curves"]

_RINGS = 4.0 * np.linspace(0, 1, 21)[1:] ** 2  # of r50: holds 95 % of an exponential disc's light, and what is slow
_V22 = 1.31  # of r50: 2.2 scale lengths of an exponential disc
_LEAST_SPEED = 1e-3  # km/s, of which there is a logarithm


def derived(forms, values, r50=None, dispersion=None, bend=None):
    """Columns that follow from the parameters of a disc.

    Parameters
    ----------
    forms : Forms
    values : dict
        Name to Tensor (n,) of the parameters of the forms and the inclination [deg].
    r50 : Tensor (n,), optional
        Half-light radius [arcsec]; by default that of the light's form, over which w50 is summed in any case.
    dispersion : Tensor (n,), optional
        At the half-light radius [km/s]; by default that of the dispersion's form.
    bend : Tensor (n, node), optional
        Departures of the speeds from their form (`~kinematics_nn.inference.free_curve`).

    Returns
    -------
    dict
        r50 [arcsec], v22, v22_sini and w50 [km/s], each Tensor (n,).
    """
    light, curve, own = (
        [values[name] for name in forms.slots[slot]]
        for slot in ("surface_brightness", "rotation_curve", "velocity_dispersion")
    )
    of_form = forms.surface_brightness.half_light_radius(*light)
    if r50 is None:
        r50 = of_form
    if dispersion is None:
        dispersion = forms.velocity_dispersion.evaluate(r50, *own)
    inclination = torch.deg2rad(values["inclination"])
    radii = torch.cat([of_form[:, None] * torch.as_tensor(_RINGS), _V22 * r50[:, None]], 1)
    profile = forms.surface_brightness.evaluate(radii[:, :-1], *(v[:, None] for v in light))
    speed = forms.rotation_curve.evaluate(radii, *(v[:, None] for v in curve))
    if bend is not None:
        speed = bent_speed(speed, radii / of_form[:, None], bend)
    radii, speed, v22 = radii[:, :-1], speed[:, :-1], speed[:, -1]
    return {
        "r50": r50,
        "v22": v22,
        "v22_sini": v22 * torch.sin(inclination),
        "w50": line_width(speed, profile, radii, inclination, dispersion),
    }


def derived_of_curves(disc, dispersion, scale):
    """The same columns of the network's own curves, whatever form is fitted to them.

    Parameters
    ----------
    disc : Disc
        Of draws (n,).
    dispersion : Tensor (n,)
        [km/s], the galaxy's own.
    scale : Tensor (n,)
        Speeds on the cube's axis over the galaxy's own (`~kinematics_nn.decoder.geometry.axis_scale`).

    Returns
    -------
    dict
        r50 [arcsec], v22, v22_sini and w50 [km/s], each Tensor (n,).
    """
    spline = _spline(np.log([*_RINGS, _V22])).T
    speed = torch.exp(torch.log((disc.speed / scale[:, None]).clamp(min=_LEAST_SPEED)) @ spline)
    log_light = torch.log(disc.light.clamp(min=0) + LIGHT_FLOOR)
    # Within the first radius light rises on at two thirds of its slope, as that of a de Vaucouleurs profile falls.
    within = torch.as_tensor(_RINGS < MULTIPLES[0])
    found = log_light @ spline[:, :-1]
    light = torch.exp(torch.where(within, (2 * found + log_light[:, :1]) / 3, found)) - LIGHT_FLOOR
    speed, v22 = speed[:, :-1], speed[:, -1]
    radii = disc.r50[:, None] * torch.as_tensor(_RINGS)
    return {
        "r50": disc.r50,
        "v22": v22,
        "v22_sini": v22 * torch.sin(disc.inclination),
        "w50": line_width(speed, light.clamp(min=0), radii, disc.inclination, dispersion),
    }


def _spline(at):
    """The matrix from values at logarithms of `MULTIPLES` to those of a cubic spline, and of a line beyond its ends."""
    known, values = np.log(MULTIPLES), np.eye(len(MULTIPLES))
    cubic, line = (make_interp_spline(known, values, k=k)(at) for k in (3, 1))
    return torch.as_tensor(np.where((at < known[0]) | (at > known[-1]), line.T, cubic.T).T)
