"""`compare`: ranks by evidence, on equal ground alone; the fits are stubbed but for one small run."""

from dataclasses import replace
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest

import kinematics_nn
from kinematics_nn import fitting
from kinematics_nn.comparison import compare, rank_fits
from kinematics_nn.decoder import Forms
from kinematics_nn.errors import FormError, KinematicsError
from kinematics_nn.forms import get_form
from kinematics_nn.forms.base import Form


@pytest.fixture(scope="module")
def cube():
    return kinematics_nn.simulate(
        shape=(24, 40, 40),
        channel_width=25 * u.km / u.s,
        surface_brightness=kinematics_nn.models.ExponentialDisc(r_scale=4 * u.arcsec),
        rms=2 * u.mJy / u.beam,
        seed=3,
    )


@pytest.fixture(scope="module")
def observation(cube):
    return cube.kinematics.observe()


def made(seen, light="exponential", evidence=0.0, **changed):
    forms = Forms(
        get_form("arctan", "rotation_curve"),
        get_form(light, "surface_brightness"),
        get_form("constant", "velocity_dispersion"),
    )
    meta = {
        "method": "refined", "log_evidence": evidence, "log_evidence_error": 0.3, "light_scatter": 0.1,
        "flux_prior": [0.0, 100.0], "n_patches": 40, "object": "mock", "priors": {}, "fixed": {},
    }  # fmt: skip
    return SimpleNamespace(
        observation=seen,
        forms=forms,
        flags=changed.pop("flags", ()),
        options={},
        meta=meta | changed,
    )


def test_fits_are_ranked_by_evidence(observation):
    fits = [
        made(observation, "gaussian", -1207.0, flags=("POOR_FIT",)),
        made(observation, "sersic", -1200.0, log_evidence_error=0.4),
        made(observation, "exponential", -1202.5),
    ]
    table = rank_fits(fits)
    assert list(table["surface_brightness"]) == ["sersic", "exponential", "gaussian"]
    np.testing.assert_allclose(table["log_bayes_factor"], [0, -2.5, -7])
    np.testing.assert_allclose(table["log_bayes_factor_error"], [0, 0.5, 0.5])
    assert list(table["flags"]) == ["-", "-", "POOR_FIT"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"flux_prior": [0.0, 101.0]}, "prior of the flux"),
        ({"n_patches": 0}, "patches"),
        ({"priors": {"inclination": "normal, 60 and 3 deg"}}, "priors"),
        ({"fixed": {"thickness": "0 arcsec"}}, "fixed"),
    ],
)
def test_unequal_ground_is_refused(observation, changed, said):
    with pytest.raises(KinematicsError, match=said):
        rank_fits([made(observation), made(observation, "gaussian", **changed)])


@pytest.mark.parametrize("name", ["data", "rms", "valid", "edges"])
def test_another_observation_is_refused(observation, name):
    array = getattr(observation, name).copy()
    array.flat[-1] = not array.flat[-1] if array.dtype == bool else array.flat[-1] * 1.001 + 1e-6
    other = replace(observation, **{name: array})
    with pytest.raises(KinematicsError, match=name):
        rank_fits([made(observation), made(other, "gaussian")])


@pytest.mark.parametrize(("name", "value"), [("lsf", 5.0), ("integrate_pixels", False)])
def test_another_reading_is_refused(observation, name, value):
    other = replace(observation, header=observation.header | {name: value})
    with pytest.raises(KinematicsError, match=name):
        rank_fits([made(observation), made(other, "gaussian")])


def test_another_noise_is_refused(observation):
    spectral = observation.correlation.spectral + np.eye(1, len(observation.correlation.spectral), 1)[0] * 0.01
    other = replace(observation, correlation=replace(observation.correlation, spectral=spectral))
    with pytest.raises(KinematicsError, match="spectral"):
        rank_fits([made(observation), made(other, "gaussian")])


def test_a_prior_of_a_forms_own_parameter_is_part_of_the_form(observation):
    own = made(observation, "sersic", priors={"n": "normal, 1 and 0.1", "r_eff": "flat, 1 to 4 arcsec"})
    assert len(rank_fits([made(observation), own])) == 2
    # So is one that is held, in another form or in the same.
    held = {"fixed": {"r_scale": "3 arcsec"}}
    for light in ("exponential_hole", "exponential"):
        assert len(rank_fits([made(observation), made(observation, light, **held)])) == 2


def test_a_fit_that_does_not_tell_its_ground_is_refused(observation):
    old = made(observation)
    del old.meta["fixed"]
    with pytest.raises(KinematicsError, match="doesn't tell its fixed"):
        rank_fits([made(observation, "gaussian"), old])


def test_joint_priors_count_only_as_their_form_normalises_them(observation):
    """Rings are smooth: the norm of that prior is known under their own priors alone."""
    rings = get_form("rings", "rotation_curve").for_observation(observation)
    plain = made(observation)

    def ringed(**priors):
        fit = made(observation, priors=priors)
        fit.forms = replace(fit.forms, rotation_curve=rings)
        return fit

    assert len(rank_fits([plain, ringed()])) == 2
    name = rings.names()[0]
    with pytest.raises(KinematicsError, match=f"priors of its own on {name}"):
        rank_fits([plain, ringed(**{name: "normal, 100 and 10 km / s"})])
    assert len(rank_fits([ringed(**{name: "normal, 100 and 10 km / s"}) for _ in range(2)])) == 2

    class Loose(rings):
        log_prior_norm = classmethod(Form.log_prior_norm.__func__)

    loose = made(observation)
    loose.forms = replace(loose.forms, rotation_curve=Loose)
    with pytest.raises(KinematicsError, match="not normalised"):
        rank_fits([plain, loose])


def test_the_network_has_no_evidence(cube, observation):
    with pytest.raises(KinematicsError, match="no evidence"):
        compare(cube, ["exponential", "gaussian"], method="network")
    network = made(observation, method="network", log_evidence=None)
    with pytest.raises(KinematicsError, match="no evidence"):
        rank_fits([made(observation), network])


def test_forms_are_read_in_every_way(cube, observation, monkeypatch):
    asked = []

    def fit(cube, **options):
        asked.append(options)
        return made(observation, evidence=-float(len(asked)))

    monkeypatch.setattr(fitting, "fit", fit)
    slots = ("rotation_curve", "surface_brightness", "velocity_dispersion")

    def given(forms, **options):
        asked.clear()
        compare(cube, forms, **options)
        return [{slot: get_form(options[slot], slot).name for slot in slots if slot in options} for options in asked]

    # A name of several kinds is of the one that all have.
    assert given(["exponential", "ring"]) == [{"surface_brightness": "exponential"}, {"surface_brightness": "ring"}]
    model = kinematics_nn.models.ArctanRotationCurve()
    forms = [get_form("nfw", "rotation_curve"), model, {"rotation_curve": "flat", "velocity_dispersion": "linear"}]
    assert given(forms, n_samples=500) == [
        {"rotation_curve": "nfw"},
        {"rotation_curve": "arctan"},
        {"rotation_curve": "flat", "velocity_dispersion": "linear"},
    ]
    assert asked[1]["rotation_curve"] is model  # with what it holds and bounds
    assert {options["n_samples"] for options in asked} == {500}
    assert len({options["seed"] for options in asked}) == 1
    with pytest.raises(FormError, match="of one kind"):
        compare(cube, ["ring", "nfw"])
    with pytest.raises(FormError):
        compare(cube, ["no such form", "ring"])
    with pytest.raises(FormError):
        compare(cube, [{"rotation_curve": "arctan"}, {"rotation_curve": kinematics_nn.models.ExponentialDisc()}])
    with pytest.raises(FormError, match="forms for thickness"):
        compare(cube, [{"thickness": 1}, "ring"])
    with pytest.raises(KinematicsError, match="two or more"):
        cube.kinematics.compare("ring")


@pytest.mark.parametrize(
    ("forms", "said"),
    [
        (["tanh", "arctn"], "no rotation_curve is called 'arctn'.*Try: 'arctan'"),
        (["rng", {"rotation_curve": "nfw"}, "sersic"], "no surface_brightness is called 'rng'.*Try: 'ring'"),
        (["exponential", "zzz"], "no surface brightness or velocity dispersion is called 'zzz'"),
        (["arctn", "rng"], "no rotation curve or .* is called 'arctn'.*Try: 'arctan'"),
        (["arctan", "ring", "zzz"], "is called 'zzz'.*register"),
        (["tanh", 3], "3 is no rotation_curve"),
        (["tanh", "sersic", 3], "3 is no rotation_curve"),
    ],
)
def test_an_unknown_form_is_named_by_the_kind_of_the_others(cube, forms, said):
    with pytest.raises(FormError, match=said):
        compare(cube, forms)


def test_what_every_form_of_the_list_would_replace_is_refused(cube):
    with pytest.raises(KinematicsError, match="surface_brightness= beside forms that all have their own"):
        compare(cube, ["ring", "sersic"], surface_brightness="exponential")


def test_the_network_alone_has_no_evidence(cube):
    with pytest.raises(KinematicsError, match=r'method="refined"'):
        compare(cube, ["exponential", "ring"], method="network")


def test_the_form_that_made_the_galaxy_is_preferred(cube):
    light = ({"surface_brightness": name} for name in ("gaussian", "exponential"))
    table = cube.kinematics.compare(light, min_ess=60, n_samples=200, seed=1)
    assert list(table["surface_brightness"]) == ["exponential", "gaussian"]
    # Its light falls off as no Gaussian does: five is strong, and errors are tenths.
    assert table["log_bayes_factor"][1] < -5
    assert all(table["log_evidence_error"] < 0.5)


def test_what_is_given_of_a_form_is_told(observation):
    held = made(
        observation, "sersic", fixed={"n": "1", "thickness": "0 arcsec"}, priors={"r_eff": "flat, 1 to 4 arcsec"}
    )
    free = made(observation, "sersic", -3.0, fixed={"thickness": "0 arcsec"})
    assert list(rank_fits([free, held])["given"]) == ["n = 1; r_eff: flat, 1 to 4 arcsec", "-"]
