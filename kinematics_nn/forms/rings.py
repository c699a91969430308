"""Rings: a rotation curve and a light profile with a value per ring, as tilted-ring fits have them.

Both are straight lines between the rings. What the data leave open is filled smoothly: a priori, the slope of the
logarithm of the value against the logarithm of radius walks at random, by `SPEED_WALK` or `LIGHT_WALK` over a factor e
of radius, however many rings there are.
"""

# ruff: noqa: D102 - what the methods take and return is documented once, in the base class

from __future__ import annotations

import math
import sys
from functools import cache
from itertools import pairwise

import numpy as np

from ..errors import FormError
from . import ops
from .base import FormParameter, RotationCurve, SurfaceBrightness
from .hookspecs import hookimpl
from .made import make_form
from .moments import moment_disc
from .priors import LogUniform
from .smoothness import log_prior_norm, roughness
from .tabulated import radii_and_unit

__all__ = ["LIGHT_WALK", "MOST_RINGS", "SPEED_WALK", "Rings", "RingsLight", "ring_radii", "rings_form"]

MOST_RINGS = 20
"""Where a disc has more beams than this to its edge, the rings are wider than a beam."""

SPEED_WALK, LIGHT_WALK = 0.5, 3.0  # slopes run from 1 to -1/2 in rotation curves, from 0 to -6 or so in light


def _radii(width, n):  # rounded, to read well in a parameter's description
    return tuple(float(f"{width * share:.5g}") for share in (0.125, *(k + 0.5 for k in range(n))))


_RADII = _radii(2.5, MOST_RINGS - 1)  # before an observation is known
_TOGETHER = 0.1  # standard deviation of the mean logarithm of the rings' light, whose scale is the flux's to set


def ring_radii(observation):
    """Radii of rings one beam wide, out to the last emission: their middles, and an eighth of a beam.

    Most curves rise within the first beam. A straight line from the centre to its middle would be too low for them, and
    would bend the rings outside it; the innermost radius leaves that rise open.

    Parameters
    ----------
    observation : `~kinematics_nn.observation.Observation`

    Returns
    -------
    tuple of float
        At least 3 and at most `MOST_RINGS` [arcsec]; the beam is that along the major axis.
    """
    disc = moment_disc(observation)
    width = max(disc.beam, disc.edge / (MOST_RINGS - 1))
    return _radii(float(f"{width:.4g}"), max(2, round(disc.edge / width)))


class _OnRings:
    """What the rotation curve and the light have in common.

    Attributes
    ----------
    radii : tuple of float
        Of the rings.
    made : bool
        Whether they were given, or made for an observation; without either, they are there to try the form on.
    beyond : tuple of float
        Radii of further rings, past the last with emission, in units of its radius.
    """

    radii = _RADII
    radius_unit = "arcsec"
    made = False
    beyond = ()

    def __new__(cls, *arguments, **by_name):
        if cls.made or not (arguments or "radii" in by_name):
            return super().__new__(cls, *arguments, **by_name)
        return cls._model(*arguments, **by_name)

    @classmethod
    def _model(cls, radii, values=None, *, distance=None, **settings):
        radii, unit = radii_and_unit(radii, distance, cls.__name__)
        if radii[0] == 0:
            raise FormError("a ring at radius 0", "radii above 0", f"{cls.__name__}(radii[1:], ...)")
        form = rings_form(cls, tuple(radii.tolist()), unit)
        if values is None:
            return form(**settings)
        if np.shape(values) != radii.shape:
            raise FormError(f"{np.size(values)} values for {radii.size} rings", "one for each")
        if form.kind == "surface_brightness" and hasattr(values, "unit"):
            values, settings["amplitude"] = values.value, 1.0 * values.unit
        return form(*values, **settings)

    @classmethod
    def for_observation(cls, observation):
        if cls.made:
            return super().for_observation(observation)
        radii = ring_radii(observation)
        radii += tuple(float(f"{radii[-1] * share:.5g}") for share in cls.beyond)
        return rings_form(cls, radii, "arcsec")

    @classmethod
    def evaluate(cls, radius, *parameters, **by_name):
        values = cls.bind(*parameters, **by_name)
        return sum(share * value for share, value in zip(cls.derivatives(radius, *values), values, strict=True))

    @staticmethod
    def _come(radius, edges):
        """How far each radius has come on its way from one edge to the next, from 0 to 1: a list over the ways."""
        return [ops.clip((radius - a) / (b - a), 0.0, 1.0) for a, b in pairwise(edges)]


def _speed(k, where):
    prior = LogUniform(1.0, 800.0)
    return FormParameter(f"v_{k}", "km/s", 150.0, (0.0, 5000.0), prior, f"speed of ring {k}, at {where}")


def _light(k, where):
    prior = LogUniform(1e-4, 1e4)
    return FormParameter(f"light_{k}", "", 1.0, (0.0, 1e6), prior, f"brightness of ring {k}, at {where}")


def _parameters(parameter, radii, unit):
    return tuple(parameter(k, f"{radius:g} {unit}") for k, radius in enumerate(radii, start=1))


@cache
def rings_form(base, radii, unit):
    """The form of rings at given radii: the same class for the same radii.

    Parameters
    ----------
    base : type
        `Rings` or `RingsLight`.
    radii : tuple of float
        Above 0, ascending.
    unit : {"arcsec", "kpc"}
        Of the radii.

    Returns
    -------
    type
        A subclass of `base` with a parameter per ring.
    """
    members = {
        "radii": radii,
        "radius_unit": unit,
        "made": True,
        "parameters": _parameters(base.parameter, radii, unit),
    }
    return make_form(base, (rings_form, (base, radii, unit)), **members)


class Rings(_OnRings, RotationCurve):
    """A speed per ring: straight from 0 in the centre to the first ring and from ring to ring, flat beyond the last.

    By default the rings are those of the observation, one a beam; ``Rings(radii, velocities)`` is an astropy model
    with rings of one's own, the velocities its values. In kpc and without a distance it is one for measured curves.

    Parameters
    ----------
    radii : (n,) `~astropy.units.Quantity` or array
        Angles, or lengths; bare numbers are in arcsec. Above 0, ascending; at least 2.
    values : (n,) `~astropy.units.Quantity` or array, optional
        Speeds; bare numbers are in km/s.
    distance : `~astropy.units.Quantity`, optional
        Of the galaxy, by which lengths become angles.

    Examples
    --------
    >>> from kinematics_nn.forms import Rings
    >>> curve = Rings([5.0, 10.0], [80.0, 120.0])
    >>> curve.param_names
    ('v_1', 'v_2')
    >>> curve([2.5, 7.5, 30.0])
    array([ 40., 100., 120.])
    """

    name = "rings"
    reference = "after Rogstad, Lockhart & Wright (1974, ApJ 193, 309)"
    parameter = staticmethod(_speed)
    parameters = _parameters(_speed, _RADII, "arcsec")

    @classmethod
    def derivatives(cls, radius, *velocities):
        come = cls._come(radius, (0.0, *cls.radii))
        return [*(here - there for here, there in pairwise(come)), come[-1]]

    @classmethod
    def prior_residuals(cls, *velocities):
        return roughness(velocities, cls.radii, SPEED_WALK)

    @classmethod
    def log_prior_norm(cls):
        prior = cls.parameters[0].prior
        return log_prior_norm(cls.radii, SPEED_WALK, math.log(prior.hi / prior.lo))


class RingsLight(_OnRings, SurfaceBrightness):
    """A brightness per ring: that of the first within it, straight from ring to ring, 0 a ring's width past the last.

    By default the rings are those of the observation, one a beam, and three beyond the last emission, where much of the
    light of a faint disc is; ``RingsLight(radii, brightnesses)`` is an astropy model with rings of one's own. Only the
    shape counts, the flux being a parameter of the disc.

    Parameters
    ----------
    radii : (n,) `~astropy.units.Quantity` or array
        Angles, or lengths; bare numbers are in arcsec. Above 0, ascending; at least 2.
    values : (n,) `~astropy.units.Quantity` or array, optional
        Brightness of each ring; a unit goes to the model's ``amplitude``, which is held.
    distance : `~astropy.units.Quantity`, optional
        Of the galaxy, by which lengths become angles.
    """

    name = "rings"
    reference = "after Józsa et al. (2007, A&A 468, 731)"
    own_scale = True
    beyond = (1.5, 2.2, 3.3)  # light that is too faint to be seen adds up
    parameter = staticmethod(_light)
    parameters = _parameters(_light, _RADII, "arcsec")

    @classmethod
    def derivatives(cls, radius, *light):
        come = cls._come(radius, cls._edges()[1:])
        return [1 - come[0], *(here - there for here, there in pairwise(come))]

    @classmethod
    def total(cls, *parameters, **by_name):
        return cls._annuli(cls.bind(*parameters, **by_name))[0].sum(-1)

    @classmethod
    def half_light_radius(cls, *parameters, **by_name):
        annuli, light, edges = cls._annuli(cls.bind(*parameters, **by_name))
        grown = annuli.cumsum(-1)
        target = 0.5 * grown[..., -1:]
        piece = ops.clip((grown < target).sum(-1)[..., None], 0, annuli.shape[-1] - 1)

        def at(values, index):
            return values.take_along_dim(index, -1) if ops.is_tensor(values) else np.take_along_axis(values, index, -1)

        inner, outer = at(edges, piece), at(edges, piece + 1)
        first, change = at(light, piece), at(light, piece + 1) - at(light, piece)
        width = outer - inner
        wanted = (target - (at(grown, piece) - at(annuli, piece))) / (2 * math.pi * width)

        def held(t):  # light from the piece's inner edge to the share t of its width
            return t * (inner * first + t * (0.5 * (width * first + inner * change) + t * width * change / 3))

        # bisection comes near whatever the slopes are, and Newton's steps bring the digits and the gradient
        low, high = 0 * wanted, 0 * wanted + 1
        for _ in range(4):
            middle = 0.5 * (low + high)
            below = held(middle) < wanted
            low, high = ops.where(below, middle, low), ops.where(below, high, middle)
        t = 0.5 * (low + high)
        for _ in range(5):
            slope = (inner + width * t) * (first + change * t)
            t = ops.clip(t - (held(t) - wanted) / ops.clip(slope, 1e-20), 0.0, 1.0)
        return (inner + width * t)[..., 0]

    @classmethod
    def prior_residuals(cls, *light):
        mean = sum(ops.log(ops.clip(value, 1e-6)) for value in light) / len(light)
        return [mean / _TOGETHER, *roughness(light, cls.radii, LIGHT_WALK)]

    @classmethod
    def log_prior_norm(cls):
        prior = cls.parameters[0].prior  # as far below 1 as above
        return log_prior_norm(cls.radii, LIGHT_WALK, math.log(prior.hi / prior.lo), _TOGETHER)

    @classmethod
    def _edges(cls):
        """Centre, rings, and where the light ends."""
        return (0.0, *cls.radii, 2 * cls.radii[-1] - cls.radii[-2])

    @classmethod
    def _annuli(cls, values):
        """Light between neighbouring edges (..., n + 1); the light at the edges and the edges (..., n + 2)."""
        if ops.is_tensor(*values):
            torch = sys.modules["torch"]
            light = torch.stack(torch.broadcast_tensors(*ops.tensors(*values)), -1)
            light = torch.cat([light[..., :1], light, 0 * light[..., :1]], -1)
            edges = light.new_tensor(cls._edges()).expand(light.shape)
        else:
            light = np.stack(np.broadcast_arrays(*values), -1)
            light = np.concatenate([light[..., :1], light, 0 * light[..., :1]], -1)
            edges = np.broadcast_to(np.asarray(cls._edges(), dtype=light.dtype), light.shape)
        a, b = edges[..., :-1], edges[..., 1:]
        # the integral of R times a straight line between a and b
        held = (b - a) / 6 * (light[..., :-1] * (2 * a + b) + light[..., 1:] * (a + 2 * b))
        return 2 * math.pi * held, light, edges


@hookimpl
def kinematics_nn_rotation_curves():
    """The rotation curve of rings."""
    return [Rings]


@hookimpl
def kinematics_nn_surface_brightness():
    """The light of rings."""
    return [RingsLight]
