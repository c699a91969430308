"""Rings: straight lines between them, one a beam, smooth where nothing is known; their light in closed form."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.modeling.fitting import LevMarLSQFitter, TRFLSQFitter

import kinematics_nn
from kinematics_nn.errors import FormError, WrongUnit
from kinematics_nn.forms import QuadratureSum, Rings, RingsLight, get_form
from kinematics_nn.forms.moments import moment_disc
from kinematics_nn.forms.rings import MOST_RINGS, ring_radii
from kinematics_nn.models import ExponentialDisc, TanhRotationCurve, inside_values
from kinematics_nn.observation import observe
from kinematics_nn.testing import check_form

KM_S = u.km / u.s
RADII = np.array([1.0, 3.0, 5.0, 8.0])
SPEEDS = np.array([60.0, 110.0, 120.0, 90.0])
LIGHT = np.array([3.0, 5.0, 2.0, 0.5])


@pytest.fixture(scope="module")
def observation():
    """A disc at 60 degrees with its major axis along 30 degrees, beam 4 arcsec, seen out to 30 arcsec or so."""
    cube = kinematics_nn.simulate(
        rotation_curve=TanhRotationCurve(150 * KM_S, 4 * u.arcsec),
        surface_brightness=ExponentialDisc(6 * u.arcsec),
        inclination=60 * u.deg,
        rms=1e-3 * u.Jy / u.beam,
        seed=1,
    )
    return observe(cube)


def test_speeds_are_straight_lines_from_the_centre_and_flat_outside():
    model = Rings(RADII, SPEEDS)
    radius = np.linspace(0, 20, 501)
    wanted = np.interp(radius, [0, *RADII], [0, *SPEEDS])
    np.testing.assert_allclose(model(radius), wanted, rtol=1e-13, atol=1e-11)


def test_light_is_flat_inside_and_ends_a_ring_outside():
    model = RingsLight(RADII, LIGHT)
    radius = np.linspace(0, 20, 501)
    wanted = np.interp(radius, [*RADII, 11.0], [*LIGHT, 0.0])
    np.testing.assert_allclose(model(radius), wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("light", [LIGHT, [0.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 1.0], [5.0, 0.1, 1e-3, 1e-6]], ids=str)
def test_total_and_half_light_radius(light):
    form = RingsLight(RADII).form
    edges = np.linspace(0, 11, 1_100_001)
    radius = 0.5 * (edges[1:] + edges[:-1])
    grown = np.cumsum(2 * np.pi * radius * form.evaluate(radius, *light)) * np.diff(edges)
    assert form.total(*light) == pytest.approx(grown[-1], rel=1e-9)  # the midpoint rule on straight lines
    half = edges[1:][np.searchsorted(grown, 0.5 * grown[-1])]
    assert form.half_light_radius(*light) == pytest.approx(half, abs=2e-5)  # the step


def test_total_and_half_light_radius_have_gradients_and_batches():
    form = RingsLight(RADII).form
    values = [torch.tensor([[v], [2 * v]], dtype=torch.float64, requires_grad=True) for v in LIGHT]
    for function in (form.total, form.half_light_radius):
        assert function(*values).shape == (2, 1)
        assert torch.autograd.gradcheck(function, values)
    one, two = form.half_light_radius(*values).detach().flatten().tolist()
    assert one == pytest.approx(two, rel=1e-12)


@pytest.mark.parametrize("form", [Rings, RingsLight, Rings(RADII).form, RingsLight(RADII).form], ids=repr)
def test_rings_keep_the_contract_of_forms(form):
    check_form(form)
    assert pickle.loads(pickle.dumps(form)) is copy.deepcopy(form) is form


def test_rings_are_known_by_name_and_made_once_for_the_same_radii():
    assert get_form("rings", "rotation_curve") is Rings
    assert get_form("rings", "surface_brightness") is RingsLight
    assert Rings(RADII).form is Rings(RADII * u.arcsec, SPEEDS * KM_S).form
    assert Rings(RADII * u.kpc).form is not Rings(RADII).form
    assert Rings(RADII).form.names() == ("v_1", "v_2", "v_3", "v_4")
    assert "3 arcsec" in Rings(RADII).form.parameters[1].description
    assert "light_2" in RingsLight(RADII).form.names()
    assert Rings().form is Rings


@pytest.mark.parametrize("fitter", [TRFLSQFitter, LevMarLSQFitter])
def test_astropy_fits_rings_to_a_measured_curve(fitter):
    radius = np.linspace(0.5, 12, 40)
    truth = Rings(RADII * u.kpc, SPEEDS * KM_S)
    fitted = fitter()(Rings(RADII * u.kpc, [80, 80, 80, 80] * KM_S), radius * u.kpc, truth(radius * u.kpc))
    np.testing.assert_allclose(fitted.parameters, SPEEDS, rtol=1e-6)  # linear, so exact but for the fitter's tolerance
    assert repr(pickle.loads(pickle.dumps(fitted))) == repr(fitted)
    profile = RingsLight(RADII * u.arcsec, LIGHT * u.Jy / u.beam)
    start = RingsLight(RADII * u.arcsec, np.ones(4) * u.Jy / u.beam)
    fitted = fitter()(start, radius * u.arcsec, profile(radius * u.arcsec))
    np.testing.assert_allclose(fitted.parameters, [*LIGHT, 1], rtol=1e-6)
    with pytest.raises(WrongUnit, match=r"km/s|km / s"):
        fitter()(truth, radius * u.kpc, truth(radius * u.kpc).to(u.m / u.s))


def test_units():
    assert Rings(RADII * u.arcsec, SPEEDS * KM_S)(3 / 60 * u.arcmin).to_value(KM_S) == pytest.approx(110)
    metres = Rings(RADII * u.arcsec, 1e3 * SPEEDS * u.m / u.s)
    assert metres(3 * u.arcsec).unit == u.m / u.s
    assert metres(3 * u.arcsec).value == pytest.approx(110e3)
    assert inside_values(metres) == pytest.approx(dict(zip(("v_1", "v_2", "v_3", "v_4"), SPEEDS, strict=True)))
    far = Rings(RADII * u.kpc, SPEEDS * KM_S, distance=10 * u.Mpc)
    assert far.form.radii[0] == pytest.approx(np.rad2deg(1e-4) * 3600)
    with pytest.raises(WrongUnit, match="distance="):
        inside_values(Rings(RADII * u.kpc, SPEEDS * KM_S))


def test_what_cannot_be_is_refused():
    with pytest.raises(FormError, match="ascending"):
        Rings([3, 2, 1])
    with pytest.raises(FormError, match="ring at radius 0"):
        Rings([0, 1, 2])
    with pytest.raises(FormError, match="2 values for 4 rings"):
        Rings(RADII, [1, 2])


def test_smoothness_holds_no_scale_and_no_power_law():
    form, light = Rings(RADII).form, RingsLight(RADII).form
    for power in (1.0, 0.0, -0.5):
        assert form.log_prior(*(77 * RADII**power)) == pytest.approx(0, abs=1e-12)
    bent = SPEEDS * [1, 1, 0.5, 1]
    assert form.log_prior(*bent) < form.log_prior(*SPEEDS) - 5
    assert form.log_prior(*bent) == pytest.approx(form.log_prior(*(3 * bent)))
    # the flux sets the scale of the light: its own is held
    assert light.log_prior(*(100 * LIGHT)) < light.log_prior(*LIGHT) - 5
    batch = form.log_prior(*torch.tensor(np.stack([bent, SPEEDS], 1)[:, :, None]))
    np.testing.assert_allclose(batch[:, 0], [form.log_prior(*bent), form.log_prior(*SPEEDS)], rtol=1e-12)
    assert get_form("arctan", "rotation_curve").log_prior(100.0, 3.0) == 0


def test_smoothness_does_not_depend_on_the_number_of_rings():
    """A curve with one bend, which rings ten times as many resolve ten times as well, is as likely a priori."""

    def cost(n):
        radii = np.geomspace(1, 20, n)
        return Rings(radii).form.log_prior(*np.exp(-0.3 * np.log(radii / 4) ** 2))

    # sums of squares approach an integral; at 20 rings the ends that have no change of slope count for a tenth
    assert cost(20) == pytest.approx(cost(200), rel=0.1)


def test_a_sum_keeps_the_smoothness_of_its_rings():
    form = QuadratureSum(inner="arctan", rest=Rings(RADII)).form
    assert form.log_prior(100, 3, *SPEEDS) == Rings(RADII).form.log_prior(*SPEEDS)


def test_rings_are_one_a_beam_out_to_the_emission(observation):
    disc = moment_disc(observation)
    assert disc.beam == pytest.approx(observation.beam[0], rel=1e-6)  # a round beam
    # thin and inclined by 60 degrees: an ellipse twice as long as wide
    inside = disc.light > 0.1 * disc.light.max()
    x, y = (offset[inside] - np.average(offset, weights=disc.light) for offset in (observation.xi, observation.eta))
    along = x * np.sin(np.deg2rad(30)) + y * np.cos(np.deg2rad(30))
    across = x * np.cos(np.deg2rad(30)) - y * np.sin(np.deg2rad(30))
    wanted = np.hypot(along, across / 0.5)
    ratio = disc.radius[inside][wanted > 6] / wanted[wanted > 6]
    # Noise and the edge of what is detected move the axis ratio by a tenth; turned, it would be a factor of four off.
    assert 0.85 < ratio.min() <= ratio.max() < 1.15
    radii = np.array(ring_radii(observation))
    np.testing.assert_allclose(radii[:2], disc.beam * np.array([0.125, 0.5]), rtol=1e-3)
    np.testing.assert_allclose(np.diff(radii[1:]), disc.beam, rtol=1e-3)
    assert abs(radii[-1] - disc.edge) <= disc.beam
    form = Rings.for_observation(observation)
    assert form.radii == tuple(radii)
    assert form.for_observation(observation) is form
    assert QuadratureSum(a="arctan", b="rings").form.for_observation(observation).components[1][1] is form
    light = RingsLight.for_observation(observation)
    assert light.radii[: len(radii)] == form.radii
    assert light.radii[-1] > 3 * radii[-1]


def test_a_small_beam_has_no_more_rings_than_can_be_fitted(observation):
    small = dataclasses.replace(observation, beam=observation.beam * [0.2, 0.2, 1])
    radii = ring_radii(small)
    assert len(radii) == MOST_RINGS
    assert radii[-1] == pytest.approx(moment_disc(small).edge, rel=0.05)  # half a ring


@pytest.mark.parametrize("light", ["exponential", "rings"])
def test_a_fit_with_rings_finds_the_curve(observation, light):
    """The network's own posterior: the truth within three of its standard deviations wherever there is light."""
    cube = kinematics_nn.simulate(
        rotation_curve=TanhRotationCurve(150 * KM_S, 4 * u.arcsec),
        surface_brightness=ExponentialDisc(6 * u.arcsec),
        inclination=60 * u.deg,
        rms=1e-3 * u.Jy / u.beam,
        seed=1,
    )
    fit = cube.kinematics.fit(rotation_curve="rings", surface_brightness=light, method="network", n_samples=500, seed=1)
    assert fit.forms.rotation_curve is Rings.for_observation(observation)
    assert f"v_{len(fit.forms.rotation_curve.radii)}_p50" in fit.summary.colnames
    radii = np.array([2.0, 6.0, 10.0, 15.0]) * u.arcsec
    speeds = fit.rotation_curve_samples(radii).to_value(KM_S)
    wanted = 150 * np.tanh(radii.value / 4)
    assert np.all(np.abs(np.median(speeds, 0) - wanted) < 3 * speeds.std(0))
    assert np.all(speeds.std(0) < 0.3 * 150)
    assert pickle.loads(pickle.dumps(fit)).forms == fit.forms


@pytest.mark.parametrize("make", [Rings, RingsLight])
def test_the_prior_of_smoothness_has_its_norm(make):
    form = make([2.0, 5.0, 12.0]).form
    values = [p.prior.ppf(np.random.default_rng(k).uniform(size=1_000_000)) for k, p in enumerate(form.parameters)]
    mean = np.mean(np.exp(form.log_prior(*values)))
    # a mean over a million draws, of which one in a hundred or thousand counts, and one over 2e4
    assert np.exp(form.log_prior_norm()) == pytest.approx(mean, rel=0.05)
    whole = QuadratureSum(rings=make([2.0, 5.0, 12.0]), disc="freeman").form if make is Rings else form
    assert whole.log_prior_norm() == form.log_prior_norm()
    assert get_form("arctan", "rotation_curve").log_prior_norm() == 0
