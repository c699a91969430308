"""The radius of half of all light: the profile's where there are no patches, and the galaxy's where they matter."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from observed import DISC, FORMS, changed, make_observation, network_like

from kinematics_nn.decoder import Grid, render_on
from kinematics_nn.forms import get_form
from kinematics_nn.inference.half_light import half_light
from kinematics_nn.inference.light import HALF_LIGHT
from kinematics_nn.inference.refined import refined_posterior

RADII = 5.0 * torch.as_tensor(HALF_LIGHT)


def column(value, n=3):
    return torch.full((n,), float(value), dtype=torch.float64)


@pytest.mark.parametrize("name", ["exponential", "sersic", "gaussian", "ring", "exponential_hole"])
def test_without_patches_it_is_the_profiles(name):
    form = get_form(name, "surface_brightness")
    parameters = [column(value) for value in form.defaults().values()]
    expected = form.half_light_radius(*parameters)
    for radii in (RADII[:0], float(expected[0]) * torch.as_tensor(HALF_LIGHT)):
        more = torch.zeros(3, 1 + len(radii), dtype=torch.float64)
        torch.testing.assert_close(half_light(form, parameters, radii, column(7), more), expected)


def test_it_is_where_half_of_both_is():
    """Half as much again of the exponential's light, far inside or far outside, by its own growth of light."""
    form = get_form("exponential", "surface_brightness")
    own = column(2.0, 1)
    inside = torch.cat([column(1, 1), column(1, len(RADII))])[None]
    outside = torch.cat([column(1, 1), column(0, len(RADII))])[None]

    def growth(x):
        return 1 - (1 + x) * np.exp(-x)

    for more, share in ((inside, 0.25), (outside, 0.75)):
        x = np.linspace(0.01, 12, 100_000)
        expected = 3.0 * x[np.searchsorted(growth(x), share)]
        found = float(half_light(form, [column(3.0, 1)], RADII, own, more))
        # Straight lines between radii that are 1.29 apart
        assert found == pytest.approx(expected, rel=0.01)


def test_beyond_the_radii_it_is_at_their_end():
    form = get_form("exponential", "surface_brightness")
    more = torch.cat([column(100, 1), column(0, len(RADII))])[None]
    found = float(half_light(form, [column(3.0, 1)], RADII, column(1.0, 1), more))
    assert found == pytest.approx(float(RADII[-1]), rel=0.01)
    more = torch.cat([column(100, 1), column(100, len(RADII))])[None]
    assert 0 < float(half_light(form, [column(3.0, 1)], RADII, column(1.0, 1), more)) < 1.7 * float(RADII[0])


def holed(snr, seed):
    """A disc with a hole in the noise of one without, of the same flux; its half-light radius."""
    hole = get_form("exponential_hole", "surface_brightness")
    plain = make_observation((12, 32, 32), snr=snr, seed=seed)
    forms, grid = replace(FORMS, surface_brightness=hole), Grid.from_observation(plain)
    own = dict(zip(hole.names(), hole.defaults().values(), strict=True)) | {"r_scale": 3.0, "r_hole": 3.5}
    values = {name: value for name, value in DISC.items() if name != "r_scale"} | own
    clean = render_on(grid, forms, values).numpy() - render_on(grid, FORMS, DISC).numpy()
    r50 = float(hole.half_light_radius(*(torch.tensor(own[name]).double() for name in hole.names())))
    return changed(plain, data=plain.data + clean), r50


def test_the_size_of_a_disc_with_a_hole_is_its_own():
    """Fitted by an exponential, whose own half-light radius is smaller by many errors."""
    off, of_form, error = [], [], []
    for seed in range(3):
        observation, r50 = holed(25.0, seed)
        samples, _, report, _ = refined_posterior(
            observation, FORMS, network_like(r_scale=4.5, seed=seed), n_samples=2000, min_ess=150, seed=1
        )
        assert report["light_scatter"] > 0.1
        off.append(np.mean(samples["r50"]) / r50 - 1)
        of_form.append(np.mean(samples["r_scale"]) * 1.678 / r50 - 1)
        error.append(np.std(samples["r50"]) / r50)
    assert np.mean(error) < 0.1
    # Errors of three noises; a form whose light is nowhere alike, a beam of half the hole.
    assert np.sqrt(np.mean(np.square(off))) < 2 * np.mean(error)
    assert np.mean(of_form) < -0.05


def test_the_size_of_a_smooth_disc_is_its_profiles():
    samples, *_ = refined_posterior(
        make_observation((12, 28, 28), snr=25.0), FORMS, network_like(), n_samples=2000, min_ess=150, seed=1
    )
    r50 = 1.678 * DISC["r_scale"]
    assert abs(np.mean(samples["r50"]) - r50) < 3 * np.std(samples["r50"])
    # With the light free to be patchy a galaxy's size is known as well as its profile's, or better.
    assert np.std(samples["r50"]) < 1.5 * np.std(1.678 * samples["r_scale"])
