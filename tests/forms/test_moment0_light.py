"""The light that is observed: the profile of the moment 0, its integrals, and a fit with it."""

import copy
import pickle

import numpy as np
import pytest
import torch
from astropy import units as u

import kinematics_nn
from kinematics_nn.forms import Moment0, get_form
from kinematics_nn.forms.moment0 import moment0_form, moment0_profile
from kinematics_nn.models import ExponentialDisc, GaussianDisc, RingDisc, TanhRotationCurve
from kinematics_nn.observation import observe
from kinematics_nn.testing import check_form

KM_S = u.km / u.s
RADII, LIGHT = (1.0, 2.0, 4.0, 7.0), (0.2, 1.0, 0.7, 0.1)


def simulated(light, inclination=50 * u.deg, beam=3 * u.arcsec):
    return kinematics_nn.simulate(
        rotation_curve=TanhRotationCurve(150 * KM_S, 4 * u.arcsec),
        surface_brightness=light,
        inclination=inclination,
        rms=5e-4 * u.Jy / u.beam,
        beam=beam,
        seed=1,
    )


@pytest.mark.parametrize("form", [Moment0, moment0_form(RADII, LIGHT)], ids=["before", "made"])
def test_it_keeps_the_contract_of_forms(form):
    check_form(form)
    assert pickle.loads(pickle.dumps(form)) is copy.deepcopy(form) is form


def test_total_and_half_light_radius():
    form = moment0_form(RADII, LIGHT)
    edges = np.linspace(0, 10 / 3, 400_001) * 3.0
    radius = 0.5 * (edges[1:] + edges[:-1])
    grown = np.cumsum(2 * np.pi * radius * form.evaluate(radius, 3.0)) * np.diff(edges)
    # the light ends at 10 arcsec of a profile whose half-light radius is about 3
    r50 = edges[1:][np.searchsorted(grown, 0.5 * form.total(3.0))]
    assert form.half_light_radius(3.0) == 3.0
    assert r50 == pytest.approx(3.0, abs=1e-4)  # the step
    assert moment0_form(RADII, LIGHT) is form
    assert form.evaluate(1e3, 3.0) == pytest.approx(0, abs=1e-15)  # a cubic that ends there


def test_it_goes_through_the_profile_and_scales_with_its_radius():
    form = moment0_form(RADII, LIGHT)
    own = RADII[1] / form.shape.nodes[2]  # the profile's own half-light radius
    np.testing.assert_allclose(form.evaluate(np.array(RADII), own), LIGHT, rtol=1e-12)
    np.testing.assert_allclose(form.evaluate(2 * np.array(RADII), 2 * own), LIGHT, rtol=1e-12)
    slope = torch.tensor(own, dtype=torch.float64, requires_grad=True)
    radius = torch.linspace(0.1, 12, 50, dtype=torch.float64)
    by_torch = torch.autograd.functional.jacobian(lambda r: form.evaluate(radius, r), slope)
    np.testing.assert_allclose(form.derivatives(radius.numpy(), own)[0], by_torch, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("light", "peak"), [(GaussianDisc(8 * u.arcsec), 0.0), (RingDisc(12 * u.arcsec, 2 * u.arcsec), 12.0)], ids=str
)
def test_the_profile_is_that_of_the_light(light, peak):
    radii, found = (np.array(part) for part in moment0_profile(observe(simulated(light))))
    assert radii[np.argmax(found)] == pytest.approx(peak, abs=2.0)  # half a beam, and the deprojection
    if peak == 0:
        wanted = np.exp(-0.5 * radii**2 / (8**2 + 1.27**2))  # the beam's width adds in squares
        seen = wanted > 0.1
        # The axis ratio of what is detected and the noise cost some per cent of the peak.
        np.testing.assert_allclose(found[seen], wanted[seen] / wanted[0], atol=0.06)
    else:
        assert found[0] < 0.3


@pytest.mark.parametrize("inclination", [80, 84, 85])
def test_annuli_without_a_pixel_are_no_holes(inclination):
    """Half a beam of 2 pixels: on the minor axis of such a disc, an annulus is a tenth of a pixel wide."""
    disc = ExponentialDisc(6 * u.arcsec)
    _, found = map(np.array, moment0_profile(observe(simulated(disc, inclination * u.deg, 2 * u.arcsec))))
    assert found[0] > 0.9  # the centre of an exponential disc, which the beam has made flat
    inner = found[:20]  # out to 10 arcsec, where noise does not matter
    # the light falls outwards: an annulus of few pixels may be fainter than its fainter neighbour, by less than a fifth
    assert (inner[1:-1] > 0.8 * np.minimum(inner[:-2], inner[2:])).all(), inner


def test_a_fit_takes_the_light_from_the_cube():
    cube = simulated(RingDisc(12 * u.arcsec, 2 * u.arcsec))
    fit = cube.kinematics.fit(surface_brightness="moment0", method="network", n_samples=500, seed=1)
    form = fit.forms.surface_brightness
    assert form is get_form("moment0", "surface_brightness").for_observation(observe(cube))
    assert form.for_observation(None) is form
    assert form.shape(0.0) < 0.3
    assert fit.summary["r_eff"][0].to_value(u.arcsec) == pytest.approx(12.5, abs=2.0)
    assert pickle.loads(pickle.dumps(fit)).forms.surface_brightness is form
