"""What a functional form is: declared parameters and one pure `evaluate`, written once for numpy and torch."""

from __future__ import annotations

import math

import numpy as np

from ..errors import FormError
from . import ops
from .parameter import FormParameter

__all__ = ["KINDS", "Dispersion", "Form", "FormParameter", "RotationCurve", "SurfaceBrightness"]

KINDS = ("rotation_curve", "surface_brightness", "velocity_dispersion")


class Form:
    """A function of radius in the plane of the disc, known by its class alone: it has no instances.

    Subclass one of `RotationCurve`, `SurfaceBrightness` and `Dispersion`, declare `name` and `parameters`, and write
    `evaluate` with the functions of `kinematics_nn.forms.ops`. Calling a form makes its astropy model: ``NFW(vmax=...,
    r_s=...)`` is ``model_class(NFW)(vmax=..., r_s=...)`` of `kinematics_nn.models`.

    Attributes
    ----------
    name : str
        The name in the registry (``"arctan"``).
    kind : str
        One of `KINDS`.
    parameters : tuple of FormParameter
        In the order that `evaluate` takes them.
    reference : str
        The paper and equation that the formula is from.
    derivatives : callable, optional
        Called as `evaluate`; a list of the derivatives by each parameter. Only astropy's fitters use it, and take
        differences without it.
    prior_residuals : callable, optional
        Called with the parameters alone; a list of functions of them that are each a standard normal variate a priori,
        on top of the parameters' own priors (the smoothness of a curve of rings). It takes batches and tensors, as
        `evaluate` does; see `log_prior`.
    radius_unit : str, optional
        The unit of radius of a form that holds radii of its own, beside its parameters (a table, rings): ``"arcsec"``,
        or ``"kpc"`` for one that is fitted to a measured curve and not to a cube. Others work in any unit.
    """

    name: str
    kind: str
    parameters: tuple[FormParameter, ...] = ()
    reference: str = ""
    derivatives = None
    prior_residuals = None
    radius_unit: str | None = None

    def __new__(cls, *values, **by_name):
        """The form's astropy model with these parameters; see `kinematics_nn.models.model_class`."""
        if not cls.parameters:
            raise FormError(f"{cls.__name__} declares no parameters", "a form that has some", "list_forms()")
        from ..models import model_class

        return model_class(cls)(*values, **by_name)

    @staticmethod
    def evaluate(radius, *parameters):
        """The form's value at each radius.

        Parameters
        ----------
        radius : array or tensor
            Radius in the plane of the disc, not negative ['arcsec'].
        *parameters : float, array or tensor
            In declared order or by name, in inside units, each broadcastable to `radius`
            (for a batch, ``(batch, 1)`` beside ``(batch, n)``).

        Returns
        -------
        array or tensor
            Of the broadcast shape: km/s, or for a surface brightness the face-on shape in any unit.
        """
        raise FormError("a form without evaluate()", "its formula", "@staticmethod def evaluate(radius, ...): ...")

    @classmethod
    def log_prior(cls, *parameters, **by_name):
        """Log of the factor by which the parameters' joint prior differs from the product of their own priors.

        It is -1/2 of the sum of the squares of `prior_residuals`, without normalisation, and 0 for a form without them.

        Parameters
        ----------
        *parameters, **by_name : float, array or tensor
            In inside units, of shapes that broadcast.

        Returns
        -------
        float, array or tensor
            Of the broadcast shape of the parameters.
        """
        values = cls.bind(*parameters, **by_name)
        if cls.prior_residuals is None:
            return 0.0
        return sum(-0.5 * residual**2 for residual in cls.prior_residuals(*values))

    @classmethod
    def log_prior_norm(cls):
        """Log of the mean of exp(`log_prior`) under the parameters' own priors, by which an evidence has to be divided.

        It is 0 for a form without `prior_residuals`; one that has them, and does not override this, has evidences that
        are comparable among fits of that form only.
        """
        return 0.0

    @classmethod
    def for_observation(cls, observation):
        """The form to fit to an observation: itself, but for a form that is made for each (a velocity per ring).

        Parameters
        ----------
        observation : `~kinematics_nn.observation.Observation`

        Returns
        -------
        type
            A form of the same kind.

        Raises
        ------
        FormError
            The form holds radii in kpc, and a cube is in arcsec.
        """
        if cls.radius_unit not in (None, "arcsec"):
            raise FormError(
                f"{cls.name} holds radii in {cls.radius_unit}, and a cube is in arcsec",
                "radii that are angles, or the distance that makes them so",
                f"{cls.__name__}(..., distance=10 * u.Mpc)",
            )
        return cls

    @classmethod
    def names(cls):
        """The parameters' names, in declared order."""
        return tuple(parameter.name for parameter in cls.parameters)

    @classmethod
    def defaults(cls):
        """The parameters' default values by name."""
        return {parameter.name: parameter.default for parameter in cls.parameters}

    @classmethod
    def bind(cls, *values, **by_name):
        """Values given in order or by name, as a tuple in declared order; all must be there."""
        names = cls.names()
        if len(values) > len(names):
            raise TypeError(f"{cls.name} takes {len(names)} parameters ({', '.join(names)}), got {len(values)}")
        given = dict(zip(names, values, strict=False))
        unknown = [name for name in by_name if name not in names or name in given]
        missing = [name for name in names if name not in given and name not in by_name]
        if unknown or missing:
            found = ", ".join([*given, *by_name]) or "none"
            raise TypeError(f"{cls.name} takes the parameters {', '.join(names)}, each once; got {found}")
        given.update(by_name)
        return tuple(given[name] for name in names)


class RotationCurve(Form):
    """A rotation curve: `evaluate` returns the speed [km/s].

    Attributes
    ----------
    costly : bool
        Whether `evaluate` takes longer than some ten operations, as special functions do: the decoder then takes the
        speeds of a galaxy's points from a table in radius. For curves without kinks and steps.
    """

    kind = "rotation_curve"
    costly = False


class Dispersion(Form):
    """An intrinsic velocity dispersion: `evaluate` returns one standard deviation [km/s].

    Attributes
    ----------
    uniform : bool
        Whether it is the same at every radius: the decoder is then several times as fast.
    """

    kind = "velocity_dispersion"
    uniform = False


class SurfaceBrightness(Form):
    """A surface brightness: `evaluate` returns its face-on shape, whose size is arbitrary (`flux` sets it).

    `total` and `half_light_radius` are integrated numerically unless a form overrides them with closed forms.

    Attributes
    ----------
    own_scale : bool
        Whether the parameters set the size of the shape, too: the amplitude of the astropy model is then held at 1.
    nodes, reach : int, (float, float)
        How many radii the integrals are summed at, and from where to where, in units of `radial_scale`.
    """

    kind = "surface_brightness"
    own_scale = False
    nodes, reach = 1024, (3e-5, 300.0)

    @classmethod
    def radial_scale(cls, *parameters, **by_name):
        """A radius [arcsec] of the order of the half-light radius: the integrals run over `reach` times it.

        It is the sum of the parameters in arcsec; a form whose light lies elsewhere overrides it.
        """
        values = cls.bind(*parameters, **by_name)
        lengths = [value for value, known in zip(values, cls.parameters, strict=True) if known.unit == "arcsec"]
        if not lengths:
            raise TypeError(f"{cls.name} has no parameter in arcsec: it must override radial_scale()")
        return sum(lengths[1:], lengths[0])

    @classmethod
    def total(cls, *parameters, **by_name):
        """Light of the whole face-on disc, 2 pi times the integral of evaluate(R) R dR.

        Parameters
        ----------
        *parameters, **by_name : float, array or tensor
            In inside units, of shapes that broadcast.

        Returns
        -------
        array or tensor
            Of the broadcast shape of the parameters [evaluate's unit times arcsec2].
        """
        _, light, step = cls._light_per_log_radius(cls.bind(*parameters, **by_name))
        return light.sum(-1) * step  # both ends vanish: the trapezoid rule then converges exponentially

    @classmethod
    def half_light_radius(cls, *parameters, **by_name):
        """Radius that holds half of the face-on light [arcsec]; shapes as in `total`, accurate to about 1e-6."""
        log_radius, light, step = cls._light_per_log_radius(cls.bind(*parameters, **by_name))
        # the integral over each interval by the cubic through four points
        inner = (13 * (light[..., 1:-2] + light[..., 2:-1]) - light[..., :-3] - light[..., 3:]) * (step / 24)
        grown = inner.cumsum(-1)
        target = 0.5 * (light.sum(-1) * step)[..., None]
        last = (grown < target).sum(-1)[..., None]  # the interval in which the light reaches half
        last = ops.clip(last, 0, inner.shape[-1] - 1)

        def at(values, index):
            return values.take_along_dim(index, -1) if ops.is_tensor(values) else np.take_along_axis(values, index, -1)

        share = at(inner, last)
        left, right = at(light, last + 1) * step, at(light, last + 2) * step
        wanted = target - (at(grown, last) - share)
        # inside the interval the cubic with the right ends and slopes, solved by Newton from the straight line
        t = wanted / share
        for _ in range(4):
            value = t * (left + t * ((3 * share - 2 * left - right) + t * (left + right - 2 * share)))
            slope = left + t * (2 * (3 * share - 2 * left - right) + t * 3 * (left + right - 2 * share))
            t = t - (value - wanted) / slope
        return ops.exp(at(log_radius, last + 1) + t * step)[..., 0]

    @classmethod
    def _light_per_log_radius(cls, values):
        """Nodes: log R, 2 pi R^2 evaluate(R) and the step of log R; on a last axis after those of the parameters."""
        scale = cls.radial_scale(*values)
        nodes, step = np.linspace(*np.log(cls.reach), cls.nodes, retstep=True)
        if ops.is_tensor(*values):
            values = tuple(value[..., None] for value in ops.tensors(*values))
            nodes = values[0].new_tensor(nodes)
            log_radius = ops.log(scale)[..., None] + nodes
        else:
            values = tuple(np.asarray(value)[..., None] for value in values)
            dtype = np.result_type(*values, np.float32)
            log_radius = np.log(scale)[..., None] + nodes.astype(dtype)
        radius = ops.exp(log_radius)
        light = 2 * math.pi * radius**2 * cls.evaluate(radius, *values)
        shape = np.broadcast_shapes(tuple(light.shape), tuple(log_radius.shape))
        return _broadcast(log_radius, shape), _broadcast(light, shape), float(step)


def _broadcast(values, shape):
    return values.expand(shape) if ops.is_tensor(values) else np.broadcast_to(values, shape)
