"""The class of a form's model: parameters that may carry units, derivatives, and how it pickles."""

import re
from functools import cache

import numpy as np
from astropy import units as u
from astropy.modeling import Fittable1DModel, Parameter

from ..errors import WrongUnit

__all__ = ["model_class"]

_KM_S = u.km / u.s
_SUFFIX = {"rotation_curve": "RotationCurve", "surface_brightness": "Disc", "velocity_dispersion": "Dispersion"}


class _FormModel(Fittable1DModel):
    """What the models of all forms share. The class attribute `form` is the form."""

    form = None
    fit_deriv = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for known in self.form.parameters:
            parameter = getattr(self, known.name)
            like = [_KM_S ** known.powers[0] * length ** known.powers[1] for length in (u.arcsec, u.kpc)]
            if parameter.unit is not None and not any(parameter.unit.is_equivalent(unit) for unit in like):
                needed = f"a unit like {known.unit}" if known.unit else "a number"
                raise WrongUnit(f"{known.name} is {parameter.quantity}", needed, None)

    @classmethod
    def evaluate(cls, radius, *parameters):
        """The form at each radius; units, where there are any, are those of the radius and the parameters.

        A negative radius counts by its size: offsets along an axis, as of a slit, are on one side and on the other.
        """
        radius = np.abs(radius)
        if not any(isinstance(value, u.Quantity) for value in (radius, *parameters)):
            return cls._shape(radius, *parameters)
        bare = [
            known.name
            for known, value in zip(cls.form.parameters, parameters, strict=False)
            if known.powers != (0, 0) and getattr(value, "unit", None) in (None, u.one)
        ]
        radius = u.Quantity(radius, copy=False, subok=True)
        if bare:
            found = f"{', '.join(bare)} without a unit, and others with one"
            raise WrongUnit(found, "units on all, or on none: bare numbers are arcsec and km/s", None)
        velocity = inside = cls._velocity_unit(parameters)
        if cls.form.radius_unit is not None:  # what the form holds beside its parameters is in these units
            radius, inside = radius.to(cls.form.radius_unit), _KM_S
        else:  # radians would be too coarse for the radius within which a point mass is cut off
            home = next((unit for unit in (u.arcsec, u.kpc) if radius.unit.is_equivalent(unit)), radius.unit)
            radius = radius.to(home)
        units = cls._units(radius.unit, inside)
        values = [u.Quantity(value).to_value(unit) for value, unit in zip(parameters, units, strict=False)]
        if cls.form.kind == "surface_brightness":
            return cls.form.evaluate(radius.value, *values) * parameters[-1] * u.dimensionless_unscaled
        return u.Quantity(cls.form.evaluate(radius.value, *values), inside, copy=False).to(velocity)

    @classmethod
    def _shape(cls, radius, *values):
        if cls.form.kind == "surface_brightness":
            return values[-1] * cls.form.evaluate(radius, *values[:-1])
        return cls.form.evaluate(radius, *values)

    @classmethod
    def _units(cls, length, velocity):
        """The unit of each of the form's parameters where radii and speeds have these."""
        return [velocity ** power[0] * length ** power[1] for power in (known.powers for known in cls.form.parameters)]

    @classmethod
    def _velocity_unit(cls, parameters):
        """The unit of the first parameter that is a speed, else km/s."""
        for value, known in zip(parameters, cls.form.parameters, strict=False):
            if known.powers == (1, 0):
                return getattr(value, "unit", u.one)
        return _KM_S

    @property
    def input_units(self):
        """The unit of radius, `None` where the parameters have no unit that tells."""
        if self.form.radius_unit is not None:
            bare = all(getattr(self, known.name).unit is None for known in self.form.parameters)
            return None if bare else {self.inputs[0]: u.Unit(self.form.radius_unit)}
        for known in sorted(self.form.parameters, key=lambda known: known.powers != (0, 1)):
            unit = getattr(self, known.name).unit
            if unit is None or known.powers[1] == 0:
                continue
            if known.powers == (0, 1):
                return {self.inputs[0]: unit}
            of_angle = unit.is_equivalent(u.Unit(known.unit))
            return {self.inputs[0]: u.arcsec if of_angle else u.kpc}
        return None

    @property
    def return_units(self):
        """The unit of the value, `None` where it is bare or follows from the radius."""
        for known in self.form.parameters:
            if known.powers == (1, 0) and self.form.kind != "surface_brightness":
                unit = getattr(self, known.name).unit
                return None if unit is None else {self.outputs[0]: unit}
        return None

    def _parameter_units_for_data_units(self, inputs_unit, outputs_unit):
        length, value = inputs_unit[self.inputs[0]], outputs_unit[self.outputs[0]]
        light = self.form.kind == "surface_brightness"
        held = self.form.radius_unit
        if held is not None and (length != u.Unit(held) or not (light or value == _KM_S)):
            needed = f"radii in {held}" if light else f"radii in {held} and speeds in km/s, as the form holds them"
            raise WrongUnit(f"data in {length} and {value}", needed, f"radius.to({held!r})")
        units = dict(zip(self.form.names(), self._units(length, _KM_S if light else value), strict=True))
        # a number such as a Sérsic index is left out: astropy would give it the dimensionless unit
        units = {known.name: units[known.name] for known in self.form.parameters if known.powers != (0, 0)}
        return {**units, "amplitude": value} if light else units

    def __reduce__(self):
        # the class of a user's form is made at run time: it is found again by the form, which is importable
        return _blank, (self.form,), self.__dict__


def _blank(form):
    return model_class(form).__new__(model_class(form))


def _parameter(known):
    """An astropy parameter of a form's. Limits with a unit would be wrong in another: only their sign is kept."""
    lo, hi = known.bounds
    if known.powers != (0, 0):
        lo, hi = (None if lo < 0 else min(lo, 1e-9)), None
    return Parameter(default=known.default, bounds=(lo, hi), description=known.description)


@cache
def model_class(form):
    """
    The `astropy.modeling` class of a form.

    Parameters
    ----------
    form : type
        A subclass of `~kinematics_nn.forms.Form`.

    Returns
    -------
    type
        A `~astropy.modeling.Fittable1DModel` with the form's parameters; the same class for the same form. That of a
        surface brightness has an `amplitude` after them, 1 by default.
    """
    stem, suffix = form.__name__, _SUFFIX[form.kind]
    if form.kind == "rotation_curve":
        stem = stem.removesuffix("Disc")  # a disc of mass: models called Disc are of light
    name = stem if stem.endswith(suffix) else stem + suffix
    members = {known.name: _parameter(known) for known in form.parameters}
    described = [(known.name, known.unit, known.description) for known in form.parameters]
    if form.kind == "surface_brightness":
        members["amplitude"] = Parameter(
            default=1.0, fixed=form.own_scale, description="brightness where the shape is 1"
        )
        described.append(("amplitude", "", "brightness where the shape is 1; no part of a disc, whose flux is its own"))
    # What a form that is made says of its making is no matter of the model's.
    described_form = re.split(r"\n\s*Parameters\n\s*-+\n", form.__doc__ or form.name)[0].strip()
    lines = [described_form, "", "Parameters", "----------"]
    for parameter, unit, description in described:
        lines += [f"{parameter} : float or `~astropy.units.Quantity`", f"    {description} [{unit or 'no unit'}]"]
    if form.reference:
        lines += ["", "Notes", "-----", f"{form.reference}."]
    members |= {
        "__module__": __package__,
        "__qualname__": name,
        "__doc__": "\n".join(lines),
        "_is_dynamic": False,
        "form": form,
        "fit_deriv": None if form.derivatives is None else _FitDeriv(_derivatives(form)),
    }
    return type(_FormModel)(name, (_FormModel,), members)


class _FitDeriv:
    """A model's `fit_deriv`; `None` where a parameter is tied, so that a fitter takes differences.

    Astropy's fitters leave the derivatives by tied parameters out, and with them what a free parameter changes by the
    tie: they would end elsewhere than at the least squares.
    """

    def __init__(self, function):
        self.function = function

    def __get__(self, model, owner):
        return None if model is not None and any(model.tied.values()) else self.function


def _derivatives(form):
    """`fit_deriv` as astropy calls it: each derivative of the shape of the radii."""

    def fit_deriv(radius, *parameters):
        radius = np.abs(radius)  # as _FormModel.evaluate takes it
        if form.kind == "surface_brightness":
            *parameters, amplitude = parameters
            columns = [amplitude * column for column in form.derivatives(radius, *parameters)]
            columns.append(form.evaluate(radius, *parameters))
        else:
            columns = form.derivatives(radius, *parameters)
        return [np.broadcast_to(column, np.shape(radius)) for column in columns]

    return fit_deriv
