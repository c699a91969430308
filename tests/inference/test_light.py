"""Patches of light: their marginal likelihood against dense matrices, what they are, and that they find clumps."""

import numpy as np
import pytest
import torch
from observed import FORMS, changed, make_observation, vector
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from kinematics_nn.decoder import DiscDecoder, Grid
from kinematics_nn.inference.light import SCATTERS, Patches, least_flux, marginal, render_patches, with_patches
from kinematics_nn.inference.likelihood import CubeLikelihood

FLUX_PRIOR = (3.0, 40.0)


@pytest.fixture(scope="module")
def likelihood():
    return CubeLikelihood(make_observation((5, 12, 12)), FORMS)


@pytest.fixture(scope="module")
def patches(likelihood):
    return render_patches(likelihood, vector(likelihood.names)[0])


def unit_discs(likelihood):
    moved = [{}, {"inclination": 65.0, "east": 0.8}, {"vsys": 60.0, "pa": 100.0}]
    with torch.no_grad():
        return likelihood.white(torch.cat([vector(likelihood.names, **disc | {"flux": 1.0}) for disc in moved]))


def test_the_marginal_is_the_integral_over_flux_and_amplitudes(likelihood, patches):
    discs, data = unit_discs(likelihood), likelihood.data.double().numpy()
    basis = patches.basis.double().numpy()
    scatters = torch.tensor([0.01, 0.3, 1.2])
    found, of_flux = marginal(likelihood, patches, discs, FLUX_PRIOR, scatters)
    flux, error = of_flux[..., 0], of_flux[..., 1]
    mean, spread = FLUX_PRIOR
    for i, disc in enumerate(discs.double().numpy()):
        for j, (f, least) in enumerate(zip(scatters.tolist(), least_flux(patches, scatters).tolist(), strict=True)):
            noise = np.eye(len(data)) + f**2 * basis @ basis.T
            # With the flux integrated over all of its normal prior, the data are normal, and so is the flux given them.
            whole = multivariate_normal(mean * disc, noise + spread**2 * np.outer(disc, disc)).logpdf(data)
            solved = np.linalg.solve(noise, np.stack([disc, data], 1))
            variance = 1 / (disc @ solved[:, 0] + spread**-2)
            centre = variance * (disc @ solved[:, 1] + mean / spread**2)
            assert float(flux[i, j]) == pytest.approx(centre, rel=1e-5)
            assert float(error[i, j]) == pytest.approx(variance**0.5, rel=1e-5)
            expected = whole + norm.logsf((least - centre) / variance**0.5)
            # float32 sums of a thousand products.
            assert float(found[i, j]) == pytest.approx(expected, abs=2e-3)


def test_the_flux_with_patches_follows_from_their_amplitudes(likelihood, patches):
    disc, data = unit_discs(likelihood)[1].double(), likelihood.data.double()
    basis, f, flux = patches.basis.double(), 0.4, 5.0
    _, of_flux = marginal(likelihood, patches, disc[None].float(), FLUX_PRIOR, torch.tensor([f]))
    taken = of_flux[..., 2:]
    added, root = with_patches(patches, torch.tensor([f]))
    covariance = torch.linalg.inv(basis.T @ basis + torch.eye(basis.shape[1]) / f**2)
    amplitudes = covariance @ basis.T @ (data - flux * disc)
    # float32 products of some hundred values
    expected = patches.light.T @ amplitudes
    size = float(expected.abs().max())
    torch.testing.assert_close((added - taken[0] * flux)[0], expected, rtol=1e-3, atol=1e-3 * size)
    expected = patches.light.T @ covariance @ patches.light
    torch.testing.assert_close((root @ root.mT)[0], expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


def test_what_patches_add_is_in_any_unit(patches):
    """Fluxes of a cube in erg / (s cm2) are 1e-17 of those in Jy km / s."""
    scatters = torch.as_tensor(SCATTERS)
    tiny = Patches(**{**vars(patches), "light": 1e-17 * patches.light})
    for found, expected in zip(with_patches(tiny, scatters), with_patches(patches, scatters), strict=True):
        torch.testing.assert_close(1e17 * found, expected)
    assert not any(of.any() for of in with_patches(Patches(**{**vars(patches), "light": 0 * patches.light}), scatters))


def test_the_flux_is_positive_by_quadrature(likelihood):
    (disc, *_), data = unit_discs(likelihood), likelihood.data
    wrong = -0.02 * disc  # a disc that the data have none of
    found, *_ = marginal(likelihood, Patches.none(likelihood), wrong[None], FLUX_PRIOR, torch.zeros(1))
    mean, spread = FLUX_PRIOR
    square, along = float(wrong @ wrong), float(wrong @ data)
    best = along / square

    def density(flux):
        return np.exp(-0.5 * square * flux**2 + along * flux) * norm.pdf(flux, mean, spread)

    expected = np.log(quad(density, 0, 300, limit=500, points=[1, 10, 100])[0])
    none = likelihood._constant - 0.5 * float(data.double() @ data.double())
    assert best < 0
    assert float(found) - none == pytest.approx(expected, abs=1e-3)


def test_no_scatter_is_no_patches(likelihood, patches):
    discs = unit_discs(likelihood)
    tiny = marginal(likelihood, patches, discs, FLUX_PRIOR, torch.tensor([1e-6]))
    without = marginal(likelihood, Patches.none(likelihood), discs, FLUX_PRIOR, torch.zeros(1))
    assert without[1].shape == (3, 1, 3)
    assert tiny[1][..., 2:].abs().max() < 1e-6
    for found, expected in ((tiny[0], without[0]), (tiny[1][..., :2], without[1][..., :2])):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-4)


def test_directions_are_independent(likelihood, patches):
    basis = patches.basis.double()
    gram = basis.T @ basis
    # float32 columns.
    torch.testing.assert_close(torch.diagonal(gram), patches.power, rtol=1e-3, atol=1e-5 * float(patches.power.max()))
    off = gram - torch.diag(torch.diagonal(gram))
    assert off.abs().max() < 1e-4 * patches.power.max()
    torch.testing.assert_close(patches.data, basis.T @ likelihood.data.double(), rtol=1e-4, atol=1e-3)


def test_patches_are_none_of_the_disc(likelihood, patches):
    with torch.no_grad():
        disc = likelihood.white(vector(likelihood.names))[0]
    share = (disc @ patches.basis) / disc.norm() / patches.power.sqrt()
    assert share.abs().max() < 1e-2


def test_scatter_is_the_rms_of_the_light_within_a_beam():
    # Where the disc is flat and covered, the variance of a sum of patches of independent amplitudes, by its definition.
    sigma, spacing = 1 / 2.3548, 0.75
    k = np.arange(-6, 7) * spacing
    x, y = np.meshgrid(k, k)
    variance = [
        np.exp(-((x - a) ** 2 + (y - b) ** 2) / sigma**2).sum()
        for a in np.linspace(0, 1, 7)
        for b in np.linspace(0, 1, 7)
    ]
    assert np.mean(np.sqrt(variance)) == pytest.approx(1, abs=0.05)


def clumpy(scatter, snr=40.0, seed=2):
    """A disc whose light, smooth over a beam, scatters by so much about its profile."""
    observation = make_observation((12, 28, 28), snr=1e6, r_scale=4.0)
    rng = np.random.default_rng(seed)
    decoder = DiscDecoder(Grid.from_observation(observation), FORMS)
    rows = decoder.sky(vector(decoder.names).float()).shape[2:]
    field = observation.correlation.draw((1, *rows), rng)  # white noise seen through the beam, of rms 1
    light = torch.as_tensor(1 + scatter * field)
    with torch.no_grad():
        sky = decoder.sky(vector(decoder.names, r_scale=4.0).float(), light)
        clean = decoder.beam(sky)[0].numpy()
    rms = np.full(clean.shape, clean.max() / snr, np.float32)
    return changed(observation, data=clean + rms * observation.correlation.draw(clean.shape, rng), rms=rms)


@pytest.mark.parametrize("scatter", [0.0, 0.2, 0.5])
def test_the_scatter_of_the_light_is_found(scatter):
    likelihood = CubeLikelihood(clumpy(scatter), FORMS)
    truth = vector(likelihood.names, r_scale=4.0)
    patches = render_patches(likelihood, truth[0])
    white = likelihood.white(vector(likelihood.names, r_scale=4.0, flux=1.0))
    scatters = torch.as_tensor(SCATTERS)
    log, *_ = marginal(likelihood, patches, white.detach(), (0.0, 100.0), scatters)
    posterior = torch.softmax(log[0], 0)
    mean = float(posterior @ scatters.log())
    if scatter == 0:
        assert np.exp(mean) < 0.06
    else:
        # Some thirty patches are bright, and clumps beyond the beam's width are none of them: a quarter.
        assert np.exp(mean) == pytest.approx(scatter, rel=0.35)
        # The chi-squared of the smooth disc is within 15 % of 1 all the same.
        assert float(log.max() - log[0, 0]) > 20


@pytest.mark.parametrize("r_scale", [4.0, 8.0])
def test_the_flux_is_that_of_all_light(r_scale):
    """A disc with a hole, brighter beyond it: no profile has its flux, nor one that goes far beyond the field."""
    observation = make_observation((12, 28, 28), snr=1e6, r_scale=4.0)
    decoder = DiscDecoder(Grid.from_observation(observation), FORMS)
    truth = vector(decoder.names, r_scale=4.0).float()
    with torch.no_grad():
        sky = decoder.sky(truth)
        y, x = torch.meshgrid(*(torch.arange(n) - n / 2 for n in sky.shape[2:]), indexing="ij")
        light = torch.where(torch.hypot(x, y) < 4, 0.3, 2.0)
        clean = decoder.beam(sky * light)[0].numpy()
        flux = float((sky * light).sum() * 30 / observation.header["brightness_per_flux"])
    rms = np.full(clean.shape, clean.max() / 30, np.float32)
    noise = rms * observation.correlation.draw(clean.shape, np.random.default_rng(5))
    likelihood = CubeLikelihood(changed(observation, data=clean + noise, rms=rms), FORMS)
    patches = render_patches(likelihood, vector(likelihood.names, r_scale=r_scale)[0])
    scatters = torch.as_tensor(SCATTERS)
    with torch.no_grad():
        white = likelihood.white(vector(likelihood.names, r_scale=r_scale, flux=1.0))
    log, of_flux = (found[0] for found in marginal(likelihood, patches, white, (0.0, 100.0), scatters))
    own, error, *taken = of_flux[log.argmax()]
    added, root = with_patches(patches, scatters[log.argmax(), None])
    share, added, rest = 1 - taken[0], added[0, 0], root[0, 0, 0]
    whole = float(torch.hypot(rest, share * error))
    with torch.no_grad():
        inside = decoder.sky(vector(decoder.names, r_scale=r_scale, flux=1.0).float()).sum()
        inside = float(inside * 30 / observation.header["brightness_per_flux"])
    # What the profile has beyond the field, and nobody saw, is its own.
    expected = flux + float(own) * (1 - inside)
    assert abs(float(share * own + added) - expected) < 3 * whole
    assert abs(float(own) - expected) > 5 * whole
