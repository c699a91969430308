"""Between a model's parameters with units and bare numbers in arcsec and km/s."""

from astropy import units as u

from ..errors import FormError, WrongUnit
from ..quantities import inside_number
from .classes import model_class

__all__ = ["inside_values", "model_with_units"]

_KM_S = u.km / u.s


def model_with_units(form, **values):
    """
    A form's model with units, from values in arcsec and km/s.

    Parameters
    ----------
    form : type
        A subclass of `~kinematics_nn.forms.Form`.
    **values : float
        Its parameters.

    Returns
    -------
    `~astropy.modeling.Fittable1DModel`
        With every parameter that has a unit a Quantity.
    """
    length = u.Unit(form.radius_unit or "arcsec")
    units = {known.name: _KM_S ** known.powers[0] * length ** known.powers[1] for known in form.parameters}
    values = dict(zip(form.names(), form.bind(**values), strict=True))
    return model_class(form)(
        **{name: value * units[name] if units[name] != u.one else value for name, value in values.items()}
    )


def inside_values(model, distance=None):
    """
    A model's parameters as bare numbers in arcsec and km/s.

    Parameters
    ----------
    model : `~astropy.modeling.Model`
        A model of this module. Parameters without a unit are in arcsec and km/s already.
    distance : `~astropy.units.Quantity`, optional
        Of the galaxy; needed where radii are lengths.

    Returns
    -------
    dict of str to float
        The form's parameters in declared order (not the amplitude of a surface brightness).

    Raises
    ------
    FormError
        The model is no single model of a form.
    WrongUnit
        A unit does not fit its parameter, or is a length and no distance is given.
    """
    form = getattr(model, "form", None)
    if form is None or len(model) > 1:
        raise FormError(f"{model!r}", "one model of kinematics_nn.models")
    if form.radius_unit not in (None, "arcsec"):
        raise WrongUnit(
            f"{form.name} holds radii in {form.radius_unit}", "angles", "distance=10*u.Mpc where it is made"
        )
    values = {}
    for known in form.parameters:
        parameter = getattr(model, known.name)
        if parameter.unit is None:
            values[known.name] = float(parameter.value)
            continue
        try:
            values[known.name] = inside_number(parameter.quantity, known.unit, distance)
        except u.UnitConversionError as error:
            remedy = "distance=10*u.Mpc" if known.powers[1] and distance is None else None
            needed = f"a unit like {u.Unit(known.unit)}"
            raise WrongUnit(f"{known.name} is {parameter.quantity}", needed, remedy) from error
    return values
