"""Which mass a rotation curve means: speeds and angles become solar masses once a distance is known."""

from __future__ import annotations

from ..errors import FormError
from .base import RotationCurve

__all__ = ["HUBBLE_CONSTANT", "MassModel", "find_masses"]

HUBBLE_CONSTANT = 70.0  # km/s/Mpc: it sets the critical density that the M200 of haloes is counted from


class MassModel(RotationCurve):
    """A rotation curve that is the circular speed around a mass, and knows how large the mass is.

    Attributes
    ----------
    mass_name, mass_description : str
        What the mass that `gm` gives is called in tables, and what it is.
    """

    mass_name = "mass"
    mass_description: str

    @staticmethod
    def gm(hubble, *parameters):
        """G times the mass, over the distance.

        Parameters
        ----------
        hubble : float
            Hubble constant times the distance [km/(s arcsec)]: what the overdensity of a halo is counted from.
        *parameters : float or array
            As `evaluate` takes them.

        Returns
        -------
        float or array
            [km2 arcsec/s2]; times the distance in parsec, over 206265 and over G = 0.00430091 pc km2/(s2 Msun), it is
            in solar masses.
        """
        raise FormError("a mass model without gm()", "its mass", "@staticmethod def gm(hubble, ...): ...")


def find_masses(form, prefix="", start=0):
    """The masses in a rotation curve: its own, or those of the components of a sum.

    Parameters
    ----------
    form : type
        Any rotation curve.

    Yields
    ------
    name : str
        With the prefix of the component.
    form : type
        The `MassModel`.
    where : slice
        Of its parameters among those of the whole curve.
    """
    if issubclass(form, MassModel):
        yield prefix + form.mass_name, form, slice(start, start + len(form.parameters))
    for name, component in getattr(form, "components", ()):
        yield from find_masses(component, f"{prefix}{name}_", start)
        start += len(component.parameters)


def scaled(shape, slope, vmax, radius_scale):
    """Derivatives of ``vmax * shape(radius / scale)`` by its two parameters; `slope` is dlog(shape) / dlog(radius)."""
    return [shape, -vmax / radius_scale * shape * slope]
