"""The parameters that many forms share: a speed and a length."""

from __future__ import annotations

from .base import FormParameter
from .priors import LogUniform

__all__ = ["length", "speed"]


def speed(name, description):
    """A speed [km/s] with the prior that all speeds of rotation have."""
    return FormParameter(name, "km/s", 200.0, (0.0, 5000.0), LogUniform(10.0, 800.0), description)


def length(name, description, lo, hi, default=5.0, relative_to="r_scale"):
    """A length [arcsec] with a log-uniform prior between `lo` and `hi`, in units of `relative_to`."""
    prior = LogUniform(lo, hi, relative_to=relative_to)
    return FormParameter(name, "arcsec", default, (1e-3, 1e5), prior, description)
