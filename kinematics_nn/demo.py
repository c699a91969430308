"""The galaxy of ``kinematics-nn demo``: known parameters, a cube with noise, and truth beside posterior."""

import astropy.units as u

from .results.text import rounded

__all__ = ["comparison", "simulate_galaxy"]

_KM_S = u.km / u.s
_DISC = {
    "inclination": 55 * u.deg,
    "pa": 120 * u.deg,
    "vsys": 12 * _KM_S,
    "flux": 20 * u.Jy * _KM_S,
    "velocity_dispersion": 12 * _KM_S,
    "thickness": 0.8 * u.arcsec,
}
_CURVE = {"vmax": 210 * _KM_S, "r_turn": 3 * u.arcsec}
_LIGHT = {"r_scale": 7 * u.arcsec}


def simulate_galaxy(seed=1):
    """
    A galaxy of 40 x 64 x 64 voxels with beam-correlated noise.

    Parameters
    ----------
    seed : int, optional
        Of the noise.

    Returns
    -------
    cube : `~spectral_cube.SpectralCube`
    truth : dict of str to `~astropy.units.Quantity`
        Named as the columns of a summary.
    """
    from .forms.surface_brightness import Exponential
    from .models import ArctanRotationCurve, ExponentialDisc
    from .simulation import simulate

    curve = ArctanRotationCurve(**_CURVE)
    cube = simulate(
        **_DISC,
        rotation_curve=curve,
        surface_brightness=ExponentialDisc(**_LIGHT),
        rms=1 * u.mJy / u.beam,
        seed=seed,
    )
    r50 = Exponential.half_light_radius(_LIGHT["r_scale"])
    return cube, {**_DISC, **_CURVE, **_LIGHT, "r50": r50, "v22": curve(1.31 * r50)}


def comparison(fit, truth):
    """
    Truth beside posterior, as lines of text.

    Parameters
    ----------
    fit : `~kinematics_nn.results.KinematicFit`
        Of the galaxy.
    truth : dict of str to `~astropy.units.Quantity`
        Named as the columns of its summary.

    Returns
    -------
    str
        One line a parameter: truth, median, distances to the 16th and 84th percentiles, and the median's distance
        from the truth in halves of the 68 % interval.
    """
    row = fit.summary[0]
    lines = [f"{'parameter':<20} {'truth':>9} {'median':>9} {'-':>7} {'+':>7}  {'unit':<9} off by"]
    for name, value in truth.items():
        unit = row[f"{name}_p50"].unit
        low, median, high = (row[f"{name}_{part}"].value for part in ("p16", "p50", "p84"))
        true = value.to_value(unit)
        shown, minus, plus = rounded(median, median - low, high - median)
        digits = len(shown.partition(".")[2])
        sigmas = f"{(median - true) / (0.5 * (high - low)):+.1f} sigma" if high > low else "held"
        lines.append(f"{name:<20} {true:>9.{digits}f} {shown:>9} {minus:>7} {plus:>7}  {unit.to_string():<9} {sigmas}")
    return "\n".join(lines)
