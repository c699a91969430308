"""Refinement: damped Gauss-Newton through the decoder, from several starts at once, and the Laplace posterior."""

from dataclasses import dataclass

import torch

__all__ = ["Mode", "refine"]

_ROUNDS = 12
_ENOUGH = 0.02  # gain of the log posterior at which a descent is over


@dataclass(frozen=True)
class Mode:
    """A mode of the posterior.

    Attributes
    ----------
    x : Tensor (free,)
        Variates.
    flux : float
        In units of the unit disc's.
    covariance : Tensor (free, free)
        Of the variates, flux and patches integrated out: the Laplace posterior.
    log_posterior : float
        Unnormalised, at the mode.
    """

    x: torch.Tensor
    flux: float
    covariance: torch.Tensor
    log_posterior: float


def refine(likelihood, space, patches, scatter, starts, flux_prior):
    """Descend to the modes of the posterior.

    Parameters
    ----------
    likelihood : CubeLikelihood
    space : ParameterSpace
    patches : Patches
    scatter : float
        Of the light about its profile, held.
    starts : Tensor (n, free)
        Variates.
    flux_prior : (float, float)
        Mean and standard deviation of the flux.

    Returns
    -------
    list of Mode
        Different ones, the highest first.
    """
    system = _System(likelihood, space, patches, scatter, flux_prior)
    x = starts.double()
    found = [system.at(one[None]) for one in x]
    damping = [1e-2] * len(x)
    active = set(range(len(x)))
    for _ in range(_ROUNDS):
        for k in sorted(active):
            value, gradient, normal, _ = found[k]
            diagonal = torch.diag(torch.diagonal(normal))
            move = torch.linalg.solve(normal + damping[k] * diagonal, -gradient)
            # No step beyond where a variate means anything.
            move = move * (1.5 / move.abs().max()).clamp(max=1)
            trial = system.at((x[k] + move).clamp(-6, 6)[None])
            if trial[0] < value:
                x[k] = (x[k] + move).clamp(-6, 6)
                found[k], damping[k] = trial, max(damping[k] * 0.2, 1e-6)
                if value - trial[0] < _ENOUGH:
                    active.discard(k)
            else:
                damping[k] = damping[k] * 8 + 1e-4
                if damping[k] > 1e4:
                    active.discard(k)
        if not active:
            break
    modes = []
    for k in sorted(range(len(x)), key=lambda k: found[k][0]):
        value, _, normal, flux = found[k]
        covariance = torch.linalg.inv(normal)
        covariance = 0.5 * (covariance + covariance.T)
        away = [(x[k] - mode.x) @ torch.linalg.solve(mode.covariance, x[k] - mode.x) for mode in modes]
        if value < found[k][0] + 1e9 and all(float(d) > 4 * len(x[k]) ** 0.5 for d in away):
            modes.append(Mode(x[k].clone(), float(flux), covariance, -float(value)))
    return modes


class _System:
    """The negative log posterior, its gradient and its Gauss-Newton matrix at variates."""

    def __init__(self, likelihood, space, patches, scatter, flux_prior):
        self.likelihood, self.space, self.patches, self.flux_prior = likelihood, space, patches, flux_prior
        f2 = scatter**2
        self.shrink = f2 / (1 + f2 * patches.power)
        self.data = likelihood.data.double()
        mean, spread = flux_prior
        self.data_square = self.data @ self.data - (self.shrink * patches.data) @ patches.data + (mean / spread) ** 2
        self.pull = torch.tensor([0.0 if name == "pa" else 1.0 for name in space.free], dtype=torch.float64)

    def at(self, x):
        """Value, gradient (free,), normal matrix (free, free) with the flux integrated out, and the flux."""
        parameters = self.space.parameters(x)
        white, slopes = self.likelihood.white_jacobian(parameters)
        columns = torch.cat([(self.space.derivatives(x)[0] @ slopes[0].double()), white[:1].double()])
        projected = (columns.float() @ self.patches.basis).double()
        gram = columns @ columns.T - (projected * self.shrink) @ projected.T
        right = columns @ self.data - (projected * self.shrink) @ self.patches.data
        mean, spread = self.flux_prior
        a = gram[-1, -1] + 1 / spread**2
        b = right[-1] + mean / spread**2
        flux = b / a
        value = 0.5 * (self.data_square - b * flux) + 0.5 * torch.log(a * spread**2)
        gradient = -flux * (right[:-1] - flux * gram[:-1, -1])
        cross = flux * gram[:-1, -1]
        # The flux follows the others: what the data say of them is what it cannot take up.
        normal = flux**2 * gram[:-1, :-1] - cross[:, None] * cross / a
        value = value + 0.5 * (self.pull * x[0] ** 2).sum()
        gradient = gradient + self.pull * x[0]
        normal = normal + torch.diag(self.pull)
        residuals, rows = self._prior_rows(x)
        if residuals is not None:
            value = value + 0.5 * (residuals**2).sum()
            gradient = gradient + rows.T @ residuals
            normal = normal + rows.T @ rows
        return float(value), gradient, normal + 1e-6 * torch.eye(len(normal), dtype=normal.dtype), float(flux)

    def _prior_rows(self, x, step=1e-4):
        """Residuals (n,) of the forms' joint priors and their derivatives (n, free) by the variates."""
        slots = [slot for slot in self.space.slots if getattr(self.space.forms, slot).prior_residuals is not None]
        if not slots:
            return None, None

        def residuals(at):
            values = dict(zip(self.space.names, self.space.parameters(at).T, strict=True))
            every = [
                residual
                for slot in slots
                for residual in getattr(self.space.forms, slot).prior_residuals(
                    *(values[name] for name in self.space.slots[slot])
                )
            ]
            return torch.stack(every, 1)

        moves = step * torch.eye(x.shape[1], dtype=x.dtype)
        return residuals(x)[0], ((residuals(x + moves) - residuals(x - moves)) / (2 * step)).T
