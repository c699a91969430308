"""Rotation curves of dark haloes, in kinematic terms; see `mass_models`."""

# ruff: noqa: D102 - what the methods take and return is documented once, in the base classes

from __future__ import annotations

import numpy as np

from . import ops
from ._declare import length, speed
from .base import FormParameter
from .masses import HUBBLE_CONSTANT, MassModel, scaled
from .priors import LogUniform

__all__ = ["NFW", "Burkert", "Einasto", "Halo", "PseudoIsothermal"]


class Halo(MassModel):
    """A spherical halo, whose mass is counted within the radius of 200 times the critical density."""

    mass_name = "m200"
    mass_description = (
        f"Mass of the halo where its mean density is 200 times critical, H0 = {HUBBLE_CONSTANT:g} km/s/Mpc"
    )

    @classmethod
    def gm(cls, hubble, *parameters):
        """G M200 over the distance, as `MassModel.gm`; 0 for a halo that is nowhere so dense."""
        values = [np.asarray(value, dtype=float) for value in parameters]
        # The mean density is 200 times critical, 3 H**2 / (8 pi G), where V = 10 H r; V / r falls with radius.
        lo, hi = np.broadcast_arrays(np.full((), np.log(1e-8)), np.log(1e8), *values)[:2]
        for _ in range(55):  # 37 / 2**55: to the last digit
            middle = 0.5 * (lo + hi)
            radius = np.exp(middle)
            dense = cls.evaluate(radius, *values) > 10 * hubble * radius
            lo, hi = np.where(dense, middle, lo), np.where(dense, hi, middle)
        radius = np.exp(lo)
        return np.where(radius > 2e-8, radius * cls.evaluate(radius, *values) ** 2, 0.0)


def _slope(shape, x, density):
    """Slope dlog V / dlog r, from 4 pi rho r**3 = density x**3 in the unit in which the mass is shape**2 x."""
    return 0.5 * (density * (x / shape) ** 2 - 1)


_ISOTHERMAL_SERIES = [(-1) ** k / (2 * k + 3) for k in range(8)]


def _isothermal_near(x):
    return x * ops.sqrt(ops.polynomial(x * x, _ISOTHERMAL_SERIES))


def _isothermal_far(x):
    return ops.sqrt(1 - ops.arctan(x) / x)


class PseudoIsothermal(Halo):
    """Pseudo-isothermal halo, of density proportional to 1 / (1 + (r / r_core)**2): flat outside."""

    name = "pseudo_isothermal"
    parameters = (
        speed("vmax", "speed approached at large radius, sqrt(4 pi G rho0) r_core"),
        length("r_core", "core radius", 0.05, 10.0),
    )
    reference = "Begeman, Broeils & Sanders (1991, MNRAS 249, 523)"

    @staticmethod
    def evaluate(radius, vmax, r_core):
        return vmax * ops.piecewise(radius / r_core, 0.1, _isothermal_near, _isothermal_far, edge64=0.01)

    @staticmethod
    def derivatives(radius, vmax, r_core):
        shape = PseudoIsothermal.evaluate(radius, 1.0, r_core)
        x = ops.clip(radius / r_core, 1e-9)
        slope = _slope(PseudoIsothermal.evaluate(x, 1.0, 1.0), x, 1 / (1 + x * x))
        return scaled(shape, slope, vmax, r_core)


_NFW_SERIES = [(-1) ** j * (j + 1) / (j + 2) for j in range(9)]
_NFW_PEAK = 0.464990962817421994  # max of sqrt(m(x) / x), m(x) = log(1 + x) - x / (1 + x), at x = 2.16258


def _nfw_near(x):
    held = ops.clip(x, 1e-4)
    return x / _NFW_PEAK * ops.sqrt(ops.polynomial(held, _NFW_SERIES) / held)


def _nfw_far(x):
    return ops.sqrt((ops.log1p(x) - x / (1 + x)) / x) / _NFW_PEAK


class NFW(Halo):
    """Navarro-Frenk-White halo: peaks at 2.163 scale radii.

    Its two numbers are the peak speed and the scale radius, which the data see: V200 and the concentration need a
    distance and a Hubble constant. V(c r_s)**2 / vmax**2 = 4.625 (log(1 + c) - c / (1 + c)) / c gives them from those.
    Within 1e-4 r_s, where the speed's slope grows without limit as radius**-0.5, it is linear.
    """

    name = "nfw"
    parameters = (
        speed("vmax", "peak speed, at 2.163 r_s"),
        length("r_s", "scale radius, where the density falls as radius**-2", 0.5, 20.0, default=20.0),
    )
    reference = "Navarro, Frenk & White (1997, ApJ 490, 493)"

    @staticmethod
    def evaluate(radius, vmax, r_s):
        return vmax * ops.piecewise(radius / r_s, 0.02, _nfw_near, _nfw_far, edge64=1e-3)

    @staticmethod
    def derivatives(radius, vmax, r_s):
        shape = NFW.evaluate(radius, 1.0, r_s)
        x = ops.clip(radius / r_s, 1e-4)
        slope = _slope(NFW.evaluate(x, 1.0, 1.0), x, 1 / (_NFW_PEAK**2 * x * (1 + x) ** 2))
        return scaled(shape, ops.where(radius / r_s < 1e-4, 1.0, slope), vmax, r_s)


# m(x) = 2 * integral of x**2 / ((1 + x)(1 + x**2)), whose integrand is x**2 (1 - x) (1 + x**4 + x**8 + ...)
_BURKERT_EVEN = [2 / (4 * k + 3) for k in range(4)]
_BURKERT_ODD = [-2 / (4 * k + 4) for k in range(4)]
_BURKERT_PEAK = 0.655979894256381027  # max of sqrt(m(x) / x), at x = 3.24463


def _burkert_near(x):
    fourth = (x * x) ** 2
    mass = ops.polynomial(fourth, _BURKERT_EVEN) + x * ops.polynomial(fourth, _BURKERT_ODD)  # over x**3
    return x / _BURKERT_PEAK * ops.sqrt(mass)


def _burkert_far(x):
    return ops.sqrt((ops.log1p(x) + 0.5 * ops.log1p(x * x) - ops.arctan(x)) / x) / _BURKERT_PEAK


class Burkert(Halo):
    """Burkert halo, with a core: peaks at 3.245 core radii."""

    name = "burkert"
    parameters = (
        speed("vmax", "peak speed, at 3.245 r_core"),
        length("r_core", "core radius, where the density is a quarter of the central one", 0.5, 20.0, default=10.0),
    )
    reference = "Burkert (1995, ApJ 447, L25)"

    @staticmethod
    def evaluate(radius, vmax, r_core):
        return vmax * ops.piecewise(radius / r_core, 0.1, _burkert_near, _burkert_far, edge64=0.01)

    @staticmethod
    def derivatives(radius, vmax, r_core):
        shape = Burkert.evaluate(radius, 1.0, r_core)
        x = ops.clip(radius / r_core, 1e-9)
        slope = _slope(Burkert.evaluate(x, 1.0, 1.0), x, 2 / (_BURKERT_PEAK**2 * (1 + x) * (1 + x * x)))
        return scaled(shape, slope, vmax, r_core)


class Einasto(Halo):
    """Einasto halo, whose density has the logarithmic slope -2 (r / r_s)**alpha; linear within 1e-4 r_s.

    alpha is 1/n of the other way to write it. Simulated haloes have 0.15 to 0.3 and look like NFW's; 1 is a core.
    """

    name = "einasto"
    costly = True
    parameters = (
        speed("v_s", "speed at r_s"),
        length("r_s", "scale radius, where the density falls as radius**-2", 0.5, 20.0, default=20.0),
        FormParameter("alpha", "", 0.2, (0.05, 2.0), LogUniform(0.1, 1.0), "how fast the slope steepens with radius"),
    )
    reference = "Retana-Montenegro et al. (2012, A&A 540, A70) eq. 8; Navarro et al. (2004, MNRAS 349, 1039) eq. 5"

    @staticmethod
    def evaluate(radius, v_s, r_s, alpha):
        x = radius / r_s
        held = ops.clip(x, 1e-4)
        a, z = 3 / alpha, 2 / alpha
        share = ops.gammainc(a, z * ops.exp(alpha * ops.log(held)))
        return v_s * x * ops.sqrt(share / (held**3 * ops.gammainc(a, z)))

    @staticmethod
    def derivatives(radius, v_s, r_s, alpha):
        x = radius / r_s
        a, z = 3 / alpha, 2 / alpha

        def by_index(log_x):
            """The share's logarithm, by log x and by alpha."""
            t = z * ops.exp(alpha * log_x)
            by_a, by_t = ops.gammainc_derivatives(a, t)
            share = ops.gammainc(a, t)
            return by_t * t * alpha / share, (by_t * t * (log_x - 1 / alpha) - by_a * a / alpha) / share

        by_log, by_alpha = by_index(ops.log(ops.clip(x, 1e-4)))
        shape = Einasto.evaluate(radius, 1.0, r_s, alpha)
        slope = ops.where(x < 1e-4, 1.0, 0.5 * (by_log - 1))
        return [*scaled(shape, slope, v_s, r_s), 0.5 * v_s * shape * (by_alpha - by_index(0.0)[1])]
