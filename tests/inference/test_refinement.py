"""Refinement: one mode from many starts, and the errors that the curvature of the posterior gives."""

import math

import numpy as np
import pytest
import torch
from observed import DISC, FORMS, make_observation, vector

from kinematics_nn.inference.light import Patches, marginal, render_patches
from kinematics_nn.inference.likelihood import CubeLikelihood
from kinematics_nn.inference.modes import observation_space
from kinematics_nn.inference.priors import user_priors
from kinematics_nn.inference.refinement import laplace, refine
from kinematics_nn.results.tables import parameter_columns

FLUX_PRIOR = (0.0, 100.0)
HELD = {"thickness": 0.3}  # a variate that the data leave open has a posterior that is no normal one


class Setting:
    """A likelihood, a space, and the negative log posterior to descend, by way of what weighs draws."""

    def __init__(self, scatter=None, priors=None, fixed=HELD, **options):
        self.likelihood = CubeLikelihood(make_observation(**options), FORMS)
        units = {name: unit for name, (unit, _) in parameter_columns(FORMS, "Jy km / s", sky=False).items()}
        priors = user_priors(priors or {}, units)
        self.space = observation_space(make_observation(**options), FORMS, DISC["pa"], 3.0, fixed, priors)
        truth = vector(self.likelihood.names)
        self.scatter = scatter or 0.0
        self.patches = render_patches(self.likelihood, truth[0]) if scatter else Patches.none(self.likelihood)
        self.truth = self.space.variates(truth)[0]

    def objective(self, x):
        with torch.no_grad():
            white = self.likelihood.white(self.space.parameters(x))
            scatters = torch.tensor([self.scatter])
            log, *_ = marginal(self.likelihood, self.patches, white, FLUX_PRIOR, scatters)
        return log[:, 0] + self.space.log_prior(x)

    def modes(self, starts):
        return refine(self.likelihood, self.space, self.patches, self.scatter, starts, FLUX_PRIOR)


@pytest.fixture(scope="module", params=[None, 0.2], ids=["smooth", "patches"])
def setting(request):
    return Setting(request.param, snr=25.0)


def starts(setting, n, spread, seed=3):
    noise = torch.randn(n, len(setting.space), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return setting.truth + spread * noise


def test_every_start_comes_to_one_mode(setting):
    found = [setting.modes(start[None])[0] for start in starts(setting, 5, 0.3)]
    best = max(found, key=lambda mode: mode.log_posterior)
    for mode in found:
        # The descent ends where a step gains 0.02: by a quadratic, within a fifth of an error.
        assert mode.log_posterior == pytest.approx(best.log_posterior, abs=0.1)
        away = mode.x - best.x
        assert float(away @ torch.linalg.solve(best.covariance, away)) < 0.3
    assert len(setting.modes(starts(setting, 4, 0.3))) == 1


def test_starts_of_one_mode_are_followed_once(setting, monkeypatch):
    jacobian, asked = setting.likelihood.white_jacobian, []
    monkeypatch.setattr(
        setting.likelihood, "white_jacobian", lambda parameters: asked.append(1) or jacobian(parameters)
    )
    start = starts(setting, 1, 0.3)
    (alone,) = setting.modes(start)
    one, both = len(asked), torch.cat([start, start + 1e-3])
    (mode,) = setting.modes(both)
    assert mode.log_posterior == pytest.approx(alone.log_posterior, abs=0.1)
    # The second is left after the first step of both, whichever of them is better.
    assert len(asked) - one <= one + 2


def test_the_mode_is_higher_than_where_it_came_from_and_than_the_truth(setting):
    for start in starts(setting, 3, 0.5, seed=8):
        (mode,) = setting.modes(start[None])
        here, there, truth = setting.objective(torch.stack([mode.x, start, setting.truth]))
        assert here > there
        assert here > truth - 0.1


def test_the_height_is_that_of_what_weighs_draws(setting):
    mode = setting.modes(setting.truth[None])[0]
    objective = float(setting.objective(mode.x[None]))
    # What is left out of it is the same everywhere: norms of the normal densities, and the position angle's turn.
    constant = -0.5 * (len(setting.space) - 1) * math.log(2 * math.pi) + math.log(10 / 360)
    constant += setting.likelihood._constant
    pull = 0.5 * float(mode.x[setting.space.free.index("pa")]) ** 2 * 12 * (10 / 360) ** 2
    assert mode.log_posterior - pull + constant == pytest.approx(objective, abs=0.02)


def hessian(objective, x, steps):
    d = len(x)
    moves = torch.diag(steps)
    at = [x + a * moves[i] + b * moves[j] for i in range(d) for j in range(i + 1) for a in (1, -1) for b in (1, -1)]
    values = objective(torch.stack(at)).view(-1, 2, 2)
    second = (values[:, 0, 0] - values[:, 0, 1] - values[:, 1, 0] + values[:, 1, 1]) / 4
    found = torch.zeros(d, d, dtype=torch.float64)
    rows, columns = torch.tril_indices(d, d)
    found[rows, columns] = found[columns, rows] = second / steps[rows] / steps[columns]
    return found


def test_the_covariance_is_that_of_the_curvature():
    setting = Setting(0.2, snr=80.0)
    (mode,) = setting.modes(setting.truth[None])
    errors = torch.diagonal(mode.covariance).sqrt()
    by_differences = torch.linalg.inv(-hessian(setting.objective, mode.x, 0.7 * errors))
    # Gauss-Newton leaves out the second derivatives of the model, which at a peak of 80 times the noise are small.
    ratio = torch.diagonal(by_differences).sqrt() / errors
    assert ratio.min() > 0.85
    assert ratio.max() < 1.15


def test_errors_are_those_of_repeated_observations():
    x, mode = [], None
    for seed in range(12):
        setting = Setting(snr=30.0, seed=seed)
        mode = setting.modes(setting.truth[None])[0]
        x.append((mode.x - setting.truth) @ torch.linalg.solve(mode.covariance, mode.x - setting.truth))
    # Chi-squared of as many degrees of freedom as parameters, 12 times: 3 errors of its mean.
    d = len(setting.space)
    assert np.mean(x) == pytest.approx(d, abs=3 * math.sqrt(2 * d / 12))


def test_a_prior_of_the_users_moves_and_narrows_the_mode():
    plain, told = Setting(snr=10.0), Setting(snr=10.0, priors={"inclination": (60.0, 1.0)})
    found = {}
    for name, setting in (("plain", plain), ("told", told)):
        mode = setting.modes(setting.truth[None])[0]
        k, column = setting.space.free.index("inclination"), setting.space.names.index("inclination")
        slope = setting.space.derivatives(mode.x[None])[0, k, column]
        found[name] = (
            float(setting.space.parameters(mode.x[None])[0, column]),
            float(mode.covariance[k, k].sqrt() * slope.abs()),
        )
    (mean, error), weight = found["plain"], found["plain"][1] ** -2
    assert error > 1.5
    # Two normal measurements of one number, near enough for the posterior to be normal between them.
    assert found["told"][0] == pytest.approx((mean * weight + 60) / (weight + 1), abs=0.2 * error)
    assert found["told"][1] == pytest.approx((weight + 1) ** -0.5, rel=0.15)


def test_what_the_data_leave_open_keeps_the_width_of_its_prior():
    setting = Setting(snr=3.0, fixed={"vmax": 1e-3}, priors={"thickness": {"low": 0.0, "high": 2.0}}, vmax=1e-3)
    mode = setting.modes(setting.truth[None])[0]
    errors = dict(zip(setting.space.free, torch.diagonal(mode.covariance).sqrt().tolist(), strict=True))
    assert 0.5 < errors["thickness"] <= 1.01
    assert errors["r_turn"] == pytest.approx(1, abs=0.05)
    assert errors["pa"] < 360 / 10 / math.sqrt(12) * 1.01


def test_light_that_may_scatter_says_less():
    setting = Setting(0.2, snr=25.0)
    mode = setting.modes(setting.truth[None])[0]
    args = setting.likelihood, setting.space, setting.patches
    found = laplace(*args, [0.01, 0.2, 1.0], mode.x, FLUX_PRIOR)
    torch.testing.assert_close(found[1].covariance, mode.covariance, rtol=1e-6, atol=1e-12)
    volume = [float(torch.logdet(one.covariance)) for one in found]
    assert volume[0] < volume[1] < volume[2]
