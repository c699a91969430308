"""The radius of half of all light: the profile's where there are no patches, and the galaxy's where they matter."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from observed import CHANNEL, DISC, FORMS, changed, make_observation, network_like, vector

from kinematics_nn.decoder import Grid, render_on
from kinematics_nn.decoder.geometry import sky_to_axes
from kinematics_nn.forms import get_form
from kinematics_nn.inference.half_light import growth, half_light
from kinematics_nn.inference.light import HALF_LIGHT, _within
from kinematics_nn.inference.likelihood import CubeLikelihood
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
    assert 0 < float(half_light(form, [column(3.0, 1)], RADII, column(1.0, 1), more)) <= 1.01 * float(RADII[0])


def test_a_profile_that_is_no_part_of_it_does_not_count():
    """Of a profile that has collapsed, far within the radii, with patches in its place: the radius is theirs."""
    form = get_form("exponential", "surface_brightness")
    own, radii = column(0.5, 1), 5.0 * torch.as_tensor(HALF_LIGHT)
    patches = growth(form, [column(3.0, 1)], radii)
    more = 9.5 * torch.cat([column(1, 1)[:, None], patches], 1)
    found = float(half_light(form, [column(0.3, 1)], radii, own, more))
    # A twentieth of the light is at the centre: half of all is where patches have 0.474 of theirs.
    assert found == pytest.approx(0.95 * 1.678 * 3.0, rel=0.02)
    # Patches that take away more than there is
    assert float(half_light(form, [column(3.0, 1)], radii, own, -more)) == pytest.approx(1.678 * 3.0, rel=1e-3)


@pytest.mark.parametrize(("inclination", "pa"), [(20.0, 40.0), (60.0, 100.0), (85.0, 200.0)])
def test_ellipses_on_the_sky_hold_what_radii_in_the_plane_do(inclination, pa):
    likelihood = CubeLikelihood(make_observation((12, 40, 40)), FORMS)
    parameters = vector(likelihood.names, inclination=inclination, pa=pa)[0]
    decoder = likelihood.decoder
    with torch.no_grad():
        image = CHANNEL * decoder.sky(parameters[None].float())[0].sum(0) / decoder.grid.brightness_per_flux
    radii, share, within = _within(decoder, parameters, image)
    assert share[0] == 1
    assert radii[0] == pytest.approx(0.25 * 1.678 * DISC["r_scale"], rel=1e-3)
    found = (image * within).sum((1, 2)) / DISC["flux"]
    # But for what lies beyond the field, the thousandth that a decoder leaves out, and float32
    torch.testing.assert_close(
        found.double(), share[1:].clamp(max=float(image.sum()) / DISC["flux"]), rtol=0, atol=2e-3
    )
    # Along the major axis, and little across it where a disc is on edge
    inside = within[5].numpy().astype(bool)
    field = decoder.field
    u, w = (of.numpy() for of in sky_to_axes(field.xi, field.eta, torch.deg2rad(torch.tensor(pa))))
    u, w = (of.reshape(within.shape[1:])[inside] for of in (u, w))
    assert np.ptp(w) < np.ptp(u) * (np.cos(np.radians(inclination)) + 0.35)


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
        samples, weighted, report, _ = refined_posterior(
            observation, FORMS, network_like(r_scale=4.5, seed=seed), n_samples=2000, min_ess=150, seed=1
        )
        assert report["light_scatter"] > 0.1
        # A galaxy of more light is a larger one, in samples as in the draws behind them.
        both = np.cov(weighted["flux"], weighted["r50"], aweights=weighted["weight"])
        assert np.corrcoef(samples["flux"], samples["r50"])[0, 1] == pytest.approx(
            both[0, 1] / np.sqrt(both[0, 0] * both[1, 1]), abs=0.1
        )
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
