"""A stand-in for the likelihood, learnt from models that were rendered, and proposals that are thinned by it."""

import math

import torch

from .cores import in_parallel
from .importance import Mixture, WeightedDraws, adapted, effective_number, of_share
from .light import log_marginal, over_scatters
from .ridges import along_ridges

__all__ = ["Surrogate", "Thinned", "learn", "least_models"]

_PER_FEATURE = 1.5  # models rendered for each feature, at least
_RIDGE = 1e-6  # of the mean squares of features: some are all the same, and float32 models bear no less
_RIDGE_OF_CUBES = 3e-3  # the same for products of three, of which there are as many as models
_LEAST_COUNTED, _MOST_COUNTED = 0.03, 3.0  # mean weights that a draw counts for in the regression
_VALUES = 20_000  # of each model at a time
_TEMPER = 0.85  # power of the surrogate that proposals are thinned to: wider than the posterior, tails and all
_TRIED = (12_000, 40_000)  # draws that are thinned, about, at ten variates and at many
_MOST_TRIED = 200_000  # of them, however many are to be effective
_PARTS, _FITTED = 2, 6  # of those draws are of one mixture, of so many at most, the next one fitted to all before
_BENT = 0.02  # effective share of draws, below which they are taken to lie along a bent ridge: others have a tenth
_UNTHINNED = 0.1  # share of draws that no surrogate has judged


class Surrogate:
    """Log posterior of variates with the whitened model replaced by a polynomial of what it is smooth in.

    All products of two of them, and of three but for three different ones, those as far as the models bear them. The
    polynomial is of the model, not of the logarithm: the likelihood that follows has the curved ridges of the true one.

    Parameters
    ----------
    target : Target
        Whose likelihood, patches, priors it shares.
    x : Tensor (n, free)
        Variates.
    models : list of Tensor (some, value)
        Their whitened models of unit flux, n in all.
    weight : Tensor (n,)
        How much each counts in the regression.
    """

    def __init__(self, target, x, models, weight):
        self.target = target
        smooth = target.space.smooth(x)
        weight = weight / weight.sum()
        self._mean = weight @ smooth
        away = smooth - self._mean
        self._scale = (weight @ away**2).sqrt().clamp(min=1e-9)
        features, certain = self._features(x), _certain(smooth.shape[1])
        weighed = features * weight[:, None]
        normal = weighed.T @ features
        # A feature may be nought in all draws, as the thickness of thin discs is.
        size = torch.diagonal(normal).clamp(min=_RIDGE)
        ridge = torch.full_like(size, _RIDGE)
        ridge[certain:] = _RIDGE_OF_CUBES
        of_models = torch.linalg.solve(normal + torch.diag(ridge * size), weighed.T)  # (feature, n)
        gram, with_middle, along, projected = _products(models, weight, target.likelihood.data, target.patches.basis)
        self._middle = [of.select(0, 0) for of in (with_middle, along, projected)]
        self._gram = of_models @ gram @ of_models.T
        self._with_middle, self._along, self._projected = (of_models @ of[1:] for of in (with_middle, along, projected))

    def _features(self, x):
        """Features (n, feature) at variates (n, free): first those that are always learnt."""
        z = (self.target.space.smooth(x) - self._mean) / self._scale
        d = z.shape[1]
        rows, columns = torch.triu_indices(d, d)
        squares = z**2
        one, other = (~torch.eye(d, dtype=torch.bool)).nonzero(as_tuple=True)
        certain = [torch.ones_like(z[:, :1]), z, z * squares, z[:, rows] * z[:, columns]]
        return torch.cat([*certain, squares[:, one] * z[:, other]], 1)

    def products(self, x):
        """What `light.log_marginal` needs of the polynomials at variates (n, free).

        Returns
        -------
        square : Tensor (n,)
            Products with themselves.
        along : Tensor (n,)
            With the data.
        projected : Tensor (n, k)
            With the patches.
        """
        features = self._features(x)
        square, along, projected = self._middle
        square = square + 2 * features @ self._with_middle + ((features @ self._gram) * features).sum(1)
        return square.clamp(min=0), along + features @ self._along, projected + features @ self._projected

    def marginal(self, x, with_light=True):
        """What `light.log_marginal` returns of the polynomials at variates (n, free)."""
        target = self.target

        def of(some):
            products = self.products(some)
            likelihood, patches = target.likelihood, target.patches
            return log_marginal(likelihood, patches, products, target.flux_prior, target.scatters, with_light)

        found = in_parallel(of, x.split(2000))
        return tuple(map(torch.cat, zip(*found, strict=True)))

    def __call__(self, x):
        """Log posterior (n,), unnormalised, of variates (n, free); not finite where it has nothing to say."""
        (log,) = self.marginal(x, with_light=False)
        return over_scatters(log) + self.target.space.log_prior(x)


def _products(models, weight, data, basis):
    """Products of models less their weighted mean, in float64.

    Returns
    -------
    gram : Tensor (n, n)
        With one another.
    with_middle, along : Tensor (1 + n,)
        With the mean and with the data, the mean's own first.
    projected : Tensor (1 + n, k)
        With the patches.
    """
    n = len(weight)
    gram, with_middle, along = (weight.new_zeros(shape) for shape in ((n, n), 1 + n, 1 + n))
    projected = weight.new_zeros(1 + n, basis.shape[1])
    # Some values at a time: all of them in one would be as much memory again.
    for start in range(0, len(data), _VALUES):
        some = slice(start, start + _VALUES)
        of = torch.cat([one[:, some] for one in models])
        middle = weight.to(of.dtype) @ of
        of = of - middle
        both = torch.cat([middle[None], of])
        gram += of @ of.T
        with_middle += both.double() @ middle.double()
        along += both.double() @ data[some].double()
        projected += both @ basis[some]
    return gram, with_middle, along, projected


def learn(target, x, weight, models):
    """A `Surrogate` of the models that a target has kept, or None where they are too few for its features.

    Parameters
    ----------
    target : Target
    x : Tensor (n, free)
    weight : Tensor (n,)
        Of the draws.
    models : list of Tensor (some, value)
        Their whitened models, n in all.
    """
    if len(x) < least_models(target.space.smooth(x[:1]).shape[1]):
        return None
    # Draws in the tails count, too, so that the polynomial holds there.
    counted = (weight / weight.mean()).clamp(_LEAST_COUNTED, _MOST_COUNTED)
    return Surrogate(target, x, models, counted)


def least_models(d):
    """How many models a polynomial in ``d`` numbers is learnt from at least."""
    return math.ceil(_PER_FEATURE * _certain(d))


def _certain(d):
    """Features of ``d`` numbers that are always learnt: one, each, its cube, and all products of two."""
    return 1 + 2 * d + d * (d + 1) // 2


class Thinned:
    r"""A proposal thinned by a surrogate: rejection control (Liu, Chen & Wong 1998, J. Am. Stat. Assoc. 93, 1022).

    A draw of a mixture q is kept with probability :math:`\min(1, s / (M q))`, s the surrogate. What is kept has a
    density that is known, but for a norm that the many draws tried give to a hundredth. A share of unthinned draws
    guards against a surrogate that is wrong. What is thinned is a mixture of several, each fitted to what the surrogate
    says of all draws before it, which costs no model.

    Parameters
    ----------
    mixture : Mixture
        Where the posterior is, as far as is known; unthinned draws are from it.
    surrogate : callable
        Log density (n,), unnormalised, of variates (n, d); what is not finite is taken for zero.
    enough : float, optional
        Effective draws of the surrogate at which no further mixture is fitted to it.

    Attributes
    ----------
    population : WeightedDraws
        After a draw: those that were tried, weighed by the surrogate.
    """

    def __init__(self, mixture, surrogate, enough=2000):
        self.mixture, self.surrogate, self._enough = mixture, surrogate, enough
        least, most = _TRIED
        tried = min(max(least, int(least * (mixture.dimensions / 10) ** 4)), most)
        self._tried = min(max(tried, math.ceil(4 * enough)), _MOST_TRIED)

    def draw(self, n, generator):
        """About n draws (m, d), from which the density that `log_prob` gives follows.

        Where the surrogate says nothing of any draw, or keeps none, they are the mixture's.
        """
        self.population = self._weighed(generator)
        x, ratio = self.population.x, self._tempered(self.population.log_target, self.population.log_weight)
        unthinned = math.ceil(_UNTHINNED * n)
        self._share, self._height, self._norm = 0.0, 0.0, 0.0
        if torch.isfinite(ratio).any():
            height = _height(ratio, max(1, n - unthinned))
            keep = torch.exp((ratio - height).clamp(max=0))
            kept = x[torch.rand(len(x), dtype=keep.dtype, generator=generator) < keep]
            if len(kept):
                self._height, self._norm = height, math.log(float(keep.mean()))
                self._share = len(kept) / (len(kept) + unthinned)
                return torch.cat([kept, self.mixture.draw(unthinned, generator)])
        return self.mixture.draw(n, generator)

    def log_prob(self, x):
        """Log density (n,) at x (n, d): that of the last `draw`, which chose how much to thin."""
        log = self.mixture.log_prob(x)
        if self._share == 0:
            return log
        fitted, surrogate = self._fitted.log_prob(x), self.log_surrogate(x)
        thinned = fitted + (self._tempered(surrogate, surrogate - fitted) - self._height).clamp(max=0) - self._norm
        return torch.logaddexp(log + math.log(1 - self._share), thinned + math.log(self._share))

    def _weighed(self, generator):
        """Draws weighed by the surrogate: of the mixture, and of others fitted to all draws before, in equal parts."""
        mixture, mixtures, x, log, density = self.mixture, [], [], [], []
        for _ in range(_FITTED):
            x.append(mixture.draw(self._tried // _PARTS, generator))
            log.append(self.log_surrogate(x[-1]))
            mixtures.append(mixture)
            density = [torch.logaddexp(of, mixture.log_prob(at)) for of, at in zip(density, x[:-1], strict=True)]
            density.append(torch.logsumexp(torch.stack([one.log_prob(x[-1]) for one in mixtures]), 0))
            every, logs = torch.cat(x), torch.cat(log)
            found = WeightedDraws(every, logs, logs - torch.cat(density) + math.log(len(mixtures)))
            # Of no draw of which the surrogate says anything there is nothing to fit.
            if not 0 < effective_number(found.log_weight) < self._enough:
                break
            bent = found.n_effective < _BENT * len(found.x)
            fitted = along_ridges(self.log_surrogate, found, generator) if bent else adapted(found)
            mixture = Mixture([*of_share(0.9, fitted), *of_share(0.1, self.mixture.components)])
        self._fitted = Mixture([part for one in mixtures for part in of_share(1.0, one.components)])
        return found

    def log_surrogate(self, x):
        """Log of the surrogate (n,) at x (n, d), -inf where it says nothing."""
        log = self.surrogate(x)
        return torch.where(torch.isfinite(log), log, -math.inf)

    def _tempered(self, log, weight):
        """Log (n,) of the tempered surrogate over the mixture, of its logarithm and its weight there."""
        tempered = weight - (1 - _TEMPER) * log
        return torch.where(torch.isfinite(log), tempered, -math.inf)


def _height(ratio, n):
    """The M of which n draws are kept in the mean, by bisection of its logarithm."""
    # As high as the n-th highest ratio n draws are kept at least, and as high as this less than n.
    known = ratio[torch.isfinite(ratio)].sort(descending=True).values
    low, high = float(known[min(n, len(known)) - 1]), float(known[0]) + max(0.0, math.log(len(known) / n)) + 1
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if float(torch.exp((ratio - middle).clamp(max=0)).sum()) > n else (low, middle)
    return 0.5 * (low + high)
