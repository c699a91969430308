"""DiscVelocityField: the disc's geometry, units, derivatives, fits of simulated and of real maps."""

import copy
import pickle

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.io import fits
from astropy.modeling.fitting import LevMarLSQFitter, TRFLSQFitter
from astropy.modeling.models import Const2D
from astropy.wcs import WCS

import kinematics_nn
from kinematics_nn import DiscVelocityField
from kinematics_nn.decoder.geometry import line_of_sight_speed, sky_to_axes
from kinematics_nn.errors import FormError
from kinematics_nn.forms import FormParameter, RotationCurve, Uniform, list_forms
from kinematics_nn.models import ArctanRotationCurve, ConstantDispersion, NFWRotationCurve, model_class
from kinematics_nn.observation.grid import sky_grid

KM_S = u.km / u.s
CURVES = [known.form for known in list_forms() if known.kind == "rotation_curve"]
every_curve = pytest.mark.parametrize("form", CURVES, ids=lambda form: form.name)
Y, X = np.mgrid[-20:21, -20:21] * 1.0


def field(**changed):
    given = {
        "inclination": 50 * u.deg, "pa": 130 * u.deg, "east": 1.3 * u.arcsec, "north": -2.2 * u.arcsec,
        "vsys": 1000 * KM_S, "rotation_curve": ArctanRotationCurve(200 * KM_S, 3 * u.arcsec),
    }  # fmt: skip
    return DiscVelocityField(**given | changed)


def start(**changed):
    curve = ArctanRotationCurve(120 * KM_S, 6 * u.arcsec)
    moved = {"inclination": 35 * u.deg, "pa": 100 * u.deg, "east": 0 * u.arcsec, "north": 0 * u.arcsec}
    return field(**moved | {"vsys": 960 * KM_S, "rotation_curve": curve} | changed)


@every_curve
@pytest.mark.parametrize(("inclination", "pa"), [(0.0, 10.0), (35.0, 75.0), (80.0, 200.0), (89.9, 310.0)])
def test_it_is_the_decoders_geometry(form, inclination, pa):
    east, north, vsys = 0.4, -1.7, 55.0
    found = DiscVelocityField(inclination, pa, east, north, vsys, rotation_curve=form)(X, Y)
    xi, eta, phi, i = (
        torch.as_tensor(v, dtype=torch.float64) for v in (X - east, Y - north, *np.deg2rad([pa, inclination]))
    )
    along, across = sky_to_axes(xi, eta, phi)
    across = across / torch.cos(i)
    radius = torch.hypot(along, across)
    speed = form.evaluate(radius, *form.defaults().values())
    wanted = vsys + (torch.sin(i) * line_of_sight_speed(along / radius, speed)).numpy()
    # the decoder keeps its root off zero by 1e-12 arcsec2, of radii of at least 0.3 arcsec
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


def test_the_receding_side_is_where_pa_points():
    model = DiscVelocityField(60, 90, vsys=1000, rotation_curve="flat", vmax=100)
    assert model(10.0, 0.0) == pytest.approx(1000 + 100 * np.sin(np.deg2rad(60)))  # east recedes
    assert model(-10.0, 0.0) == pytest.approx(1000 - 100 * np.sin(np.deg2rad(60)))
    assert model(0.0, 10.0) == pytest.approx(1000)  # the minor axis
    assert model(0.0, 0.0) == 1000  # the centre


@every_curve
@pytest.mark.parametrize("inclination", [20.0, 60.0, 88.0])
def test_derivatives_are_right(form, inclination):
    model = DiscVelocityField(inclination, 40, 0.3, 0.2, 30, rotation_curve=form)
    values = model.parameters
    columns = model.fit_deriv(X, Y, *values)
    assert len(columns) == len(values)
    for i, (name, column) in enumerate(zip(model.param_names, columns, strict=True)):
        step = np.zeros_like(values)
        step[i] = 1e-5 * max(abs(values[i]), 1)
        wanted = (model.evaluate(X, Y, *(values + step)) - model.evaluate(X, Y, *(values - step))) / (2 * step[i])
        # central differences, beside kinks of a curve: of the largest value of the map
        np.testing.assert_allclose(column, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max(), err_msg=name)


@pytest.mark.parametrize("inclination", [0.0, 90.0])
def test_derivatives_are_finite_at_the_limits_and_in_the_centre(inclination):
    for form in CURVES:
        model = DiscVelocityField(inclination, 40, rotation_curve=form)  # a pixel of the map is the centre itself
        assert np.isfinite(model(X, Y)).all()
        assert np.isfinite(model.fit_deriv(X, Y, *model.parameters)).all()


@pytest.mark.parametrize("fitter", [TRFLSQFitter, LevMarLSQFitter])
def test_a_fit_moves_off_its_start_and_recovers_the_disc(fitter):
    truth = field()
    noise = np.random.default_rng(1).normal(0, 3, X.shape) * KM_S
    x, y = X * u.arcsec, Y * u.arcsec
    engine = fitter(calc_uncertainties=True)
    fitted = engine(start(), x, y, truth(x, y) + noise, weights=np.full(X.shape, 1 / 3))
    for name in fitted.param_names:
        found, true, began = (getattr(model, name).quantity for model in (fitted, truth, start()))
        std = fitted.stds[name]
        assert abs((found - true).value) < 4 * std  # 4 sigma: one in 16,000 by chance, with the seed held
        assert abs((found - began).value) > 10 * std
        assert found.unit == true.unit


@every_curve
def test_any_curve_is_fitted(form):
    truth = DiscVelocityField(50, 130, 0.5, -0.5, 20, rotation_curve=form)
    first = DiscVelocityField(40, 115, 0, 0, 0, rotation_curve=form)
    # The inclination stays: under a straight rise (a linear curve) a map does not tell it from the speed.
    first.inclination = 50
    first.inclination.fixed = True
    data = truth(X, Y)
    fitted = TRFLSQFitter()(first, X, Y, data, maxiter=500)
    before, after = (np.abs(model(X, Y) - data).max() for model in (first, fitted))
    assert after < 1e-3 * before  # noiseless: what is left is the fitter's own tolerance
    assert fitted.pa.value == pytest.approx(130, abs=0.1)


def test_units_of_every_kind():
    bare = DiscVelocityField(50, 130, 1.3, -2.2, 1000, rotation_curve=ArctanRotationCurve(200, 3))(X, Y)
    np.testing.assert_allclose(field()(X * u.arcsec, Y * u.arcsec).to_value(KM_S), bare, rtol=1e-13)
    arcmin = field()(X * u.arcsec.to(u.arcmin) * u.arcmin, Y * u.arcsec)
    np.testing.assert_allclose(arcmin.to_value(KM_S), bare, rtol=1e-12)
    curve = ArctanRotationCurve(2e5 * u.m / u.s, 3 * u.kpc)
    other = field(inclination=np.deg2rad(50) * u.rad, east=1300 * u.pc, north=-2.2 * u.kpc, rotation_curve=curve)
    found = other(X * u.kpc, Y * u.kpc)
    assert found.unit == KM_S
    np.testing.assert_allclose(found.value, bare, rtol=1e-13)
    assert other.input_units == {"x": u.pc, "y": u.pc}
    with pytest.raises(u.UnitsError, match="arcsec"):
        field()(X * u.kpc, Y * u.kpc)
    with pytest.raises(u.UnitsError):
        field()(X, Y)
    fitted = TRFLSQFitter()(other.copy(), X * u.kpc, Y * u.kpc, (bare + 5) * KM_S)
    assert fitted.inclination.quantity.to_value(u.deg) == pytest.approx(50, abs=1e-4)  # the fitter's tolerance
    assert fitted.east.quantity.to_value(u.kpc) == pytest.approx(1.3, abs=1e-4)
    assert fitted.vsys.quantity.to_value(KM_S) == pytest.approx(1005, abs=1e-3)


def test_the_curve_hands_on_its_values_units_and_constraints():
    curve = NFWRotationCurve(150 * KM_S, 20 * u.arcsec, fixed={"r_s": True}, bounds={"vmax": (50, 300)})
    model = field(rotation_curve=curve)
    assert model.r_s.fixed
    assert not model.vmax.fixed
    assert model.vmax.bounds == (50, 300)
    assert model.inclination.bounds == (0, 90)
    assert repr(model.rotation_curve) == repr(NFWRotationCurve(150 * KM_S, 20 * u.arcsec))
    assert field(rotation_curve=curve, vmax=99 * KM_S, fixed={"pa": True}).vmax == 99 * KM_S
    assert DiscVelocityField(rotation_curve="nfw", r_s=7).r_s == 7


def test_fixed_and_tied():
    truth, x, y = field(), X * u.arcsec, Y * u.arcsec
    fitted = TRFLSQFitter()(start(inclination=50 * u.deg, fixed={"inclination": True}), x, y, truth(x, y))
    assert fitted.inclination == 50 * u.deg
    assert fitted.vmax.quantity.to_value(KM_S) == pytest.approx(200, rel=1e-5)  # the fitter's tolerance


@pytest.mark.parametrize("fitter", [TRFLSQFitter, LevMarLSQFitter])
def test_what_a_tied_parameter_changes_counts(fitter):
    # With noise, a fit that forgets it ends elsewhere than at the least squares.
    data = field()(X * u.arcsec, Y * u.arcsec) + np.random.default_rng(2).normal(0, 30, X.shape) * KM_S
    tied = start(tied={"east": lambda model: -1.3 / 2.2 * model.north.value})
    assert tied.fit_deriv is None
    fitted = fitter()(tied, X * u.arcsec, Y * u.arcsec, data)

    def square(north):
        other = fitted.copy()
        other.north = north * u.arcsec
        other.east = -1.3 / 2.2 * north * u.arcsec
        return float(np.sum((other(X * u.arcsec, Y * u.arcsec) - data).value ** 2))

    north = fitted.north.value
    assert fitted.east.value == pytest.approx(-1.3 / 2.2 * north)
    # a thousandth of an arcsec is a tenth of the fit's error: the slope there is what tells the least from elsewhere
    slope = (square(north + 1e-3) - square(north - 1e-3)) / 2e-3
    bend = (square(north + 1e-3) + square(north - 1e-3) - 2 * square(north)) / 1e-6
    assert abs(slope / bend) < 1e-3


def test_compounds_and_sets():
    both = DiscVelocityField(50, 130, rotation_curve="tanh") + Const2D(7.0)
    np.testing.assert_array_equal(both(X, Y), DiscVelocityField(50, 130, rotation_curve="tanh")(X, Y) + 7)
    begin = DiscVelocityField(45, 120, rotation_curve="tanh", fixed={"vsys": True}) + Const2D(0.0)
    fitted = TRFLSQFitter()(begin, X, Y, both(X, Y))
    assert fitted.amplitude_1.value == pytest.approx(7, abs=1e-5)  # the fitter's tolerance
    assert fitted.pa_0.value == pytest.approx(130, abs=1e-5)
    two = DiscVelocityField(
        [30, 60], [10, 20], [0, 1], [0, 2], [5, 6], rotation_curve="tanh", vmax=[100, 200], r_turn=[3, 4], n_models=2
    )
    found = two(X, Y, model_set_axis=False)
    for row, values in zip(found, two.param_sets.T, strict=True):
        one = DiscVelocityField(rotation_curve="tanh")
        one.parameters = values.ravel()
        np.testing.assert_array_equal(row, one(X, Y))
    np.testing.assert_array_equal(two.rotation_curve.vmax.value.ravel(), [100, 200])


@every_curve
def test_pickle_and_copies_keep_everything(form):
    model = DiscVelocityField(50 * u.deg, 130 * u.deg, rotation_curve=form, fixed={"pa": True})
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), model.copy()):
        assert type(other) is type(model)
        assert repr(other) == repr(model)
        assert other.fixed["pa"]
        np.testing.assert_array_equal(other(X, Y), model(X, Y))
    other.pa = 3 * u.deg
    assert model.pa == 130 * u.deg


class Leaning(RotationCurve):
    name = "leaning"
    parameters = (FormParameter("pa", "km/s", 100.0, (0.0, 900.0), Uniform(0, 900), "a speed with a misleading name"),)

    @staticmethod
    def evaluate(radius, pa):
        return pa + 0 * radius


def test_a_curves_parameter_with_a_name_of_the_discs_gets_a_prefix():
    model = DiscVelocityField(90, 90, rotation_curve=model_class(Leaning)(70.0), fixed={"curve_pa": True})
    assert model.param_names[-1] == "curve_pa"
    assert model(5.0, 0.0) == pytest.approx(70)
    assert model.rotation_curve.pa == 70
    assert model.fixed["curve_pa"]
    assert not model.fixed["pa"]
    assert model._parameter_units_for_data_units({"x": u.arcsec, "y": u.arcsec}, {"z": KM_S})["curve_pa"] == KM_S


def test_what_is_no_rotation_curve_is_refused():
    with pytest.raises(FormError, match="'constant' is a velocity_dispersion"):
        DiscVelocityField(rotation_curve=ConstantDispersion())
    with pytest.raises(FormError, match="no rotation_curve is called 'arctn'"):
        DiscVelocityField(rotation_curve="arctn")
    with pytest.raises(FormError, match="a set of 2 models"):
        DiscVelocityField(rotation_curve=ArctanRotationCurve([1, 2], [3, 4], n_models=2))


def test_it_is_found_at_the_front_door():
    assert "DiscVelocityField" in dir(kinematics_nn)
    assert isinstance(field(), kinematics_nn.DiscVelocityField)


# what astropy mends in these headers is not under test
@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
@pytest.mark.parametrize(
    ("name", "pa", "inclination", "v_sini"),
    # of fits of the same maps, without beam too, that others made with another code
    [("ngc0383", 142.3, 36.8, 281), ("ngc0524", 38.0, 23.0, 164), ("ngc1387", 244.5, 13.7, 69.7)],
)
def test_real_maps_give_what_another_fit_gave(real_data, name, pa, inclination, v_sini):
    with fits.open(real_data / "maps" / f"{name}_mom1.fits") as hdus:
        velocity, wcs = hdus[0].data.astype(float), WCS(hdus[0].header).celestial
    with fits.open(real_data / "maps" / f"{name}_mom0.fits") as hdus:
        light = hdus[0].data
    sky = sky_grid(wcs, tuple(slice(0, n) for n in velocity.shape))
    middle = np.nanmedian(velocity)
    # first moments of channels without a line may be anything
    good = np.isfinite(velocity) & (light > 0.1 * np.nanmax(light)) & (np.abs(velocity - middle) < 500)
    x, y, data = sky.xi[good] * u.arcsec, sky.eta[good] * u.arcsec, velocity[good] * KM_S
    first = DiscVelocityField(
        30 * u.deg, (pa + 25) * u.deg, vsys=middle * KM_S, rotation_curve=ArctanRotationCurve(200 * KM_S, 1 * u.arcsec)
    )
    fitted = TRFLSQFitter()(first, x, y, data)
    # How a map is clipped, and whether the asymptote of the curve is reached in it, moves these more than noise does.
    assert fitted.pa.value == pytest.approx(pa, abs=2)
    assert fitted.inclination.value == pytest.approx(inclination, abs=3)
    assert fitted.vmax.value * np.sin(np.deg2rad(fitted.inclination.value)) == pytest.approx(v_sini, rel=0.1)
    # of discs that span 140 to 560 km/s: a disc explains most of what these maps show
    assert np.std(data - fitted(x, y)) < 0.06 * 2 * v_sini * KM_S
