"""Sums of rotation curves in quadrature: a galaxy's disc, bulge, gas, halo and black hole pull together."""

# ruff: noqa: D102 - what the methods take and return is documented once, in the base class

from __future__ import annotations

from dataclasses import replace
from functools import cache

from astropy import units as u

from ..errors import FormError
from . import ops
from .base import RotationCurve
from .made import make_form
from .masses import MassModel

__all__ = ["QuadratureSum", "sum_of_forms"]

# Below this share of the sum of the squares, the square root of the sum turns linear. A share, and no speed of so many
# km/s, because the astropy model of a sum evaluates it in whatever unit of speed its parameters have.
_SOFT = 1e-6
_NONE = 1e-30  # as good as 0 in any unit of speed, where all components are at rest


class QuadratureSum(RotationCurve):
    """Rotation curve of several components of mass, each with a curve of its own.

    The accelerations add, so that ``V = sign(S) sqrt(abs(S))`` with ``S = sum of V_i abs(V_i)``: a component whose
    curve is negative, as that of a gas disc with a hole, pushes outwards. The square root has no slope where S is 0;
    where the pulls cancel to a millionth of ``sum of V_i**2`` it is replaced by a line.

    ``QuadratureSum(disc=FreemanDisc(), halo=NFW())`` is an astropy model, as a call of any form is. Its form, the same
    one for the same components, is ``QuadratureSum(...).form``.

    Parameters
    ----------
    **components : str, form or astropy model
        Rotation curves: registered names, forms, or models of `kinematics_nn.models`, which bring their values, limits
        and what is fixed. The keywords become prefixes: the ``vmax`` of ``disc`` is ``disc_vmax``. Beside parameters
        with units, bare ones are in km/s and in the same unit of radius.

    Raises
    ------
    FormError
        A component is no rotation curve, has radii in arcsec where others have them in kpc, is tied, or has a prefix
        that is no identifier.

    Examples
    --------
    >>> from kinematics_nn.forms import NFW, QuadratureSum
    >>> galaxy = QuadratureSum(inner=NFW(vmax=30.0, r_s=1.0), halo=NFW(vmax=40.0, r_s=1.0))
    >>> galaxy.param_names
    ('inner_vmax', 'inner_r_s', 'halo_vmax', 'halo_r_s')
    >>> print(f"{galaxy(2.16258):.3f}")
    50.000
    """

    name = "sum"
    components: tuple[tuple[str, type], ...] = ()

    def __new__(cls, *values, **components):
        if cls.components:
            return super().__new__(cls, *values, **components)
        if values or not components:
            raise FormError(f"{len(values)} components without a name", "keywords", "QuadratureSum(disc=..., halo=...)")
        return _model(components)

    @classmethod
    def evaluate(cls, radius, *parameters, **by_name):
        signed, fourth = _softened(cls.component_speeds(radius, *parameters, **by_name).values())
        return signed / ops.sqrt(ops.sqrt(fourth))

    @classmethod
    def component_speeds(cls, radius, *parameters, **by_name):
        """Each component's own curve, by its prefix: dict of str to what `evaluate` returns."""
        parts = cls.split(cls.bind(*parameters, **by_name))
        return {
            prefix: form.evaluate(radius, *part) for (prefix, form), part in zip(cls.components, parts, strict=True)
        }

    @classmethod
    def split(cls, values):
        """The parameters' values of each component, in order: list of tuples."""
        parts, values = [], list(values)
        for _, form in cls.components:
            n = len(form.parameters)
            parts.append(tuple(values[:n]))
            del values[:n]
        return parts

    @classmethod
    def log_prior_norm(cls):
        return sum(form.log_prior_norm() for _, form in cls.components)

    @classmethod
    def for_observation(cls, observation):
        return sum_of_forms(tuple((prefix, form.for_observation(observation)) for prefix, form in cls.components))


@cache
def sum_of_forms(components):
    """The form of a sum in quadrature: the same class for the same components.

    Parameters
    ----------
    components : tuple of (str, type)
        Prefix and rotation curve of each.

    Returns
    -------
    type
        A subclass of `QuadratureSum`, named as the components are: ``disc:freeman+halo:nfw``.
    """
    forms = [form for _, form in components]
    wrong = [prefix for prefix, _ in components if not prefix.isidentifier()]
    if wrong:
        raise FormError(f"the prefix {wrong[0]!r}", "a Python identifier", "QuadratureSum(disc=..., halo=...)")
    parameters = tuple(
        replace(known, name=f"{prefix}_{known.name}", description=f"{prefix}: {known.description}")
        for prefix, form in components
        for known in form.parameters
    )
    names = [known.name for known in parameters]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FormError(f"two components with a parameter {twice[0]}", "prefixes that tell them apart")
    units = sorted({form.radius_unit for form in forms} - {None})
    if len(units) > 1:
        raise FormError(
            "components that hold radii in arcsec and in kpc", "one unit of radius", "distance=... of those in kpc"
        )
    members = {
        "name": "+".join(f"{prefix}:({form.name})" if "+" in form.name else f"{prefix}:{form.name}"
                         for prefix, form in components),
        "components": components,
        "parameters": parameters,
        "reference": "; ".join(dict.fromkeys(form.reference for form in forms if form.reference)),
        "radius_unit": units[0] if units else None,
        # Of other curves than masses nothing says that they have no kinks.
        "costly": any(form.costly for form in forms)
        and all(form.costly or issubclass(form, MassModel) for form in forms),
    }  # fmt: skip
    if all(form.derivatives for form in forms):
        members["derivatives"] = classmethod(_derivatives)
    if any(form.prior_residuals for form in forms):
        members["prior_residuals"] = classmethod(_prior_residuals)
    return make_form(QuadratureSum, (sum_of_forms, (components,)), **members)


def _softened(speeds):
    """The sum of signed squares, and its own square, held above 0 where the components cancel."""
    speeds = list(speeds)
    signed = sum(speed * abs(speed) for speed in speeds)
    held = _SOFT * sum(speed * speed for speed in speeds)
    return signed, signed * signed + held * held + _NONE


def _derivatives(cls, radius, *parameters):
    parts = cls.split(parameters)
    speeds = [form.evaluate(radius, *part) for (_, form), part in zip(cls.components, parts, strict=True)]
    signed, fourth = _softened(speeds)
    total = sum(speed * speed for speed in speeds)
    by_signed, by_total = fourth - 0.5 * signed * signed, -0.5 * _SOFT**2 * signed * total
    return [
        fourth**-1.25 * 2 * (by_signed * abs(speed) + by_total * speed) * column
        for (_, form), part, speed in zip(cls.components, parts, speeds, strict=True)
        for column in form.derivatives(radius, *part)
    ]


def _prior_residuals(cls, *parameters):
    pairs = zip(cls.components, cls.split(parameters), strict=True)
    return [residual for (_, form), part in pairs if form.prior_residuals for residual in form.prior_residuals(*part)]


def _unit(name):
    return name and u.Unit(name)


def _model(components):
    """The sum's astropy model, with what models among the components bring."""
    from .registry import get_form

    forms = {prefix: get_form(given, "rotation_curve") for prefix, given in components.items()}
    form = sum_of_forms(tuple(forms.items()))
    models = {
        prefix: forms[prefix]() if isinstance(given, str | type) else given for prefix, given in components.items()
    }
    length, speed = None, u.km / u.s
    for prefix, model in models.items():
        if len(model) > 1:
            raise FormError(f"{prefix} is a set of {len(model)} models", "one model")
        tied = [name for name, how in model.tied.items() if how]
        if tied:
            raise FormError(f"{tied[0]} of {prefix} is tied to its own model", "ties of the sum", "model.x.tied = ...")
        in_model = next(iter((model.input_units or {}).values()), None) or _unit(forms[prefix].radius_unit)
        if None not in (in_model, length) and not in_model.is_equivalent(length):
            raise FormError(
                f"components with radii in {length} and in {in_model}",
                "one unit of radius",
                "(radius / distance).to(u.arcsec, u.dimensionless_angles())",
            )
        length = length or in_model
    own = {
        f"{prefix}_{name}": (getattr(model, name), known)
        for prefix, model in models.items()
        for name, known in zip(model.param_names, forms[prefix].parameters, strict=True)
    }
    with_units = any(parameter.unit is not None for parameter, _ in own.values())
    length = length or u.Unit(form.radius_unit or "arcsec")
    values = {}
    for name, (parameter, known) in own.items():
        values[name] = parameter.value if parameter.unit is None else parameter.quantity
        if with_units and parameter.unit is None and known.powers != (0, 0):
            values[name] = values[name] * speed ** known.powers[0] * length ** known.powers[1]
    model = form(**values)
    for name, (parameter, _) in own.items():
        getattr(model, name).fixed = parameter.fixed
        getattr(model, name).bounds = parameter.bounds
    return model
