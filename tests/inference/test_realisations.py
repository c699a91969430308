"""Many observations through the network at once: the draws of each alone, and refusals that stay with their own."""

import math

import numpy as np
import pytest
import torch
from observed import FORMS, make_observation

from kinematics_nn.errors import KinematicsError
from kinematics_nn.inference import realisations
from kinematics_nn.inference.realisations import NEAREST, form_samples, network_batch, network_draws, network_samples


@pytest.fixture(scope="module")
def observations():
    """Of three sizes."""
    return [
        make_observation(),
        make_observation((14, 24, 22), inclination=30.0, seed=2),
        make_observation((10, 18, 18), pa=200.0, seed=3),
    ]


def test_each_has_the_draws_that_it_has_alone(observations):
    found = network_batch(observations, 50, seed=[4, 5, 6])
    backwards = network_batch(observations[::-1], 50, seed=[6, 5, 4])[::-1]
    for k, observation in enumerate(observations):
        targets, frame = network_draws(observation, 50, seed=4 + k)
        for other, other_frame in (found[k], backwards[k]):
            # The trunk of a batch and of one row round differently: targets are of order one, float32. Of two draws
            # that are as near as that, each may have the other's quantile.
            torch.testing.assert_close(other.sort(0).values, targets.sort(0).values, rtol=1e-4, atol=1e-4)
            assert float(((other - targets).abs() > 1e-4 * (1 + targets.abs())).float().mean()) < 0.01
            assert float(other_frame.flux) == pytest.approx(float(frame.flux), rel=1e-6)
            assert other_frame.pa.ndim == 0


def test_drawn_together_they_are_of_the_same_posterior(observations, monkeypatch):
    # Where the recalibration narrows a peak to a part of the draws, their quantiles are those of so few.
    monkeypatch.setattr(realisations, "recalibrated", lambda draws, table: draws)
    n = 4000
    together = network_batch(observations, n, seed=1)
    again = network_batch(observations, n, seed=1)
    for k, (targets, _) in enumerate(together):
        torch.testing.assert_close(targets, again[k][0], rtol=0, atol=0)
        alone, _ = network_draws(observations[k], n, seed=9)
        # Shares below a quantile, of any shape. Of two samples they differ by 1.4 binomial errors: five are allowed.
        for share in (0.16, 0.5, 0.84):
            below = (alone < targets.quantile(share, dim=0)).double().mean(0)
            assert (abs(below - share) < 5 * math.sqrt(2 * share * (1 - share) / n)).all()
    assert not torch.equal(together[0][0], together[1][0])


def test_forms_are_fitted_to_what_a_batch_gives(observations):
    (found,) = network_batch(observations[:1], 200 * NEAREST, seed=[7])
    samples = form_samples(observations[0], FORMS, *found)
    alone = network_samples(observations[0], FORMS, 200, seed=7)
    assert samples.keys() == alone.keys()
    np.testing.assert_array_equal(samples["inclination"], alone["inclination"])


def test_a_refusal_takes_the_place_of_its_own_draws(observations, monkeypatch):
    real = realisations.possible

    def some(targets):
        # The second of the batch is like nothing that the network knows.
        some.calls += 1
        return real(targets) & (some.calls != 2)

    some.calls = 0
    monkeypatch.setattr(realisations, "possible", some)
    first, second, third = network_batch(observations, 20, seed=[1, 2, 3])
    assert isinstance(second, KinematicsError)
    assert len(first[0]) == len(third[0]) == 20
    some.calls = 1
    with pytest.raises(KinematicsError, match="0 of 20 realisations"):
        network_draws(observations[1], 20, seed=2)
