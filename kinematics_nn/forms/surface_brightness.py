"""Surface brightness: the face-on shape of the light against radius [arcsec]. The flux is a parameter of the disc."""

# ruff: noqa: D102 - what the methods take and return is documented once, in the base class

from __future__ import annotations

import math

from . import ops
from .base import FormParameter, SurfaceBrightness
from .hookspecs import hookimpl
from .priors import LogUniform, Uniform

__all__ = [
    "DoubleExponential",
    "Exponential",
    "ExponentialHole",
    "Gaussian",
    "Ring",
    "Sersic",
    "TruncatedExponential",
]

_SCALE = LogUniform(0.2, 1.0, relative_to=("beam", "field"))
_R50_OF_SCALE = 1.67834699001666065  # half-light radius of an exponential disc of scale 1


def _radius(name, description, prior=_SCALE, default=8.0):
    return FormParameter(name, "arcsec", default, (1e-3, 1e5), prior, description)


class Exponential(SurfaceBrightness):
    """Exponential disc, 1 at the centre."""

    name = "exponential"
    parameters = (_radius("r_scale", "scale length"),)
    reference = "Freeman (1970, ApJ 160, 811) eq. 1"

    @staticmethod
    def evaluate(radius, r_scale):
        return ops.exp(-radius / r_scale)

    @staticmethod
    def derivatives(radius, r_scale):
        return [ops.exp(-radius / r_scale) * radius / r_scale**2]

    @staticmethod
    def total(r_scale):
        return 2 * math.pi * r_scale**2

    @staticmethod
    def half_light_radius(r_scale):
        return _R50_OF_SCALE * r_scale


class Sersic(SurfaceBrightness):
    """Sérsic profile, 1 at the half-light radius; held at its value at 1e-8 r_eff nearer the centre."""

    name = "sersic"
    parameters = (
        _radius("r_eff", "half-light radius"),
        FormParameter("n", "", 1.0, (0.3, 8.0), LogUniform(0.3, 6.0), "Sérsic index"),
    )
    reference = "Graham & Driver (2005, PASA 22, 118)"

    @staticmethod
    def evaluate(radius, r_eff, n):
        return ops.exp(-ops.gamma_median(2 * n) * (ops.power(radius / r_eff, 1 / n) - 1))

    @staticmethod
    def derivatives(radius, r_eff, n):
        x = ops.clip(radius / r_eff, 1e-8)  # as ops.power holds it
        b = ops.gamma_median(2 * n)
        by_a, by_b = ops.gammainc_derivatives(2 * n, b)  # P(2n, b(n)) is constant
        power = ops.power(x, 1 / n)
        value = ops.exp(-b * (power - 1))
        by_n = 2 * by_a / by_b * (power - 1) + b * power * ops.log(x) / n**2
        return [value * b * power / (n * r_eff) * (radius / r_eff > 1e-8), value * by_n]

    @staticmethod
    def total(r_eff, n):
        b = ops.gamma_median(2 * n)
        shape = 2 * math.pi * n * ops.exp(b - 2 * n * ops.log(b) + ops.gammaln(2 * n))
        return shape * r_eff**2

    @staticmethod
    def half_light_radius(r_eff, n):
        return r_eff + 0 * n


class Gaussian(SurfaceBrightness):
    """Gaussian disc, 1 at the centre."""

    name = "gaussian"
    parameters = (_radius("r_sigma", "standard deviation"),)

    @staticmethod
    def evaluate(radius, r_sigma):
        return ops.exp(-0.5 * (radius / r_sigma) ** 2)

    @staticmethod
    def derivatives(radius, r_sigma):
        return [ops.exp(-0.5 * (radius / r_sigma) ** 2) * radius**2 / r_sigma**3]

    @staticmethod
    def total(r_sigma):
        return 2 * math.pi * r_sigma**2

    @staticmethod
    def half_light_radius(r_sigma):
        return math.sqrt(2 * math.log(2)) * r_sigma


def _outside(t, crest):
    """The integral of (crest + s) exp(-s**2 / 2) from s = t outwards: the light of a ring outside a radius."""
    return ops.exp(-0.5 * t**2) + math.sqrt(math.pi / 2) * crest * ops.erfc(t / math.sqrt(2))


class Ring(SurfaceBrightness):
    """Ring of Gaussian section, 1 on its crest."""

    name = "ring"
    parameters = (
        _radius("r_ring", "radius of the crest"),
        _radius("width", "standard deviation of the section", LogUniform(0.1, 0.5, relative_to=("beam", "field")), 2.0),
    )

    @staticmethod
    def evaluate(radius, r_ring, width):
        return ops.exp(-0.5 * ((radius - r_ring) / width) ** 2)

    @staticmethod
    def derivatives(radius, r_ring, width):
        t = (radius - r_ring) / width
        by_crest = ops.exp(-0.5 * t**2) * t / width
        return [by_crest, by_crest * t]

    @staticmethod
    def total(r_ring, width):
        crest = r_ring / width
        return 2 * math.pi * width**2 * _outside(-crest, crest)

    @staticmethod
    def half_light_radius(r_ring, width):
        # t = (R - r_ring) / width solves outside(t) = outside(-crest) / 2; the start is within 0.2 of it for any crest
        crest = r_ring / width
        half = 0.5 * _outside(-crest, crest)
        t = ops.sqrt(crest**2 + 2 * math.log(2)) - crest
        for _ in range(6):
            t = t + (_outside(t, crest) - half) / ((t + crest) * ops.exp(-0.5 * t**2))
        return r_ring + width * t


class ExponentialHole(SurfaceBrightness):
    """Exponential disc times a Gaussian hole of central depth 1, as molecular and atomic discs often show."""

    name = "exponential_hole"
    parameters = (
        _radius("r_scale", "scale length outside the hole"),
        _radius("r_hole", "standard deviation of the hole", LogUniform(0.05, 2.0, relative_to="r_scale"), 4.0),
    )

    @staticmethod
    def evaluate(radius, r_scale, r_hole):
        return -ops.exp(-radius / r_scale) * ops.expm1(-0.5 * (radius / r_hole) ** 2)

    @staticmethod
    def derivatives(radius, r_scale, r_hole):
        disc, hole = ops.exp(-radius / r_scale), -ops.expm1(-0.5 * (radius / r_hole) ** 2)
        return [disc * hole * radius / r_scale**2, -disc * (1 - hole) * radius**2 / r_hole**3]

    @staticmethod
    def radial_scale(r_scale, r_hole):
        return r_scale + 0 * r_hole  # however wide the hole, the light ends with the exponential


class DoubleExponential(SurfaceBrightness):
    """Sum of two exponential discs, of which the outer one holds the share `outer_share` of the light."""

    name = "double_exponential"
    parameters = (
        _radius("r_scale", "scale length of the inner disc"),
        _radius("r_outer", "scale length of the outer disc", LogUniform(1.5, 10.0, relative_to="r_scale"), 20.0),
        FormParameter("outer_share", "", 0.3, (0.0, 1.0), Uniform(0.0, 1.0), "share of the light in the outer disc"),
    )
    reference = "after Andredakis & Sanders (1994, MNRAS 267, 283)"

    @staticmethod
    def evaluate(radius, r_scale, r_outer, outer_share):
        outer = (r_scale / r_outer) ** 2 * ops.exp(-radius / r_outer)
        return (1 - outer_share) * ops.exp(-radius / r_scale) + outer_share * outer

    @staticmethod
    def derivatives(radius, r_scale, r_outer, outer_share):
        inner, outer = ops.exp(-radius / r_scale), (r_scale / r_outer) ** 2 * ops.exp(-radius / r_outer)
        return [
            (1 - outer_share) * inner * radius / r_scale**2 + 2 * outer_share * outer / r_scale,
            outer_share * outer * (radius / r_outer - 2) / r_outer,
            outer - inner,
        ]

    @staticmethod
    def total(r_scale, r_outer, outer_share):
        return 2 * math.pi * r_scale**2 + 0 * (r_outer + outer_share)


class TruncatedExponential(SurfaceBrightness):
    """Exponential disc that ends at `r_trunc`, where it has fallen by half over a width of 0.1 r_trunc.

    The sharp edge of van der Kruit & Searle has no gradient; this one is a complementary error function.
    """

    name = "truncated_exponential"
    parameters = (
        _radius("r_scale", "scale length"),
        _radius("r_trunc", "truncation radius", LogUniform(0.5, 5.0, relative_to="r_scale"), 25.0),
    )
    reference = "after van der Kruit & Searle (1981, A&A 95, 105)"

    @staticmethod
    def evaluate(radius, r_scale, r_trunc):
        return 0.5 * ops.exp(-radius / r_scale) * ops.erfc((radius / r_trunc - 1) * (10 / math.sqrt(2)))

    @staticmethod
    def derivatives(radius, r_scale, r_trunc):
        edge = (radius / r_trunc - 1) * (10 / math.sqrt(2))
        disc = ops.exp(-radius / r_scale)
        by_edge = disc * ops.exp(-(edge**2)) * (10 / math.sqrt(2 * math.pi))
        return [0.5 * disc * ops.erfc(edge) * radius / r_scale**2, by_edge * radius / r_trunc**2]

    @staticmethod
    def radial_scale(r_scale, r_trunc):
        return 1 / (1 / r_scale + 1 / r_trunc)  # the light ends with the shorter of the two


@hookimpl
def kinematics_nn_surface_brightness():
    """The surface brightness of this package, through the hook that a stranger's come by."""
    return [DoubleExponential, Exponential, ExponentialHole, Gaussian, Ring, Sersic, TruncatedExponential]
