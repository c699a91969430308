"""A posterior in two phases: many draws of a surrogate, and the exact likelihood of as many of them as it takes."""

import math
from dataclasses import dataclass

import torch

from .importance import pareto_k

__all__ = ["TwoPhaseDraws", "least_draws", "two_phase"]

_PER_COEFFICIENT = 3  # exact weights for each coefficient of their regression, at least
_LEAST = 0.05  # of the mean weight, that a draw has at least
_FAR = 4.0  # standard deviations from where a draw counts as no farther out: the farthest must not decide
_HEAVY = 0.7  # shape of the weights' tail, from where their mean is not known
_OPTIMISM = 1.5  # of what draws say of their own scatter where they are taken for enough: measured, over seeds
_NOTHING = 1e-4  # of the mean weight, of draws that are left out
_FAR_OFF = 0.3  # mean square of what the regression may leave of the weights
_MISSED, _FAINTER = 0.02, 10.0  # share of the exact posterior where the surrogate may be so many times too low


@dataclass(frozen=True)
class TwoPhaseDraws:
    """Draws of a surrogate with weights that follow from the exact ones of a part of them.

    Attributes
    ----------
    x : Tensor (n, d)
        Variates.
    weights : Tensor (n,)
        They sum to one.
    n_effective : float
        The number of independent exact draws of which a mean is as certain as of these.
    pareto_k : float
        Of the exact weights.
    log_evidence : (float, float)
        With its standard error.
    logs, flux : Tensor
        Log likelihoods (n, scatter) of the surrogate, and of the flux what `light.marginal` says
        (n, scatter, 3 + radius).
    best : int
        The number of the exact draw of highest posterior.
    """

    x: torch.Tensor
    weights: torch.Tensor
    n_effective: float
    pareto_k: float
    log_evidence: tuple
    logs: torch.Tensor
    flux: torch.Tensor
    best: int


@torch.no_grad()
def two_phase(proposal, draws, n, min_ess):
    r"""The posterior p through a surrogate s that is near to it.

    Importance sampling of s costs next to nothing, so that its draws are as many as one likes. Of n draws of a proposal
    r, wider than s, the weights w = p / s are reckoned exactly, and regressed on the principal axes of s and their
    squares, each counted by c = s / r; every draw of s then has the weight that the regression gives it. That is the
    regression estimator of sampling in two phases (Särndal, Swensson & Wretman 1992, Model Assisted Survey Sampling,
    chapter 9): of the mean of any function in the regression's span, means of the variates and variances along the axes
    among them, it is to first order the same as with exact weights in place of the regression's, and its relative
    variance is

    .. math:: 1 / n_\mathrm{eff} = 1 / n_s + \sum_i c_i^2 (w_i - \hat w_i)^2 / (1 - h_i)^2 / n^2,

    with n_s the effective number of all weights, the means of c and w one, and leverages h; the sum counts half as much
    again, which is what it was found to lack. What is not in the span,
    quantiles say, keeps a part of the surrogate's error: the mean square of what the regression leaves is bounded.

    Parameters
    ----------
    proposal : Thinned
        By the surrogate, drawn from last.
    draws : WeightedDraws
        All exact ones, weighed by all that was drawn from: they tell where the surrogate misses a part.
    n : int
        How many of them, the last ones, are the proposal's.
    min_ess : float
        Effective draws to reach.

    Returns
    -------
    TwoPhaseDraws or None
        None where the surrogate is too far from the posterior: exact weights alone are then as cheap, or safer.
    """
    population = proposal.population
    if not population.n_effective >= min_ess or n < least_draws(draws.x.shape[1]):
        return None
    x, exact, drawn = draws.x[-n:], draws.log_target[-n:], proposal.log_prob(draws.x[-n:])
    # A draw counts by the surrogate's density over that which it was drawn from, and weighs the exact one's over that.
    weight = exact - drawn
    surrogate = proposal.log_surrogate(draws.x) - population.log_evidence[0]
    counted = torch.exp(surrogate[-n:] - drawn)
    evidence = float(torch.logsumexp(weight, 0) - counted.sum().log())
    coefficients, rest = _regressed(_features(x, population), torch.exp(weight - evidence), counted)
    tail = pareto_k(weight.numpy())
    weight = _features(population.x, population) @ coefficients
    evidence += math.log(max(float(population.weights @ weight), _LEAST))
    weight = weight.clamp(min=_LEAST) * population.weights
    weight = weight / weight.sum()
    effective = 1 / (float(weight @ weight) + _OPTIMISM * rest / n)
    if not (effective >= min_ess and rest <= _FAR_OFF and tail <= _HEAVY):
        return None
    missed = surrogate < draws.log_target - evidence - math.log(_FAINTER)
    if float(draws.weights[missed].sum()) > _MISSED:
        return None
    kept = weight > _NOTHING * weight.mean()
    x, weight = population.x[kept], weight[kept]
    logs, flux = proposal.surrogate.marginal(x)
    return TwoPhaseDraws(
        x=x,
        weights=weight / weight.sum(),
        n_effective=effective,
        pareto_k=tail,
        log_evidence=(evidence, math.sqrt(1 / effective)),
        logs=logs,
        flux=flux,
        best=int(draws.log_target.argmax()),
    )


def least_draws(d):
    """How many exact draws of ``d`` variates the weights are regressed on at least."""
    return _PER_COEFFICIENT * (1 + 2 * d)


def _features(x, population):
    """What weights are regressed on (n, 1 + 2 d): the population's principal axes in deviations, and their squares."""
    mean = population.weights @ population.x
    away = population.x - mean
    deviation = (population.weights @ away**2).sqrt().clamp(min=1e-9)
    away = away / deviation
    power, axes = torch.linalg.eigh((away * population.weights[:, None]).T @ away)
    z = ((x - mean) / deviation) @ axes / power.clamp(min=1e-6).sqrt()
    z = z.clamp(-_FAR, _FAR)
    return torch.cat([torch.ones_like(z[:, :1]), z, z**2], 1)


def _regressed(features, weight, counted):
    """Coefficients of weights, given as they count, and the mean square of what is left over."""
    mean = counted.mean()
    counted, weight = counted / mean, weight / mean
    normal = features.T @ (counted[:, None] * features)
    normal = normal + 1e-9 * torch.diag(torch.diagonal(normal).clamp(min=1e-9))
    solved = torch.linalg.solve(normal, features.T)
    coefficients = solved @ weight
    leverage = (features * solved.T).sum(1).mul_(counted).clamp(max=0.9)
    rest = (weight - counted * (features @ coefficients)) / (1 - leverage)
    return coefficients, float((rest**2).mean())
