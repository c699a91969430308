"""What the refined posterior is held against other samplers by: moments, their differences, and what was rendered."""

import numpy as np
import torch
from astropy.table import Table
from reference_sampler import compare, counted, moments

from kinematics_nn.inference.likelihood import CubeLikelihood


def test_moments_are_those_of_the_draws_that_weights_stand_for():
    draws = np.random.default_rng(1).standard_normal((5, 3))
    mean, std = moments(draws, np.array([0.4, 0.2, 0.2, 0.2, 0.0]))
    repeated = draws[[0, 0, 1, 2, 3]]
    assert np.allclose(mean, repeated.mean(0))
    assert np.allclose(std, repeated.std(0))


def test_means_count_in_widths_of_the_reference():
    found = compare(Table({"mean": [1.5], "std": [3.0]}), Table({"mean": [1.0], "std": [2.0]}))
    assert [float(value[0]) for value in found] == [0.25, 1.5]


def test_everything_that_is_rendered_counts_and_nothing_is_left_behind(monkeypatch):
    monkeypatch.setattr(CubeLikelihood, "white", lambda self, parameters: 2 * parameters)
    monkeypatch.setattr(CubeLikelihood, "white_jacobian", lambda self, parameters: (parameters, parameters))
    own = CubeLikelihood.white, CubeLikelihood.white_jacobian
    likelihood = CubeLikelihood.__new__(CubeLikelihood)
    with counted() as count:
        assert (likelihood.white(torch.ones(5, 2)) == 2).all()
        likelihood.white_jacobian(torch.ones(1, 2))
        likelihood.white(torch.ones(1, 2))
    assert count == {"models": 6, "jacobians": 1}
    assert (CubeLikelihood.white, CubeLikelihood.white_jacobian) == own
