"""What a fit says about itself: chi-squared near one for the right disc, and a flag for what is not to be trusted."""

import astropy.units as u
import numpy as np
import pytest
from scipy import stats

from kinematics_nn import simulate
from kinematics_nn.decoder import Forms
from kinematics_nn.forms import get_form
from kinematics_nn.inference.diagnosis import beams_across, diagnose
from kinematics_nn.inference.priors import user_priors
from kinematics_nn.models import ArctanRotationCurve, ExponentialDisc
from kinematics_nn.observation import observe

KM_S = u.km / u.s
FORMS = Forms(
    get_form("arctan", "rotation_curve"),
    get_form("exponential", "surface_brightness"),
    get_form("constant", "velocity_dispersion"),
)
TRUTH = {
    "inclination": 55.0, "pa": 40.0, "east": 0.0, "north": 0.0, "vsys": 0.0, "flux": 20.0, "thickness": 0.5,
    "velocity_dispersion": 10.0, "vmax": 180.0, "r_turn": 2.0, "r_scale": 5.0,
}  # fmt: skip

# Quantiles: what falls off from an end, a normal distribution, and an even one
EVEN = np.random.default_rng(3).permutation((np.arange(1000) + 0.5) / 1000)
EDGE, NORMAL = -np.log(EVEN), stats.norm.ppf(EVEN)


def make_observation(rms=0.5, beam=4.0, **changed):
    t = TRUTH | changed
    cube = simulate(
        shape=(44, 48, 48), channel_width=10 * KM_S, beam=beam * u.arcsec, inclination=t["inclination"] * u.deg,
        pa=t["pa"] * u.deg, vsys=t["vsys"] * KM_S, flux=t["flux"] * u.Jy * KM_S, thickness=t["thickness"] * u.arcsec,
        velocity_dispersion=t["velocity_dispersion"] * KM_S,
        rotation_curve=ArctanRotationCurve(vmax=t["vmax"] * KM_S, r_turn=t["r_turn"] * u.arcsec),
        surface_brightness=ExponentialDisc(r_scale=t["r_scale"] * u.arcsec), rms=rms * u.mJy / u.beam, seed=2,
    )  # fmt: skip
    return cube, t


def look(observation, best, priors=(), held=(), **draws):
    """Chi-squared and flags with the draws a hundredth about the best, but for those given."""
    best = best | {"r50": 1.678 * best["r_scale"]}
    rng = np.random.default_rng(1)
    samples = {name: value * (1 + 0.01 * rng.standard_normal(1000)) for name, value in best.items()} | draws
    return diagnose(observation, FORMS, samples, best, priors, held)


@pytest.fixture(scope="module")
def good():
    cube, truth = make_observation()
    return observe(cube), truth


def test_the_right_disc_has_a_chi_squared_of_one_and_no_flag(good):
    reduced, flags = look(*good)
    # The noise is measured to a few per cent, its square to twice that.
    assert reduced == pytest.approx(1, abs=0.15)
    assert flags == []


@pytest.mark.parametrize("wrong", [{"inclination": 75.0}, {"pa": 80.0}, {"vmax": 120.0}, {"flux": 40.0}], ids=str)
def test_a_wrong_disc_is_a_poor_fit(good, wrong):
    observation, truth = good
    reduced, flags = look(observation, truth | wrong)
    assert reduced > 1.5
    assert "POOR_FIT" in flags


def test_what_the_instrument_widens_is_no_poor_fit():
    """A line of 10 km/s seen through 40, and one that is said to be so wide by itself."""
    cube, truth = make_observation(rms=0.2, velocity_dispersion=float(np.hypot(10, 40)))
    wide = truth | {"velocity_dispersion": 10.0}
    assert look(observe(cube, lsf=40 * KM_S), wide)[0] == pytest.approx(1, abs=0.15)
    assert look(observe(cube), wide)[0] > 2


def test_a_model_that_shines_where_no_data_do_is_a_poor_fit(good):
    """Voxels count where the model is bright too, else a disc twice too large would pass."""
    observation, truth = good
    assert "POOR_FIT" in look(observation, truth | {"r_scale": 12.0, "flux": 60.0})[1]


@pytest.mark.parametrize(("low", "high", "flag"), [(2.0, 14.0, "FACE_ON"), (81.0, 89.0, "EDGE_ON")])
def test_inclinations_that_tell_little(good, low, high, flag):
    inclination = np.linspace(low, high, 1000)
    assert flag in look(*good, inclination=inclination)[1]
    assert flag not in look(*good, inclination=np.linspace(40, 60, 1000))[1]


def test_faint_galaxies(good):
    observation, truth = good
    from dataclasses import replace

    louder = replace(observation, rms=observation.rms * 40)
    assert "LOW_SNR" in look(louder, truth)[1]


def test_beams_across_are_of_the_light_along_the_major_axis(good):
    observation, truth = good
    best = truth | {"r50": 1.678 * truth["r_scale"]}
    # 90 % of an exponential disc lie within 3.89 scale lengths; a round beam of 4 arcsec.
    assert beams_across(observation, best, FORMS) == pytest.approx(2 * 3.89 * 5 / 4, rel=0.01)
    from dataclasses import replace

    narrow = replace(observation, beam=np.array([8.0, 2.0, 40.0]))
    assert beams_across(narrow, best, FORMS) == pytest.approx(2 * 3.89 * 5 / 8, rel=0.01)
    across = replace(observation, beam=np.array([8.0, 2.0, 130.0]))
    assert beams_across(across, best, FORMS) == pytest.approx(2 * 3.89 * 5 / 2, rel=0.01)


def test_a_galaxy_as_small_as_the_beam_is_unresolved():
    cube, truth = make_observation(r_scale=0.8, beam=6.0, vmax=150.0)
    assert "UNRESOLVED" in look(observe(cube), truth)[1]


@pytest.mark.parametrize("end", ["low", "high"])
@pytest.mark.parametrize("descending", [False, True])
def test_a_line_that_leaves_the_band(end, descending):
    cube, truth = make_observation()
    cube = cube[16:] if end == "low" else cube[:-16]
    observation = observe(cube[::-1] if descending else cube)
    assert "BAND_EDGE" in look(observation, truth)[1]


def test_draws_that_pile_up_at_a_limit(good):
    draws = np.full(1000, 2.0)
    draws[:300] = 1e-4  # r_turn is down to a fiftieth of r_scale
    assert "PRIOR_EDGE" in look(*good, r_turn=draws)[1]
    draws[50:300] = 2.0
    assert "PRIOR_EDGE" not in look(*good, r_turn=draws)[1]


def test_what_the_user_holds_is_at_no_edge_of_a_prior(good):
    at_its_end = np.full(1000, 1.0)
    assert "PRIOR_EDGE" in look(*good, velocity_dispersion=at_its_end)[1]
    assert "PRIOR_EDGE" not in look(*good, held={"velocity_dispersion"}, velocity_dispersion=at_its_end)[1]


@pytest.mark.parametrize(
    ("name", "prior", "draws", "raised"),
    [
        ("inclination", {"low": 65}, 65 + EDGE, True),
        ("vmax", {"high": 130}, 130 - EDGE, True),
        ("pa", {"low": 185, "high": 190}, 190 - EDGE - 360, True),
        ("inclination", {"low": 30}, 50 + NORMAL, False),  # 20 deviations within
        ("inclination", {"low": 48}, 50 + NORMAL[NORMAL > -2], False),  # two
        ("inclination", {"low": 60, "high": 90}, 90 - EDGE, False),  # where the parameter itself ends
        ("r_turn", {"low": 1, "high": 3}, 1 + 2 * EVEN, False),  # the prior alone
        ("vsys", (40, 1), 34 + NORMAL, True),
        ("vsys", (40, 1), 38 + NORMAL, False),
        ("pa", (20, 5), 375 + NORMAL, False),
    ],
)
def test_a_users_prior_that_the_data_contradict(good, name, prior, draws, raised):
    priors = user_priors({name: prior}, {name: u.one})
    assert ("PRIOR_EDGE" in look(*good, priors, **{name: draws[:900]})[1]) == raised
