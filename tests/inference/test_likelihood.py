"""The likelihood: the normal density of the voxels, to a constant of the noise's own, in batches and with gradients."""

import numpy as np
import pytest
import torch
from observed import DISC, FORMS, changed, dense_covariance, make_observation, vector
from scipy.stats import multivariate_normal

from kinematics_nn.decoder import render
from kinematics_nn.errors import KinematicsError
from kinematics_nn.inference.light import SCATTERS, render_patches
from kinematics_nn.inference.likelihood import CubeLikelihood
from kinematics_nn.inference.space import ParameterSpace, observation_scales
from kinematics_nn.inference.target import Target


@pytest.fixture(scope="module")
def observation():
    """Hanning-smoothed, with blanks and an rms that varies, and no larger than one tile."""
    y, x = np.mgrid[:16, :14]
    rms = np.linspace(0.8, 1.3, 6)[:, None, None] * (1 + 0.002 * ((y - 8) ** 2 + (x - 7) ** 2))
    plain = make_observation((6, 16, 14), spectral="hanning", rms=rms)
    return changed(plain, valid=plain.valid & (np.random.default_rng(4).random(plain.shape[1:]) > 0.1))


@pytest.fixture(scope="module")
def likelihood(observation):
    return CubeLikelihood(observation, FORMS)


def batch(names):
    moved = [{}, {"inclination": 70.0}, {"pa": 80.0, "flux": 5.0}, {"vsys": -40.0, "thickness": 0.0}, {"flux": 1e-9}]
    return torch.cat([vector(names, **disc) for disc in moved])


def test_it_is_the_normal_density_of_the_voxels(observation, likelihood):
    covariance, pixels = dense_covariance(observation, likelihood.whitener, least_white=0.05)
    density = multivariate_normal(np.zeros(len(covariance)), covariance)
    parameters = batch(likelihood.names)
    expected = []
    for one in parameters.tolist():
        model = render(observation, FORMS, dict(zip(likelihood.names, one, strict=True)), full=False)
        rest = (observation.data - model).reshape(len(model), -1)[:, pixels].astype(float)
        expected.append(density.logpdf(rest.ravel()))
    # The density of whitened data is that of the data but for the determinant, the same for every disc.
    constant = 0.5 * np.linalg.slogdet(covariance)[1]
    # float32 models of hundreds of sigma in all: hundredths of a nat.
    np.testing.assert_allclose(likelihood.log_prob(parameters).numpy(), np.array(expected) + constant, atol=0.02)


def test_the_instrument_widens_lines(observation):
    """Dispersion and line-spread function add in quadrature: to 1e-3 of the dispersion on an axis of velocities."""
    through = CubeLikelihood(changed(observation, header=observation.header | {"lsf": 30.0}), FORMS)
    wide = float(np.hypot(DISC["velocity_dispersion"], 30.0))
    one = through.log_prob(vector(through.names))
    other = CubeLikelihood(observation, FORMS).log_prob(vector(through.names, velocity_dispersion=wide))
    assert float(one) == pytest.approx(float(other), abs=0.05)
    assert abs(float(one - CubeLikelihood(observation, FORMS).log_prob(vector(through.names)))) > 5


def test_truth_is_better_than_what_is_not(likelihood):
    log_prob = likelihood.log_prob(batch(likelihood.names))
    assert log_prob.argmax() == 0
    n = len(likelihood.data)
    # Chi-squared of the noise alone, 4 sigma.
    chi2 = -2 * (float(log_prob[0]) + 0.5 * n * np.log(2 * np.pi))
    assert chi2 == pytest.approx(n, abs=4 * np.sqrt(2 * n))


def test_a_batch_is_its_galaxies(likelihood):
    parameters = batch(likelihood.names)
    one_by_one = torch.cat([likelihood.log_prob(one[None]) for one in parameters])
    # A batch may be summed at more points than some of its galaxies ask for, and in another order.
    torch.testing.assert_close(likelihood.log_prob(parameters), one_by_one, rtol=0, atol=0.05)


def test_gradients_are_differences(likelihood):
    at = vector(likelihood.names, inclination=62.0, vmax=150.0).requires_grad_()
    (gradient,) = torch.autograd.grad(likelihood.log_prob(at).sum(), at)
    steps = {"inclination": 0.3, "pa": 0.3, "east": 0.03, "north": 0.03, "vsys": 0.3}
    for k, name in enumerate(likelihood.names):
        step = torch.zeros_like(at)
        step[0, k] = steps.get(name, 0.02 * DISC[name])
        with torch.no_grad():
            ahead, behind = likelihood.log_prob(torch.cat([at + step, at - step]))
        slope = float(ahead - behind) / float(2 * step[0, k])
        # Third derivatives over the steps, and the rounding of float32 models: some hundredths of a nat.
        assert float(gradient[0, k]) == pytest.approx(slope, rel=0.03, abs=0.05 / float(step[0, k])), name


def test_the_whitened_jacobian_is_that_of_the_whitened_model(likelihood):
    at = vector(likelihood.names)
    white, slopes = likelihood.white_jacobian(at)
    with torch.no_grad():
        torch.testing.assert_close(white, likelihood.white(at), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(slopes[0, likelihood.names.index("flux")], white[0] / DISC["flux"], rtol=1e-3, atol=1e-4)
    assert slopes.shape == (1, len(likelihood.names), len(likelihood.data))


def test_noise_that_is_correlated_says_less(observation):
    # A disc off its place by a tenth of a beam: as if white, the same rms would weigh against it several times as much.
    off = {}
    for spatial in ("white", "wide"):
        likelihood = CubeLikelihood(make_observation((8, 18, 16), spatial=spatial, snr=50), FORMS)
        true, moved = likelihood.log_prob(
            torch.cat([vector(likelihood.names), vector(likelihood.names, east=DISC["east"] + 0.3)])
        )
        off[spatial] = float(true - moved)
    assert off["white"] > 2 * off["wide"] > 0


def test_the_flux_is_integrated_out_under_its_prior(likelihood):
    """The integral over the flux by the trapezoidal rule, of a likelihood that is normal in it."""
    at, (mean, spread) = vector(likelihood.names), (5.0, 20.0)
    found = likelihood.log_prob(vector(likelihood.names, flux=123.0), flux_prior=(mean, spread))
    best = DISC["flux"]
    fluxes = torch.linspace(0.8 * best, 1.2 * best, 401, dtype=torch.float64)
    parameters = at.expand(401, -1).clone()
    parameters[:, likelihood.names.index("flux")] = fluxes
    prior = torch.distributions.Normal(mean, spread).log_prob(fluxes)
    log = likelihood.log_prob(parameters) + prior
    expected = torch.logsumexp(log, 0) + torch.log(fluxes[1] - fluxes[0])
    assert float(found) == pytest.approx(float(expected), abs=0.02)


def test_with_patches_it_is_what_a_refined_fit_weighs_by(observation, likelihood):
    patches = render_patches(likelihood, vector(likelihood.names)[0])
    parameters = batch(likelihood.names).double()[:4]
    found = likelihood.log_prob(parameters, flux_prior=(0.0, 50.0), patches=patches)
    forms = {"centre": (0.0, 0.0, 0.0), "spread": (9.0, 9.0, 300.0), "pa": 40.0}
    space = ParameterSpace(FORMS, **forms, scales=observation_scales(observation) | {"r_scale": DISC["r_scale"]})
    target = Target(likelihood, space, patches, torch.as_tensor(SCATTERS), (0.0, 50.0))
    x = space.variates(parameters)
    torch.testing.assert_close(found, target(x) - space.log_prior(x), rtol=0, atol=0.05)
    at = parameters[:1].clone().requires_grad_()
    (slope,) = torch.autograd.grad(likelihood.log_prob(at, (0.0, 50.0), patches).sum(), at)
    assert slope[0, likelihood.names.index("flux")] == 0
    k = likelihood.names.index("vmax")
    moves = torch.zeros_like(parameters[:1])
    moves[0, k] = 2.0
    ends = [likelihood.log_prob(parameters[:1] + sign * moves, (0.0, 50.0), patches) for sign in (1, -1)]
    assert float(slope[0, k]) == pytest.approx(float(ends[0] - ends[1]) / 4, rel=0.05)
    with pytest.raises(KinematicsError, match="a prior of it"):
        likelihood.log_prob(parameters, patches=patches)


def test_what_means_nothing_has_no_probability(likelihood):
    parameters = torch.cat(
        [
            vector(likelihood.names, **disc)
            for disc in ({}, {"inclination": 100.0}, {"r_scale": -1.0}, {"thickness": -0.1})
        ]
    ).requires_grad_()
    log = likelihood.log_prob(parameters)
    assert torch.isfinite(log).tolist() == [True, False, False, False]
    assert likelihood.log_prob(vector(likelihood.names, flux=-1.0).numpy()).tolist() == [-np.inf]
    for wrong in (parameters[0], parameters[:, :5]):
        with pytest.raises(KinematicsError, match=r"\(n, 11\): inclination"):
            likelihood.log_prob(wrong)
    (slopes,) = torch.autograd.grad(log[0], parameters)
    assert torch.isfinite(slopes).all()
    assert (slopes[1:] == 0).all()
    for value in (np.nan, np.inf):
        for options in ({}, {"flux_prior": (0.0, 50.0)}):
            log = likelihood.log_prob(vector(likelihood.names, vsys=value), **options)
            assert log.tolist() == [-np.inf]


def test_no_flux_is_negative(likelihood):
    """Of a disc that is not there, half the flux's posterior is below 0, and is no part of the integral."""
    at, (mean, spread) = vector(likelihood.names, vsys=2000.0), (0.0, 0.3)
    fluxes = torch.linspace(0, 3, 401, dtype=torch.float64)
    parameters = at.expand(401, -1).clone()
    parameters[:, likelihood.names.index("flux")] = fluxes
    log = likelihood.log_prob(parameters) + torch.distributions.Normal(mean, spread).log_prob(fluxes)
    log[0] -= np.log(2)  # the trapezoidal rule
    expected = torch.logsumexp(log, 0) + torch.log(fluxes[1] - fluxes[0])
    assert float(likelihood.log_prob(at, flux_prior=(mean, spread))) == pytest.approx(float(expected), abs=0.02)
