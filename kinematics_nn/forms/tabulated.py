"""A measured or computed curve as a form: the contribution of gas or stars as their light gives it."""

# ruff: noqa: D102 - what the methods take and return is documented once, in the base class

from __future__ import annotations

from functools import cache

import numpy as np
from astropy import units as u

from ..errors import FormError, WrongUnit
from . import ops
from .base import FormParameter, RotationCurve
from .interpolation import MonotoneCubic
from .made import make_form
from .priors import LogUniform

__all__ = ["Tabulated", "radii_and_unit", "tabulated_form"]


class Tabulated(RotationCurve):
    """A curve from a table, whose mass-to-light ratio is free: ``V = sqrt(upsilon) V_table``.

    Between the points it is a monotone cubic, which overshoots none of them; from the centre, where it is 0, to the
    first one it is part of that cubic, of finite slope; beyond the last one it falls as Kepler's law, all mass being
    inside. Negative speeds stand for a pull outwards, as in the gas columns of SPARC.

    ``Tabulated(radius, velocity, upsilon)`` is an astropy model. With radii in kpc and no distance it is one for
    measured curves, in kpc itself; for a cube, which is in arcsec, it wants the distance.

    Parameters
    ----------
    radius : (n,) `~astropy.units.Quantity` or array
        Angles, or lengths; bare numbers are in arcsec. Ascending; at least 2.
    velocity : (n,) `~astropy.units.Quantity` or array
        The curve at these radii for ``upsilon=1``; bare numbers are in km/s.
    upsilon : float, optional
        Mass-to-light ratio over that of the table: the value, or start, of the model's one parameter.
    distance : `~astropy.units.Quantity`, optional
        Of the galaxy, by which lengths become angles.

    Raises
    ------
    FormError
        What of the table cannot be: not ascending, not finite, moving in the centre.
    WrongUnit
        A unit is none of radius, speed or distance.

    Examples
    --------
    >>> from kinematics_nn.forms import Tabulated
    >>> gas = Tabulated([5.0, 10.0, 20.0], [-4.0, 12.0, 30.0], upsilon=1.33)
    >>> print(f"{gas(10.0) / 1.33**0.5:.1f}")
    12.0
    """

    name = "tabulated"
    reference = "after Lelli, McGaugh & Schombert (2016, AJ 152, 157)"
    table: MonotoneCubic

    def __new__(cls, *arguments, **by_name):
        if cls.parameters:
            return super().__new__(cls, *arguments, **by_name)
        return _model(*arguments, **by_name)

    @classmethod
    def evaluate(cls, radius, upsilon):
        return ops.sqrt(ops.clip(upsilon, _NO_MASS)) * cls.table_speed(radius)

    @classmethod
    def derivatives(cls, radius, upsilon):
        return [0.5 / np.sqrt(ops.clip(upsilon, _NO_MASS)) * cls.table_speed(radius)]

    @classmethod
    def table_speed(cls, radius):
        """The table's own curve [km/s] at each radius, that of ``upsilon=1``."""
        last = float(cls.table.nodes[-1])
        return cls.table(radius) * ops.sqrt(last / ops.clip(radius, last))


_NO_MASS = 1e-30  # as good as 0, where the root of upsilon has no slope
_UPSILON = FormParameter(
    "upsilon", "", 1.0, (0.0, 1e3), LogUniform(0.05, 20.0), "mass-to-light ratio, over that of the table"
)


def _model(radius, velocity, upsilon=1.0, *, distance=None, **settings):
    radii, unit = radii_and_unit(radius, distance, "Tabulated")
    try:
        speeds = np.atleast_1d(_with_unit(velocity, u.km / u.s).to_value(u.km / u.s))
    except (u.UnitConversionError, TypeError) as error:
        raise WrongUnit(f"velocity={velocity!r}", "speeds", "Tabulated(radius, velocity * u.km / u.s)") from error
    if speeds.shape != radii.shape or not np.isfinite(speeds).all():
        raise FormError(f"{speeds.size} velocities at {radii.size} radii", "a finite one at each radius")
    if radii[0] == 0:
        if speeds[0] != 0:
            raise FormError(
                f"{speeds[0]:g} km/s at radius 0", "a curve that is at rest in the centre", "radius[1:], velocity[1:]"
            )
        radii, speeds = radii[1:], speeds[1:]
    return tabulated_form(tuple(radii.tolist()), tuple(speeds.tolist()), unit)(upsilon, **settings)


@cache
def tabulated_form(radii, speeds, unit):
    """The form of a table: the same class for the same numbers.

    Parameters
    ----------
    radii, speeds : tuple of float
        Radii above 0, ascending, and the speeds there [km/s].
    unit : {"arcsec", "kpc"}
        Of the radii.

    Returns
    -------
    type
        A subclass of `Tabulated`.
    """
    table = MonotoneCubic([0.0, *radii], [0.0, *speeds])
    members = {"parameters": (_UPSILON,), "radius_unit": unit, "table": table}
    return make_form(Tabulated, (tabulated_form, (radii, speeds, unit)), **members)


def radii_and_unit(radius, distance, caller):
    """Radii as floats, and the unit they are in.

    Parameters
    ----------
    radius : (n,) `~astropy.units.Quantity` or array
        Angles, lengths, or numbers in arcsec.
    distance : `~astropy.units.Quantity` or None
        By which lengths become angles.
    caller : str
        Whom an error names.

    Returns
    -------
    radii : (n,) array of float
    unit : str
        "arcsec", or "kpc" for lengths without a distance.
    """
    try:
        radii = _with_unit(radius, u.arcsec)
        if radii.unit.is_equivalent(u.kpc) and distance is not None:
            radii = (radii / u.Quantity(distance)).to(u.arcsec, u.dimensionless_angles())
        unit = u.kpc if radii.unit.is_equivalent(u.kpc) else u.arcsec
        radii = np.atleast_1d(radii.to_value(unit))
    except (u.UnitConversionError, TypeError) as error:
        found = f"{caller}(radius={radius!r}, distance={distance!r})"
        raise WrongUnit(found, "angles, or lengths and a distance", f"{caller}(radius * u.arcsec, ...)") from error
    if radii.ndim != 1 or radii.size < 2 or not np.isfinite(radii).all() or radii[0] < 0 or np.any(np.diff(radii) <= 0):
        raise FormError(f"the radii {np.array2string(radii, threshold=6)}", "at least two, ascending, none negative")
    return radii, str(unit)


def _with_unit(values, unit):
    """A Quantity of floats from one, from a column of a table, or from bare numbers in this unit."""
    values = u.Quantity(values, dtype=float)
    return values.value * unit if values.unit == u.one else values
