"""What an astropy model says beside its form: parameters that are held, and bounds, as `fit` takes them."""

from astropy import units as u
from astropy.modeling import Model

from .centre import offset_of
from .errors import KinematicsError, WrongUnit
from .quantities import inside_number
from .velocity_field import DiscVelocityField, curve_names

__all__ = [
    "DISC_UNITS",
    "check_tied",
    "columns_of",
    "constraints",
    "model_constraints",
    "with_all_units",
    "with_constraints",
]

DISC_UNITS = {"inclination": u.deg, "pa": u.deg, "east": u.arcsec, "north": u.arcsec, "vsys": u.km / u.s}
"""Of the parameters of a velocity field that are no form's."""


def check_tied(model):
    """Refuse parameters that are tied, as no fit of a cube can do it."""
    tied = [name for name, tie in model.tied.items() if tie]
    if tied:
        raise KinematicsError(
            f"{', '.join(tied)} tied to other parameters",
            "parameters that are free, fixed or bounded",
            "a form of one parameter less, kinematics_nn.register(YourForm)",
        )


def constraints(model, parts):
    """What a model holds and bounds, as `fit` takes them.

    Parameters
    ----------
    model : `~astropy.modeling.Model`
    parts : dict
        As `columns_of` gives it.

    Returns
    -------
    fixed, priors : dict
        Of columns. Bounds are a prior that is flat between them; those that every model of the form has say nothing
        new.
    """
    fixed, priors = {}, {}
    for name, (column, unit, scale) in parts.items():
        if model.fixed[name]:
            fixed[column] = getattr(model, name).value * scale * unit
        elif _is_bounded(model, name):
            ends = zip(("low", "high"), model.bounds[name], strict=True)
            priors[column] = {end: value * scale * unit for end, value in ends if value is not None}
    return fixed, priors


def model_constraints(given, forms, distance=None):
    """What the models among ``given`` hold and bound: two dicts, ``fixed`` and ``priors`` of `fit`.

    Parameters
    ----------
    given : iterable
        Names, forms and models, as `fit` takes them.
    forms : Forms
        What they are.
    distance : `~astropy.units.Quantity`, optional

    Raises
    ------
    KinematicsError
        A model's parameters are tied, or have no unit of their kind.
    """
    fixed, priors = {}, {}
    for model in given:
        if isinstance(model, Model):
            check_tied(model)
            if not any(model.fixed[name] or _is_bounded(model, name) for name in model.form.names()):
                continue  # of a model in kpc nothing is then asked
            model = with_all_units(model)
            for found, own in zip((fixed, priors), constraints(model, columns_of(model, forms, distance)), strict=True):
                found.update(own)
    return fixed, priors


def with_constraints(fixed, priors, of_models):
    """What a user holds and has priors on, and what models do, in which the user named nothing: two dicts."""
    named = set(map(offset_of, (*fixed, *priors)))
    held, bounded = ({name: value for name, value in own.items() if name not in named} for own in of_models)
    return held | fixed, bounded | priors


def with_all_units(model):
    """Copy the model; where some parameters have units, the others get those that go with them, as astropy does it."""
    model = model.copy()
    parameters = [getattr(model, name) for name in model.param_names]
    if all(parameter.unit is None for parameter in parameters):
        return model
    length = next(iter((model.input_units or {}).values()), u.arcsec)
    speed = next(iter((model.return_units or {}).values()), u.km / u.s)
    units = model._parameter_units_for_data_units(dict.fromkeys(model.inputs, length), {model.outputs[0]: speed})
    for parameter in parameters:
        if parameter.unit is None and parameter.name in units:
            setattr(model, parameter.name, parameter.value * units[parameter.name])
    return model


def columns_of(model, forms, distance=None):
    """Of each parameter of a model: its column in a fit's samples, the unit there, and the model's unit in it.

    Parameters
    ----------
    model : `~astropy.modeling.Model`
        Whose form is one of ``forms``, or a `DiscVelocityField`.
    forms : Forms
    distance : `~astropy.units.Quantity`, optional
        At which radii in kpc are angles.

    Raises
    ------
    WrongUnit
        A parameter has no unit of its kind.
    """
    form = model.form
    columns = forms.slots[form.kind]
    names = dict(zip(form.names(), form.names(), strict=True))
    parts = {}
    if isinstance(model, DiscVelocityField):
        names = curve_names(form)
        parts = {name: (name, unit, unit == u.arcsec) for name, unit in DISC_UNITS.items()}
    for known, column in zip(form.parameters, columns, strict=True):
        parts[names[known.name]] = column, u.Unit(known.unit), known.powers[1]
    return {
        name: (column, unit, _scale(getattr(model, name), unit, power, distance))
        for name, (column, unit, power) in parts.items()
    }


def _is_bounded(model, name):
    """Whether a parameter has bounds that are not those of every model of its form."""
    return model.bounds[name] != getattr(type(model), name).bounds


def _scale(parameter, unit, power, distance):
    """One of a parameter's units, in the unit of the fit; lengths to some power are angles at the distance."""
    if parameter.unit is None:
        return 1.0
    try:
        return inside_number(1 * parameter.unit, unit, distance)
    except u.UnitConversionError as error:
        remedy = "distance=10*u.Mpc" if power and distance is None else None
        raise WrongUnit(f"{parameter.name} is {parameter.quantity}", f"a unit like {unit}", remedy) from error
