"""A conditional density: a full-covariance affine map, then affine couplings (NICE), of noise with heavy tails."""

import math

import torch
from torch import nn
from torch.nn.functional import softplus
from zuko.flows.coupling import GeneralCouplingTransform

__all__ = ["ConditionalDensity"]


class ConditionalDensity(nn.Module):
    """q(x | context): noise through the inverse of affine couplings and of a triangular map.

    The couplings (Dinh, Krueger & Bengio 2015, arXiv:1410.8516, with scales) are those of zuko; they bend what the
    full-covariance Gaussian cannot.

    Parameters
    ----------
    features, context : int
        Numbers of inferred quantities and of context values.
    couplings : int
        Number of coupling layers.
    hidden : int
        Width of each coupling's network.
    estimates : int
        How many values after those of ``context`` add to the mean as they are, by a matrix (none at first), and to
        nothing else: what is known of the quantities already need not be learnt by a network that bends it.
    freedom : float, optional
        Degrees of freedom of the noise, Student's t in each direction: a galaxy that is far from what it seems costs
        the training little, and the widths of all others are theirs. Normal noise by default.
    """

    def __init__(self, features, context, couplings=4, hidden=64, estimates=0, freedom=None):
        super().__init__()
        self.features, self.context, self.freedom = features, context, freedom
        self.estimates = nn.Linear(estimates, features, bias=False) if estimates else None
        if estimates:
            nn.init.zeros_(self.estimates.weight)
        self.affine = nn.Linear(context, features + features * (features + 1) // 2)
        nn.init.normal_(self.affine.weight, std=0.01)
        nn.init.zeros_(self.affine.bias)
        index = torch.tril_indices(features, features, -1)
        self.register_buffer("_lower", index, persistent=False)
        order = torch.arange(features) % 2 == 0
        half = torch.arange(features) < features // 2
        masks = [order, ~order, half, ~half]
        self.couplings = nn.ModuleList(
            GeneralCouplingTransform(features, context, mask=masks[i % 4], hidden_features=(hidden, hidden))
            for i in range(couplings)
        )

    def mean(self, context):
        """Mean (batch, features) of the affine map alone."""
        return self._triangle(context)[0]

    def _triangle(self, context):
        n = self.features
        context, estimates = context[:, : self.context], context[:, self.context :]
        mean, scale, lower = self.affine(context).split([n, n, n * (n - 1) // 2], -1)
        if self.estimates is not None:
            mean = mean + self.estimates(estimates)
        scale = softplus(scale + 0.5413)  # 1 at zero: the density starts as a standard normal
        matrix = torch.diag_embed(scale)
        matrix[..., self._lower[0], self._lower[1]] = lower
        return mean, scale, matrix

    def log_prob(self, x, context):
        """Log density (batch,) of x (batch, features) given context (batch, context + estimates)."""
        mean, scale, matrix = self._triangle(context)
        z = (matrix @ (x - mean)[..., None])[..., 0]
        logdet = torch.log(scale).sum(-1)
        for coupling in self.couplings:
            z, ladj = coupling(context[:, : self.context]).call_and_ladj(z)
            logdet = logdet + ladj
        return logdet + self._log_noise(z).sum(-1)

    def sample(self, context, generator=None):
        """One draw (batch, features) a row of context."""
        z = self._noise(context.new_empty(len(context), self.features), generator)
        for coupling in reversed(self.couplings):
            z = coupling(context[:, : self.context]).inv(z)
        mean, _, matrix = self._triangle(context)
        return mean + torch.linalg.solve_triangular(matrix, z[..., None], upper=False)[..., 0]

    def _log_noise(self, z):
        """Log density of each number of the noise."""
        if self.freedom is None:
            return -0.5 * z**2 - 0.5 * math.log(2 * math.pi)
        half = 0.5 * (self.freedom + 1)
        constant = math.lgamma(half) - math.lgamma(0.5 * self.freedom) - 0.5 * math.log(self.freedom * math.pi)
        return constant - half * torch.log1p(z**2 / self.freedom)

    def _noise(self, like, generator):
        """Noise of a shape; Student's t by the polar method of Bailey (1994, Math. Comp. 62, 779)."""
        options = {"dtype": like.dtype, "device": like.device, "generator": generator}
        if self.freedom is None:
            return torch.randn(like.shape, **options)
        radius, angle = (torch.rand(like.shape, **options) for _ in range(2))
        square = self.freedom * ((1 - radius) ** (-2 / self.freedom) - 1)  # random numbers may be 0, and never 1
        return torch.sqrt(square) * torch.cos(2 * math.pi * angle)
