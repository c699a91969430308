"""Priors of the user's: weights that turn draws under the default into draws under them."""

import astropy.units as u
import numpy as np
import pytest
from scipy import stats

from kinematics_nn.errors import KinematicsError
from kinematics_nn.inference.priors import prior_weights, user_priors

UNITS = {"inclination": u.deg, "pa": u.deg, "vsys": u.km / u.s, "vmax": u.km / u.s, "r_turn": u.arcsec}


@pytest.fixture(scope="module")
def samples():
    """Draws from the default priors themselves: what is weighted is then distributed as the user's prior."""
    rng = np.random.default_rng(1)
    n = 200_000
    return {
        "inclination": np.degrees(np.arccos(rng.uniform(0, 1, n))),
        "pa": rng.uniform(-180, 180, n),
        "vsys": rng.uniform(900, 1100, n),
        "vmax": np.exp(rng.uniform(np.log(20), np.log(800), n)),
    }


def weighted(samples, **priors):
    weight = prior_weights(samples, user_priors(priors, UNITS))
    assert weight.sum() == pytest.approx(1)
    return weight


def moments(values, weight):
    mean = np.sum(weight * values)
    return mean, np.sqrt(np.sum(weight * (values - mean) ** 2))


@pytest.mark.parametrize(
    ("name", "mean", "std"), [("inclination", 62, 3), ("vsys", 1000, 10), ("vmax", 200, 20), ("pa", -40, 10)]
)
def test_a_gaussian_takes_the_place_of_the_default(samples, name, mean, std):
    unit = UNITS[name]
    weight = weighted(samples, **{name: (mean * unit, std * unit)})
    # Thousands of effective draws: a few hundredths of a standard deviation. Without taking the default away the mean
    # of vmax would be 1 % low and that of the inclination 0.1 degree high.
    assert moments(samples[name], weight) == pytest.approx((mean, std), abs=0.04 * std)


def test_units_are_converted(samples):
    a = weighted(samples, vmax=(200 * u.km / u.s, 20 * u.km / u.s))
    b = weighted(samples, vmax=(2e5 * u.m / u.s, "20000 m/s"))
    c = weighted(samples, vmax=(200, 20))
    np.testing.assert_allclose(a, b)
    np.testing.assert_allclose(a, c)


def test_bounds_are_flat_between(samples):
    weight = weighted(samples, inclination={"low": 40 * u.deg, "high": 60 * u.deg})
    inside = (samples["inclination"] >= 40) & (samples["inclination"] <= 60)
    assert (weight[~inside] == 0).all()
    assert moments(samples["inclination"], weight) == pytest.approx((50, 20 / 12**0.5), abs=0.2)


def test_one_bound_is_enough(samples):
    weight = weighted(samples, vsys={"high": 950 * u.km / u.s})
    assert np.sum(weight * (samples["vsys"] > 950)) == 0
    assert np.sum(weight * samples["vsys"]) == pytest.approx(925, abs=1)


def test_a_frozen_distribution_serves(samples):
    a = weighted(samples, vmax=stats.norm(200, 20))
    np.testing.assert_allclose(a, weighted(samples, vmax=(200, 20)), rtol=1e-9, atol=1e-15)


def test_lengths_are_angles_at_a_distance(samples):
    one = user_priors({"r_turn": (1 * u.kpc, "100 pc")}, UNITS, distance=10 * u.Mpc)[0]
    # 206265 arcsec a radian
    np.testing.assert_allclose(one.normal, (20.6265, 2.06265), rtol=1e-5)
    other = user_priors({"r_turn": {"low": 1 * u.kpc, "high": 30}}, UNITS, distance="10 Mpc")[0]
    np.testing.assert_allclose(other.support, (20.6265, 30), rtol=1e-5)


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        ({"low": 5, "hi": 200}, "the bounds 'hi'; needed: low, high or both"),
        ({"low": 500, "high": 100}, "from 500 to 100 km / s; needed: a lower bound below"),
        ({"low": 100, "high": 100}, "a lower bound below"),
        ({"low": np.nan}, "a lower bound below"),
        ({"low": "slow"}, "positive standard deviation"),
        ({"low": [1, 2]}, "positive standard deviation"),
        ([200], "positive standard deviation"),
        ((200, None), "positive standard deviation"),
        ((200 * u.kpc, 10), "a unit of km / s"),
        (stats.multivariate_normal(200, 40), "positive standard deviation"),
    ],
)
def test_a_prior_that_is_none_is_refused(prior, said):
    with pytest.raises(KinematicsError, match=said):
        user_priors({"vmax": prior}, UNITS)


def test_several_priors_multiply(samples):
    both = weighted(samples, vmax=(200, 20), vsys=(1000, 10))
    assert moments(samples["vmax"], both) == pytest.approx((200, 20), abs=2)
    assert moments(samples["vsys"], both) == pytest.approx((1000, 10), abs=1)


@pytest.mark.parametrize("mean", [-170.0, 190.0, 190.0 + 360])
def test_angles_close_on_themselves(samples, mean):
    weight = weighted(samples, pa=(mean * u.deg, 20 * u.deg))
    away = (samples["pa"] - mean + 180) % 360 - 180
    assert moments(away, weight) == pytest.approx((0, 20), abs=1)


@pytest.mark.parametrize("prior", [{"low": 185.0, "high": 205.0}, stats.uniform(185, 20)], ids=["bounds", "scipy"])
def test_angles_close_on_themselves_for_every_kind_of_prior(samples, prior):
    weight = weighted(samples, pa=prior)  # the draws are in -180 to 180, as the network gives them
    away = (samples["pa"] - 195 + 180) % 360 - 180
    assert moments(away, weight) == pytest.approx((0, 20 / 12**0.5), abs=0.5)


@pytest.mark.parametrize("prior", [{"low": 30}, {"high": 90 * u.deg}, {"low": -300, "high": 300}])
def test_bounds_of_an_angle_are_two_within_a_turn(samples, prior):
    with pytest.raises(KinematicsError, match="both bounds, within a turn"):
        weighted(samples, pa=prior)


@pytest.mark.parametrize("thin", [0.4, 0.6])
def test_a_thin_disc_is_believed_whatever_share_of_the_draws_is_thin(thin):
    """The default has a floor of a hundredth of r50 = 10, so that a draw of h weighs (h + 0.1) exp(-h^2 / 2)."""
    rng = np.random.default_rng(2)
    n = 100_000
    h = np.where(rng.random(n) < thin, 0.0, np.exp(rng.uniform(np.log(0.2), np.log(3), n)))
    weight = prior_weights(
        {"thickness": h, "r50": np.full(n, 10.0)}, user_priors({"thickness": (0, 1)}, {"thickness": u.arcsec})
    )
    x = np.geomspace(0.2, 3, 2000)
    thick = np.trapezoid((x + 0.1) * np.exp(-0.5 * x**2) / x, x) / np.log(15) * (1 - thin)
    # Binomial scatter of the draws: a percent of the share
    assert weight[h == 0].sum() == pytest.approx(0.1 * thin / (0.1 * thin + thick), abs=0.01)


def test_priors_that_exclude_all_draws_are_named(samples):
    with pytest.raises(KinematicsError, match=r"vmax.*exclude every realisation"):
        weighted(samples, vmax={"low": 5000 * u.km / u.s})


def test_unknown_names_are_answered_with_the_known(samples):
    with pytest.raises(KinematicsError, match=r"'vmx'.*vmax"):
        weighted(samples, vmx=(200, 20))


def test_wrong_units_are_named(samples):
    with pytest.raises(KinematicsError, match=r"priors\['vmax'\] in arcsec.*km / s"):
        weighted(samples, vmax=(200 * u.arcsec, 20 * u.arcsec))


@pytest.mark.parametrize("given", [5.0, object()], ids=["number", "object"])
def test_what_is_no_prior_is_answered_with_what_is(samples, given):
    with pytest.raises(KinematicsError, match=r"frozen scipy\.stats"):
        weighted(samples, vmax=given)


@pytest.mark.parametrize(
    ("given", "distance", "said"),
    [
        ((60, 3), None, "normal, 60 and 3"),
        ({"low": 10, "high": 50.5}, None, "flat, 10 to 50.5"),
        ({"low": 10}, None, "flat, 10 to the default's end"),
        # 200 pc at 10 Mpc are 4.1253 arcsec.
        ((200 * u.pc, 20 * u.pc), 10 * u.Mpc, "normal, 4.12529612 and 0.412529612"),
    ],
)
def test_a_prior_says_what_it_is(given, distance, said):
    (prior,) = user_priors({"r": given}, {"r": u.arcsec}, distance)
    assert str(prior) == said


def test_two_distributions_alike_say_the_same():
    texts = [str(user_priors({"r": stats.norm(m, 3)}, {"r": u.arcsec})[0]) for m in (60, 60, 61)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("norm, with")
