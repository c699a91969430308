"""Every registered form's astropy model keeps what astropy's users expect of a model, whoever brought the form."""

import copy
import pickle

import numpy as np
import pytest
from astropy import units as u
from astropy.modeling import Fittable1DModel
from astropy.modeling.fitting import LevMarLSQFitter, TRFLSQFitter
from astropy.modeling.models import Const1D

from kinematics_nn.errors import WrongUnit
from kinematics_nn.forms import list_forms
from kinematics_nn.models import inside_values, model_class, model_with_units

KM_S = u.km / u.s
RADIUS = np.linspace(0.3, 60, 40)
UNITS = {"arcsec": (u.arcsec, KM_S), "kpc": (u.kpc, u.m / u.s)}
BRIGHTNESS = u.Jy / u.beam

ALL = [known.form for known in list_forms()]
# Forms that hold radii of their own, as rings do, are at home in one unit alone.
IN_UNITS = [(form, units) for form in ALL for units in UNITS if form.radius_unit in (None, units)]


def label(value):
    return value if isinstance(value, str) else f"{value.kind}-{value.name}"


every_form = pytest.mark.parametrize("form", ALL, ids=label)
every_form_and_unit = pytest.mark.parametrize(("form", "units"), IN_UNITS, ids=label)
every_fitter = pytest.mark.parametrize("fitter", [TRFLSQFitter, LevMarLSQFitter])


def numbers(form, factor=1.0):
    """Values of the model's parameters: the defaults times a factor, and where that says nothing a little above 0."""
    values = [factor * (known.default or 0.05) for known in form.parameters]
    assert all(
        known.bounds[0] <= value <= known.bounds[1] for known, value in zip(form.parameters, values, strict=True)
    )
    if form.kind != "surface_brightness":
        return values
    return [*values, 1.0 if form.own_scale else factor]  # rings of light are their own scale, and hold the amplitude


def bare(form, factor=1.0, **settings):
    return model_class(form)(*numbers(form, factor), **settings)


def units_of(form, length, velocity):
    """The unit of each of the model's parameters, None for a number."""
    units = [velocity ** known.powers[0] * length ** known.powers[1] for known in form.parameters]
    units += [BRIGHTNESS] if form.kind == "surface_brightness" else []
    return [None if unit == u.one else unit for unit in units]


def with_units(form, length, velocity, factor=1.0, **settings):
    pairs = zip(numbers(form, factor), units_of(form, length, velocity), strict=True)
    return model_class(form)(*[value if unit is None else value * unit for value, unit in pairs], **settings)


def data_of(form, factor=1.2):
    return bare(form, factor)(RADIUS)


def misfit(model, radius, data):
    """What the fitters make small: the root of the sum of squares."""
    return float(np.linalg.norm(u.Quantity(model(radius) - data).value))


@every_form
def test_it_is_a_model_of_the_forms_parameters(form):
    cls = model_class(form)
    assert issubclass(cls, Fittable1DModel)
    light = ["amplitude"] if form.kind == "surface_brightness" else []
    assert list(cls.param_names) == [*form.names(), *light]
    for known in form.parameters:
        parameter = getattr(cls, known.name)
        assert parameter.default == known.default
        assert parameter.__doc__ == known.description
        assert known.description in cls.__doc__
        lo, hi = parameter.bounds
        # limits that carry a unit are given up, for the number would be wrong in another: not a sign, nor a bare number
        if known.powers == (0, 0):
            assert (lo, hi) == known.bounds
        else:
            assert hi is None
            assert (lo is None) == (known.bounds[0] < 0)
    np.testing.assert_array_equal(cls()(RADIUS), form.evaluate(RADIUS, **form.defaults()))


@every_form_and_unit
def test_units_are_carried(form, units):
    length, velocity = UNITS[units]
    found = with_units(form, length, velocity)(RADIUS * length)
    # a form without a speed among its parameters answers in km/s
    speed = velocity if any(known.powers == (1, 0) for known in form.parameters) else KM_S
    unit = BRIGHTNESS if form.kind == "surface_brightness" else speed
    assert found.unit == unit
    # the same numbers, but for a conversion of units and back
    wanted = u.Quantity(bare(form)(RADIUS), BRIGHTNESS if form.kind == "surface_brightness" else velocity)
    np.testing.assert_allclose(found.to_value(wanted.unit), wanted.value, rtol=1e-12)


@every_form
def test_units_are_converted(form):
    model = with_units(form, u.arcsec, KM_S)
    wanted = model(RADIUS * u.arcsec)
    # going to another unit and back costs a unit in the last place, which exponents of a profile's tail enlarge
    for radius in ((RADIUS * u.arcsec).to(u.arcmin), (RADIUS * u.arcsec).to(u.deg)):
        np.testing.assert_allclose(model(radius).to_value(wanted.unit), wanted.value, rtol=1e-9)
    other = model.copy()
    for name, unit in zip(model.param_names, units_of(form, u.rad, u.m / u.s), strict=True):
        if unit is not None:
            setattr(other, name, getattr(model, name).quantity.to(unit))
    np.testing.assert_allclose(other(RADIUS * u.arcsec).to_value(wanted.unit), wanted.value, rtol=1e-9)


@every_form
def test_a_negative_radius_counts_by_its_size(form):
    # as a Gaussian1D about 0 has it: offsets along an axis lie on either side of the centre
    model = bare(form)
    np.testing.assert_array_equal(model(-RADIUS), model(RADIUS))
    np.testing.assert_array_equal(with_units(form, u.arcsec, KM_S)(-RADIUS * u.arcsec).value, model(RADIUS))
    if model.fit_deriv is not None:
        columns = zip(*(model.fit_deriv(side, *model.parameters) for side in (-RADIUS, RADIUS)), strict=True)
        for other, column in columns:
            np.testing.assert_array_equal(other, column)


@every_form
def test_a_wrong_unit_is_refused(form):
    model = with_units(form, u.arcsec, KM_S)
    if form.radius_unit is None and not any(known.powers[1] for known in form.parameters):
        pytest.skip("no parameter says what unit its radius has")
    for radius in (RADIUS * u.kpc, RADIUS * u.s, RADIUS):
        with pytest.raises(u.UnitsError):
            model(radius)


@every_form
@pytest.mark.parametrize("length", [u.arcsec, u.kpc, u.pix], ids=str)
def test_parameter_units_follow_from_those_of_the_data(form, length):
    model = model_class(form)()
    value = BRIGHTNESS if form.kind == "surface_brightness" else u.m / u.s
    velocity = KM_S if form.kind == "surface_brightness" else value
    if form.radius_unit is not None and length != u.Unit(form.radius_unit):
        with pytest.raises(WrongUnit, match=form.radius_unit):
            model._parameter_units_for_data_units({"x": length}, {"y": value})
        return
    if form.radius_unit is not None and velocity != KM_S:
        with pytest.raises(WrongUnit, match="km/s"):
            model._parameter_units_for_data_units({"x": length}, {"y": value})
        value = velocity = KM_S
    found = model._parameter_units_for_data_units({"x": length}, {"y": value})
    wanted = dict(zip(model.param_names, units_of(form, length, velocity), strict=True))
    assert found == {name: unit for name, unit in wanted.items() if unit is not None}
    # astropy's way there and back changes nothing
    radius, data = RADIUS * length, np.ones_like(RADIUS) * value
    dressed = bare(form).with_units_from_data(x=radius, y=data)
    assert [getattr(dressed, name).unit for name in dressed.param_names] == list(wanted.values())
    naked = dressed.without_units_for_data(x=radius, y=data)
    assert [getattr(naked, name).unit for name in naked.param_names] == [None] * len(wanted)
    np.testing.assert_array_equal(naked.parameters, numbers(form))


@every_form
@pytest.mark.parametrize("factor", [0.7, 1.0, 1.4])
def test_derivatives_are_right(form, factor):
    model = bare(form, factor)
    if model.fit_deriv is None:
        pytest.skip("it declares none: astropy takes differences")
    radius = np.concatenate([[0.0, 1e-3], RADIUS, [1e3]])
    values = model.parameters
    columns = model.fit_deriv(radius, *values)
    assert len(columns) == len(values)
    for i, (name, column) in enumerate(zip(model.param_names, columns, strict=True)):
        assert np.shape(column) == radius.shape
        step = np.zeros_like(values)
        step[i] = 1e-5 * max(abs(values[i]), 1e-2)
        above, below = (model.evaluate(radius, *(values + sign * step)) for sign in (1, -1))
        wanted = (above - below) / (2 * step[i])
        # central differences of 1e-5 of the value: truncation is 1e-10, rounding 1e-11 of the function
        floor = 1e-9 * np.abs(above).max() / step[i] * 1e-2
        np.testing.assert_allclose(column, wanted, rtol=1e-6, atol=floor, err_msg=name)


def test_every_form_of_this_package_declares_its_derivatives():
    own = [known.form for known in list_forms() if known.provider.startswith("kinematics_nn ")]
    assert [f"{form.kind} {form.name}" for form in own if form.derivatives is None] == []


@every_form_and_unit
@every_fitter
def test_a_fit_moves_off_its_start_and_recovers_the_truth(form, fitter, units):
    length, velocity = UNITS[units]
    truth, start = with_units(form, length, velocity, 1.2), with_units(form, length, velocity)
    radius = RADIUS * length
    data = truth(radius).to(BRIGHTNESS if form.kind == "surface_brightness" else velocity)
    fitted = fitter()(start, radius, data, maxiter=2000)
    # noiseless data: what is left is the fitter's own tolerance
    assert misfit(fitted, radius, data) < 1e-4 * misfit(start, radius, data)
    for name, wanted in zip(start.param_names, truth.parameters, strict=True):
        parameter = getattr(fitted, name)
        assert parameter.unit == getattr(start, name).unit
        assert parameter.value == pytest.approx(wanted, rel=0.02, abs=1e-3), name  # along a form's own degeneracy
    assert repr(start) == repr(with_units(form, length, velocity))  # the start is left alone


@every_form
def test_a_fit_of_single_precision_moves_too(form):
    # differences in float32 are lost in rounding: a fitter then returns its start and says that it has converged
    radius, data = RADIUS.astype(np.float32), data_of(form).astype(np.float32)
    start = bare(form)
    fitted = TRFLSQFitter()(start, radius, data, maxiter=2000)
    assert misfit(fitted, radius, data) < 1e-2 * misfit(start, radius, data)


@every_form
@every_fitter
def test_bounds_hold(form, fitter):
    first = model_class(form).param_names[0]
    start, truth = bare(form), bare(form, 1.2)
    value, target = (getattr(model, first).value for model in (start, truth))
    limit = 0.5 * (value + target)
    getattr(start, first).bounds = (0.5 * value, limit)
    fitted = fitter()(start, RADIUS, data_of(form), maxiter=2000)
    assert getattr(fitted, first).value <= limit * (1 + 1e-12)
    assert fitted.bounds[first] == (0.5 * value, limit)
    assert getattr(fitted, first).value > value  # up to the limit, not left where it was


@every_form
@every_fitter
def test_what_is_fixed_stays(form, fitter):
    free = [name for name in model_class(form).param_names if not bare(form).fixed[name]]
    for name in free if len(free) > 1 else ():
        start = bare(form, fixed={name: True})
        fitted = fitter()(start, RADIUS, data_of(form), maxiter=2000)
        assert getattr(fitted, name).value == getattr(start, name).value
        assert misfit(fitted, RADIUS, data_of(form)) < misfit(start, RADIUS, data_of(form))
        # and held at the truth, the others find theirs
        setattr(start, name, getattr(bare(form, 1.2), name).value)
        fitted = fitter()(start, RADIUS, data_of(form), maxiter=2000)
        assert misfit(fitted, RADIUS, data_of(form)) < 1e-4 * misfit(start, RADIUS, data_of(form)) + 1e-12


@every_form
@every_fitter
def test_what_is_tied_follows(form, fitter):
    names = model_class(form).param_names
    if len(names) < 2:
        pytest.skip("one parameter has none to be tied to")
    leader, follower = names[0], names[1]
    truth = bare(form, 1.2)
    ratio = getattr(truth, follower).value / getattr(truth, leader).value

    def tie(model):
        return ratio * getattr(model, leader).value

    start = bare(form, tied={follower: tie})
    setattr(start, follower, tie(start))
    fitted = fitter()(start, RADIUS, data_of(form), maxiter=2000)
    assert getattr(fitted, follower).value == pytest.approx(tie(fitted), rel=1e-12)
    assert misfit(fitted, RADIUS, data_of(form)) < 1e-4 * misfit(start, RADIUS, data_of(form))


@every_form
def test_compounds_add_up_and_are_fitted(form):
    both = bare(form, 1.2) + Const1D(3.0)
    np.testing.assert_allclose(both(RADIUS), data_of(form) + 3.0, rtol=1e-15)
    twice = (with_units(form, u.arcsec, KM_S) * Const1D(2.0))(RADIUS * u.arcsec)
    np.testing.assert_allclose(twice.value, 2 * with_units(form, u.arcsec, KM_S)(RADIUS * u.arcsec).value, rtol=1e-15)
    start = bare(form) + Const1D(1.0)
    # TRFLSQFitter alone: the other one only cuts values off at bounds, and gets caught there where two terms are alike
    fitted = TRFLSQFitter()(start, RADIUS, both(RADIUS), maxiter=5000)
    assert misfit(fitted, RADIUS, both(RADIUS)) < 1e-3 * misfit(start, RADIUS, both(RADIUS))


@every_form
def test_model_sets_are_their_members(form):
    one, two = bare(form), bare(form, 1.2)
    both = model_class(form)(*np.transpose([one.parameters, two.parameters]), n_models=2)
    found = both(RADIUS, model_set_axis=False)
    assert found.shape == (2, RADIUS.size)
    np.testing.assert_array_equal(found[0], one(RADIUS))
    np.testing.assert_array_equal(found[1], two(RADIUS))
    np.testing.assert_array_equal(both(np.stack([RADIUS, 2 * RADIUS])), [one(RADIUS), two(2 * RADIUS)])


@every_form_and_unit
def test_pickle_and_copies_keep_everything(form, units):
    length, velocity = UNITS[units]
    first = model_class(form).param_names[0]
    model = with_units(form, length, velocity, fixed={first: True}, name="mine", meta={"galaxy": "NGC 1"})
    assert pickle.loads(pickle.dumps(model_class(form))) is model_class(form)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model), model.copy()):
        assert type(other) is type(model)
        assert repr(other) == repr(model)
        assert (other.name, other.meta) == ("mine", {"galaxy": "NGC 1"})
        assert (other.fixed, other.bounds, other.tied) == (model.fixed, model.bounds, model.tied)
        np.testing.assert_array_equal(other(RADIUS * length), model(RADIUS * length))
    other = copy.deepcopy(model)
    getattr(other, first).value = 3 * numbers(form)[0]
    assert getattr(model, first).value == numbers(form)[0]


@every_form
def test_inside_values_undo_units(form):
    assert inside_values(model_with_units(form, **form.defaults())) == form.defaults()
    assert inside_values(model_class(form)()) == form.defaults()
    if form.radius_unit is not None:
        return
    distance = 10 * u.Mpc
    scale = distance.to_value(u.kpc) * u.arcsec.to(u.rad)  # kpc in an arcsec
    found = inside_values(with_units(form, u.kpc, u.m / u.s), distance)
    for known in form.parameters:
        wanted = (known.default or 0.05) * 1e-3 ** known.powers[0] * scale ** -known.powers[1]
        assert found[known.name] == pytest.approx(wanted, rel=1e-12)
