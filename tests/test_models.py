"""The astropy models: their names, users' forms, sums, and other units."""

import pickle

import numpy as np
import pytest
from astropy import units as u
from astropy.modeling.fitting import TRFLSQFitter

from kinematics_nn import models
from kinematics_nn.errors import FormError, WrongUnit
from kinematics_nn.forms import FormParameter, LogUniform, RotationCurve, list_forms, ops
from kinematics_nn.models import inside_values, model_class, model_with_units

KM_S = u.km / u.s
# Forms that hold radii of their own are at home in one unit alone, and have tests of their own (rings, tables).
FORMS = [k.form for k in list_forms() if k.provider.startswith("kinematics_nn ") and k.form.radius_unit is None]
RADIUS = np.linspace(0.3, 60, 40)

every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.kind}-{form.name}")


class UsersCurve(RotationCurve):
    name = "users"
    parameters = (
        FormParameter("vmax", "km/s", 150.0, (0.0, 5000.0), LogUniform(10, 800), "speed at large radius"),
        FormParameter("r_turn", "arcsec", 4.0, (1e-3, 1e5), LogUniform(0.02, 5, relative_to="r_scale"), "turnover"),
    )

    @staticmethod
    def evaluate(radius, vmax, r_turn):
        return -vmax * ops.expm1(-radius / r_turn)


def test_data_in_another_unit_of_speed_meet_no_limit():
    truth = models.ArctanRotationCurve(200 * KM_S, 3 * u.arcsec)
    radius = RADIUS * u.arcsec
    start = models.ArctanRotationCurve(100 * KM_S, 1 * u.arcsec)
    fitted = TRFLSQFitter()(start, radius, truth(radius).to(u.m / u.s))
    assert fitted.vmax.quantity.to_value(KM_S) == pytest.approx(200, rel=1e-6)  # the fitter's tolerance


def test_a_users_form_has_a_model_that_pickles():
    cls = model_class(UsersCurve)
    assert cls.__name__ == "UsersCurveRotationCurve"
    assert model_class(UsersCurve) is cls
    curve = cls(vmax=200 * KM_S, r_turn=3 * u.kpc)
    assert repr(pickle.loads(pickle.dumps(curve))) == repr(curve)
    assert curve(3 * u.kpc).to_value(KM_S) == pytest.approx(200 * (1 - np.exp(-1)), rel=1e-14)


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


@pytest.mark.parametrize(
    ("evaluated", "said"),
    [
        (lambda: models.FreemanRotationCurve(100 * u.Msun, 2 * u.kpc), r"vmax is 100\.0 solMass.*km/s"),
        (lambda: models.NFWRotationCurve()(3 * u.kpc), "vmax, r_s without a unit"),
        (lambda: models.NFWRotationCurve(vmax=200 * KM_S)(3 * u.arcsec), "r_s without a unit"),
        (lambda: models.NFWRotationCurve(vmax=200 * KM_S)(3), "r_s without a unit"),
    ],
    ids=["a mass for a speed", "bare model", "bare radius scale", "bare radius"],
)
def test_units_are_on_all_or_on_none(evaluated, said):
    with pytest.raises(WrongUnit, match=said):
        evaluated()
