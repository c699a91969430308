"""Errors of a model that is not the galaxy: measured where it is bright, and widened as far as the prior lets them."""

import numpy as np
import pytest
import torch
from observed import FORMS, changed, make_observation, vector

from kinematics_nn.inference.light import SCATTERS, Patches, render_patches
from kinematics_nn.inference.likelihood import CubeLikelihood
from kinematics_nn.inference.misfit import misfit, widened
from kinematics_nn.inference.modes import observation_space
from kinematics_nn.inference.target import Target


def target_of(observation, patchy=True):
    likelihood = CubeLikelihood(observation, FORMS)
    truth = vector(likelihood.names)[0]
    patches = render_patches(likelihood, truth) if patchy else Patches.none(likelihood)
    space = observation_space(observation, FORMS, 30.0, 3.0)
    target = Target(likelihood, space, patches, torch.as_tensor(SCATTERS), (0.0, 100.0))
    return target, dict(zip(likelihood.names, truth.tolist(), strict=True))


def test_a_model_that_is_the_galaxy_has_none():
    assert misfit(*target_of(make_observation((12, 24, 24), snr=20.0))) == 1.0


def test_it_is_the_rms_of_what_is_left():
    """Noise four times as large as is said: what is left is four times as large, less what patches take up."""
    observation = make_observation((12, 24, 24), snr=20.0)
    quiet = changed(observation, rms=observation.rms / 4)
    # Sums over some hundred numbers
    assert misfit(*target_of(quiet, patchy=False)) == pytest.approx(4, rel=0.15)
    assert 2.5 < misfit(*target_of(quiet)) < 4.4


def test_noise_that_is_twice_its_power_is_left_to_the_likelihood():
    observation = make_observation((12, 24, 24), snr=20.0)
    assert misfit(*target_of(changed(observation, rms=observation.rms / 1.2))) == 1.0


def test_draws_are_widened_about_their_mean_and_keep_to_the_prior():
    observation = make_observation((6, 12, 12))
    space = observation_space(observation, FORMS, 30.0, 3.0)
    d, rng = len(space.free), np.random.default_rng(1)
    k = space.free.index("pa")
    deviation = np.full(d, 0.05)
    deviation[3] = 0.9  # as good as its prior
    x = torch.as_tensor(rng.standard_normal((20_000, d)) * deviation + 0.3)
    wide = widened(space, x, torch.full((20_000,), 1 / 20_000, dtype=torch.float64), 6.0)
    torch.testing.assert_close(wide.mean(0), x.mean(0))
    known = [j for j in range(d) if j not in (3, k)]
    # 1 / (1 + (1 / 0.05^2 - 1) / 36) = 0.083 of the prior's variance; the angle, without a normal prior, 6 times.
    torch.testing.assert_close(wide.std(0)[known], torch.full((len(known),), 0.0828**0.5).double(), rtol=0.03, atol=0)
    assert float(wide.std(0)[k]) == pytest.approx(6 * 0.05, rel=0.03)
    assert 0.9 < float(wide.std(0)[3]) < 1.02


def test_what_goes_together_goes_together_still():
    space = observation_space(make_observation((6, 12, 12)), FORMS, 30.0, 3.0)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((5000, len(space.free))) * 0.02
    x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
    wide = widened(space, torch.as_tensor(x), torch.full((5000,), 1 / 5000, dtype=torch.float64), 3.0).numpy()
    assert np.corrcoef(wide[:, 0], wide[:, 1])[0, 1] == pytest.approx(np.corrcoef(x[:, 0], x[:, 1])[0, 1], abs=0.01)


def test_one_draw_of_all_the_weight_is_no_accident():
    space = observation_space(make_observation((6, 12, 12)), FORMS, 30.0, 3.0)
    x = torch.zeros(300, len(space.free), dtype=torch.float64)
    wide = widened(space, x, torch.full((300,), 1 / 300, dtype=torch.float64), 5.0)
    assert torch.isfinite(wide).all()
