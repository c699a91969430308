"""Intrinsic velocity dispersion [km/s] against radius [arcsec], one standard deviation, without the instrument's."""

# ruff: noqa: D102 - what the methods take and return is documented once, in the base class

from __future__ import annotations

from . import ops
from .base import Dispersion, FormParameter
from .hookspecs import hookimpl
from .priors import LogUniform, Uniform

__all__ = ["Constant", "ExponentialDispersion", "LinearDispersion"]

_PRIOR = LogUniform(1.0, 100.0)


def _dispersion(description):
    return FormParameter("velocity_dispersion", "km/s", 10.0, (0.0, 1000.0), _PRIOR, description)


class Constant(Dispersion):
    """One dispersion at every radius."""

    name = "constant"
    uniform = True
    parameters = (_dispersion("velocity dispersion"),)

    @staticmethod
    def evaluate(radius, velocity_dispersion):
        return velocity_dispersion + 0 * radius

    @staticmethod
    def derivatives(radius, velocity_dispersion):
        return [1 + 0 * radius]


class ExponentialDispersion(Dispersion):
    """Dispersion that falls exponentially from its central value."""

    name = "exponential"
    parameters = (
        _dispersion("velocity dispersion at the centre"),
        FormParameter(
            "r_dispersion",
            "arcsec",
            20.0,
            (1e-3, 1e5),
            LogUniform(0.5, 20.0, relative_to="r_scale"),
            "scale length of the dispersion",
        ),
    )
    reference = "after Bottema (1993, A&A 275, 16)"

    @staticmethod
    def evaluate(radius, velocity_dispersion, r_dispersion):
        return velocity_dispersion * ops.exp(-radius / r_dispersion)

    @staticmethod
    def derivatives(radius, velocity_dispersion, r_dispersion):
        fall = ops.exp(-radius / r_dispersion)
        return [fall, velocity_dispersion * fall * radius / r_dispersion**2]


class LinearDispersion(Dispersion):
    """Dispersion that changes in proportion to radius, and never falls below 0."""

    name = "linear"
    parameters = (
        _dispersion("velocity dispersion at the centre"),
        FormParameter(
            "dispersion_slope",
            "km/(s arcsec)",
            0.0,
            (-1e5, 1e5),
            Uniform(-10.0, 10.0, relative_to="1/r_scale"),
            "dispersion gained per arcsec",
        ),
    )

    @staticmethod
    def evaluate(radius, velocity_dispersion, dispersion_slope):
        return ops.clip(velocity_dispersion + dispersion_slope * radius, 0.0)

    @staticmethod
    def derivatives(radius, velocity_dispersion, dispersion_slope):
        above = ops.where(velocity_dispersion + dispersion_slope * radius > 0, 1.0, 0.0)
        return [above, above * radius]


@hookimpl
def kinematics_nn_dispersions():
    """The dispersions of this package, through the hook that a stranger's come by."""
    return [Constant, ExponentialDispersion, LinearDispersion]
