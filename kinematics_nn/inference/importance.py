"""Importance sampling of a posterior from a mixture of heavy-tailed components, adapted where it falls short."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..errors import KinematicsError
from .cores import in_parallel

__all__ = [
    "Component", "Mixture", "WeightedDraws", "adapted", "effective_number", "flattened", "of_share", "pareto_k",
    "sample",
]  # fmt: skip

_AT_ONCE = 10_000  # draws, of which the density under many components is in memory
_OFTEN = 3  # rounds after the first that are small, where something learns from each
_KEPT = 0.15  # share of the components that came first in what later rounds draw from


@dataclass(frozen=True)
class Component:
    """A multivariate Student's t: location (d,), scale matrix (d, d), degrees of freedom, and its share."""

    mean: torch.Tensor
    scale: torch.Tensor
    share: float = 1.0
    freedom: float = 6.0

    def draw(self, n, generator):
        """Draws (n, d)."""
        d = len(self.mean)
        lower = torch.linalg.cholesky(self.scale)
        normal = torch.randn(n, d, dtype=torch.float64, generator=generator)
        half = torch.full((n,), self.freedom / 2, dtype=torch.float64)
        chi2 = 2 * torch._standard_gamma(half, generator=generator)
        return self.mean + (normal @ lower.T) * torch.sqrt(self.freedom / chi2)[:, None]

    def log_prob(self, x):
        """Log density (n,) at x (n, d)."""
        d, v = len(self.mean), self.freedom
        lower = torch.linalg.cholesky(self.scale)
        z = torch.linalg.solve_triangular(lower, (x - self.mean).T, upper=False)
        norm = math.lgamma((v + d) / 2) - math.lgamma(v / 2) - 0.5 * d * math.log(v * math.pi)
        return norm - torch.log(torch.diagonal(lower)).sum() - 0.5 * (v + d) * torch.log1p((z**2).sum(0) / v)


@dataclass(frozen=True)
class Mixture:
    """Components, each drawn from by its share."""

    components: list

    @property
    def dimensions(self):
        """Variates of a draw."""
        return len(self.components[0].mean)

    def draw(self, n, generator):
        """Draws (n, d)."""
        counts = self._counts(n, generator)
        return torch.cat([c.draw(count, generator) for c, count in zip(self.components, counts, strict=True) if count])

    def log_prob(self, x):
        """Log density (n,) at x (n, d)."""
        total = sum(c.share for c in self.components)

        def of(some):
            logs = [c.log_prob(some) + math.log(c.share / total) for c in self.components if c.share > 0]
            return torch.logsumexp(torch.stack(logs), 0)

        return torch.cat(in_parallel(of, x.split(_AT_ONCE)))

    def _counts(self, n, generator):
        """Draws of each component, in the mean n times its share: rounded down, small ones would never be drawn."""
        ends = torch.cumsum(torch.tensor([c.share for c in self.components], dtype=torch.float64), 0)
        ends = torch.floor(n * ends / ends[-1] + torch.rand(1, dtype=torch.float64, generator=generator)).long()
        ends[-1] = n
        return torch.diff(ends, prepend=ends.new_zeros(1)).tolist()


@dataclass
class WeightedDraws:
    """Draws of a posterior with their weights.

    Attributes
    ----------
    x : Tensor (n, d)
    log_target : Tensor (n,)
        Log likelihood times prior.
    log_weight : Tensor (n,)
        Over the density that they were drawn from; their mean is the evidence.
    rounds : tuple of int
        Draws of each round, in their order.
    """

    x: torch.Tensor
    log_target: torch.Tensor
    log_weight: torch.Tensor
    rounds: tuple = ()

    @property
    def weights(self):
        """(n,), summing to one."""
        return torch.softmax(self.log_weight, 0)

    @property
    def n_effective(self):
        """Kish's effective number of independent draws."""
        return float(1 / (self.weights**2).sum())

    @property
    def log_evidence(self):
        """Log of the mean weight, and its standard error."""
        n = len(self.x)
        value = float(torch.logsumexp(self.log_weight, 0)) - math.log(n)
        return value, math.sqrt(max(0.0, 1 / self.n_effective - 1 / n))

    @property
    def pareto_k(self):
        """Shape of the weights' tail, the mean over the rounds, each counted by its effective number of draws."""
        parts = self.log_weight.split(list(self.rounds) or len(self.x))
        # A round of which no draw has any weight says nothing.
        weighed = [(part, n) for part in parts if (n := effective_number(part))]
        shapes, effective = np.array([(pareto_k(part.numpy()), n) for part, n in weighed]).reshape(-1, 2).T
        known = ~np.isnan(shapes)
        return float(np.average(shapes[known], weights=effective[known])) if known.any() else math.nan


def sample(log_target, components, min_ess, *, generator, steer=None, first=250, few=None, most=None, rounds=20):
    """Draw until the effective number is enough.

    Every round draws from a mixture, and where what was found is not enough the next one's is adapted to it. A draw is
    weighed by the density of its own round's mixture, which knows nothing of it (population Monte Carlo; Cappé et al.
    2004, J. Comput. Graph. Stat. 13, 907), and the rounds count by their efficiencies. To weigh all draws by what all
    rounds drew from would cost fewer of them, but mixtures are dense where draws happened to lie that they were fitted
    to: measured on skewed targets of 8 dimensions, the evidence came out low by four of its errors, and widths small by
    a twentieth.

    Parameters
    ----------
    log_target : callable
        Log posterior (n,), unnormalised, of variates (n, d).
    components : list of Component
        Of the first round; a part of all others is drawn from them, too, so that nothing is lost that they reach.
    min_ess : float
    generator : torch.Generator
    steer : callable, optional
        Takes the `Mixture` that was adapted to all draws so far, those draws weighed by all that was drawn from, a
        `WeightedDraws`, and of the last round the number of its draws and what they were drawn from. It returns a
        proposal that is nearer to the target, and None or what the sampling is to end with.
    first : int, optional
        Draws of the first round.
    few : int, optional
        Draws at most of each of the next rounds that ``steer`` has a proposal for.
    most : int, optional
        In all: by default twelve for each effective one, and at least 6000.
    rounds : int
        Most of them.

    Returns
    -------
    WeightedDraws
        Or what ``steer`` ended with.

    Raises
    ------
    KinematicsError
        The target is zero wherever it was tried.
    """
    found, proposal, n = [], Mixture(components), first
    most = max(6000, int(12 * min_ess)) if most is None else most
    for k in range(rounds):
        x = proposal.draw(n, generator)
        found.append((x, torch.nan_to_num(log_target(x), nan=-math.inf, neginf=-math.inf), proposal))
        draws = _by_round(found)
        effective, drawn = draws.n_effective, len(draws.x)
        if effective >= min_ess or drawn >= most:
            break
        together = _together(found)
        last, its, own = found[-1]
        mixture = proposal = Mixture([*of_share(1 - _KEPT, adapted(together)), *of_share(_KEPT, components)])
        if steer is not None:
            proposal, end = steer(mixture, together, len(last), own)
            if end is not None:
                return end
        # A tenth more than what the last round's efficiency says, but after the first the next ones are better, and no
        # more than what was learnt bears.
        efficiency = max(effective_number(its - own.log_prob(last)) / len(last), 0.25 if k == 0 else 0.08)
        learnt = min(max(600, min_ess), 150 + 5 * effective)
        if few is not None and k < _OFTEN and proposal is not mixture:
            learnt = few
        n = int(min(max(1.1 * (min_ess - effective) / efficiency, 150), learnt, most - drawn))
    return draws


def of_share(share, components):
    """Components that have a share together."""
    total = sum(component.share for component in components)
    return [replace(component, share=share * component.share / total) for component in components]


def effective_number(log_weight):
    """Kish's effective number of weights, 0 where all of them are."""
    if not torch.isfinite(log_weight).any():
        return 0.0
    return float(1 / (torch.softmax(log_weight, 0) ** 2).sum())


def _by_round(found):
    """Draws weighed by what their own round drew from, rounds by their efficiency."""
    weights = [target - proposal.log_prob(x) for x, target, proposal in found]
    lengths = torch.tensor([len(weight) for weight in weights]).double()
    shares = torch.tensor([effective_number(weight) for weight in weights]).double() / lengths
    if not shares.any():
        raise KinematicsError(
            "a posterior that is zero wherever it was tried: no draw is left",
            "priors that overlap the data and each other",
            "fit() without priors=, to see what the data say",
        )
    shares = shares * lengths.sum() / (shares * lengths).sum()
    log_weight = torch.cat([weight + share.log() for weight, share in zip(weights, shares, strict=True)])
    x, target = (torch.cat([one[k] for one in found]) for k in (0, 1))
    return WeightedDraws(x, target, log_weight, tuple(len(weight) for weight in weights))


def _together(found):
    """All draws weighed by all that was drawn from (the deterministic mixture of Owen & Zhou 2000, JASA 95, 135)."""
    x, target = (torch.cat([one[k] for one in found]) for k in (0, 1))
    total = sum(len(one[0]) for one in found)
    logs = [proposal.log_prob(x) + math.log(len(its) / total) for its, _, proposal in found]
    return WeightedDraws(x, target, target - torch.logsumexp(torch.stack(logs), 0))


def flattened(draws, least=50):
    """Draws whose weights are taken to a power below one, where few of them have nearly all of it.

    Of three draws no width can be told, and what they say looks far more certain than it is: with a power at which
    ``least`` of them are effective, widths go over into those of what was drawn from.

    Parameters
    ----------
    draws : WeightedDraws
    least : float
        Effective draws that there should be.

    Returns
    -------
    draws : WeightedDraws
    power : float
        One where nothing was changed.
    """
    known = torch.isfinite(draws.log_weight)
    if draws.n_effective >= least or int(known.sum()) <= least:
        return draws, 1.0
    low, high = 0.0, 1.0
    for _ in range(40):
        power = 0.5 * (low + high)
        effective = effective_number(torch.where(known, power * draws.log_weight, -math.inf))
        low, high = (power, high) if effective >= least else (low, power)
    return replace(draws, log_weight=torch.where(known, low * draws.log_weight, -math.inf)), low


def adapted(draws, k=5, iterations=8):
    """A mixture of ``k`` components fitted to weighted draws by expectation maximisation, and a guard of 10 %."""
    weight = draws.weights
    # A few large weights would be all that there is to fit.
    weight = torch.minimum(weight, weight.sum() / (0.02 * len(weight)))
    weight = weight / weight.sum()
    d = draws.x.shape[1]
    mean = weight @ draws.x
    away = draws.x - mean
    whole = (away * weight[:, None]).T @ away
    floor = 1e-3 * torch.diag(torch.diagonal(whole)) + 1e-9 * torch.eye(d, dtype=whole.dtype)
    effective = float(1 / (weight**2).sum())
    k = max(1, min(k, int(effective / (4 * d))))
    # Along the longest direction to begin with.
    _, axes = torch.linalg.eigh(whole + floor)
    along = away @ axes[:, -1]
    order = torch.argsort(along)
    cumulative = torch.cumsum(weight[order], 0)
    label = torch.zeros(len(weight), dtype=torch.long)
    label[order] = (cumulative * k).long().clamp(max=k - 1)
    resp = torch.nn.functional.one_hot(label, k).double()
    for _ in range(iterations if k > 1 else 1):
        mass = (resp * weight[:, None]).sum(0)
        parts = []
        for j in range(k):
            w = resp[:, j] * weight / mass[j].clamp(min=1e-12)
            m = w @ draws.x
            a = draws.x - m
            cov = (a * w[:, None]).T @ a
            # Few draws: their covariance is shrunk to that of all.
            n = float(1 / (w**2).sum().clamp(min=1e-12))
            trust = n / (n + 2 * d)
            parts.append(Component(m, trust * cov + (1 - trust) * whole + floor, float(mass[j]), freedom=6.0))
        logs = torch.stack([c.log_prob(draws.x) + math.log(max(c.share, 1e-12)) for c in parts], 1)
        resp = torch.softmax(logs, 1)
    return [
        *(Component(c.mean, c.scale, 0.9 * c.share, c.freedom) for c in parts),
        Component(mean, 2 * whole + floor, 0.1, 5.0),
    ]


def pareto_k(log_weight):
    """Shape of the tail of importance weights: below 0.5 their sums converge fast, above 0.7 they do not.

    The generalised Pareto distribution fitted to the largest weights by the estimator of Zhang & Stephens (2009,
    Technometrics 51, 316), as Vehtari et al. (2024, JMLR 25, 72) use it.
    """
    w = np.sort(np.exp(np.asarray(log_weight) - np.max(log_weight)))
    tail = int(min(0.2 * len(w), 3 * np.sqrt(len(w))))
    # Of a few weights that are not 0 the tail is unknown.
    if tail < 5 or np.count_nonzero(w) < 5:
        return float("nan")
    y = w[-tail:] - w[-tail - 1]
    y = y[y > 0]
    n = len(y)
    if n < 5:
        return float("-inf")
    m = 30 + int(np.sqrt(n))
    quartile = y[int(n / 4 + 0.5) - 1]
    b = 1 / y[-1] + (1 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3 * quartile)
    k = np.mean(np.log1p(-b[:, None] * y), axis=1)
    length = n * (np.log(-b / k) - k - 1)
    share = 1 / np.exp(length - length[:, None]).sum(1)
    best = np.sum(b * share)
    return float((np.mean(np.log1p(-best * y)) * n + 0.5 * 10) / (n + 10))
