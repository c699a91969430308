"""Rotation curves: speed [km/s] against radius [arcsec] in the plane of the disc.

Mass models are written in kinematic terms (the peak speed and a radius in arcsec), because the mass that goes with them
needs a distance and the shape doesn't. Each is computed as ``x sqrt(g(x))`` with a `g` that is finite and smooth at 0,
so that speed and gradients are finite in the centre, where the square root of a speed squared has none.
"""

# ruff: noqa: D102 - what the methods take and return is documented once, in the base class

from __future__ import annotations

import math

from . import ops
from .base import FormParameter, RotationCurve
from .hookspecs import hookimpl
from .priors import LogUniform, Uniform

__all__ = [
    "Arctan",
    "Brandt",
    "Burkert",
    "Courteau",
    "Flat",
    "Freeman",
    "Linear",
    "NFW",
    "Polyex",
    "PseudoIsothermal",
    "Tanh",
]

_TURN = LogUniform(0.02, 5.0, relative_to="r_scale")
_HALO = LogUniform(0.5, 20.0, relative_to="r_scale")


def _vmax(description, prior=None):
    return FormParameter("vmax", "km/s", 200.0, (0.0, 5000.0), prior or LogUniform(10.0, 800.0), description)


def _radius(name, description, prior=_TURN, default=5.0):
    return FormParameter(name, "arcsec", default, (1e-3, 1e5), prior, description)


class Arctan(RotationCurve):
    """Arctangent: rises over `r_turn` to an asymptote that data may never reach; half of it at `r_turn`."""

    name = "arctan"
    parameters = (
        _vmax("speed approached at large radius"),
        _radius("r_turn", "turnover radius, where the speed is half of vmax"),
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
        _vmax("speed approached at large radius"),
        _radius("r_turn", "turnover radius, where the speed is 0.762 of vmax"),
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
        _vmax("amplitude, the speed reached outside when alpha is 0"),
        _radius("r_turn", "scale of the exponential rise"),
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


def _bent(x, sharpness, inner, outer):
    """(inner + outer x**sharpness)**(-1/sharpness), without overflow."""
    log_x = ops.log(ops.clip(x, 1e-30))
    return ops.exp(-ops.logaddexp(math.log(inner) + 0 * log_x, math.log(outer) + sharpness * log_x) / sharpness)


class Brandt(RotationCurve):
    """Brandt: rises to its peak at `r_peak` and falls as Kepler's law outside; `n` is the sharpness of the peak."""

    name = "brandt"
    parameters = (
        _vmax("peak speed"),
        _radius("r_peak", "radius of the peak", LogUniform(0.2, 10.0, relative_to="r_scale")),
        FormParameter("n", "", 1.5, (0.1, 10.0), LogUniform(0.3, 5.0), "sharpness of the turnover"),
    )
    reference = "Brandt (1960, ApJ 131, 293)"

    @staticmethod
    def evaluate(radius, vmax, r_peak, n):
        x = radius / r_peak
        return vmax * x * _bent(x, n, 1 / 3, 2 / 3) ** 1.5


class Courteau(RotationCurve):
    """Courteau's multi-parameter function, without its centre and systemic velocity.

    ``vmax (1 + x)**beta / (1 + x**gamma)**(1/gamma)`` with x = r_turn / radius. For beta > 0 its slope at the centre is
    infinite; here it is cut off within 1e-4 r_turn.
    """

    name = "courteau"
    parameters = (
        _vmax("speed approached at large radius"),
        _radius("r_turn", "turnover radius"),
        FormParameter("beta", "", 0.0, (-1.0, 0.9), Uniform(-0.5, 0.5), "overshoot (> 0) or slow approach (< 0)"),
        FormParameter("gamma", "", 2.0, (0.3, 20.0), LogUniform(0.5, 5.0), "sharpness of the turnover"),
    )
    reference = "Courteau (1997, AJ 114, 2402) eq. 2"

    @staticmethod
    def evaluate(radius, vmax, r_turn, beta, gamma):
        y = radius / r_turn
        overshoot = ops.exp(beta * (ops.log1p(y) - 0.5 * ops.log(y * y + 1e-8)))
        return vmax * y * overshoot * _bent(y, gamma, 1.0, 1.0)


class Flat(RotationCurve):
    """One speed at every radius."""

    name = "flat"
    parameters = (_vmax("speed"),)

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
        FormParameter("slope", "km/(s arcsec)", 10.0, (0.0, 1e5), LogUniform(0.05, 500.0), "speed gained per arcsec"),
    )

    @staticmethod
    def evaluate(radius, slope):
        return slope * radius

    @staticmethod
    def derivatives(radius, slope):
        return [radius]


# I0 K0 - I1 K1 for large y, in powers of (2y)**-2 after the factor 1 / 2y: difference of DLMF 10.40.6 at nu = 0 and 1
def _large_argument(n=12):
    def term(mu, k):
        product = 1.0
        for j in range(1, k + 1):
            product *= -(2 * j - 1) / (2 * j) * (mu - (2 * j - 1) ** 2)
        return product

    return [term(0, k) - term(4, k) for k in range(1, n + 1)]


_FREEMAN_SERIES = _large_argument()
_FREEMAN_PEAK = 0.439912152012140844  # max of y sqrt(I0 K0 - I1 K1), at y = 1.07502677


def _freeman_kernel(y):
    """I0 K0 - I1 K1 at y > 0; the difference loses digits as y grows, and its asymptotic series takes over at 20."""
    near, far = ops.clip(y, 1e-6, 20.0), ops.clip(y, 20.0)
    q = 1 / (4 * far * far)
    direct = ops.i0e(near) * ops.k0e(near) - ops.i1e(near) * ops.k1e(near)
    return ops.where(y < 20.0, direct, q / (2 * far) * ops.polynomial(q, _FREEMAN_SERIES))


class Freeman(RotationCurve):
    """Razor-thin exponential disc of mass: peaks at 2.15 scale lengths, and falls as Kepler's law outside.

    vmax**2 = 0.7741 pi G Sigma0 r_disc, with Sigma0 the central surface density.
    """

    name = "freeman"
    parameters = (
        _vmax("peak speed, at 2.15 r_disc"),
        _radius("r_disc", "scale length of the mass", LogUniform(0.3, 3.0, relative_to="r_scale")),
    )
    reference = "Freeman (1970, ApJ 160, 811) eq. 10"

    @staticmethod
    def evaluate(radius, vmax, r_disc):
        y = radius / (2 * r_disc)
        return vmax / _FREEMAN_PEAK * y * ops.sqrt(_freeman_kernel(y))


_ISOTHERMAL_SERIES = [(-1) ** k / (2 * k + 3) for k in range(11)]


class PseudoIsothermal(RotationCurve):
    """Pseudo-isothermal halo, of density proportional to 1 / (1 + (r / r_core)**2): flat outside."""

    name = "pseudo_isothermal"
    parameters = (
        _vmax("speed approached at large radius, sqrt(4 pi G rho0) r_core"),
        _radius("r_core", "core radius", LogUniform(0.05, 10.0, relative_to="r_scale")),
    )
    reference = "Begeman, Broeils & Sanders (1991, MNRAS 249, 523)"

    @staticmethod
    def evaluate(radius, vmax, r_core):
        x = radius / r_core
        near, far = ops.clip(x, None, 0.2), ops.clip(x, 0.2)
        kernel = ops.where(  # (1 - arctan(x) / x) / x**2
            x < 0.2, ops.polynomial(near * near, _ISOTHERMAL_SERIES), (1 - ops.arctan(far) / far) / (far * far)
        )
        return vmax * x * ops.sqrt(kernel)


_NFW_SERIES = [(-1) ** j * (j + 1) / (j + 2) for j in range(13)]
_NFW_PEAK = 0.464990962817421994  # max of sqrt(m(x) / x), m(x) = log(1 + x) - x / (1 + x), at x = 2.16258


class NFW(RotationCurve):
    """Navarro-Frenk-White halo: peaks at 2.163 scale radii.

    Its two numbers are the peak speed and the scale radius, which the data see: V200 and the concentration need a
    distance and a Hubble constant. V(c r_s)**2 / vmax**2 = 4.625 (log(1 + c) - c / (1 + c)) / c gives them from those.
    Within 1e-4 r_s, where the speed's slope grows without limit as radius**-0.5, it is linear.
    """

    name = "nfw"
    parameters = (
        _vmax("peak speed, at 2.163 r_s"),
        _radius("r_s", "scale radius, where the density falls as radius**-2", _HALO, default=20.0),
    )
    reference = "Navarro, Frenk & White (1997, ApJ 490, 493)"

    @staticmethod
    def evaluate(radius, vmax, r_s):
        x = radius / r_s
        near, far = ops.clip(x, 1e-4, 0.05), ops.clip(x, 0.05)
        mass = ops.log1p(far) - far / (1 + far)
        kernel = ops.where(  # m(x) / x**3
            x < 0.05, ops.polynomial(near, _NFW_SERIES) / near, mass / far**3
        )
        return vmax / _NFW_PEAK * x * ops.sqrt(kernel)


# m(x) = 2 * integral of x**2 / ((1 + x)(1 + x**2)), whose integrand is x**2 (1 - x + x**4 - x**5 + ...)
_BURKERT_SERIES = [(2 / (j + 3), -2 / (j + 3), 0.0, 0.0)[j % 4] for j in range(18)]
_BURKERT_PEAK = 0.655979894256381027  # max of sqrt(m(x) / x), at x = 3.24463


class Burkert(RotationCurve):
    """Burkert halo, with a core: peaks at 3.245 core radii."""

    name = "burkert"
    parameters = (
        _vmax("peak speed, at 3.245 r_core"),
        _radius("r_core", "core radius, where the density is a quarter of the central one", _HALO, default=10.0),
    )
    reference = "Burkert (1995, ApJ 447, L25)"

    @staticmethod
    def evaluate(radius, vmax, r_core):
        x = radius / r_core
        near, far = ops.clip(x, None, 0.1), ops.clip(x, 0.1)
        mass = ops.log1p(far) + 0.5 * ops.log1p(far * far) - ops.arctan(far)
        kernel = ops.where(x < 0.1, ops.polynomial(near, _BURKERT_SERIES), mass / far**3)  # m(x) / x**3
        return vmax / _BURKERT_PEAK * x * ops.sqrt(kernel)


@hookimpl
def kinematics_nn_rotation_curves():
    """The rotation curves of this package, through the hook that a stranger's come by."""
    return [Arctan, Brandt, Burkert, Courteau, Flat, Freeman, Linear, NFW, Polyex, PseudoIsothermal, Tanh]
