"""NetworkFitter: astropy's signature, the network's answer, units and constraints."""

import copy
import pickle

import numpy as np
import pytest
from astropy import units as u
from astropy.modeling.fitting import Covariance, StandardDeviations

from kinematics_nn import DiscVelocityField, NetworkFitter, fit, simulate
from kinematics_nn.errors import FormError, KinematicsError, WrongUnit
from kinematics_nn.models import ArctanRotationCurve, ExponentialDisc, RingsRotationCurve, TanhRotationCurve

KM_S = u.km / u.s
DISTANCE = 20 * u.Mpc
OPTIONS = {"n_samples": 500, "seed": 1, "device": "cpu"}
KPC = DISTANCE.to_value(u.kpc) * u.arcsec.to(u.rad)  # kpc in an arcsec


@pytest.fixture(scope="module")
def cube():
    return simulate(
        inclination=60 * u.deg, pa=40 * u.deg, flux=20 * u.Jy * KM_S, rms=0.5 * u.mJy / u.beam, seed=3,
        shape=(40, 48, 48), channel_width=12 * KM_S, rotation_curve=ArctanRotationCurve(200 * KM_S, 2 * u.arcsec),
    )  # fmt: skip


@pytest.fixture(scope="module")
def reference(cube):
    return fit(cube, rotation_curve="arctan", method="network", **OPTIONS)


@pytest.fixture(scope="module")
def curve(cube):
    return NetworkFitter()(ArctanRotationCurve(100 * KM_S, 9 * u.arcsec), cube, **OPTIONS)


def test_it_is_the_fit_of_the_network(curve, reference):
    assert repr(curve) == repr(reference.rotation_curve)
    assert isinstance(curve.stds, StandardDeviations)
    assert isinstance(curve.cov_matrix, Covariance)
    assert curve.stds.param_names == curve.cov_matrix.param_names == ["vmax", "r_turn"]
    for name in curve.param_names:
        # the same numbers, with n - 1 for n: 500 realisations
        assert curve.stds[name] == pytest.approx(np.std(reference.samples[name].value), rel=2e-3)
    wanted = np.cov(reference.samples["vmax"].value, reference.samples["r_turn"].value)
    np.testing.assert_allclose(curve.cov_matrix.cov_matrix, wanted)
    assert curve.cov_matrix["vmax", "r_turn"] == pytest.approx(wanted[0, 1])


def test_the_start_is_left_alone_and_plays_no_part(cube, curve):
    first = ArctanRotationCurve(100 * KM_S, 9 * u.arcsec, name="mine")
    fitter = NetworkFitter()
    fitted = fitter(first, cube, **OPTIONS)
    assert first.vmax == 100 * KM_S
    assert first.stds is None
    assert fitted.name == "mine"
    assert fitted.vmax.quantity == curve.vmax.quantity
    assert fitter.fit_info["fit"].rotation_curve.vmax == fitted.vmax
    np.testing.assert_array_equal(fitter.fit_info["param_cov"], fitted.cov_matrix.cov_matrix)
    for other in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        assert other.stds.stds == fitted.stds.stds


def test_the_disc_is_recovered(cube):
    field = NetworkFitter()(
        DiscVelocityField(rotation_curve=ArctanRotationCurve(100 * KM_S, 9 * u.arcsec), pa=0 * u.rad), cube, **OPTIONS
    )
    assert field.stds.param_names == ["inclination", "pa", "east", "north", "vsys", "vmax", "r_turn"]
    truth = {"inclination": 60, "east": 0, "north": 0, "vsys": 0, "vmax": 200, "r_turn": 2}
    for name, true in truth.items():
        value = getattr(field, name).value
        # The value is one realisation: its own scatter is on top of that of the posterior. The seed is held.
        assert abs(value - true) < 5 * field.stds[name], name
    # an angle keeps the model's unit, and its error has the same
    assert field.pa.unit == u.rad
    assert field.pa.quantity.to_value(u.deg) == pytest.approx(40, abs=3)
    assert 0.05 < np.rad2deg(field.stds["pa"]) < 3
    # what had no unit has the one that goes with the others
    assert [field.east.unit, field.vsys.unit, field.inclination.unit] == [u.arcsec, KM_S, u.deg]
    # and is ready for use: the receding side of the major axis, far out
    side = np.deg2rad(40)
    speed = field(20 * np.sin(side) * u.arcsec, 20 * np.cos(side) * u.arcsec)
    assert speed.to_value(KM_S) == pytest.approx(200 * 2 / np.pi * np.arctan(10) * np.sin(np.deg2rad(60)), rel=0.05)


def test_units_are_the_models(cube, curve):
    first = ArctanRotationCurve(1e5 * u.m / u.s, 9 * u.kpc)
    fitted = NetworkFitter()(first, cube, distance=DISTANCE, **OPTIONS)
    assert fitted.vmax.unit == u.m / u.s
    assert fitted.r_turn.unit == u.kpc
    assert fitted.vmax.value == pytest.approx(1e3 * curve.vmax.value)
    assert fitted.r_turn.value == pytest.approx(KPC * curve.r_turn.value)
    assert fitted.stds["vmax"] == pytest.approx(1e3 * curve.stds["vmax"])
    assert fitted.stds["r_turn"] == pytest.approx(KPC * curve.stds["r_turn"])
    bare = NetworkFitter()(ArctanRotationCurve(), cube, **OPTIONS)
    assert bare.vmax.unit is None
    assert bare.vmax.value == curve.vmax.value
    assert bare.stds.stds == curve.stds.stds


def test_radii_in_kpc_need_a_distance(cube):
    with pytest.raises(WrongUnit, match=r"r_turn is 9\.0 kpc.*distance="):
        NetworkFitter()(ArctanRotationCurve(100 * KM_S, 9 * u.kpc), cube, **OPTIONS)
    with pytest.raises(WrongUnit, match=r"vmax is 100\.0 arcsec"):
        NetworkFitter()(ArctanRotationCurve(100 * u.arcsec, 9 * u.arcsec), cube, **OPTIONS)


def test_bounds_are_a_prior(cube, curve):
    middle = curve.vmax.value
    first = ArctanRotationCurve(1e5 * u.m / u.s, 9 * u.arcsec, bounds={"vmax": (1e3 * middle, None)})
    fitter = NetworkFitter()
    fitted = fitter(first, cube, **OPTIONS)
    samples = fitter.fit_info["fit"].samples["vmax"]
    assert samples.min() >= middle * KM_S
    assert fitted.vmax.quantity >= middle * KM_S
    assert fitted.stds["vmax"] < 1e3 * curve.stds["vmax"]
    assert list(fitter.fit_info["fit"].meta["priors"]) == ["vmax"]
    held = fitter(first, cube, priors={"vmax": {"high": middle * KM_S}}, **OPTIONS)
    assert held.vmax.quantity <= middle * KM_S  # what is said in the call goes before


def test_bounds_that_every_model_has_are_no_prior(cube):
    fitter = NetworkFitter()
    fitter(DiscVelocityField(rotation_curve="arctan"), cube, **OPTIONS)
    assert fitter.fit_info["fit"].meta["priors"] == {}


def test_a_held_parameter_gets_the_methods_own_remedy(cube):
    first = ArctanRotationCurve(2e5 * u.m / u.s, 9 * u.arcsec, fixed={"vmax": True})
    with pytest.raises(KinematicsError, match=r"vmax held fixed with method='network'.*priors="):
        NetworkFitter()(first, cube, method="network", **OPTIONS)


def test_what_is_held_reaches_the_fit_in_its_units_and_has_no_error(reference, monkeypatch):
    given = {}

    def fit_of_a_method_that_can(cube, **options):
        given.update(options)
        return reference

    monkeypatch.setattr("kinematics_nn.fitting.fit", fit_of_a_method_that_can)
    curve = ArctanRotationCurve(2e5 * u.m / u.s, 9 * u.kpc, fixed={"vmax": True})
    first = DiscVelocityField(rotation_curve=curve, inclination=1 * u.rad, fixed={"inclination": True})
    fitted = NetworkFitter()(first, "a cube", distance=DISTANCE, fixed={"thickness": 0 * u.arcsec})
    assert list(given["fixed"]) == ["inclination", "vmax", "thickness"]
    assert given["fixed"]["vmax"] == 200 * KM_S
    assert given["fixed"]["inclination"].to_value(u.rad) == pytest.approx(1)
    assert fitted.vmax == 2e5 * u.m / u.s
    assert fitted.stds.param_names == ["pa", "east", "north", "vsys", "r_turn"]
    assert fitted.stds["r_turn"] == pytest.approx(KPC * np.std(reference.samples["r_turn"].value), rel=2e-3)


@pytest.mark.parametrize("field", [False, True], ids=["curve", "field"])
def test_rings_are_those_of_the_observation(cube, field):
    first = RingsRotationCurve(v_1=100 * KM_S, name="mine")
    model = DiscVelocityField(rotation_curve=first, pa=0 * u.rad, name="mine") if field else first
    fitter = NetworkFitter()
    fitted = fitter(model, cube, **OPTIONS)
    curve = fitted.rotation_curve if field else fitted
    assert curve.form is not first.form
    np.testing.assert_array_equal(curve.parameters, fitter.fit_info["fit"].rotation_curve.parameters)
    assert fitted.name == "mine"
    assert fitted.stds.param_names == list(fitted.param_names)
    assert curve(20 * u.arcsec).to_value(KM_S) == pytest.approx(190, rel=0.1)  # 187 km/s of the arctan
    if field:
        assert fitted.pa.unit == u.rad


def test_options_reach_the_fit(cube):
    fitter = NetworkFitter()
    fitter(
        TanhRotationCurve(), cube, surface_brightness=ExponentialDisc(), velocity_dispersion="exponential", **OPTIONS
    )
    result = fitter.fit_info["fit"]
    assert len(result) == 500
    assert result.meta["forms"]["rotation_curve"] == "tanh"
    assert result.meta["forms"]["velocity_dispersion"] == "exponential"


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (ExponentialDisc(), {}, FormError, "one rotation curve"),
        (ArctanRotationCurve() + TanhRotationCurve(), {}, FormError, "one rotation curve"),
        (ArctanRotationCurve([1, 2], [3, 4], n_models=2), {}, FormError, "one rotation curve"),
        ("arctan", {}, FormError, "'arctan'; needed: one rotation curve"),
        (ArctanRotationCurve(), {"rotation_curve": "tanh"}, KinematicsError, "beside a model"),
        (ArctanRotationCurve(tied={"vmax": lambda m: m.r_turn}), {}, KinematicsError, "vmax tied"),
    ],
)
def test_what_it_cannot_fit_is_refused_before_the_cube_is_read(model, options, error, message):
    with pytest.raises(error, match=message):
        NetworkFitter()(model, "no such cube.fits", **options)
