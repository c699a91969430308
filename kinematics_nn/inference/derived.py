"""What every disc has whatever its form: sizes, speeds and widths that follow from the parameters."""

import numpy as np
import torch

from .line_width import line_width

__all__ = ["derived"]

_RINGS = np.geomspace(0.1, 4.0, 12)  # of r50: holds 95 % of an exponential disc's light


def derived(forms, values, r50=None, dispersion=None):
    """Columns that follow from the parameters of a disc.

    Parameters
    ----------
    forms : Forms
    values : dict
        Name to Tensor (n,) of the parameters of the forms and the inclination [deg].
    r50 : Tensor (n,), optional
        Half-light radius [arcsec]; by default that of the light's form.
    dispersion : Tensor (n,), optional
        At the half-light radius [km/s]; by default that of the dispersion's form.

    Returns
    -------
    dict
        r50 [arcsec], v22, v22_sini and w50 [km/s], each Tensor (n,).
    """
    light, curve, own = (
        [values[name] for name in forms.slots[slot]]
        for slot in ("surface_brightness", "rotation_curve", "velocity_dispersion")
    )
    if r50 is None:
        r50 = forms.surface_brightness.half_light_radius(*light)
    if dispersion is None:
        dispersion = forms.velocity_dispersion.evaluate(r50, *own)
    inclination = torch.deg2rad(values["inclination"])
    v22 = forms.rotation_curve.evaluate(1.31 * r50, *curve)
    radii = r50[:, None] * torch.as_tensor(_RINGS)
    profile = forms.surface_brightness.evaluate(radii, *(v[:, None] for v in light))
    speed = forms.rotation_curve.evaluate(radii, *(v[:, None] for v in curve))
    return {
        "r50": r50,
        "v22": v22,
        "v22_sini": v22 * torch.sin(inclination),
        "w50": line_width(speed, profile, radii, inclination, dispersion),
    }
