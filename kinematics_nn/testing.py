"""What plug-in authors run against their forms."""

import pickle

import numpy as np
from astropy import units as u

from .errors import FormError
from .forms.contract import PROBE
from .forms.registry import check_in_full

__all__ = ["check_form"]


def check_form(form):
    """
    Check everything that the package asks of a form.

    Its declaration; its values under numpy and torch; batches, dtypes and gradients, from radius 0 outwards and up
    to the bounds of its parameters; what a light says of its total and its half-light radius, and a costly curve of
    being smooth, at the limits of the priors; and its astropy model, with and without units.

    Parameters
    ----------
    form : type
        A subclass of `~kinematics_nn.forms.RotationCurve`, `~kinematics_nn.forms.SurfaceBrightness` or
        `~kinematics_nn.forms.Dispersion`.

    Raises
    ------
    FormError
        What was found, what is needed, and what to try.

    Examples
    --------
    >>> from kinematics_nn.forms.rotation_curves import Arctan
    >>> from kinematics_nn.testing import check_form
    >>> check_form(Arctan)
    """
    check_in_full(form)
    _check_model(form)


def _check_model(form):
    from .models import inside_values, model_class, model_with_units

    bare = model_class(form)()
    wanted = form.evaluate(PROBE, **form.defaults())
    faces = {
        "its astropy model": bare(PROBE),
        "its astropy model with units": model_with_units(form, **form.defaults())(PROBE * u.arcsec),
    }
    for name, found in faces.items():
        # the model does the same sums, and converts no unit here: only the last bits may differ
        if not np.allclose(u.Quantity(found).value, wanted, rtol=1e-12, atol=0):
            raise FormError(f"{form.name!r}: {name} gives other values than evaluate()", "the same values")
    model = model_with_units(form, **form.defaults())
    try:
        copy = pickle.loads(pickle.dumps(model))
    except (AttributeError, TypeError, pickle.PicklingError) as error:  # no other process would be handed a fit by it
        raise FormError(
            f"{form.name!r}: its astropy model does not pickle ({error})",
            "a class that can be imported, at the top of its module",
        ) from error
    if inside_values(copy) != form.defaults():
        raise FormError(f"{form.name!r}: its astropy model changes when it is pickled", "the same parameters")
