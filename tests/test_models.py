"""The astropy models of all forms: units, fits, derivatives, copies, sets and compounds."""

import copy
import pickle
import time

import numpy as np
import pytest
from astropy import units as u
from astropy.modeling.fitting import LevMarLSQFitter, TRFLSQFitter

from kinematics_nn import models
from kinematics_nn.errors import FormError, WrongUnit
from kinematics_nn.forms import FormParameter, LogUniform, RotationCurve, list_forms, ops
from kinematics_nn.models import inside_values, model_class, model_with_units

KM_S = u.km / u.s
# Forms that hold radii of their own are at home in one unit alone, and have tests of their own (rings, tables).
FORMS = [k.form for k in list_forms() if k.provider.startswith("kinematics_nn ") and k.form.radius_unit is None]
RADIUS = np.linspace(0.3, 60, 40)

every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.kind}-{form.name}")


def with_units(form, length, velocity, factor=1.0):
    """The model at its defaults times a factor, the numbers in these units."""
    units = [velocity ** known.powers[0] * length ** known.powers[1] for known in form.parameters]
    values = [factor * known.default * unit for known, unit in zip(form.parameters, units, strict=True)]
    if form.kind == "surface_brightness":
        values.append(factor * u.Jy / u.beam)
    return model_class(form)(*[value.value if value.unit == u.one else value for value in values])


class UsersCurve(RotationCurve):
    name = "users"
    parameters = (
        FormParameter("vmax", "km/s", 150.0, (0.0, 5000.0), LogUniform(10, 800), "speed at large radius"),
        FormParameter("r_turn", "arcsec", 4.0, (1e-3, 1e5), LogUniform(0.02, 5, relative_to="r_scale"), "turnover"),
    )

    @staticmethod
    def evaluate(radius, vmax, r_turn):
        return -vmax * ops.expm1(-radius / r_turn)


@every_form
def test_the_models_are_found_by_name(form):
    cls = model_class(form)
    assert getattr(models, cls.__name__) is cls
    assert cls.__name__ in models.__all__
    assert cls.form is form
    for known in form.parameters:
        assert known.description in cls.__doc__
        assert getattr(cls, known.name).__doc__ == known.description


@every_form
def test_units_are_carried_and_converted(form):
    bare = model_class(form)()(RADIUS)
    for length, velocity in ((u.arcsec, KM_S), (u.kpc, u.m / u.s)):
        found = with_units(form, length, velocity)(RADIUS * length)
        unit = u.Jy / u.beam if form.kind == "surface_brightness" else velocity
        # a form without a speed among its parameters answers in km/s
        has_speed = any(known.powers == (1, 0) for known in form.parameters)
        assert found.unit == (unit if has_speed or form.kind == "surface_brightness" else KM_S)
        np.testing.assert_allclose(found.to_value(unit), bare, rtol=1e-13)
    model = with_units(form, u.arcsec, KM_S)
    in_arcmin = model((RADIUS * u.arcsec).to(u.arcmin))
    # going to arcmin and back costs a unit in the last place, which exponents of a profile's tail enlarge
    np.testing.assert_allclose(in_arcmin.to_value(model(RADIUS * u.arcsec).unit), bare, rtol=1e-10)


def test_a_wrong_unit_is_refused():
    curve = models.ArctanRotationCurve(200 * KM_S, 3 * u.arcsec)
    for radius in (3 * u.kpc, 3.0):
        with pytest.raises(u.UnitsError):
            curve(radius)


@every_form
@pytest.mark.parametrize("fitter", [TRFLSQFitter, LevMarLSQFitter])
@pytest.mark.parametrize(("length", "velocity"), [(u.arcsec, KM_S), (u.kpc, u.m / u.s)], ids=["arcsec", "kpc"])
def test_a_fit_with_units_moves_to_the_truth(form, fitter, length, velocity):
    truth, start = with_units(form, length, velocity, 1.2), with_units(form, length, velocity)
    radius = RADIUS * length
    unit = u.Jy / u.beam if form.kind == "surface_brightness" else velocity
    fitted = fitter()(start, radius, truth(radius).to(unit), maxiter=2000)
    before = np.abs((start(radius) - truth(radius)).value).max()
    after = np.abs((fitted(radius) - truth(radius)).value).max()
    assert after < 1e-4 * before  # noiseless data: what is left is the fitter's own tolerance
    for name in fitted.param_names:
        assert getattr(fitted, name).unit == getattr(start, name).unit


def test_data_in_another_unit_of_speed_meet_no_limit():
    truth = models.ArctanRotationCurve(200 * KM_S, 3 * u.arcsec)
    radius = RADIUS * u.arcsec
    start = models.ArctanRotationCurve(100 * KM_S, 1 * u.arcsec)
    fitted = TRFLSQFitter()(start, radius, truth(radius).to(u.m / u.s))
    assert fitted.vmax.quantity.to_value(KM_S) == pytest.approx(200, rel=1e-6)  # the fitter's tolerance


@every_form
def test_declared_derivatives_are_right(form):
    cls = model_class(form)
    if cls.fit_deriv is None:
        assert form.derivatives is None
        return
    values = np.array(cls().parameters) * 1.1
    columns = cls.fit_deriv(RADIUS, *values)
    for i, column in enumerate(columns):
        step = np.zeros_like(values)
        step[i] = 1e-6 * max(abs(values[i]), 1)
        wanted = (cls.evaluate(RADIUS, *(values + step)) - cls.evaluate(RADIUS, *(values - step))) / (2 * step[i])
        np.testing.assert_allclose(column, wanted, rtol=1e-6, atol=1e-8)  # central differences
    assert len(columns) == len(values)


@every_form
def test_pickle_and_copies_keep_everything(form):
    model = with_units(form, u.arcsec, KM_S)
    first = model.param_names[0]
    getattr(model, first).fixed = True
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), model.copy()):
        assert type(other) is type(model)
        assert repr(other) == repr(model)
        assert other.fixed[first]
        assert other.bounds == model.bounds
        np.testing.assert_array_equal(other(RADIUS * u.arcsec), model(RADIUS * u.arcsec))
    other = copy.deepcopy(model)
    setattr(other, first, 3 * getattr(model, first).quantity)
    assert getattr(model, first).value != getattr(other, first).value


def test_a_users_form_has_a_model_that_pickles():
    cls = model_class(UsersCurve)
    assert cls.__name__ == "UsersCurveRotationCurve"
    assert model_class(UsersCurve) is cls
    curve = cls(vmax=200 * KM_S, r_turn=3 * u.kpc)
    assert repr(pickle.loads(pickle.dumps(curve))) == repr(curve)
    assert curve(3 * u.kpc).to_value(KM_S) == pytest.approx(200 * (1 - np.exp(-1)), rel=1e-14)


def test_fixed_and_tied():
    truth = models.ArctanRotationCurve(200, 3)
    start = models.ArctanRotationCurve(150, 2, fixed={"r_turn": True})
    assert TRFLSQFitter()(start, RADIUS, truth(RADIUS)).r_turn == 2
    start = models.ArctanRotationCurve(150, 2, tied={"r_turn": lambda model: model.vmax / 50})
    fitted = TRFLSQFitter()(start, RADIUS, models.ArctanRotationCurve(200, 4)(RADIUS))
    assert fitted.r_turn.value == pytest.approx(4, rel=1e-6)  # the fitter's tolerance
    assert fitted.vmax.value == pytest.approx(200, rel=1e-6)


def test_compounds():
    inner = models.FreemanRotationCurve(100 * KM_S, 2 * u.arcsec)
    outer = models.TanhRotationCurve(50 * KM_S, 20 * u.arcsec)
    both = inner + outer
    radius = RADIUS * u.arcsec
    np.testing.assert_allclose(both(radius).to_value(KM_S), (inner(radius) + outer(radius)).to_value(KM_S), rtol=1e-14)
    start = models.FreemanRotationCurve(90 * KM_S, 2.5 * u.arcsec) + models.TanhRotationCurve(60 * KM_S, 15 * u.arcsec)
    fitted = TRFLSQFitter()(start, radius, both(radius))
    assert fitted.vmax_0.quantity.to_value(KM_S) == pytest.approx(100, rel=1e-4)  # two curves share what is there
    assert fitted.r_turn_1.quantity.to_value(u.arcsec) == pytest.approx(20, rel=1e-4)


def test_model_sets():
    curves = models.ArctanRotationCurve([100, 200] * KM_S, [1, 2] * u.arcsec, n_models=2)
    found = curves(RADIUS * u.arcsec, model_set_axis=False)
    for row, vmax, r_turn in zip(found, (100, 200), (1, 2), strict=True):
        wanted = models.ArctanRotationCurve(vmax * KM_S, r_turn * u.arcsec)(RADIUS * u.arcsec)
        np.testing.assert_array_equal(row, wanted)


@every_form
def test_inside_values_undo_model_with_units(form):
    assert inside_values(model_with_units(form, **form.defaults())) == form.defaults()
    assert inside_values(model_class(form)()) == form.defaults()


def test_inside_values_read_other_units():
    curve = models.ArctanRotationCurve(vmax=2e5 * u.m / u.s, r_turn=1 * u.kpc)
    found = inside_values(curve, distance=10 * u.Mpc)
    assert found["vmax"] == pytest.approx(200, rel=1e-14)
    assert found["r_turn"] == pytest.approx(np.rad2deg(1e-4) * 3600, rel=1e-14)
    slope = models.LinearRotationCurve(10 * KM_S / u.kpc)
    assert inside_values(slope, distance=10 * u.Mpc)["slope"] == pytest.approx(
        10 / (np.rad2deg(1e-4) * 3600), rel=1e-12
    )
    assert inside_values(models.ExponentialDisc(r_scale=8 * u.arcsec)) == {"r_scale": 8.0}


def test_inside_values_say_what_they_need():
    with pytest.raises(WrongUnit, match=r"r_turn is 1\.0 kpc.*distance="):
        inside_values(models.ArctanRotationCurve(200 * KM_S, 1 * u.kpc))
    with pytest.raises(WrongUnit, match=r"vmax is 200\.0 arcsec"):
        inside_values(models.ArctanRotationCurve(200 * u.arcsec, 1 * u.arcsec))
    with pytest.raises(FormError, match=r"one model of kinematics_nn\.models"):
        inside_values(models.ArctanRotationCurve() + models.TanhRotationCurve())
    with pytest.raises(TypeError, match="vmax, r_turn"):
        model_with_units(models.ArctanRotationCurve.form, vmax=200)


def test_evaluate_costs_little_more_than_numpy():
    radius = np.linspace(0, 60, 1000)

    def fastest(function):
        times = []
        for _ in range(200):
            start = time.perf_counter()
            function(radius, 200.0, 3.0)
            times.append(time.perf_counter() - start)
        return min(times)

    by_hand = fastest(lambda r, vmax, r_turn: vmax * (2 / np.pi) * np.arctan(r / r_turn))
    assert fastest(models.ArctanRotationCurve.evaluate) < 3 * by_hand
