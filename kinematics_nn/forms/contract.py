"""What every form must keep: its declaration, its values under numpy, and its gradients under torch.

The checks raise `FormError`, and say what to change. The registry runs those that cost nothing on every form;
`kinematics_nn.testing.check_form` runs them all.
"""

from __future__ import annotations

import inspect
import keyword
import math
import re
from numbers import Real

import numpy as np
from astropy import units as u

from ..errors import FormError
from .base import KINDS, Form, FormParameter, SurfaceBrightness
from .masses import MassModel
from .priors import Prior

__all__ = ["check_declaration", "check_numpy", "check_torch", "corners"]

PROBE = np.concatenate([[0.0], np.geomspace(1e-2, 1e3, 41)])  # arcsec: the centre, and what discs span


def corners(form):
    """Parameter values to try: the defaults, all at their lower and at their upper bounds, and each alone at either.

    Each alone at 0, too, where that lies between its bounds: formulas divide by what vanishes nowhere else.
    """
    defaults = [parameter.default for parameter in form.parameters]
    tried = [defaults]
    tried += [[parameter.bounds[side] for parameter in form.parameters] for side in (0, 1)]
    for i, parameter in enumerate(form.parameters):
        lo, hi = parameter.bounds
        tried += [[*defaults[:i], value, *defaults[i + 1 :]] for value in (lo, hi, *([0.0] if lo < 0 < hi else []))]
    return tried


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
    if not str(parameter.name).isidentifier() or keyword.iskeyword(parameter.name) or parameter.name == "amplitude":
        raise FormError(f"{where} is no usable name", "a Python identifier other than 'amplitude'")
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


def _is_finite(value):
    return isinstance(value, Real) and math.isfinite(value)


def check_numpy(form):
    """Check a form's values under numpy: finite at every radius up to the bounds, of the right shape and dtype."""
    label = f"{form.kind} {form.name!r}"
    radius = PROBE.copy()
    for values in corners(form):
        at = _named(form, values)
        try:
            with np.errstate(all="ignore"):  # what is not finite is found below
                found = np.asarray(form.evaluate(radius, *values))
                single = np.asarray(form.evaluate(radius.astype(np.float32), *values))
                batch = np.asarray(form.evaluate(radius, *(np.full((3, 1), value) for value in values)))
        except Exception as error:  # a stranger's code: whatever it raises, it is named
            raise FormError(f"{label} at {at} raises {type(error).__name__}: {error}", "numpy arrays taken") from error
        if found.shape != radius.shape or batch.shape != (3, radius.size):
            raise FormError(
                f"{label} returns the shapes {found.shape} and {batch.shape}",
                f"{radius.shape} for one galaxy and (3, {radius.size}) for a batch of three",
                "0 * radius + ... in a form that does not depend on radius",
            )
        if single.dtype != np.float32:
            raise FormError(f"{label} turns float32 into {single.dtype}", "the dtype kept")
        if not np.all(np.isfinite(found)):
            raise FormError(f"{label} at {at} is not finite at radius {radius[~np.isfinite(found)][0]:g} arcsec")
        if form.kind != "rotation_curve" and np.any(found < 0):
            raise FormError(f"{label} at {at} is negative at radius {radius[found < 0][0]:g} arcsec")
    if not np.array_equal(radius, PROBE):
        raise FormError(f"{label} changes the radii it is given", "a pure function")
    if issubclass(form, SurfaceBrightness):
        for integral in (form.total, form.half_light_radius):
            try:
                value = integral(**form.defaults())
            except Exception as error:  # a stranger's code: whatever it raises, it is named
                raise FormError(
                    f"{label}: {integral.__name__}() raises {type(error).__name__}: {error}", "a positive number"
                ) from error
            if np.shape(value) != () or not (np.isfinite(value) and value > 0):
                raise FormError(f"{label}: {integral.__name__}() is {value}", "a positive number", "radial_scale()")


def check_torch(form):
    """Check a form under torch: numpy's values, batches, dtype, right and finite gradients. Imports torch."""
    import torch

    label = f"{form.kind} {form.name!r}"
    for values in corners(form):
        at = _named(form, values)
        for dtype in (torch.float64, torch.float32):
            radius = torch.tensor(PROBE, dtype=dtype, requires_grad=True)
            inputs = [torch.tensor([[value]] * 3, dtype=dtype, requires_grad=True) for value in values]
            try:
                found = form.evaluate(radius, *inputs)
            except Exception as error:  # a stranger's code: whatever it raises, it is named
                raise FormError(
                    f"{label} raises {type(error).__name__} for torch tensors: {error}",
                    "an evaluate() that takes arrays and tensors",
                    "the functions of kinematics_nn.forms.ops in the place of numpy's",
                ) from error
            if not isinstance(found, torch.Tensor) or found.shape != (3, radius.numel()) or found.dtype != dtype:
                raise FormError(
                    f"{label} returns {type(found).__name__} {tuple(found.shape)} {found.dtype}",
                    f"a tensor (3, {radius.numel()}) of {dtype}",
                )
            gradients = torch.autograd.grad(found.sum(), [radius, *inputs], allow_unused=True)
            for name, gradient in zip(("radius", *form.names()), gradients, strict=True):
                if gradient is not None and not torch.isfinite(gradient).all():
                    raise FormError(
                        f"{label} at {at}, {dtype}: the gradient by {name} is not finite",
                        "finite gradients from radius 0 outwards, up to the bounds",
                        "hold the argument of sqrt, log or a power above 0 with ops.clip",
                    )
            if dtype == torch.float64:
                with np.errstate(all="ignore"):
                    wanted = np.asarray(form.evaluate(PROBE, *values))
                # two libraries' elementary functions differ by some units in the last place
                if not np.allclose(found[0].detach().numpy(), wanted, rtol=1e-12, atol=1e-12 * np.abs(wanted).max()):
                    raise FormError(f"{label} at {at} differs between numpy and torch", "agreement to 1e-12")
    inputs = [torch.tensor([[p.default]] * 2, dtype=torch.float64, requires_grad=True) for p in form.parameters]
    radius = torch.tensor([0.37, 2.1, 7.3, 31.0, 290.0], dtype=torch.float64, requires_grad=True)
    if not torch.autograd.gradcheck(form.evaluate, (radius, *inputs), raise_exception=False):
        raise FormError(f"{label}: its gradient differs from finite differences", "a differentiable evaluate()")
    _check_backward(form, label, radius)
    if form.derivatives is not None:
        _check_derivatives(form, label)


def _check_derivatives(form, label):
    """Check the derivatives that a form gives astropy's fitters: a wrong one leaves a parameter where it began."""
    import torch

    radius = torch.tensor([0.37, 2.1, 7.3, 31.0, 290.0], dtype=torch.float64)
    values = [torch.tensor(p.default, dtype=torch.float64) for p in form.parameters]
    columns = list(form.derivatives(radius.numpy(), *(float(value) for value in values)))
    if len(columns) != len(values):
        raise FormError(f"{label}: derivatives() returns {len(columns)}", f"one for each of {', '.join(form.names())}")
    for k, (name, column) in enumerate(zip(form.names(), columns, strict=True)):

        def of_one(value, k=k):
            return form.evaluate(radius, *values[:k], value, *values[k + 1 :]).expand_as(radius)

        wanted = torch.autograd.functional.jacobian(of_one, values[k])
        found = torch.as_tensor(np.broadcast_to(column, radius.shape).copy())
        # a formula beside a backward sweep: some digits are lost where terms cancel
        if not torch.allclose(found, wanted, rtol=1e-6, atol=1e-8 * float(wanted.abs().max())):
            raise FormError(
                f"{label}: derivatives() by {name} is {found.tolist()} at radii {radius.tolist()}",
                f"what evaluate() says, {wanted.tolist()}",
                "leave derivatives out: differences are then taken",
            )


def _check_backward(form, label, radius):
    """Check that a backward of the form's own can be differentiated by the gradient that it is given.

    The decoder's jacobian takes the slope at each radius in that way. What leaves torch on its way is an error at
    best, and 0 at worst, which no check of the first gradient sees.
    """
    import torch

    values = [torch.tensor(p.default, dtype=torch.float64, requires_grad=True) for p in form.parameters]
    found = form.evaluate(radius, *values)
    settings = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    one_by_one = [torch.autograd.grad(speed, values, **settings) for speed in found]
    needed = (
        "a backward made of torch operations",
        "in backward() only torch functions of ctx.saved_tensors and the gradient: no numpy, no detach(), "
        "no once_differentiable",
    )
    ones = torch.ones_like(found).requires_grad_()
    try:
        sums = torch.autograd.grad(found, values, ones, create_graph=True, **settings)
        at_once = [
            torch.autograd.grad(total, ones, **settings)[0] if total.requires_grad else torch.zeros_like(ones)
            for total in sums
        ]
    except Exception as error:  # a stranger's code: whatever it raises, it is named
        raise FormError(f"{label}: its backward cannot be differentiated: {error}", *needed) from error
    for name, slopes, *single in zip(form.names(), at_once, *one_by_one, strict=True):
        wanted = torch.stack(single)
        # the same products in another order
        if not torch.allclose(slopes.expand_as(wanted), wanted, rtol=1e-9, atol=1e-12):
            raise FormError(f"{label}: its backward by {name} loses the gradient that it is given", *needed)


def _named(form, values):
    return ", ".join(f"{name}={value:g}" for name, value in zip(form.names(), values, strict=True))
