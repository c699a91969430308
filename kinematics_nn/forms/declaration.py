"""What a form must declare: names, units, bounds, defaults and priors that a fit and an astropy model can work with."""

from __future__ import annotations

import inspect
import keyword
import math
import re
from numbers import Real

import numpy as np
from astropy import units as u

from ..errors import FormError
from .base import KINDS, Form, FormParameter
from .contract_light import TYPICAL_SCALES
from .masses import MassModel
from .priors import Prior

__all__ = ["check_declaration"]

_TAKEN = ("amplitude", "form", "n_models", "rotation_curve")  # by the models of this package, beside astropy's own


def check_declaration(form):
    """Check what a form declares: names, kind, units, bounds, defaults, priors, and its formula's signature."""
    if not (isinstance(form, type) and issubclass(form, Form)):
        raise FormError(f"{form!r} is no form", "a subclass of RotationCurve, SurfaceBrightness or Dispersion")
    label = f"{form.__module__}.{form.__qualname__}"
    if getattr(form, "kind", None) not in KINDS:
        raise FormError(
            f"{label} has the kind {getattr(form, 'kind', None)!r}",
            f"one of {', '.join(KINDS)}",
            "subclass RotationCurve, SurfaceBrightness or Dispersion",
        )
    # a sum's name is made of those of its components, and no other may look like one
    allowed = r"[a-z][a-z0-9_]*" if not getattr(form, "components", ()) else r"[a-z][a-z0-9_:+()]*"
    if not re.fullmatch(allowed, str(getattr(form, "name", None))):
        raise FormError(
            f"{label} has the name {getattr(form, 'name', None)!r}", "lower-case letters, digits and _", "name = 'mine'"
        )
    names = []
    for parameter in form.parameters if isinstance(form.parameters, tuple | list) else [None]:
        if not isinstance(parameter, FormParameter):
            raise FormError(
                f"{label} has parameters = {form.parameters!r}",
                "a tuple of FormParameter",
                "parameters = (FormParameter(...),), with the comma",
            )
        _check_parameter(label, parameter)
        names.append(parameter.name)
    if not names or len(set(names)) != len(names):
        raise FormError(f"{label} declares the parameters {names}", "at least one, each name once")
    _check_formulas(label, form, names)
    if not isinstance(inspect.getattr_static(form, "evaluate"), staticmethod | classmethod):
        raise FormError(f"{label}.evaluate is an instance method", "no self", "@staticmethod above it")
    signature = list(inspect.signature(form.evaluate).parameters.values())
    variadic = any(argument.kind is argument.VAR_POSITIONAL for argument in signature)
    if not variadic and [argument.name for argument in signature[1:]] != names:
        raise FormError(
            f"{label}.evaluate takes {[argument.name for argument in signature]}",
            f"the radius and the declared parameters in order, {', '.join(names)}",
        )


def _check_formulas(label, form, names):
    """Check that what the base classes only describe is there."""
    takes = ", ".join(names)
    if form.evaluate is Form.evaluate:
        raise FormError(f"{label} has no evaluate()", "its formula", f"def evaluate(radius, {takes})")
    if issubclass(form, MassModel):
        if form.gm is MassModel.gm:
            raise FormError(f"{label} has no gm()", "its mass", f"def gm(hubble, {takes})")
        if not hasattr(form, "mass_description"):
            raise FormError(f"{label} has no mass_description", "what its mass is", 'mass_description = "Mass of ..."')


def _check_parameter(label, parameter):
    where = f"parameter {parameter.name!r} of {label}"
    _check_name(where, parameter.name)
    try:
        powers = parameter.powers
    except (ValueError, TypeError) as error:
        raise FormError(f"{where} has the unit {parameter.unit!r}", "a unit that astropy reads") from error
    if powers is None:
        raise FormError(f"{where} has the unit {u.Unit(parameter.unit)}", "powers of km/s and arcsec, or ''")
    bounds = parameter.bounds if isinstance(parameter.bounds, tuple | list) else ()
    if not (len(bounds) == 2 and all(map(_is_finite, bounds)) and bounds[0] < bounds[1]):
        raise FormError(f"{where} has the bounds {parameter.bounds!r}", "two finite numbers, the lower first")
    if not (_is_finite(parameter.default) and bounds[0] <= parameter.default <= bounds[1]):
        raise FormError(f"{where} has the default {parameter.default!r}", f"a number within its bounds {bounds}")
    if not isinstance(parameter.prior, Prior):
        raise FormError(f"{where} has the prior {parameter.prior!r}", "a Prior", "kinematics_nn.forms.Uniform(lo, hi)")
    _check_prior(where, parameter)


def _check_prior(where, parameter):
    """Check that a prior can be drawn from, and that nothing it gives lies outside of the bounds."""
    prior, (lo, hi) = parameter.prior, parameter.bounds
    try:
        typical = prior.resolve(TYPICAL_SCALES)
        with np.errstate(all="ignore"):  # what is not finite is found below
            low, middle, high = typical.ppf(np.array([1e-4, 0.5, 1 - 1e-4]))
            good = -math.inf < low < middle < high < math.inf and typical.log_prob(middle) > -math.inf
    except Exception as error:  # the class of a stranger's prior, or the base class: whatever it raises, it is named
        raise FormError(
            f"{where} has the prior {prior!r}, which raises {type(error).__name__}: {error}",
            "a prior with ppf() and log_prob()",
            "kinematics_nn.forms.Uniform(lo, hi)",
        ) from error
    if not good:
        raise FormError(f"{where} has the prior {prior!r}", "one that is finite", "kinematics_nn.forms.Uniform(lo, hi)")
    # What counts in units of the beam or the field is in arcsec for each galaxy, and is not compared. A normal prior
    # needs no limits of its own where the bounds are in its far tails.
    below = prior.scales[0] is None and (prior.lo if math.isfinite(prior.lo) else low) < lo
    above = prior.scales[1] is None and (prior.hi if math.isfinite(prior.hi) else high) > hi
    if below or above:
        raise FormError(
            f"{where} has the prior {prior!r} beside the bounds {parameter.bounds}",
            "a prior within the bounds",
            f"kinematics_nn.forms.Uniform({lo:g}, {hi:g})",
        )


def _check_name(where, name):
    from astropy.modeling import Fittable1DModel

    if not str(name).isidentifier() or keyword.iskeyword(name):
        raise FormError(f"{where} is no usable name", "a Python identifier")
    if hasattr(Fittable1DModel, name) or name in _TAKEN:
        raise FormError(
            f"{where} has the name of what every astropy model has", "a name of its own", f"calling it my_{name}"
        )


def _is_finite(value):
    return isinstance(value, Real) and math.isfinite(value)
