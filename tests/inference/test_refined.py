"""The refined posterior from a cube to its samples: right, repeatable, and honest about how far it can be trusted."""

import astropy.units as u
import numpy as np
import pytest
import torch
from observed import DISC, FORMS, SPREAD, changed, make_observation, network_like

import kinematics_nn
from kinematics_nn import models
from kinematics_nn.errors import KinematicsError
from kinematics_nn.inference import refined
from kinematics_nn.inference.importance import WeightedDraws
from kinematics_nn.inference.priors import user_priors
from kinematics_nn.inference.refined import is_short, refined_posterior
from kinematics_nn.results.tables import parameter_columns

HELD = ["pa", "east", "vsys", "velocity_dispersion", "r_scale", "inclination", "vmax", "flux"]


def run(observation, draws=None, priors=None, **options):
    columns = parameter_columns(FORMS, "Jy km / s", sky=False)
    priors = user_priors(priors or {}, {name: unit for name, (unit, _) in columns.items()})
    options = {"n_samples": 2000, "min_ess": 150, "seed": 1} | options
    return refined_posterior(observation, FORMS, draws or network_like(), priors=priors, **options)


@pytest.fixture(scope="module")
def observation():
    return make_observation(snr=12.0)


@pytest.fixture(scope="module")
def posterior(observation):
    return run(observation, min_ess=500)  # more than single draws come to: in two phases


def test_the_truth_is_within_three_errors(posterior):
    samples, _, report, best = posterior
    for name, truth in DISC.items():
        if name == "thickness":
            continue  # its posterior is its prior, nearly
        assert abs(np.mean(samples[name]) - truth) < 3 * np.std(samples[name]), name
        assert samples[name].shape == (2000,)
        assert abs(best[name] - np.mean(samples[name])) < 4 * np.std(samples[name]), name
    assert report["sampler"] == "two-phase"
    assert report["n_effective"] >= 500
    assert report["pareto_k"] < 0.7
    assert report["n_modes"] == 1
    assert not is_short(report, 150)


def test_a_disc_turned_round_is_found_where_dispersion_hides_the_rotation():
    """A network sure of the wrong half-turn: the posterior has both, about as likely as each other."""
    slow = {"vmax": 12.0, "velocity_dispersion": 60.0}
    observation = make_observation(snr=8.0, seed=3, **slow)
    samples, _, report, _ = run(observation, network_like(pa=DISC["pa"] + 180, **slow))
    assert report["n_modes"] >= 2
    forwards = np.mean(np.cos(np.radians(samples["pa"] - DISC["pa"])) > 0)
    assert 0.1 < forwards < 0.98


def test_errors_are_far_narrower_than_the_networks(posterior):
    samples = posterior[0]
    for name in ("pa", "vsys", "east"):
        assert np.std(samples[name]) < 0.6 * SPREAD[name]


def test_ranks_of_truths_are_even():
    """Posteriors of twelve noises: the truths lie where errors say, neither too near nor too far."""
    off = []
    for seed in range(12):
        samples, *_ = run(make_observation(snr=12.0, seed=seed), network_like(seed=seed), fixed={"thickness": 0.3})
        off.append([(np.mean(samples[name]) - DISC[name]) / np.std(samples[name]) for name in HELD])
    # 12 times 8 numbers, some of them correlated: their rms to a fifth.
    assert np.sqrt(np.mean(np.square(off))) == pytest.approx(1, abs=0.3)


def test_the_same_seed_gives_the_same_posterior(observation, posterior):
    again, other = (run(observation, min_ess=500, seed=seed) for seed in (1, 2))
    for name, values in posterior[0].items():
        np.testing.assert_array_equal(again[0][name], values)
    assert again[2] == posterior[2]
    assert not np.array_equal(other[0]["vmax"], posterior[0]["vmax"])
    # Two runs of 150 effective draws at least: a ninth of an error each.
    for name in HELD:
        away = np.mean(other[0][name]) - np.mean(posterior[0][name])
        assert abs(away) < 4 * np.sqrt(2 / 150) * np.std(posterior[0][name]), name
    assert other[2]["log_evidence"] == pytest.approx(
        posterior[2]["log_evidence"],
        abs=4 * np.hypot(other[2]["log_evidence_error"], posterior[2]["log_evidence_error"]),
    )


def test_where_the_draws_start_does_not_matter(observation, posterior):
    draws = network_like(seed=11, inclination=40.0, pa=65.0, vmax=200.0, r_scale=4.0, vsys=30.0)
    samples, _, report, _ = run(observation, draws)
    for name in HELD:
        away = np.mean(samples[name]) - np.mean(posterior[0][name])
        assert abs(away) < 4 * np.sqrt(2 / 150) * np.std(posterior[0][name]), name
    assert report["log_evidence"] == pytest.approx(posterior[2]["log_evidence"], abs=0.5)


def test_the_angle_is_found_where_most_draws_of_the_network_are_its_twin(observation, posterior):
    draws = network_like()
    draws["pa"][: len(draws["pa"]) * 2 // 3] += 180
    samples, *_ = run(observation, draws)
    away = np.remainder(samples["pa"] - DISC["pa"] + 180, 360) - 180
    assert abs(np.mean(away)) < 3 * np.std(posterior[0]["pa"])
    assert np.std(away) == pytest.approx(np.std(posterior[0]["pa"]), rel=0.25)


def test_weights_are_those_of_the_samples(posterior):
    samples, weighted, report, _ = posterior
    weight = weighted["weight"]
    assert weight.sum() == pytest.approx(1)
    # Of many draws of the surrogate: what limits is the number of exact weights among them.
    assert 1 / np.sum(weight**2) > report["n_effective"]
    assert set(weighted) == {*samples, "weight", "light_scatter"} - {"bend"}
    for name, values in samples.items():
        if name == "bend":
            continue
        # Each draw is repeated as often as its weight says.
        assert np.average(weighted[name], weights=weight) == pytest.approx(
            np.mean(values), abs=0.15 * np.std(values)
        ), name


def test_what_is_fixed_is_held(observation, posterior):
    samples, _, _, best = run(observation, fixed={"inclination": 50.0, "flux": 10.0, "thickness": 0.0})
    for name, value in (("inclination", 50.0), ("flux", 10.0), ("thickness", 0.0)):
        assert (samples[name] == value).all()
        assert best[name] == pytest.approx(value)
    # What went with the inclination is narrower without it.
    assert np.std(samples["vmax"]) < 0.9 * np.std(posterior[0]["vmax"])


def test_a_normal_prior_narrows(observation, posterior):
    plain = posterior[0]["inclination"]
    mean = np.mean(plain) + np.std(plain)
    std = 0.5 * np.std(plain)
    samples, *_ = run(observation, priors={"inclination": (mean, std)})
    weight = np.array([np.std(plain) ** -2, std**-2])
    # The product of two normals, near enough.
    assert np.std(samples["inclination"]) == pytest.approx(weight.sum() ** -0.5, rel=0.2)
    expected = np.average([np.mean(plain), mean], weights=weight)
    assert np.mean(samples["inclination"]) == pytest.approx(expected, abs=0.4 * std)


def test_bounds_hold(observation, posterior):
    plain = posterior[0]["inclination"]
    low, high = np.percentile(plain, [60, 90])
    samples, *_ = run(observation, priors={"inclination": {"low": low, "high": high}})
    assert samples["inclination"].min() >= low
    assert samples["inclination"].max() <= high
    inside = plain[(plain > low) & (plain < high)]
    assert np.mean(samples["inclination"]) == pytest.approx(np.mean(inside), abs=0.3 * np.std(inside))


@pytest.mark.parametrize(("name", "errors"), [("inclination", 6), ("r_scale", -4)])
def test_bounds_far_from_the_data_are_where_the_posterior_is(observation, posterior, name, errors):
    """All draws are behind an edge, many errors from what the data say, where no draw of the network is."""
    edge = np.mean(posterior[0][name]) + errors * np.std(posterior[0][name])
    side, other = ("low", "high") if errors > 0 else ("high", "low")
    fixed = {held: DISC[held] for held in ("thickness", "velocity_dispersion", "r_turn", "north", "vsys", "east")}
    samples, _, report, _ = run(observation, fixed=fixed, priors={name: {side: edge}})
    away = np.sign(errors) * (samples[name] - edge)
    assert away.min() >= 0
    # Behind an edge four errors out, a normal one falls by e in a quarter of an error.
    assert np.mean(away) < np.std(posterior[0][name]) / 2
    assert not is_short(report, 150)
    # Closed far behind the edge it is the same posterior, and the evidence counts the width: that of the open one ends
    # where the default prior does.
    end = {"inclination": 90.0, "r_scale": 0.2 * np.sqrt(observation.beam[0] * observation.beam[1])}[name]
    width = 4 * np.std(posterior[0][name])
    bounds = {side: edge, other: edge + np.sign(errors) * width}
    closed, _, again, _ = run(observation, fixed=fixed, priors={name: bounds}, seed=3)
    assert np.mean(closed[name]) == pytest.approx(np.mean(samples[name]), abs=0.4 * np.std(away))
    expected = report["log_evidence"] + np.log(abs(end - edge))
    assert again["log_evidence"] + np.log(width) == pytest.approx(expected, abs=0.4)


def test_narrow_bounds_are_found(observation):
    samples, _, report, _ = run(observation, priors={"inclination": {"low": 50.0, "high": 50.01}})
    assert not is_short(report, 150)
    assert np.mean(samples["inclination"]) == pytest.approx(50.005, abs=0.001)
    assert np.std(samples["inclination"]) == pytest.approx(0.01 / np.sqrt(12), rel=0.1)


def test_a_prior_on_an_angle_holds_a_turn_on(observation, posterior):
    here, there = (run(observation, priors={"pa": (41.0 + turn, 0.5)})[0]["pa"] for turn in (0.0, 360.0))
    assert np.mean(here) == pytest.approx(np.mean(there), abs=0.2)
    assert np.std(here) == pytest.approx(0.45, abs=0.1)
    assert np.std(posterior[0]["pa"]) > 0.8


@pytest.mark.parametrize("name", ["one", "none"])
def test_all_may_be_held_but_one(observation, name):
    fixed = {other: value for other, value in DISC.items() if other not in ("flux", "vmax" if name == "one" else "")}
    if name == "none":
        with pytest.raises(KinematicsError, match="every parameter held"):
            run(observation, fixed=fixed)
    else:
        samples, *_ = run(observation, fixed=fixed)
        assert abs(np.mean(samples["vmax"]) - DISC["vmax"]) < 3 * np.std(samples["vmax"])


def test_a_cube_without_a_line_is_refused(observation):
    with pytest.raises(KinematicsError, match="no emission"):
        run(changed(observation, emission=observation.emission & False))


DISCS = {
    "smaller than the beam": ({"beam": (6.0, 6.0, 0.0), "r_scale": 1.6, "r_turn": 0.5}, {}),
    "a beam of one pixel": ({"beam": (1.5, 1.5, 0.0)}, {}),
    "edge-on": ({"inclination": 88.0, "snr": 20.0}, {"inclination": 84.0}),
    "face-on": ({"inclination": 8.0, "snr": 20.0}, {"inclination": 15.0}),
    "faint": ({"snr": 3.5}, {}),
}


@pytest.mark.parametrize("name", DISCS)
def test_discs_at_the_limits_of_what_is_seen(name):
    disc, start = DISCS[name]
    truth = DISC | {key: value for key, value in disc.items() if key in DISC}
    radii = {key: truth[key] for key in ("r_scale", "r_turn")}
    samples, _, report, _ = run(make_observation((12, 24, 24), **{"snr": 12.0} | disc), network_like(**radii | start))
    # A faint disc's weights have a heavy tail in some arithmetic, which is flagged; draws there are enough of.
    assert report["n_effective"] > 100
    for parameter in ("pa", "vsys", "east", "r_scale", "velocity_dispersion"):
        values = samples[parameter]
        low, high = np.percentile(values, [0.2, 99.8])
        assert low < truth[parameter] < high, parameter
    speed = samples["vmax"] * np.sin(np.radians(samples["inclination"]))
    low, high = np.percentile(speed, [0.2, 99.8])
    assert low < truth["vmax"] * np.sin(np.radians(truth["inclination"])) < high


def test_priors_that_leave_nothing_are_refused(observation):
    with pytest.raises(KinematicsError, match="overlaps what the parameter may be"):
        run(observation, priors={"vmax": {"low": 5000.0}})


def test_a_prior_on_the_flux_is_normal(observation):
    samples, *_ = run(observation, priors={"flux": (10.0, 0.1)})
    # It is the profile's: what patches of light may add to it comes on top.
    assert np.mean(samples["flux"]) == pytest.approx(10, abs=0.05)
    assert 0.09 < np.std(samples["flux"]) < 0.17
    with pytest.raises(KinematicsError, match="flux that is not normal"):
        run(observation, priors={"flux": {"low": 5.0, "high": 15.0}})


@pytest.mark.parametrize("flux", [0.0, -3.0])
def test_a_disc_has_a_flux(observation, flux):
    with pytest.raises(KinematicsError, match="a flux held at"):
        run(observation, fixed={"flux": flux})


def test_faint_galaxies_do_not_wander():
    """Patches that could be the disc themselves left its parameters to their priors, at a peak of 4 times the noise."""
    samples, _, report, _ = run(make_observation((16, 32, 32), r_scale=4.0, snr=4.0, seed=3), network_like(r_scale=4.0))
    assert np.std(samples["vsys"]) < 12
    assert np.std(samples["east"]) < 1
    assert report["sample_efficiency"] > 0.02


@pytest.mark.parametrize(
    ("changed", "short"),
    [
        ({}, False),
        ({"n_effective": 499.0}, True),
        ({"sample_efficiency": 0.009}, True),
        ({"pareto_k": 0.71}, True),
        ({"pareto_k": float("nan")}, True),
        ({"sampler": "dynesty", "sample_efficiency": 0.001}, False),
        ({"sampler": "dynesty", "n_effective": 10.0}, True),
    ],
)
def test_what_is_short(changed, short):
    report = {"sampler": "importance", "n_effective": 500.0, "sample_efficiency": 0.2, "pareto_k": 0.3}
    assert is_short(report | changed, 500) == short


def test_the_fallback_is_taken_where_draws_are_short_and_only_there(observation, monkeypatch):
    calls = []

    def nested_sample(log_target, mean, std, *, seed):
        calls.append((mean, std))
        assert not log_target.keep_models  # nor is their memory held while it runs
        assert not log_target.kept_models
        x = torch.randn(400, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 0.1
        log = torch.cat([log_target(one[None]) for one in x])
        order = np.argsort(log.numpy())  # not as they were called
        return WeightedDraws(x[order], log[order], torch.zeros(400)), order, -123.0, 0.5

    monkeypatch.setattr(refined, "nested_sample", nested_sample)
    options = {"fixed": {"r_scale": 3.0, "thickness": 0.0}, "fallback": "dynesty"}
    assert run(observation, **options)[2]["sampler"] != "dynesty"
    assert not calls
    monkeypatch.setattr(refined, "is_short", lambda report, min_ess: True)
    samples, weighted, report, best = run(observation, **options)
    assert report["sampler"] == "dynesty"
    assert report["log_evidence"] - report["summation_correction"] == pytest.approx(-123.0)
    assert report["log_evidence_error"] == 0.5
    assert "pareto_k" not in report
    ((mean, std),) = calls
    assert set(mean) == {0.0}
    assert sorted(std)[:-1] == [1.0] * (len(std) - 1)
    # Normals of a tenth about 0: the centre of the field and of the band, within a tenth of a quarter of them.
    assert np.std(samples["vsys"]) == pytest.approx(0.1 * 90, rel=0.15)
    assert len(weighted["weight"]) == 400
    assert best["r_scale"] == 3.0


@pytest.fixture(scope="module")
def cube():
    return kinematics_nn.simulate(
        shape=(16, 24, 24), pixel_scale=1 * u.arcsec, channel_width=25 * u.km / u.s, beam=4 * u.arcsec,
        inclination=55 * u.deg, pa=40 * u.deg, thickness=0.3 * u.arcsec, rms=0.003, seed=2,
        surface_brightness=models.ExponentialDisc(r_scale=3 * u.arcsec),
        rotation_curve=models.ArctanRotationCurve(vmax=150 * u.km / u.s, r_turn=1 * u.arcsec),
    )  # fmt: skip


def test_a_fit_from_a_cube(cube):
    fit = kinematics_nn.fit(cube, method="refined", seed=1, min_ess=200, thickness=0.2 * u.arcsec)
    truth = {"inclination": 55, "pa": 40, "vsys": 0, "flux": 10, "vmax": 150, "r_turn": 1, "r_scale": 3}
    for name, value in truth.items():
        values = fit.samples[name].value
        assert abs(values.mean() - value) < 3.5 * values.std(), name
    assert (fit.samples["thickness"] == 0.2 * u.arcsec).all()
    assert not {"LOW_EFFICIENCY", "POOR_FIT"} & set(fit.flags)
    assert fit.meta["sampler"] != "dynesty"
    weighted = fit.weighted_samples
    assert weighted.colnames == [*fit.samples.colnames, "light_scatter", "weight"]
    for name in ("v22_sini", "pa", "ra"):
        values = fit.samples[name]
        mean = np.average(weighted[name].value, weights=weighted["weight"])
        assert abs(mean - values.value.mean()) < 0.1 * values.value.std()


def test_too_few_draws_are_flagged(cube, monkeypatch):
    sample = refined.sample
    monkeypatch.setattr(refined, "sample", lambda *args, **options: sample(*args, **options, most=400))
    fit = kinematics_nn.fit(cube, method="refined", seed=1, min_ess=1000)
    assert fit.meta["n_effective"] < 1000
    assert "LOW_EFFICIENCY" in fit.flags


def test_what_is_held_has_no_prior():
    with pytest.raises(KinematicsError, match="both held and with a prior"):
        kinematics_nn.fit("nothing.fits", method="refined", fixed={"pa": 3}, priors={"pa": (3, 1)})


def test_the_network_has_no_weights(cube):
    fit = kinematics_nn.fit(cube, method="network", seed=1, n_samples=200)
    with pytest.raises(KinematicsError, match="refined"):
        _ = fit.weighted_samples
