"""Importance sampling of targets whose moments and evidence are known."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from kinematics_nn.errors import KinematicsError
from kinematics_nn.inference.importance import Component, Mixture, WeightedDraws, adapted, flattened, pareto_k, sample


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def covariance(d, seed=0):
    a = np.random.default_rng(seed).normal(size=(d, d))
    return torch.as_tensor(a @ a.T / d + 0.1 * np.eye(d))


def normal(mean, cov):
    mean = torch.as_tensor(mean, dtype=torch.float64)
    return torch.distributions.MultivariateNormal(mean, cov).log_prob


@pytest.mark.parametrize("freedom", [3.0, 7.0])
def test_a_component_is_a_multivariate_t(freedom):
    cov = covariance(4)
    component = Component(torch.arange(4.0).double(), cov, 0.3, freedom)
    law = stats.multivariate_t(np.arange(4.0), cov.numpy(), df=freedom)
    x = component.draw(20_000, generator())
    np.testing.assert_allclose(component.log_prob(x[:100]).numpy(), law.logpdf(x[:100].numpy()), rtol=1e-10)
    # The squared distance of its draws over their dimension follows Fisher's F.
    away = (x - component.mean).numpy()
    distance = np.einsum("ni,ij,nj->n", away, np.linalg.inv(cov.numpy()), away) / 4
    assert stats.kstest(distance, stats.f(4, freedom).cdf).pvalue > 1e-3
    along = stats.t(freedom, loc=1.0, scale=math.sqrt(cov[1, 1])).cdf
    assert stats.kstest(x[:, 1].numpy(), along).pvalue > 1e-3


def banana(x):
    """A normal of 0.5 about a parabola over a standard normal, and standard normals: its evidence is 1."""
    rest = x[:, 2:]
    log = stats_normal(x[:, 0], 0, 1) + stats_normal(x[:, 1], 0.3 * x[:, 0] ** 2, 0.5)
    return log + stats_normal(rest, 0, 1).sum(1)


def stats_normal(x, mean, std):
    return -0.5 * ((x - mean) / std) ** 2 - math.log(std * math.sqrt(2 * math.pi))


def two_modes(x):
    """Two thirds of the mass about 2, a third about -2, narrower, along the first axis: its evidence is e^5."""
    one, other = (
        normal([m] + [0.0] * (x.shape[1] - 1), s**2 * torch.eye(x.shape[1]).double())(x)
        for m, s in ((2, 0.5), (-2, 0.3))
    )
    return 5 + torch.logaddexp(one + math.log(2 / 3), other + math.log(1 / 3))


def near(d, mean, scale):
    return Component(torch.as_tensor(mean, dtype=torch.float64), scale**2 * torch.eye(d).double(), 1.0, 5.0)


TARGETS = {
    # name: target, components, mean and variance along the first two axes, log evidence
    "normal, its own": (
        normal(np.ones(6), covariance(6)), [Component(torch.ones(6).double(), covariance(6), 1.0, 7.0)],
        (1.0, 1.0), covariance(6).diagonal()[:2].tolist(), 0.0,
    ),
    "normal, displaced": (
        normal(np.ones(6), covariance(6)), [near(6, np.zeros(6), 0.8)],
        (1.0, 1.0), covariance(6).diagonal()[:2].tolist(), 0.0,
    ),
    "banana": (banana, [near(4, [0.0, 0.3, 0.0, 0.0], 0.8)], (0.0, 0.3), (1.0, 0.18 + 0.25), 0.0),
    "two modes": (
        two_modes, [near(3, [2.0, 0, 0], 0.6), near(3, [-2.0, 0, 0], 0.6)],
        (2 / 3, 0.0), (4 - 4 / 9 + (2 * 0.25 + 0.09) / 3, (2 * 0.25 + 0.09) / 3), 5.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_moments_and_evidence_are_those_of_the_target(name):
    target, components, mean, variance, evidence = TARGETS[name]
    off = []
    for seed in range(12):
        draws = sample(target, components, 1000, generator=generator(seed))
        assert draws.n_effective >= 1000
        w = draws.weights
        found = w @ draws.x[:, :2]
        spread = w @ (draws.x[:, :2] - found) ** 2
        log, error = draws.log_evidence
        assert draws.pareto_k < 0.7
        errors = np.sqrt(np.array(variance) / draws.n_effective)
        off.append([*((found.numpy() - mean) / errors), *(spread.numpy() / variance - 1), (log - evidence) / error])
    off = np.array(off)
    # Twelve runs: the means are off by no more than three of their errors, and by as much as these say.
    assert (abs(off[:, [0, 1, 4]].mean(0)) < 3 / math.sqrt(12)).all()
    assert (off[:, [0, 1, 4]].std(0) < 1.8).all()
    assert abs(off[:, 2:4].mean(0)).max() < 0.05


def test_the_same_seed_gives_the_same_draws():
    target, components, *_ = TARGETS["banana"]
    first, again, other = (sample(target, components, 300, generator=generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.x, again.x)
    assert torch.equal(first.log_weight, again.log_weight)
    assert not torch.equal(first.x[:10], other.x[:10])


def test_no_more_than_what_is_needed_is_drawn():
    asked = []
    target = normal(np.zeros(5), torch.eye(5).double())

    def counted(x):
        asked.append(len(x))
        return target(x)

    draws = sample(counted, [near(5, np.zeros(5), 1.0)], 150, generator=generator())
    assert asked == [len(draws.x)]  # one round is enough for a target that is known
    asked.clear()
    draws = sample(counted, [near(5, 8 * np.ones(5), 0.1)], 5000, generator=generator(), most=1500)
    assert sum(asked) == len(draws.x) <= 1500


def test_adapting_finds_what_the_first_draws_hardly_reach():
    target = normal([2.0, -2.0, 0.0, 0.0], 0.4**2 * torch.eye(4).double())
    draws = sample(target, [near(4, np.zeros(4), 0.7)], 500, generator=generator())
    assert draws.n_effective >= 500
    assert (draws.weights @ draws.x).tolist() == pytest.approx([2, -2, 0, 0], abs=4 * 0.4 / math.sqrt(500))
    assert draws.log_evidence[0] == pytest.approx(0, abs=4 * draws.log_evidence[1])


def test_an_adapted_mixture_is_a_mixture():
    draws = sample(two_modes, [near(3, [2.0, 0, 0], 1.0), near(3, [-2.0, 0, 0], 1.0)], 400, generator=generator())
    parts = adapted(draws)
    assert sum(part.share for part in parts) == pytest.approx(1)
    means = torch.stack([part.mean[0] for part in parts if part.share > 0.2])
    assert means.min() == pytest.approx(-2, abs=0.3)
    assert means.max() == pytest.approx(2, abs=0.3)


def test_what_has_no_density_has_no_weight():
    target = normal(np.zeros(3), torch.eye(3).double())

    def broken(x):
        return torch.where(x[:, 0] > 1, math.nan, torch.where(x[:, 1] > 1, -math.inf, target(x)))

    draws = sample(broken, [near(3, np.zeros(3), 1.0)], 300, generator=generator())
    none = (draws.x[:, 0] > 1) | (draws.x[:, 1] > 1)
    assert none.any()
    assert (draws.weights[none] == 0).all()
    assert torch.isfinite(draws.log_target[draws.log_target.argmax()])
    # The evidence is what is left of the normal's mass.
    assert draws.log_evidence[0] == pytest.approx(2 * stats.norm.logcdf(1), abs=4 * draws.log_evidence[1])


def test_a_posterior_of_nothing_is_refused():
    with pytest.raises(KinematicsError, match="no draw"):
        sample(
            lambda x: torch.full((len(x),), -math.inf).double(), [near(3, np.zeros(3), 1.0)], 100, generator=generator()
        )


@pytest.mark.parametrize("shape", [0.1, 0.5, 0.9, 1.5])
def test_the_tail_of_weights_is_measured(shape):
    weights = stats.genpareto(shape).rvs(20_000, random_state=3)
    # Some 424 weights are the tail: the error is (1 + k) over the root of that.
    assert pareto_k(np.log(weights)) == pytest.approx(shape, abs=3 * (1 + shape) / math.sqrt(424))


def test_bounded_weights_have_no_tail():
    assert pareto_k(np.log(np.random.default_rng(1).uniform(0.5, 1.0, 5000))) < 0.2


def test_a_skewed_target_is_not_narrowed_by_what_was_fitted_to_its_draws():
    """The evidence of all draws under the mixture of all rounds was low by four errors here."""

    def target(x):
        log = x[:, 0].clamp(min=1e-9).log()
        positive = stats_normal(log, 0, 0.5) - log
        return torch.where(x[:, 0] > 0, positive, -math.inf) + stats_normal(x[:, 1:], 0, 1).sum(1)

    draws = [sample(target, [near(9, [0.8] + [0.0] * 8, 0.6)], 500, generator=generator(seed)) for seed in range(8)]
    off = [draw.log_evidence[0] / draw.log_evidence[1] for draw in draws]
    assert abs(np.mean(off)) < 3 / math.sqrt(8)
    means = [float(draw.weights @ draw.x[:, 0]) for draw in draws]
    std = math.sqrt((math.exp(0.25) - 1) * math.exp(0.25))
    assert np.mean(means) == pytest.approx(math.exp(0.125), abs=3 * std / math.sqrt(8 * 500))


def test_too_narrow_a_proposal_is_found_out_by_its_tail():
    target = normal(np.zeros(5), torch.eye(5).double())
    narrow = Component(torch.zeros(5).double(), 0.3**2 * torch.eye(5).double(), 1.0, 100.0)
    x = narrow.draw(2000, generator())
    assert pareto_k((target(x) - narrow.log_prob(x)).numpy()) > 0.7
    wide = near(5, np.zeros(5), 1.3)
    x = wide.draw(2000, generator())
    assert pareto_k((target(x) - wide.log_prob(x)).numpy()) < 0.5


def test_a_component_of_a_small_share_is_drawn_as_often_as_its_density_says():
    """Of 15 draws at a time one of three hundredths has one now and then, not none: else weights there are wrong."""
    d = torch.eye(1).double()
    shares = [0.9, 0.03, 0.07]
    mixture = Mixture([Component(torch.full((1,), 100.0 * k).double(), d, s, 50.0) for k, s in enumerate(shares)])
    by = generator()
    rounds = torch.stack([(mixture.draw(15, by) / 100).round() for _ in range(400)])
    assert rounds.shape == (400, 15, 1)
    for k, share in enumerate(shares):
        # Systematic: each time one of the two whole numbers about 15 times its share, 400 times.
        assert float((rounds == k).double().sum()) == pytest.approx(400 * 15 * share, abs=4 * math.sqrt(400 * 0.25))


def test_a_few_weights_have_no_tail_that_is_known():
    """A round all but four of whose draws were outside of the prior is not the best that there is."""
    log = np.full(400, -np.inf)
    log[:4] = [0.0, 1.0, 2.0, 8.0]
    assert np.isnan(pareto_k(log))
    assert pareto_k(np.zeros(400)) == -np.inf  # all the same: no tail


def test_a_few_weights_are_flattened_to_what_was_drawn_from():
    """Of a target ten times as narrow in eight dimensions two draws of a thousand are left, and no width."""
    d = 8
    x = torch.randn(1000, d, dtype=torch.float64, generator=generator())
    log = -0.5 * 100 * (x**2).sum(1) + 0.5 * (x**2).sum(1)
    draws = WeightedDraws(x, log, log)
    assert draws.n_effective < 5
    flat, power = flattened(draws)
    assert flat.n_effective == pytest.approx(50, rel=0.01)
    assert 0 < power < 1
    width = (flat.weights @ x**2).sqrt().mean()
    # Wider than the target, narrower than the proposal: of 50 draws to a tenth.
    assert 0.1 < float(width) < 0.9
    assert (flat.log_weight.argsort() == draws.log_weight.argsort()).all()


def test_enough_weights_stay_as_they_are():
    log = torch.zeros(400, dtype=torch.float64)
    log[200:] = -math.inf
    draws = WeightedDraws(torch.zeros(400, 1).double(), log, log)
    assert flattened(draws) == (draws, 1.0)
    # Of fewer draws than are wanted nothing can be made.
    log = torch.full((400,), -math.inf, dtype=torch.float64)
    log[:30] = torch.arange(30).double()
    assert flattened(WeightedDraws(draws.x, log, log))[1] == 1.0


def test_a_round_without_any_weight_says_nothing_of_the_tail():
    log = torch.cat([torch.full((100,), -math.inf), 0.1 * torch.randn(200, generator=torch.Generator().manual_seed(1))])
    log = log.double()
    draws = WeightedDraws(torch.zeros(300, 1), log, log, rounds=(100, 200))
    assert draws.pareto_k == pytest.approx(pareto_k(log[100:].numpy()))
