"""What every form must keep beside its declaration: its values under numpy, and its gradients under torch.

The checks raise `FormError`, and say what to change. The registry runs those that cost nothing on every form;
`kinematics_nn.testing.check_form` runs them all.
"""

from __future__ import annotations

import numpy as np

from ..errors import FormError
from .base import SurfaceBrightness
from .contract_light import prior_corners

__all__ = ["check_numpy", "check_scaling", "check_torch", "corners"]

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
        for name in ("total", "half_light_radius"):
            try:
                value = getattr(form, name)(**form.defaults())
            except Exception as error:  # a stranger's code: whatever it raises, it is named
                raise FormError(
                    f"{label}: {name}() raises {type(error).__name__}: {error}", "a positive number"
                ) from error
            if np.shape(value) != () or not (np.isfinite(value) and value > 0):
                raise FormError(f"{label}: {name}() is {value}", "a positive number", "radial_scale()")


def check_scaling(form):
    """Check that a form has no scale beside its parameters: twice the speeds, at three times the lengths, is the same.

    Its model takes kpc, and a fit at a distance gives its curve in kpc, on that ground. A form that holds radii or
    speeds of its own says so (`Form.radius_unit`).
    """
    if form.radius_unit is not None:
        return
    label, speed, length = f"{form.kind} {form.name!r}", 2.0, 3.0
    values = [parameter.default for parameter in form.parameters]
    powers = [tuple(map(float, parameter.powers)) for parameter in form.parameters]
    scaled = [value * speed**v * length**r for value, (v, r) in zip(values, powers, strict=True)]
    radius = PROBE[1:]
    before, after = (
        np.asarray(form.evaluate(*args), dtype=float) for args in ((radius, *values), (length * radius, *scaled))
    )
    if form.kind == "surface_brightness":  # its size is arbitrary
        before, after = (light / light.max() for light in (before, after))
    else:
        before = speed * before
    # rounding, and the small softenings by which formulas stay finite at the centre
    if not np.allclose(after, before, rtol=1e-3, atol=1e-6 * np.abs(before).max()):
        worst = radius[np.argmax(np.abs(after - before))]
        raise FormError(
            f"{label} at radius {worst:g} arcsec is another with all lengths three times and all speeds twice as large",
            "every length in a parameter in arcsec, every speed in one in km/s",
            "radius_unit = 'arcsec' for a form that holds lengths of its own",
        )


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
    if getattr(form, "costly", False):
        _check_table(form, label)


def _check_table(form, label):
    """Check that a costly curve is smooth enough for the table from which the decoder takes its speeds."""
    import torch

    from ..decoder.table import speeds

    radius = torch.tensor(np.geomspace(1e-2, 1e3, 5001))
    for values in prior_corners(form):
        parameters = [torch.tensor(value, dtype=torch.float64) for value in values]
        wanted = form.evaluate(radius, *parameters)
        worst, where = (speeds(form, radius, parameters) - wanted).abs().max(0)
        # the straight start of a halo with a cusp costs 2e-5, and a bend of a straight line 1e-3
        if float(worst) > 2e-4 * float(wanted.abs().max()):
            raise FormError(
                f"{label} at {_named(form, values)} has a kink near radius {float(radius[where]):g} arcsec: "
                f"a table is off by {float(worst):.2g} km/s there",
                "a smooth curve where costly = True",
                "costly = False",
            )


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
