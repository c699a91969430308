"""fit(): what it refuses, what it repeats, and that the galaxy decides what comes out, not the way the cube is held."""

import pickle

import astropy.units as u
import dask.array
import numpy as np
import pytest
import torch
from scipy import stats
from spectral_cube import DaskSpectralCube, SpectralCube

from kinematics_nn import fit, simulate
from kinematics_nn.errors import KinematicsError
from kinematics_nn.forms import list_forms
from kinematics_nn.models import ArctanRotationCurve, TanhRotationCurve

N = 400
KM_S = u.km / u.s


def make_cube(**changed):
    """A well resolved, bright disc, seen at a pa of 40 degrees in a field of 64 pixels."""
    galaxy = {
        "inclination": 60 * u.deg, "pa": 40 * u.deg, "flux": 20 * u.Jy * KM_S, "rms": 0.5 * u.mJy / u.beam, "seed": 3,
        "beam": 4 * u.arcsec, "shape": (40, 48, 48), "channel_width": 12 * KM_S,
        "rotation_curve": ArctanRotationCurve(vmax=200 * KM_S, r_turn=2 * u.arcsec),
    }  # fmt: skip
    return simulate(**galaxy | changed)


def quick(cube, **given):
    return fit(cube, **{"method": "network", "n_samples": N, "seed": 1, "device": "cpu"} | given)


@pytest.fixture(scope="module")
def cube():
    return make_cube()


@pytest.fixture(scope="module")
def fitted(cube):
    return quick(cube, n_samples=2000)


def value(result, name):
    return result.samples[name].value


def same(a, b):
    """Whether two fits have the same samples, to the rounding of float32."""
    return all(np.allclose(value(a, k), value(b, k), rtol=1e-3, atol=1e-3) for k in a.samples.colnames)


# What comes out


@pytest.mark.parametrize(
    ("name", "truth", "least"),
    [("pa", 40.0, 3.0), ("inclination", 60.0, 3.0), ("vsys", 0.0, 3.0), ("east", 0.0, 0.5), ("north", 0.0, 0.5),
     ("flux", 20.0, 1.0), ("v22_sini", 200 * 2 / np.pi * np.arctan(2.2 * 4) * np.sin(np.radians(60)), 8.0)],
)  # fmt: skip
def test_the_truth_is_within_three_sigma(fitted, name, truth, least):
    draws = value(fitted, name)
    # ``least`` is what weak weights may be off by, where they are more sure of themselves than they should be.
    assert abs(np.median(draws) - truth) < max(3 * draws.std(), least)


def test_the_interval_says_something(fitted):
    # The prior of the angle is flat over 360 degrees, that of the speed is over a factor of eighty.
    assert value(fitted, "pa").std() < 8
    assert np.log(value(fitted, "v22_sini")).std() < 0.5


def test_what_is_recorded(fitted):
    meta = fitted.meta
    assert meta["seed"] == 1
    assert meta["device"] == "cpu"
    assert meta["n_effective"] == 2000
    assert meta["sample_efficiency"] == 1
    assert meta["forms"]["rotation_curve"] == "arctan"
    assert len(meta["weights"]["sha256"]) == 64
    assert meta["reduced_chi2"] > 0
    assert len(fitted) == 2000


def test_derived_columns_follow_from_the_drawn(fitted):
    curve = value(fitted, "vmax") * 2 / np.pi * np.arctan(1.31 * value(fitted, "r50") / value(fitted, "r_turn"))
    np.testing.assert_allclose(value(fitted, "v22"), curve, rtol=1e-6)
    sine = np.sin(np.radians(value(fitted, "inclination")))
    np.testing.assert_allclose(value(fitted, "v22_sini"), curve * sine, rtol=1e-6)
    np.testing.assert_allclose(value(fitted, "r50"), 1.67835 * value(fitted, "r_scale"), rtol=1e-4)


def test_another_position_angle_moves_the_position_angle_alone(fitted):
    turned = quick(make_cube(pa=130 * u.deg), n_samples=2000)
    # The same pixels and noise, the disc a quarter turn on: the noise falls otherwise.
    assert np.median(value(turned, "pa")) - np.median(value(fitted, "pa")) == pytest.approx(90, abs=3)
    for name in ("inclination", "v22_sini", "vsys", "flux", "r50", "velocity_dispersion"):
        a, b = value(turned, name), value(fitted, name)
        assert abs(np.median(a) - np.median(b)) < 2 * np.hypot(a.std(), b.std()), name


def test_a_quarter_turn_of_the_cube_itself_is_exact(cube, fitted):
    """The very voxels, on a sky turned by 90 degrees: only the angle and the offsets move."""
    wcs = cube.wcs.deepcopy()
    step = wcs.wcs.cdelt[1]
    wcs.wcs.pc = [[0, 1, 0], [1, 0, 0], [0, 0, 1]]
    wcs.wcs.cdelt = [step, step, wcs.wcs.cdelt[2]]
    # East is now along y and north along x: the sky in the diagonal's mirror, and pa goes to 90 - pa, then mirrored.
    mirrored = quick(SpectralCube(cube.filled_data[:], wcs, beam=cube.beam), n_samples=2000)
    found, before = np.median(value(mirrored, "pa")), np.median(value(fitted, "pa"))
    # East was -x and north y: a direction (east, north) = (-x, y) is now (y, x) = (north, -east).
    wanted = np.degrees(np.arctan2(np.cos(np.radians(before)), -np.sin(np.radians(before)))) % 360
    assert found % 360 == pytest.approx(wanted, abs=1.0)
    assert np.median(value(mirrored, "inclination")) == pytest.approx(np.median(value(fitted, "inclination")), abs=0.5)


# The way the cube is held


def held(cube, way):
    data = cube.filled_data[:].value
    if way == "dask":
        parts = dask.array.from_array(data, chunks=(10, 24, 48))
        return DaskSpectralCube(parts * cube.unit, cube.wcs, beam=cube.beam)
    if way == "float64":
        data = data.astype(np.float64)
    if way == "big-endian":
        data = data.astype(">f4")
    if way == "masked":
        made = SpectralCube(data * cube.unit, cube.wcs, beam=cube.beam)
        return made.with_mask(np.ones(data.shape, bool))
    if way == "path":
        return None
    return SpectralCube(data * cube.unit, cube.wcs, beam=cube.beam)


@pytest.mark.parametrize("way", ["plain", "dask", "float64", "big-endian", "masked", "path", "reversed"])
def test_every_way_to_hold_a_cube_gives_the_same(cube, tmp_path, way):
    reference = quick(cube)
    if way == "path":
        path = tmp_path / "cube.fits"
        cube.write(path)
        assert same(quick(path), reference)
    elif way == "reversed":
        assert same(quick(cube[::-1]), reference)
    else:
        assert same(quick(held(cube, way)), reference)


def test_the_input_stays_as_it_was(cube):
    before = cube.filled_data[:].value.copy()
    quick(cube)
    np.testing.assert_array_equal(cube.filled_data[:].value, before)


# Forms


@pytest.mark.parametrize("known", list_forms(), ids=lambda known: f"{known.kind}-{known.name}")
def test_every_registered_form_fits_by_name(cube, known):
    result = quick(cube, n_samples=150, **{known.kind: known.name})
    assert result.meta["forms"][known.kind] == known.name
    for name in result.samples.colnames:
        assert np.isfinite(value(result, name)).all(), name
    if known.kind == "rotation_curve":
        speed = result.rotation_curve(8 * u.arcsec)
        assert speed.unit.is_equivalent(KM_S)
        # The truth there is 169 km/s; of one draw, by weights that may be weak, a factor of three is asked.
        assert 55 < speed.to_value(KM_S) < 500


def test_forms_may_be_models(cube):
    by_name = quick(cube, rotation_curve="tanh")
    by_model = quick(cube, rotation_curve=TanhRotationCurve(vmax=100 * KM_S, r_turn=1 * u.arcsec))
    by_class = quick(cube, rotation_curve=TanhRotationCurve)
    assert same(by_name, by_model)
    assert same(by_name, by_class)
    assert isinstance(by_model.rotation_curve, TanhRotationCurve)


def test_a_models_bounds_are_a_prior_and_what_is_asked_for_goes_before(cube):
    model = ArctanRotationCurve(vmax=1e5 * u.m / u.s, r_turn=1 * u.kpc, bounds={"vmax": (2.05e5, 3e5)})
    distance = 10 * u.Mpc
    fitted = quick(cube, rotation_curve=model, distance=distance)
    assert value(fitted, "vmax").min() >= 205
    assert value(fitted, "vmax").max() <= 300
    assert fitted.options["priors"]["vmax"] == {"low": 205 * KM_S, "high": 300 * KM_S}
    asked = quick(cube, rotation_curve=model, distance=distance, priors={"vmax": (200, 20)})
    assert asked.options["priors"] == {"vmax": (200, 20)}
    asked = quick(
        cube, rotation_curve=ArctanRotationCurve(200 * KM_S, fixed={"vmax": True}), priors={"vmax": (200, 20)}
    )
    assert (asked.options["fixed"], asked.options["priors"]) == ({}, {"vmax": (200, 20)})
    # Radii in kpc are asked for a distance only where something is said of them.
    assert same(quick(cube, rotation_curve=ArctanRotationCurve(200 * KM_S, 1 * u.kpc)), quick(cube))


def test_a_models_held_parameter_is_held(cube):
    model = ArctanRotationCurve(vmax=200 * KM_S, r_turn=1.5 * u.arcsec, fixed={"r_turn": True})
    with pytest.raises(KinematicsError, match="r_turn held fixed with method='network'"):
        quick(cube, rotation_curve=model)
    fitted = quick(cube, rotation_curve=model, method="refined", min_ess=50)
    assert np.all(value(fitted, "r_turn") == 1.5)
    tied = ArctanRotationCurve(vmax=200 * KM_S, tied={"r_turn": lambda model: 2})
    with pytest.raises(KinematicsError, match="r_turn tied to other parameters"):
        quick(cube, rotation_curve=tied)


# Seeds


def test_seeds_repeat(cube):
    first, again, other = (quick(cube, seed=seed) for seed in (5, 5, 6))
    for name in first.samples.colnames:
        np.testing.assert_array_equal(value(first, name), value(again, name))
    assert not np.array_equal(value(first, "vmax"), value(other, "vmax"))


def test_without_a_seed_one_is_drawn_and_recorded(cube):
    first, second = (quick(cube, seed=None) for _ in range(2))
    assert first.meta["seed"] != second.meta["seed"]
    assert same(quick(cube, seed=first.meta["seed"]), first)


def test_the_global_random_states_stay(cube):
    before, before_numpy = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    quick(cube)
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], before_numpy)  # noqa: NPY002


# Priors


def test_a_prior_narrows_and_costs_effective_draws(cube, fitted):
    middle = np.median(value(fitted, "inclination"))
    width = value(fitted, "inclination").std()
    result = quick(cube, n_samples=2000, priors={"inclination": (middle * u.deg, width / 4 * u.deg)})
    assert value(result, "inclination").std() < 0.5 * width
    assert 100 < result.meta["n_effective"] < 1500
    assert result.meta["sample_efficiency"] == pytest.approx(result.meta["n_effective"] / 2000)
    assert result.meta["priors"] == {"inclination": f"normal, {middle:.9g} and {width / 4:.9g} deg"}


def test_a_prior_on_inclination_moves_the_speed_with_it(cube, fitted):
    low, high = np.percentile(value(fitted, "inclination"), [10, 90])
    flat, steep = (quick(cube, n_samples=2000, priors={"inclination": (i * u.deg, 0.5 * u.deg)}) for i in (low, high))
    assert np.median(value(flat, "v22")) > np.median(value(steep, "v22"))


def test_an_excluding_prior_is_named(cube):
    with pytest.raises(KinematicsError, match="exclude every realisation"):
        quick(cube, priors={"inclination": {"low": 1 * u.deg, "high": 1.001 * u.deg}})


def test_an_unknown_prior_is_answered_with_the_names(cube):
    with pytest.raises(KinematicsError, match=r"'incl'.*inclination.*vmax"):
        quick(cube, priors={"incl": (60 * u.deg, 3 * u.deg)})


@pytest.mark.parametrize(
    "prior", [{"low": 190 * u.deg, "high": 230 * u.deg}, stats.norm(210, 20)], ids=["bounds", "scipy"]
)
def test_a_prior_on_the_position_angle_of_a_southern_receding_side(prior):
    result = quick(make_cube(pa=210 * u.deg), priors={"pa": prior})
    assert result.meta["n_effective"] > 0.3 * N


def test_a_prior_on_a_parameter_that_may_be_negative(cube):
    free = value(quick(cube, rotation_curve="courteau", n_samples=2000), "beta")
    assert (free < -0.02).mean() > 0.05
    tied = value(quick(cube, rotation_curve="courteau", n_samples=2000, priors={"beta": (0.0, 10.0)}), "beta")
    # So wide a prior changes nothing.
    assert (tied < -0.02).mean() == pytest.approx((free < -0.02).mean(), abs=0.05)


# What is refused


def test_unknown_methods(cube):
    with pytest.raises(KinematicsError, match=r"method='mcmc'.*network"):
        quick(cube, method="mcmc")


@pytest.mark.parametrize(
    "given", [{"fixed": {"inclination": 60 * u.deg}}, {"thickness": 0 * u.arcsec}], ids=["fixed", "thickness"]
)
def test_fixed_parameters_with_their_remedy(cube, given):
    with pytest.raises(KinematicsError, match=r"held fixed.*priors=\{"):
        quick(cube, **given)


@pytest.mark.parametrize("n", [10, -5, 200.5])
def test_numbers_of_samples(cube, n):
    with pytest.raises(KinematicsError, match="n_samples"):
        quick(cube, n_samples=n)


@pytest.mark.parametrize("std", [0.0, -3.0])
def test_a_standard_deviation_is_positive(cube, std):
    caught = None
    try:
        quick(cube, priors={"inclination": (60 * u.deg, std * u.deg)})
    except KinematicsError as error:
        caught = str(error)
    assert caught is not None
    assert "standard deviation" in caught


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_devices_that_are_not_there(cube, device):
    with pytest.raises(KinematicsError, match=r"device=.*cpu"):
        quick(cube, device=device)


def test_weights_that_are_not_there(cube):
    with pytest.raises(KinematicsError, match="no weights"):
        quick(cube, weights="nicer")


def test_unknown_forms(cube):
    with pytest.raises(KinematicsError, match=r"arctn.*arctan"):
        quick(cube, rotation_curve="arctn")


@pytest.mark.parametrize("distance", [3 * u.kg, -10 * u.Mpc, np.nan * u.Mpc, [1, 2] * u.Mpc])
def test_a_distance_that_is_none(cube, distance):
    with pytest.raises(KinematicsError, match="distance"):
        quick(cube, distance=distance)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"method": "mcmc"}, "method"),
        ({"priors": {"vmx": (1, 2)}}, "vmx"),
        ({"distance": 3 * u.s}, "distance"),
        ({"weights": "nicer"}, "nicer"),
        ({"device": "abacus"}, "abacus"),
        ({"rotation_curve": "arctn"}, "arctn"),
        ({"priors": [200, 20]}, "a dict by parameter"),
        ({"fixed": [1, 2]}, "a dict by parameter"),
        ({"priors": {"r_turn": (1 * u.kpc, 0.1 * u.kpc)}}, "distance=10"),
        ({"priors": {"v22": (200, 20)}}, r"a prior on v22 with method='refined'.*vmax"),
        ({"fixed": {"inclination": 120 * u.deg}}, "from 0 to 90, in deg"),
        ({"fixed": {"inclination": -60}}, "from 0 to 90, in deg"),
        ({"fixed": {"vmax": -10}}, "from 0 to 5000, in km / s"),
        ({"fixed": {"r_turn": 0}}, "from 0.001 to 100000, in arcsec"),
        ({"fixed": {"r_turn": np.nan}}, "from 0.001 to 100000, in arcsec"),
        ({"fixed": {"r_turn": 1 * u.kpc}}, "or a distance.*distance=10"),
        ({"fixed": {"vsys": np.inf}}, "a finite value"),
        ({"fixed": {"vmax": None}}, "one value in km / s"),
        ({"fixed": {"vmax": [100, 200]}}, "one value in km / s"),
        ({"fixed": {"n": 9.0}, "surface_brightness": "sersic"}, "a value from"),
        ({"thickness": -1 * u.arcsec}, "from 0 up, in arcsec"),
    ],
)
def test_what_is_refused_is_refused_before_the_cube_is_read(given, named):
    with pytest.raises(KinematicsError, match=named):
        fit("no_such_file.fits", **given)


def test_a_prior_on_the_flux_is_in_the_cubes_unit(cube, fitted):
    flux = fitted.summary["flux_p50"][0]
    result = quick(cube, priors={"flux": (flux.to(u.mJy * u.km / u.s), 0.01 * flux)})
    assert result.summary["flux_std"][0] < 0.02 * flux


# Afterwards


def test_results_pickle(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    assert same(again, fitted)
    assert again.meta == fitted.meta
    assert again.flags == fitted.flags


def test_a_distance_gives_radii_in_kpc(cube):
    result = quick(cube, distance=10 * u.Mpc)
    ratio = result.samples["r_scale_kpc"] / result.samples["r_scale"]
    assert ratio[0].to_value(u.kpc / u.arcsec) == pytest.approx(10e3 / 206264.8, rel=1e-5)


class Enough(Exception):
    pass


def refined_with(monkeypatch, cube, **given):
    """What the refined method is called with."""
    seen = {}

    def stop(*args, **options):
        seen.update(options)
        raise Enough

    monkeypatch.setattr("kinematics_nn.methods._refined", stop)
    with pytest.raises(Enough):
        fit(cube, **given)
    return seen


@pytest.mark.parametrize("names", [("ra", "dec"), ("x", "y")])
def test_a_centre_is_held_where_the_results_say_it_is(cube, fitted, monkeypatch, names):
    row = {name: value(fitted, name)[0] for name in ("east", "north", *names)}
    held = refined_with(monkeypatch, cube, fixed={name: row[name] for name in names})["fixed"]
    # A ten-thousandth of an arcsecond: the digits of a position in degrees
    assert held == pytest.approx({name: row[name] for name in ("east", "north")}, abs=1e-4)
    unit = {"ra": u.deg, "x": u.pix}[names[0]]
    again = refined_with(monkeypatch, cube, fixed={name: row[name] * unit for name in names})["fixed"]
    assert again == held


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"fixed": {"ra": 180.0}}, "ra held, and no dec"),
        ({"fixed": {"y": 3}}, "y held, and no x"),
        ({"fixed": {"x": 20, "y": 20, "east": 0}}, "a centre by x and y, and east"),
        ({"fixed": {"x": 20, "y": 20, "ra": 180, "dec": 0}}, "a centre by ra and dec, and x, y"),
        ({"fixed": {"x": 20, "y": 20}, "priors": {"north": (0, 1)}}, "a centre by x and y, and north"),
        ({"fixed": {"ra": 180 * u.km, "dec": 0}}, "one value each in deg"),
        ({"fixed": {"ra": 180, "dec": 100}}, "from -90 to 90"),
        ({"fixed": {"x": 20, "y": 70}}, r"\(20.0, 70.0\).*in the image, of 48 x 48"),
        ({"fixed": {"ra": 10, "dec": 0}}, "in the image"),
    ],
)
def test_a_centre_that_is_none(cube, given, named):
    with pytest.raises(KinematicsError, match=named):
        fit(cube, **given)


def test_lengths_are_held_and_known_at_a_distance(cube, monkeypatch):
    seen = refined_with(
        monkeypatch,
        cube,
        distance=10 * u.Mpc,
        fixed={"r_turn": 0.2 * u.kpc},
        priors={"r_scale": (0.4 * u.kpc, 50 * u.pc)},
        thickness=30 * u.pc,
    )
    # 20.6265 arcsec a kpc
    assert seen["fixed"] == pytest.approx({"r_turn": 4.1253, "thickness": 0.618795}, rel=1e-4)
    assert seen["priors"][0].normal == pytest.approx((8.2506, 1.03132), rel=1e-4)
