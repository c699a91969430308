"""A form's parameter: its unit, limits, typical value and prior."""

from __future__ import annotations

from dataclasses import dataclass

from astropy import units as u

from .priors import Prior

__all__ = ["FormParameter"]


@dataclass(frozen=True)
class FormParameter:
    """One parameter of a form.

    Parameters
    ----------
    name : str
        A Python identifier in the field's words (``vmax``, ``r_turn``).
    unit : str
        What `astropy.units` reads: a product of powers of ``km/s`` and ``arcsec``, or ``""``.
    default : float
        A typical value, where `evaluate` is well behaved, in `unit`.
    bounds : (float, float)
        Closed limits in `unit`, at which `evaluate` and its gradients are still finite.
    prior : Prior
        The default prior.
    description : str
        One line, for docs and tables.
    """

    name: str
    unit: str
    default: float
    bounds: tuple[float, float]
    prior: Prior
    description: str

    @property
    def physical_type(self):
        """What the unit measures (`astropy.units.PhysicalType`)."""
        return u.Unit(self.unit).physical_type

    @property
    def powers(self):
        """The powers of km/s and of arcsec that make up the unit, (1, -1) for ``km/(s arcsec)``; `None` if none do."""
        unit = u.Unit(self.unit)
        found = dict(zip(unit.bases, unit.powers, strict=True))
        velocity, length, time = (found.pop(base, 0) for base in (u.km, u.arcsec, u.s))
        return (velocity, length) if not found and velocity == -time and unit.scale == 1 else None
