"""Rotation curves without a mass behind them: speed [km/s] against radius [arcsec] in the plane of the disc."""

# ruff: noqa: D102 - what the methods take and return is documented once, in the base class

from __future__ import annotations

import math

from . import ops
from ._declare import length, speed
from .base import FormParameter, RotationCurve
from .haloes import NFW, Burkert, Einasto, PseudoIsothermal
from .hookspecs import hookimpl
from .mass_models import FreemanDisc, HernquistBulge, Kepler, Plummer, SersicBulge
from .priors import LogUniform, Uniform

__all__ = ["Arctan", "Brandt", "Courteau", "Flat", "Linear", "Polyex", "Tanh"]


class Arctan(RotationCurve):
    """Arctangent: rises over `r_turn` to an asymptote that data may never reach; half of it at `r_turn`."""

    name = "arctan"
    parameters = (
        speed("vmax", "speed approached at large radius"),
        length("r_turn", "turnover radius, where the speed is half of vmax", 0.02, 5.0),
    )
    reference = "Courteau (1997, AJ 114, 2402) eq. 1"

    @staticmethod
    def evaluate(radius, vmax, r_turn):
        return vmax * (2 / math.pi) * ops.arctan(radius / r_turn)

    @staticmethod
    def derivatives(radius, vmax, r_turn):
        x = radius / r_turn
        return [(2 / math.pi) * ops.arctan(x), -vmax * (2 / math.pi) * x / (r_turn * (1 + x * x))]


class Tanh(RotationCurve):
    """Hyperbolic tangent: rises faster to its asymptote than the arctangent."""

    name = "tanh"
    parameters = (
        speed("vmax", "speed approached at large radius"),
        length("r_turn", "turnover radius, where the speed is 0.762 of vmax", 0.02, 5.0),
    )
    reference = "Andersen & Bershady (2013, ApJ 768, 41)"

    @staticmethod
    def evaluate(radius, vmax, r_turn):
        return vmax * ops.tanh(radius / r_turn)

    @staticmethod
    def derivatives(radius, vmax, r_turn):
        x = radius / r_turn
        tanh = ops.tanh(x)
        return [tanh, -vmax * (1 - tanh * tanh) * x / r_turn]


class Polyex(RotationCurve):
    """Polyex: an exponential rise times a straight line of slope `alpha` outside."""

    name = "polyex"
    parameters = (
        speed("vmax", "amplitude, the speed reached outside when alpha is 0"),
        length("r_turn", "scale of the exponential rise", 0.02, 5.0),
        FormParameter("alpha", "", 0.01, (-0.2, 1.0), Uniform(-0.02, 0.2), "slope outside, in vmax per r_turn"),
    )
    reference = "Giovanelli & Haynes (2002, ApJ 571, L107) eq. 1"

    @staticmethod
    def evaluate(radius, vmax, r_turn, alpha):
        x = radius / r_turn
        return -vmax * ops.expm1(-x) * (1 + alpha * x)

    @staticmethod
    def derivatives(radius, vmax, r_turn, alpha):
        x = radius / r_turn
        rise = -ops.expm1(-x)
        by_x = (1 - rise) * (1 + alpha * x) + rise * alpha
        return [rise * (1 + alpha * x), -vmax * by_x * x / r_turn, vmax * rise * x]


def _bend(x, sharpness, inner, outer):
    """Logarithms of x, of inner + outer x**sharpness, and of the second term alone."""
    log_x = ops.log(ops.clip(x, 1e-30))
    far = math.log(outer) + sharpness * log_x
    return log_x, ops.logaddexp(math.log(inner), far), far


def _bent(x, sharpness, inner, outer, power):
    """(inner + outer x**sharpness)**(-power/sharpness), without overflow."""
    return ops.exp(-power / sharpness * _bend(x, sharpness, inner, outer)[1])


class Brandt(RotationCurve):
    """Brandt: rises to its peak at `r_peak` and falls as Kepler's law outside; `n` is the sharpness of the peak."""

    name = "brandt"
    parameters = (
        speed("vmax", "peak speed"),
        length("r_peak", "radius of the peak", 0.2, 10.0),
        FormParameter("n", "", 1.5, (0.1, 10.0), LogUniform(0.3, 5.0), "sharpness of the turnover"),
    )
    reference = "Brandt (1960, ApJ 131, 293)"

    @staticmethod
    def evaluate(radius, vmax, r_peak, n):
        x = radius / r_peak
        return vmax * x * _bent(x, n, 1 / 3, 2 / 3, 1.5)

    @staticmethod
    def derivatives(radius, vmax, r_peak, n):
        shape = Brandt.evaluate(radius, 1.0, r_peak, n)
        log_x, log_sum, far = _bend(radius / r_peak, n, 1 / 3, 2 / 3)
        outer = ops.exp(far - log_sum)
        by_n = 1.5 / n * (log_sum / n - outer * log_x)
        return [shape, -vmax / r_peak * shape * (1 - 1.5 * outer), vmax * shape * by_n]


class Courteau(RotationCurve):
    """Courteau's multi-parameter function, without its centre and systemic velocity.

    ``vmax (1 + x)**beta / (1 + x**gamma)**(1/gamma)`` with x = r_turn / radius. For beta > 0 its slope at the centre is
    infinite; here it is cut off within 1e-4 r_turn.
    """

    name = "courteau"
    parameters = (
        speed("vmax", "speed approached at large radius"),
        length("r_turn", "turnover radius", 0.02, 5.0),
        FormParameter("beta", "", 0.0, (-1.0, 0.9), Uniform(-0.5, 0.5), "overshoot (> 0) or slow approach (< 0)"),
        FormParameter("gamma", "", 2.0, (0.3, 20.0), LogUniform(0.5, 5.0), "sharpness of the turnover"),
    )
    reference = "Courteau (1997, AJ 114, 2402) eq. 2"

    @staticmethod
    def evaluate(radius, vmax, r_turn, beta, gamma):
        y = radius / r_turn
        overshoot = ops.exp(beta * (ops.log1p(y) - 0.5 * ops.log(y * y + 1e-8)))
        return vmax * y * overshoot * _bent(y, gamma, 1.0, 1.0, 1.0)

    @staticmethod
    def derivatives(radius, vmax, r_turn, beta, gamma):
        y = radius / r_turn
        shape = Courteau.evaluate(radius, 1.0, r_turn, beta, gamma)
        log_y, log_sum, far = _bend(y, gamma, 1.0, 1.0)
        outer = ops.exp(far - log_sum)
        slope = 1 + beta * (y / (1 + y) - y * y / (y * y + 1e-8)) - outer
        by_beta = ops.log1p(y) - 0.5 * ops.log(y * y + 1e-8)
        by_gamma = (log_sum / gamma - outer * log_y) / gamma
        return [shape, -vmax / r_turn * shape * slope, vmax * shape * by_beta, vmax * shape * by_gamma]


class Flat(RotationCurve):
    """One speed at every radius."""

    name = "flat"
    parameters = (speed("vmax", "speed"),)

    @staticmethod
    def evaluate(radius, vmax):
        return vmax + 0 * radius

    @staticmethod
    def derivatives(radius, vmax):
        return [1 + 0 * radius]


class Linear(RotationCurve):
    """Solid-body rotation: speed proportional to radius."""

    name = "linear"
    parameters = (
        FormParameter(
            "slope",
            "km/(s arcsec)",
            10.0,
            (0.0, 1e5),
            LogUniform(5.0, 400.0, relative_to="1/r_scale"),
            "speed gained per arcsec",
        ),
    )

    @staticmethod
    def evaluate(radius, slope):
        return slope * radius

    @staticmethod
    def derivatives(radius, slope):
        return [radius]


@hookimpl
def kinematics_nn_rotation_curves():
    """The rotation curves of this package, through the hook that a stranger's come by."""
    kinematic = [Arctan, Brandt, Courteau, Flat, Linear, Polyex, Tanh]
    return [
        *kinematic,
        FreemanDisc,
        HernquistBulge,
        SersicBulge,
        Plummer,
        Kepler,
        NFW,
        Burkert,
        Einasto,
        PseudoIsothermal,
    ]
