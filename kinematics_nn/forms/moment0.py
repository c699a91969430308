"""The observed light as the light of the model: the profile of an observation's own moment 0."""

# ruff: noqa: D102 - what the methods take and return is documented once, in the base class

from __future__ import annotations

import math
from functools import cache

import numpy as np
from scipy.optimize import brentq

from . import ops
from .base import FormParameter, SurfaceBrightness
from .hookspecs import hookimpl
from .interpolation import MonotoneCubic
from .made import make_form
from .moments import moment_disc
from .priors import LogUniform

__all__ = ["Moment0", "moment0_form", "moment0_profile"]


def _shape(radii, light):
    """A profile through the points, flat inside the first and 0 past the last, and its total: for r50 = 1."""
    end = 2 * radii[-1] - radii[-2] if len(radii) > 1 else 2 * radii[-1]
    edges, values = np.array([0.0, *radii, end]), np.array([light[0], *light, 0.0])
    curve = MonotoneCubic(edges, values)
    nodes, weights = np.polynomial.legendre.leggauss(3)  # exact for R times a cubic

    def between(a, b):
        radius = 0.5 * (b - a) * nodes + 0.5 * (a + b)
        return math.pi * (b - a) * float(np.sum(weights * radius * curve(radius)))

    def within(radius):
        whole = edges[edges < radius]
        return sum(between(a, b) for a, b in zip(whole, [*whole[1:], radius], strict=True))

    total = within(end)
    r50 = brentq(lambda radius: within(radius) - 0.5 * total, 1e-9 * end, end, xtol=1e-12 * end)
    return MonotoneCubic(edges / r50, values), total / r50**2


_X = np.linspace(0.2, 12, 60)


class Moment0(SurfaceBrightness):
    """The azimuthal average of the observed moment 0, deprojected; its half-light radius is free.

    The shape is measured for each observation: the detected emission averaged over ellipses half a beam apart, with
    the centre, axis and axis ratio that its moments have. Holes, rings and shoulders are in it, arms and clumps are
    averaged out. It has been through the beam once and the decoder puts it through again: the free radius
    makes up for the size, not for what the beam has filled in. Before an observation is known, it is an exponential
    disc.
    """

    name = "moment0"
    parameters = (
        FormParameter(
            "r_eff",
            "arcsec",
            13.0,
            (1e-3, 1e5),
            LogUniform(0.3, 1.7, relative_to=("beam", "field")),
            "half-light radius of the observed profile",
        ),
    )
    shape, unit_total = _shape(_X, np.exp(-_X))  # of R / r_eff, and the light of the disc whose r_eff is 1
    made = False

    @classmethod
    def evaluate(cls, radius, r_eff):
        return ops.clip(cls.shape(radius / r_eff), 0.0)

    @classmethod
    def derivatives(cls, radius, r_eff):
        return [-radius / r_eff**2 * cls.shape.slope(radius / r_eff)]

    @classmethod
    def total(cls, r_eff):
        return cls.unit_total * r_eff**2

    @classmethod
    def half_light_radius(cls, r_eff):
        return 1.0 * r_eff

    @classmethod
    def for_observation(cls, observation):
        return cls if cls.made else moment0_form(*moment0_profile(observation))


def moment0_profile(observation):
    """The profile of an observation's moment 0.

    Parameters
    ----------
    observation : `~kinematics_nn.observation.Observation`

    Returns
    -------
    radii : tuple of float
        Middles of elliptical annuli half a beam wide [arcsec], out to the last with emission.
    light : tuple of float
        Mean over each, in units of the brightest; between its neighbours' where it holds no pixel, as annuli of nearly
        edge-on discs in coarse pixels do.
    """
    disc = moment_disc(observation)
    width = 0.5 * disc.beam
    ring = (disc.radius / width).astype(int).ravel()
    held = np.bincount(ring)
    full = np.flatnonzero(held)
    light = np.interp(np.arange(held.size), full, np.bincount(ring, disc.light.ravel())[full] / held[full])
    light = light[: np.flatnonzero(light)[-1] + 1]
    radii = width * (np.arange(light.size) + 0.5)
    return tuple(radii.tolist()), tuple((light / light.max()).tolist())


@cache
def moment0_form(radii, light):
    """The form of a profile: the same class for the same numbers.

    Parameters
    ----------
    radii, light : tuple of float
        As `moment0_profile` returns them.

    Returns
    -------
    type
        A subclass of `Moment0`.
    """
    shape, total = _shape(radii, light)
    return make_form(Moment0, (moment0_form, (radii, light)), made=True, shape=shape, unit_total=total)


@hookimpl
def kinematics_nn_surface_brightness():
    """The light that is observed."""
    return [Moment0]
