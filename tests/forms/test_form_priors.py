"""Priors: densities that integrate to one, draws that follow them, and scales."""

import numpy as np
import pytest
from scipy import integrate, stats

from kinematics_nn.forms import LogUniform, Normal, Uniform, list_forms

PRIORS = [Uniform(-2, 5), LogUniform(0.1, 30), Normal(2, 3, lo=0, hi=10)]


@pytest.mark.parametrize("prior", PRIORS)
def test_density_and_draws_agree(prior):
    total = integrate.quad(lambda x: np.exp(prior.log_prob(x)), prior.lo, prior.hi)[0]
    assert total == pytest.approx(1, rel=1e-8)
    assert prior.log_prob(prior.hi + 1) == -np.inf
    draws = prior.sample(np.random.default_rng(1), 4000)

    @np.vectorize
    def share_below(value):
        return integrate.quad(lambda x: np.exp(prior.log_prob(x)), prior.lo, value)[0]

    assert stats.kstest(draws[:500], share_below).pvalue > 1e-3  # a fixed seed; a wrong density gives 1e-20


@pytest.mark.parametrize("prior", PRIORS)
def test_quantiles_reach_the_limits(prior):
    np.testing.assert_allclose(prior.ppf([0.0, 1.0]), [prior.lo, prior.hi], rtol=1e-12)


def test_scales_multiply_the_limits():
    assert LogUniform(0.02, 5, relative_to="r_scale").resolve({"r_scale": 10.0}) == LogUniform(0.2, 50.0)
    mixed = LogUniform(0.2, 1, relative_to=("beam", "field"))
    assert mixed.resolve({"beam": 5.0, "field": 100.0}) == LogUniform(1.0, 100.0)
    assert Normal(1, 0.5, 0, 2, relative_to="beam").resolve({"beam": 3}) == Normal(3, 1.5, lo=0, hi=6)
    assert Uniform(-10, 10, relative_to="1/r_scale").resolve({"r_scale": 5.0}) == Uniform(-2, 2)
    assert LogUniform(1, 2).resolve({}) == LogUniform(1, 2)


def test_unresolved_and_senseless_priors_are_refused():
    with pytest.raises(ValueError, match="resolve"):
        LogUniform(0.02, 5, relative_to="r_scale").sample(np.random.default_rng())
    with pytest.raises(KeyError, match="relative to 'r_scale'"):
        Uniform(-10, 10, relative_to="1/r_scale").resolve({"beam": 1})
    with pytest.raises(KeyError, match="beam"):
        LogUniform(0.02, 5, relative_to="beam").resolve({"field": 1})
    with pytest.raises(ValueError, match="r_scale, beam, field"):
        LogUniform(0.02, 5, relative_to="kpc")
    with pytest.raises(ValueError, match="lo < hi"):
        Uniform(2, 1)
    with pytest.raises(ValueError, match="lo > 0"):
        LogUniform(0, 1)
    with pytest.raises(ValueError, match="std > 0"):
        Normal(1, 0)


@pytest.mark.parametrize("known", list_forms(), ids=lambda known: f"{known.kind}-{known.name}")
def test_default_priors_lie_within_the_bounds(known):
    typical = {"r_scale": 8.0, "beam": 4.0, "field": 60.0}
    for parameter in known.form.parameters:
        prior = parameter.prior.resolve(typical)
        assert parameter.bounds[0] <= prior.lo < prior.hi <= parameter.bounds[1]
