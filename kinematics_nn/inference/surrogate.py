"""A stand-in for the likelihood, learnt from models that were rendered: it thins proposals, and weighs nothing."""

import math

import torch

from .light import log_marginal, over_scatters

__all__ = ["Surrogate", "Thinned", "learn"]

_PER_FEATURE = 2.0  # models rendered for each feature, at least
_RIDGE = 1e-6  # of the mean squares of features: some are all the same, and float32 models bear no less
_LEAST_COUNTED, _MOST_COUNTED = 0.03, 3.0  # mean weights that a draw counts for in the regression
_TEMPER = 0.85  # power of the surrogate that proposals are thinned to: wider than the posterior, tails and all
_TRIED = (12_000, 40_000)  # draws of the mixture that is thinned, at ten variates and at most
_UNTHINNED = 0.1  # share of draws that no surrogate has judged


class Surrogate:
    """Log posterior of variates with the whitened model replaced by a polynomial of what it is smooth in.

    All products of two of them, and the cubes. The polynomial is of the model, not of the logarithm: the likelihood
    that follows has the curved ridges of the true one. It proposes, and is never what a draw is weighed by.

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
        features = self._features(x)
        weighed = features * weight[:, None]
        normal = weighed.T @ features
        # A feature may be nought in all draws, as the thickness of thin discs is.
        normal = normal + _RIDGE * torch.diag(torch.diagonal(normal).clamp(min=_RIDGE))
        solution = torch.linalg.solve(normal, weighed.T)  # (feature, n)
        # Some models at a time: all of them in one would be as much memory again.
        parts = solution.to(models[0].dtype).split([len(some) for some in models], 1)
        coefficients = solution.new_zeros(len(solution), models[0].shape[1], dtype=models[0].dtype)
        for part, some in zip(parts, models, strict=True):
            coefficients.addmm_(part, some)
        data = target.likelihood.data
        self._gram = (coefficients @ coefficients.T).double()
        self._along = (coefficients @ data).double()
        self._projected = (coefficients @ target.patches.basis).double()

    def _features(self, x):
        z = (self.target.space.smooth(x) - self._mean) / self._scale
        rows, columns = torch.triu_indices(z.shape[1], z.shape[1])
        return torch.cat([torch.ones_like(z[:, :1]), z, z**3, z[:, rows] * z[:, columns]], 1)

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
        square = ((features @ self._gram) * features).sum(1).clamp(min=0)
        return square, features @ self._along, features @ self._projected

    def __call__(self, x):
        """Log posterior (n,), unnormalised, of variates (n, free); not finite where it has nothing to say."""
        target = self.target
        found = []
        for some in x.split(2000):
            log, _, _ = log_marginal(
                target.likelihood, target.patches, self.products(some), target.flux_prior, target.scatters
            )
            found.append(over_scatters(log) + target.space.log_prior(some))
        return torch.cat(found)


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
    d = target.space.smooth(x[:1]).shape[1]
    if len(x) < _PER_FEATURE * (1 + 2 * d + d * (d + 1) / 2):
        return None
    # Draws in the tails count, too, so that the polynomial holds there.
    counted = (weight / weight.mean()).clamp(_LEAST_COUNTED, _MOST_COUNTED)
    return Surrogate(target, x, models, counted)


class Thinned:
    r"""A proposal thinned by a surrogate: rejection control (Liu, Chen & Wong 1998, J. Am. Stat. Assoc. 93, 1022).

    A draw of the mixture q is kept with probability :math:`\min(1, s / (M q))`, s the surrogate. What is kept has a
    density that is known, but for a norm that the many draws tried give to a hundredth. A share of unthinned draws
    guards against a surrogate that is wrong.

    Parameters
    ----------
    mixture : Mixture
    surrogate : callable
        Log density (n,), unnormalised, of variates (n, d); what is not finite is taken for zero.
    """

    def __init__(self, mixture, surrogate):
        self.mixture, self.surrogate = mixture, surrogate
        least, most = _TRIED
        self._tried = min(max(least, int(least * (mixture.dimensions / 10) ** 4)), most)

    def draw(self, n, generator):
        """About n draws (m, d), from which the density that `log_prob` gives follows.

        Where the surrogate says nothing of any draw, or keeps none, they are the mixture's.
        """
        tried = self.mixture.draw(self._tried, generator)
        ratio = self._ratio(tried, self.mixture.log_prob(tried))
        unthinned = math.ceil(_UNTHINNED * n)
        self._share, self._height, self._norm = 0.0, 0.0, 0.0
        if torch.isfinite(ratio).any():
            height = _height(ratio, n - unthinned)
            keep = torch.exp((ratio - height).clamp(max=0))
            kept = tried[torch.rand(len(tried), dtype=keep.dtype, generator=generator) < keep]
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
        thinned = log + (self._ratio(x, log) - self._height).clamp(max=0) - self._norm
        return torch.logaddexp(log + math.log(1 - self._share), thinned + math.log(self._share))

    def _ratio(self, x, log):
        """Log (n,) of the tempered surrogate over the mixture; -inf where the surrogate says nothing."""
        ratio = _TEMPER * self.surrogate(x) - log
        return torch.where(torch.isfinite(ratio), ratio, -math.inf)


def _height(ratio, n):
    """The M of which n draws are kept in the mean, by bisection of its logarithm."""
    low, high = float(ratio[torch.isfinite(ratio)].min()) - 1, float(ratio.max()) + 30
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if float(torch.exp((ratio - middle).clamp(max=0)).sum()) > n else (low, middle)
    return 0.5 * (low + high)
