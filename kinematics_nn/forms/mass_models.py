"""Rotation curves of masses: disc, bulges and point mass. Haloes are in `haloes`.

They are written in kinematic terms (a speed and a radius in arcsec), because the mass that goes with them needs a
distance and the shape doesn't; `masses.MassModel.gm` is the way from the one to the other. Each is computed as
``x sqrt(g(x))`` with a `g` that is finite and smooth at 0, so that speed and gradients are finite in the centre, where
the square root of a speed squared has none.
"""

# ruff: noqa: D102 - what the methods take and return is documented once, in the base classes

from __future__ import annotations

import math

from . import ops
from ._declare import length, speed
from .base import FormParameter
from .masses import MassModel, scaled
from .priors import LogUniform

__all__ = ["FreemanDisc", "HernquistBulge", "Kepler", "Plummer", "SersicBulge"]


# I0 K0 - I1 K1 for large y, in powers of (2y)**-2 after the factor 1 / 2y: difference of DLMF 10.40.6 at nu = 0 and 1
def _large_argument(n=12):
    def term(mu, k):
        product = 1.0
        for j in range(1, k + 1):
            product *= -(2 * j - 1) / (2 * j) * (mu - (2 * j - 1) ** 2)
        return product

    return [term(0, k) - term(4, k) for k in range(1, n + 1)]


_FREEMAN_SERIES = _large_argument()
_FREEMAN_SLOPES = [k * c for k, c in enumerate(_FREEMAN_SERIES)]
_FREEMAN_PEAK = 0.439912152012140844  # max of y sqrt(I0 K0 - I1 K1), at y = 1.07502677


def _freeman_near(y):
    y = ops.clip(y, 1e-6)
    return ops.i0e(y) * ops.k0e(y) - ops.i1e(y) * ops.k1e(y)


def _freeman_far(y):
    q = 1 / (4 * y * y)
    return q / (2 * y) * ops.polynomial(q, _FREEMAN_SERIES)


def _freeman_slope_near(y):
    held = ops.clip(y, 1e-6)
    i0, i1, k0, k1 = ops.i0e(held), ops.i1e(held), ops.k0e(held), ops.k1e(held)
    by_log = (held * (i1 * k0 - i0 * k1) + i1 * k1) / (i0 * k0 - i1 * k1)  # DLMF 10.29.3 and 10.29.2
    return ops.where(y < 1e-6, 1.0, 1 + by_log)


def _freeman_slope_far(y):
    q = 1 / (4 * y * y)
    return -0.5 - ops.polynomial(q, _FREEMAN_SLOPES) / ops.polynomial(q, _FREEMAN_SERIES)


class FreemanDisc(MassModel):
    """Razor-thin exponential disc of mass: peaks at 2.15 scale lengths, and falls as Kepler's law outside.

    vmax**2 = 0.7741 pi G Sigma0 r_disc, with Sigma0 the central surface density. The difference of Bessel functions
    loses digits far out, and its asymptotic series takes over at 40 scale lengths, in float32 at 20.
    """

    name = "freeman"
    costly = True
    parameters = (
        speed("vmax", "peak speed, at 2.15 r_disc"),
        length("r_disc", "scale length of the mass", 0.3, 3.0),
    )
    reference = "Freeman (1970, ApJ 160, 811) eq. 10; Binney & Tremaine (2008) eq. 2.165"
    mass_description = "Mass of the disc"

    @staticmethod
    def evaluate(radius, vmax, r_disc):
        y = radius / (2 * r_disc)
        return (vmax / _FREEMAN_PEAK) * y * ops.sqrt(ops.piecewise(y, 10.0, _freeman_near, _freeman_far, edge64=20.0))

    @staticmethod
    def derivatives(radius, vmax, r_disc):
        slope = ops.piecewise(radius / (2 * r_disc), 10.0, _freeman_slope_near, _freeman_slope_far, edge64=20.0)
        return scaled(FreemanDisc.evaluate(radius, 1.0, r_disc), slope, vmax, r_disc)

    @staticmethod
    def gm(hubble, vmax, r_disc):
        return vmax**2 * r_disc / (2 * _FREEMAN_PEAK**2)


class HernquistBulge(MassModel):
    """Hernquist bulge, close to a de Vaucouleurs profile of half-light radius 1.8153 r_bulge: peaks at `r_bulge`.

    Within 1e-4 r_bulge, where the speed's slope grows without limit as radius**-0.5, it is linear.
    """

    name = "hernquist"
    parameters = (
        speed("vmax", "peak speed, at r_bulge"),
        length("r_bulge", "scale radius, which holds a quarter of the mass", 0.01, 2.0, default=2.0),
    )
    reference = "Hernquist (1990, ApJ 356, 359) eq. 16"
    mass_description = "Mass of the bulge"

    @staticmethod
    def evaluate(radius, vmax, r_bulge):
        x = radius / r_bulge
        return 2 * vmax * x / (ops.sqrt(ops.clip(x, 1e-4)) * (1 + x))

    @staticmethod
    def derivatives(radius, vmax, r_bulge):
        x = radius / r_bulge
        slope = ops.where(x < 1e-4, 1.0, 0.5) - x / (1 + x)
        return scaled(HernquistBulge.evaluate(radius, 1.0, r_bulge), slope, vmax, r_bulge)

    @staticmethod
    def gm(hubble, vmax, r_bulge):
        return 4 * vmax**2 * r_bulge


# The share of the mass within radius x r_eff of a deprojected Sérsic profile is close to P(a, z x**c). Polynomials in
# 1/n, fitted to the exact share (the average of P(2n + 1, b (x / sin t)**(1/n)) over t with weight sin(t)**2) at 16
# indices from 0.5 to 8 and 31 radii from 0.01 to 30 r_eff
_SERSIC_A = (1.21902, 0.1795, -0.03463, -0.27793, 0.07915)  # a - 2n
_SERSIC_Z = (0.24357, 0.24759, -0.17867, -0.16385, 0.06055)  # z - 2n
_SERSIC_C = (1.0, -0.1439, -0.03325, 0.05268, -0.0002, 0.00045)  # n c


def _slopes(coefficients):
    return [k * c for k, c in enumerate(coefficients)][1:]


class SersicBulge(MassModel):
    """Sphere whose projection is a Sérsic profile of any index.

    The mass within a radius is an incomplete gamma function, as for the density of Prugniel & Simien, but fitted to the
    exact deprojection: from 0.01 to 30 r_eff the speed is right to 0.8 % (0.4 % for n > 1.5), where theirs is off by up
    to 7 % outside 0.1 r_eff and 30 % outside 0.01. The total mass is exact. Within 1e-4 r_eff the curve is linear.
    """

    name = "sersic_bulge"
    costly = True
    parameters = (
        speed("v_eff", "speed at r_eff"),
        length("r_eff", "radius that holds half of the projected mass", 0.02, 3.0, default=3.0),
        FormParameter("n", "", 2.0, (0.5, 8.0), LogUniform(0.5, 8.0), "Sérsic index"),
    )
    reference = "after Prugniel & Simien (1997, A&A 321, 111) and Terzić & Graham (2005, MNRAS 362, 197)"
    mass_description = "Mass of the bulge"

    @staticmethod
    def _coefficients(n):
        a = 2 * n + ops.polynomial(1 / n, _SERSIC_A)
        return a, 2 * n + ops.polynomial(1 / n, _SERSIC_Z), ops.polynomial(1 / n, _SERSIC_C) / n

    @staticmethod
    def evaluate(radius, v_eff, r_eff, n):
        x = radius / r_eff
        held = ops.clip(x, 1e-4)
        a, z, c = SersicBulge._coefficients(n)
        share = ops.gammainc(a, z * ops.exp(c * ops.log(held)))
        return v_eff * x * ops.sqrt(share / (held**3 * ops.gammainc(a, z)))

    @staticmethod
    def derivatives(radius, v_eff, r_eff, n):
        x = radius / r_eff
        log_x = ops.log(ops.clip(x, 1e-4))
        a, z, c = SersicBulge._coefficients(n)
        nu = 1 / n
        a_n = 2 - nu**2 * ops.polynomial(nu, _slopes(_SERSIC_A))
        z_n = 2 - nu**2 * ops.polynomial(nu, _slopes(_SERSIC_Z))
        c_n = -(nu**2) * (ops.polynomial(nu, _SERSIC_C) + nu * ops.polynomial(nu, _slopes(_SERSIC_C)))

        def by_index(log_x):
            """The share's logarithm, by log x and by n."""
            t = z * ops.exp(c * log_x)
            by_a, by_t = ops.gammainc_derivatives(a, t)
            share = ops.gammainc(a, t)
            return by_t * t * c / share, (by_a * a_n + by_t * t * (z_n / z + c_n * log_x)) / share

        by_log, by_n = by_index(log_x)
        shape = SersicBulge.evaluate(radius, 1.0, r_eff, n)
        slope = ops.where(x < 1e-4, 1.0, 0.5 * (by_log - 1))
        return [*scaled(shape, slope, v_eff, r_eff), 0.5 * v_eff * shape * (by_n - by_index(0.0)[1])]

    @staticmethod
    def gm(hubble, v_eff, r_eff, n):
        a, z, _ = SersicBulge._coefficients(n)
        return v_eff**2 * r_eff / ops.gammainc(a, z)


_PLUMMER_PEAK = math.sqrt(2) * 3**-0.75  # max of x (1 + x**2)**-0.75, at x = sqrt(2)


class Plummer(MassModel):
    """Plummer sphere, a bulge or a cluster with a core: peaks at 1.414 r_plummer."""

    name = "plummer"
    parameters = (
        speed("vmax", "peak speed, at 1.414 r_plummer"),
        length("r_plummer", "Plummer radius, which holds half of the projected mass", 0.02, 3.0, default=3.0),
    )
    reference = "Plummer (1911, MNRAS 71, 460); Binney & Tremaine (2008) eq. 2.44a"
    mass_description = "Mass of the sphere"

    @staticmethod
    def evaluate(radius, vmax, r_plummer):
        x = radius / r_plummer
        root = ops.sqrt(1 + x * x)
        return (vmax / _PLUMMER_PEAK) * x / (root * ops.sqrt(root))

    @staticmethod
    def derivatives(radius, vmax, r_plummer):
        x = radius / r_plummer
        slope = 1 - 1.5 * x * x / (1 + x * x)
        return scaled(Plummer.evaluate(radius, 1.0, r_plummer), slope, vmax, r_plummer)

    @staticmethod
    def gm(hubble, vmax, r_plummer):
        return vmax**2 * r_plummer / _PLUMMER_PEAK**2


_NO_MASS = 1e-30  # in any unit, as good as 0, where the root of the mass has no slope


class Kepler(MassModel):
    """Point mass, such as a black hole: falls as radius**-0.5, and is linear within 1e-6 arcsec.

    Its one number is G times the mass over the distance, because a point has no peak and no radius to state a speed at;
    it adds up with those of other masses, and has no root in its unit. 1e8 solar masses at 10 Mpc are
    8.9e3 km2 arcsec/s2, a speed of 94 km/s at 1 arcsec.
    """

    name = "kepler"
    parameters = (
        FormParameter(
            "gm", "km2 arcsec/s2", 1e4, (0.0, 1e12), LogUniform(10.0, 1e7), "G times the mass, over the distance"
        ),
    )
    reference = "Binney & Tremaine (2008) section 2.2.2"
    mass_description = "Mass of the point"

    @staticmethod
    def evaluate(radius, gm):
        # The decoder's own radii are kept above 1e-6 arcsec. A floor that scales with the mass would need a speed to be
        # special, and data in m/s would be held at another one.
        held = ops.clip(radius, 1e-6)
        return radius / held * ops.sqrt(ops.clip(gm, _NO_MASS) / held)

    @staticmethod
    def derivatives(radius, gm):
        return [Kepler.evaluate(radius, gm) / (2 * ops.clip(gm, _NO_MASS))]

    @staticmethod
    def gm(hubble, gm):
        return gm
