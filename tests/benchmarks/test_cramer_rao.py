"""The Cramér-Rao bounds that errors are held against: closed forms, and the likelihood's own curvature."""

from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
import torch
from cramer_rao import FORMS, bounds, chosen, fisher, frame_estimates, inverse, robust, step
from kinms_galaxies import PIXEL, draw_truth

import kinematics_nn
from kinematics_nn import models
from kinematics_nn.decoder import Grid, render_on
from kinematics_nn.inference.likelihood import CubeLikelihood
from kinematics_nn.inference.mock import Mock, mock_grid
from kinematics_nn.observation import observe
from kinematics_nn.observation.correlation import beam_covariance, known_correlation

TRUTH = {
    "inclination": 55.0, "pa": 70.0, "east": 0.6, "north": -0.4, "vsys": 3.0, "flux": 10.0, "thickness": 0.5,
    "velocity_dispersion": 12.0, "vmax": 150.0, "r_turn": 1.5, "r_scale": 3.0,
}  # fmt: skip
BEAM, CHANNEL, SHAPE, RMS = (4.0, 4.0, 0.0), 15.0, (26, 32, 32), 0.002


def observation(noise, beam=BEAM):
    """A noise-free disc as an observation, with what `CubeLikelihood` reads of one."""
    grid = mock_grid(Mock(TRUTH, SHAPE, CHANNEL, beam, noise, "white"))
    assert isinstance(grid, Grid)
    data = render_on(grid, FORMS, TRUTH).numpy()
    area = np.pi / (4 * np.log(2)) * beam[0] * beam[1]
    matrix = np.diag([-1.0, 1.0])
    return SimpleNamespace(
        data=data, valid=np.ones(SHAPE, bool), emission=data > 0.1 * data.max(), rms=np.full(SHAPE, RMS, np.float32),
        edges=grid.edges.numpy(), xi=grid.xi.numpy(), eta=grid.eta.numpy(), beam=np.array(beam), shape=SHAPE,
        pixel_matrix=matrix,
        correlation=known_correlation(noise, "white", beam_covariance(np.array(beam), matrix), SHAPE[0]),
        header={"brightness_per_flux": area, "convention": "radio", "integrate_pixels": True},
    )  # fmt: skip


def vector(truth):
    return torch.tensor([truth[name] for name in FORMS.parameter_names], dtype=torch.float64)


def test_the_bound_of_a_flux_alone_is_the_noise_over_the_root_of_the_squares():
    # White noise on a grid of every pixel, as a beam of less than four pixels asks for: sigma is rms over the norm of
    # the disc of unit flux. The likelihood is float32: 1e-5.
    seen = observation("white", (3.0, 3.0, 0.0))
    likelihood = CubeLikelihood(seen, FORMS)
    assert (likelihood.whitener.spacing == 1).all()
    flux = likelihood.names.index("flux")
    bound = fisher(likelihood, vector(TRUTH))[flux, flux] ** -0.5
    # The floor under the power of a correlation leaves white noise 1e-4 of correlation at most.
    assert bound == pytest.approx(RMS / np.linalg.norm(seen.data.astype(float) / TRUTH["flux"]), rel=3e-4)


def test_the_fisher_matrix_is_the_curvature_of_the_likelihood():
    likelihood = CubeLikelihood(observation("wide"), FORMS)
    matrix, at = fisher(likelihood, vector(TRUTH)), vector(TRUTH)
    # A quarter of its conditional error to either side: without noise the log likelihood is a parabola there.
    steps = torch.as_tensor(0.25 / np.sqrt(np.diag(matrix)))
    for j, k in ((0, 0), (1, 1), (4, 4), (7, 7), (10, 10), (0, 8), (8, 9), (5, 10)):
        moves = [a * steps[j] * (torch.arange(11) == j) + b * steps[k] * (torch.arange(11) == k)
                 for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))]  # fmt: skip
        value = likelihood.log_prob(torch.stack([at + move for move in moves]))
        curvature = -float(value @ torch.tensor([1.0, -1.0, -1.0, 1.0]).double() / (4 * steps[j] * steps[k]))
        # The steps are small but finite, and log likelihoods rounded to 1e-6 of chi-squared: a part in fifty of what
        # the two parameters' own curvatures would allow.
        assert curvature == pytest.approx(matrix[j, k], abs=0.02 * np.sqrt(matrix[j, j] * matrix[k, k]))


def test_bounds_scale_with_the_noise_and_speeds_follow_from_the_parameters():
    seen = observation("wide")
    quiet = bounds(CubeLikelihood(seen, FORMS), TRUTH)
    loud = bounds(CubeLikelihood(replace_rms(seen, 3 * RMS), FORMS), TRUTH)
    for name, value in quiet.items():
        assert loud[name] == pytest.approx(3 * value, rel=1e-3)
    # A product of two: within what they allow if perfectly correlated or anticorrelated.
    sine, cosine = np.sin(np.radians(55)), np.cos(np.radians(55))
    v22 = 150 * 2 / np.pi * np.arctan(1.31 * 1.678347 * 3 / 1.5)
    parts = sine * quiet["v22"], v22 * cosine * np.radians(quiet["inclination"])
    assert abs(parts[0] - parts[1]) < quiet["v22_sini"] < sum(parts)


def test_a_step_from_the_truth_finds_where_the_data_are():
    seen = observation("wide")
    bound = bounds(CubeLikelihood(seen, FORMS), TRUTH)
    moved = {"inclination": 0.1, "pa": -0.1, "vsys": 0.1, "east": 0.1}
    off = {name: size * bound[name] for name, size in moved.items()}
    found = step(CubeLikelihood(seen, FORMS), TRUTH | {name: TRUTH[name] - by for name, by in off.items()})
    # The data lie a tenth of the bounds from what is called the truth: so near, the model is linear to a part in ten
    # of that; x runs west.
    for name, by in off.items():
        assert found[name] == pytest.approx(by, abs=0.02 * bound[name])
    assert found["x"] == pytest.approx(-found["east"])
    assert found["vmax"] == pytest.approx(0, abs=0.02 * bound["vmax"])


def replace_rms(seen, rms):
    return SimpleNamespace(**(vars(seen) | {"rms": np.full(SHAPE, rms, np.float32)}))


def test_the_frame_says_where_a_bright_disc_lies():
    """A disc whose peak is 60 times the noise, so that formal errors are far below these."""
    cube = kinematics_nn.simulate(
        shape=(26, 48, 48), pixel_scale=PIXEL * u.arcsec, channel_width=15 * u.km / u.s, beam=4 * u.arcsec,
        rms=0.0003, seed=3, inclination=55 * u.deg, pa=70 * u.deg, vsys=3 * u.km / u.s, flux=10 * u.Jy * u.km / u.s,
        surface_brightness=models.ExponentialDisc(r_scale=4 * u.arcsec),
        rotation_curve=models.ArctanRotationCurve(vmax=150 * u.km / u.s, r_turn=1.5 * u.arcsec),
    )  # fmt: skip
    observed = observe(cube)
    ra, dec = observed.header["reference"]  # offsets count from there; the disc is where the equator crosses 180 deg
    truth = {"east": 3600 * (180 - ra), "north": -3600 * dec, "x": 23.5, "y": 23.5}
    truth |= {"pa": 70.0, "vsys": 3.0, "inclination": 55.0}
    # A tenth of a pixel and of a channel, a degree; an inclination of a disc seen by pixels as wide as a third of it.
    off = {"x": 0.1, "y": 0.1, "pa": 1.0, "vsys": 1.5, "inclination": 4.0}
    for kind in ("mirror", "disc"):
        found = frame_estimates(observed, kind, truth)
        assert set(found) == set(off) - ({"inclination"} if kind == "mirror" else set())
        for name, (value, error) in found.items():
            assert abs(value - truth[name]) < off[name], (kind, name)
            assert 0 < error < off[name], (kind, name)


def test_inverses_bear_units_of_all_sizes():
    correlation = np.array([[1.0, 0.9], [0.9, 1.0]])
    scale = np.array([1e-8, 1e6])
    found = inverse(correlation / np.outer(scale, scale))
    assert np.allclose(found / np.outer(scale, scale), np.linalg.inv(correlation), rtol=1e-9)


def test_a_normal_distribution_scatters_by_its_own_width():
    value, error = robust(2 * np.random.default_rng(0).standard_normal(4000))
    assert abs(value - 2) < 4 * error
    assert error == pytest.approx(1.17 * 2 / np.sqrt(4000), rel=0.1)


def test_galaxies_are_chosen_by_their_truths_and_stay_the_same():
    numbers = chosen(5, seed=1)
    assert numbers == chosen(8, seed=1)[:5]
    for number in numbers:
        truth = draw_truth(np.random.default_rng([1, number]))
        assert truth["snr"] >= 8
        assert 30 <= truth["inclination"] <= 75
