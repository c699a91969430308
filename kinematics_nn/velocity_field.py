"""The velocity map of a thin rotating disc as an `astropy.modeling` model, for fits with astropy's own fitters."""

from functools import cache

import numpy as np
from astropy import units as u
from astropy.modeling import Fittable2DModel, Model, Parameter

from .errors import FormError
from .forms import get_form
from .models import model_class

__all__ = ["DiscVelocityField", "curve_names"]

_DISC = ("inclination", "pa", "east", "north", "vsys")
_STEP = np.finfo(float).eps ** (1 / 3)  # balances the two errors of a central difference: 1e-10 of the value is left


class DiscVelocityField(Fittable2DModel):
    r"""
    Velocity field of a thin disc, for any rotation curve.

    Its inputs are offsets east and north of a reference position, angles or lengths as the radii of the curve are;
    bare numbers are in arcsec, km/s and degrees. With u the offset from the centre along the major axis and w that
    along the minor axis,

    .. math:: v = v_{sys} + V(R)\, \frac{u}{R} \sin i, \qquad R^2 = u^2 + (w / \cos i)^2 .

    Parameters
    ----------
    inclination : float or `~astropy.units.Quantity`
        0 is face-on, 90 edge-on [deg].
    pa : float or `~astropy.units.Quantity`
        Position angle of the receding side of the major axis, east of north [deg].
    east, north : float or `~astropy.units.Quantity`
        Offset of the centre from the reference position [arcsec].
    vsys : float or `~astropy.units.Quantity`
        Systemic velocity [km/s].
    rotation_curve : str, form or model
        A name of `~kinematics_nn.forms.list_forms`, a form, or a model of `kinematics_nn.models`. A model hands on the
        values, units and constraints of its parameters.
    **kwargs
        The curve's parameters by name, and what every `~astropy.modeling.Model` takes (``fixed``, ``bounds``,
        ``tied``, ``name``). A parameter of the curve that has the name of one of the disc's gets the prefix
        ``curve_``.

    Notes
    -----
    The map is as sharp as the model, since the beam is not in it: within two beams of the centre, and at all radii
    where the inclination is high, a real map is flatter. Nor is the stretch of the velocity axis: ``vsys`` is in the
    map's convention, and a speed of the rest frame is 1 + z times as large on an optical axis, 1 / (1 + z) times on a
    radio one. Fit the cube (`kinematics_nn.fit`) for both.

    Speeds are not negative within the default bounds. A fit that starts with the receding side more than 90 degrees
    away ends at no rotation: let the start's ``pa`` point there.

    Examples
    --------
    >>> import astropy.units as u
    >>> from kinematics_nn import DiscVelocityField
    >>> from kinematics_nn.models import NFWRotationCurve
    >>> field = DiscVelocityField(
    ...     inclination=30 * u.deg,
    ...     pa=90 * u.deg,
    ...     vsys=1000 * u.km / u.s,
    ...     rotation_curve=NFWRotationCurve(vmax=200 * u.km / u.s, r_s=10 * u.arcsec),
    ... )
    >>> field(21.63 * u.arcsec, 0 * u.arcsec)
    <Quantity 1100. km / s>
    """

    form = None

    inclination = Parameter(default=45.0, bounds=(0.0, 90.0), description="0 face-on, 90 edge-on")
    pa = Parameter(default=0.0, description="position angle of the receding side, east of north")
    east = Parameter(default=0.0, description="offset of the centre east of the reference position")
    north = Parameter(default=0.0, description="offset of the centre north of the reference position")
    vsys = Parameter(default=0.0, description="systemic velocity")

    def __new__(cls, *args, rotation_curve="arctan", **kwargs):
        """Make the field of the class that has the curve's parameters."""
        return object.__new__(cls if cls.form else _field_class(get_form(rotation_curve, "rotation_curve")))

    def __init__(self, inclination=45.0, pa=0.0, east=0.0, north=0.0, vsys=0.0, *, rotation_curve="arctan", **kwargs):
        if isinstance(rotation_curve, Model):
            if len(rotation_curve) > 1:
                found = f"rotation_curve is a set of {len(rotation_curve)} models"
                raise FormError(found, "one model", "vmax=[...], n_models=... of the field itself")
            names = curve_names(self.form).items()
            kwargs = {ours: _given(getattr(rotation_curve, name)) for name, ours in names} | kwargs
            for constraint in ("fixed", "bounds", "tied"):
                of_curve = {ours: getattr(rotation_curve, constraint)[name] for name, ours in names}
                kwargs[constraint] = of_curve | kwargs.get(constraint, {})
        super().__init__(inclination, pa, east, north, vsys, **kwargs)

    @property
    def rotation_curve(self):
        """The rotation curve alone: a model of `kinematics_nn.models` of the same values, with their units."""
        values = {name: _given(getattr(self, ours)) for name, ours in curve_names(self.form).items()}
        return model_class(self.form)(**values, n_models=len(self))

    @classmethod
    def evaluate(cls, x, y, inclination, pa, east, north, vsys, *curve):
        """Velocity at offsets ``x`` east and ``y`` north; units, where there are any, are those of the arguments."""
        sin, _, radius, cos_theta, _ = _in_the_disc(x, y, inclination, pa, east, north)
        return vsys + sin * cos_theta * model_class(cls.form).evaluate(radius, *curve)

    @property
    def fit_deriv(self):
        """Derivatives by each parameter; `None` where some are tied to others, so that a fitter takes differences.

        Astropy's fitters leave the derivatives by tied parameters out, and with them what a free parameter changes by
        the tie: they would end elsewhere than at the least squares.
        """
        return None if any(self.tied.values()) else self._derivatives

    @classmethod
    def _derivatives(cls, x, y, inclination, pa, east, north, vsys, *curve):
        """Derivatives by each parameter, of the shape of ``x``; bare numbers only, as astropy's fitters give them."""
        model = model_class(cls.form)
        sin, cos, radius, cos_theta, sin_theta = _in_the_disc(x, y, inclination, pa, east, north)
        speed = model.evaluate(radius, *curve)
        # A form has no derivative by radius of its own. The logarithmic one is by ratios of radii, whatever the unit.
        above, below = (model.evaluate(radius * (1 + step), *curve) for step in (_STEP, -_STEP))
        bend = (above - below) / (2 * _STEP) - speed  # R dV/dR - V, what a straight rise has none of

        def moved(along, across):
            """Derivative where the offsets in the plane of the sky change by these along and across the major axis."""
            return sin * (speed * along + bend * cos_theta * (cos_theta * along + sin_theta * across / cos)) / radius

        angle = np.deg2rad(pa)
        degree = np.pi / 180
        tilted = speed * cos_theta * cos + sin**2 / cos * sin_theta**2 * cos_theta * bend
        columns = [
            tilted * degree,
            moved(radius * sin_theta * cos, -radius * cos_theta) * degree,
            moved(-np.sin(angle), -np.cos(angle)),
            moved(-np.cos(angle), np.sin(angle)),
            np.ones_like(radius),
            *(sin * cos_theta * column for column in _curve_derivatives(model, radius, curve)),
        ]
        return [np.broadcast_to(column, radius.shape) for column in columns]

    @property
    def input_units(self):
        """The unit of both offsets, `None` where the parameters have no unit that tells."""
        centre = self.east.unit or self.north.unit
        of_curve = self.rotation_curve.input_units
        unit = centre or (of_curve and next(iter(of_curve.values())))
        return None if unit is None else dict.fromkeys(self.inputs, unit)

    @property
    def return_units(self):
        """The unit of velocity, `None` where it is bare or follows from the offsets."""
        of_curve = self.rotation_curve.return_units
        unit = self.vsys.unit or (of_curve and next(iter(of_curve.values())))
        return None if unit is None else {self.outputs[0]: unit}

    def _parameter_units_for_data_units(self, inputs_unit, outputs_unit):
        length, velocity = inputs_unit[self.inputs[0]], outputs_unit[self.outputs[0]]
        curve = model_class(self.form)()
        of_curve = curve._parameter_units_for_data_units({curve.inputs[0]: length}, {curve.outputs[0]: velocity})
        names = curve_names(self.form)
        return {
            **{"inclination": u.deg, "pa": u.deg, "east": length, "north": length, "vsys": velocity},
            **{names[name]: unit for name, unit in of_curve.items()},
        }

    def __reduce__(self):
        # the class is made at run time: it is found again by the form, which is importable
        return _blank, (self.form,), self.__dict__


def curve_names(form):
    """Name of each parameter of a rotation curve's form, in the form and in its velocity field: a dict."""
    return {name: f"curve_{name}" if name in _DISC else name for name in form.names()}


def _blank(form):
    return object.__new__(_field_class(form))


@cache
def _field_class(form):
    """The velocity field of a form's: a subclass that has the curve's parameters after the disc's."""
    name = f"{form.__name__}DiscVelocityField"
    members = {}
    for known, ours in curve_names(form).items():
        of_curve = getattr(model_class(form), known)
        members[ours] = Parameter(default=of_curve.default, bounds=of_curve.bounds, description=of_curve.__doc__)
    members |= {"__module__": __name__, "__qualname__": name, "__doc__": DiscVelocityField.__doc__, "form": form}
    # the constructor of the base class serves all: without it astropy writes one that takes no `rotation_curve`
    members |= {"__init__": DiscVelocityField.__init__, "_is_dynamic": False}
    return type(DiscVelocityField)(name, (DiscVelocityField,), members)


def _given(parameter):
    return parameter.value if parameter.unit is None else parameter.quantity


def _in_the_disc(x, y, inclination, pa, east, north):
    """Sines and cosines of a point of the sky: sin i, cos i without its sign, radius, cosine and sine of azimuth."""
    inclination, pa = (
        angle.to_value(u.rad) if isinstance(angle, u.Quantity) else np.deg2rad(angle) for angle in (inclination, pa)
    )
    x, y = x - east, y - north
    along = x * np.sin(pa) + y * np.cos(pa)
    # A disc seen from behind has the same field. At 90 degrees only the major axis has a value: the cosine is held
    # above what rounding would make of that axis, and far below that of any inclination that data tell from 90.
    cos = np.maximum(np.abs(np.cos(inclination)), 1e-6)
    across = (x * np.cos(pa) - y * np.sin(pa)) / cos
    radius = np.hypot(along, across)
    # The centre has no azimuth and no speed. A radius below any pixel, in any unit, keeps V / R finite there.
    radius = np.maximum(radius, 1e-12 * getattr(radius, "unit", 1))
    cos_theta, sin_theta = (u.Quantity(side / radius).to_value(u.one) for side in (along, across))
    return np.sin(inclination), cos, radius, cos_theta, sin_theta


def _curve_derivatives(model, radius, values):
    """Derivatives of a rotation curve by its parameters: its own, or central differences where it has none."""
    if model.fit_deriv is not None:
        return model.fit_deriv(radius, *values)
    columns = []
    for i, (value, known) in enumerate(zip(values, model.form.parameters, strict=True)):
        # A step in proportion to the parameters of this dimension: one at 0 has a size all the same.
        alike = [abs(v) for v, k in zip(values, model.form.parameters, strict=True) if k.powers == known.powers]
        step = _STEP * (np.max(alike) or 1.0)
        above, below = ([*values[:i], value + sign * step, *values[i + 1 :]] for sign in (1, -1))
        columns.append((model.evaluate(radius, *above) - model.evaluate(radius, *below)) / (2 * step))
    return columns
