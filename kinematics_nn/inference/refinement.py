"""Refinement: damped Gauss-Newton through the decoder, from several starts at once, and the Laplace posterior."""

from dataclasses import dataclass

import torch

from .cores import in_parallel
from .space import PA_UNIT

__all__ = ["Mode", "System", "laplace", "refine"]

_ROUNDS = 30
_ENOUGH = 0.1  # gain of the log posterior at which a descent is over
_TURN = 12 * (PA_UNIT / 360) ** 2  # inverse variance of a variate that is flat over one turn


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
    system = System(likelihood, space, patches, scatter, flux_prior)
    x = starts.double().clone()
    found = in_parallel(system.at, [one[None] for one in x])
    damping = [1e-2] * len(x)
    active, left = set(range(len(x))), set()
    for _ in range(_ROUNDS):
        tried = sorted(active)
        moved = []
        for k in tried:
            _, gradient, normal, _ = found[k]
            diagonal = torch.diag(torch.diagonal(normal))
            moved.append(_step(space, x[k], gradient, normal + damping[k] * diagonal, 1.5)[0])
        for k, there, trial in zip(tried, moved, in_parallel(system.at, [one[None] for one in moved]), strict=True):
            value = found[k][0]
            if trial[0] < value:
                x[k] = there
                found[k], damping[k] = trial, max(damping[k] * 0.2, 1e-6)
                if value - trial[0] < _ENOUGH:
                    active.discard(k)
            else:
                damping[k] = damping[k] * 8 + 1e-4
                if damping[k] > 1e4:
                    active.discard(k)
        # What has come to where a better one is goes to the same mode: that one goes there.
        better = {k: [j for j in range(len(x)) if found[j][0] < found[k][0]] for k in active}
        left |= {k for k in active if any(_same(x[k], x[j], found[j]) for j in better[k])}
        active -= left
        if not active:
            break
    modes, kept = [], []
    for k in sorted(range(len(x)), key=lambda k: found[k][0]):
        if k in left or any(_same(x[k], x[j], found[j]) for j in kept):
            continue
        value, _, normal, flux = found[k]
        covariance = torch.linalg.inv(normal)
        kept.append(k)
        modes.append(Mode(x[k].clone(), float(flux), 0.5 * (covariance + covariance.T), -float(value)))
    return modes


def _same(x, there, found):
    """Whether variates (free,) are, by the curvature ``found`` at others (free,), of the same mode as these."""
    away = x - there
    return float(away @ found[2] @ away) <= 4 * len(x) ** 0.5


def laplace(likelihood, space, patches, scatters, x, flux_prior):
    """Normal approximations of the posterior about variates (free,), one for each scatter of the light.

    Returns
    -------
    list of Mode
        One Gauss-Newton step from ``x``, with its covariance; ``log_posterior`` is that of the step's end, as the
        quadratic has it.
    """
    system = System(likelihood, space, patches, 0.0, flux_prior)
    linear = system.linear(x[None])
    modes = []
    for scatter in scatters:
        value, gradient, normal, flux = system.assemble(x[None], *linear, float(scatter))
        # Where a step is long, the quadratic says little of where it ends.
        end, held = _step(space, x, gradient, normal, 1.0)
        step = end - x
        height = -value - float(gradient @ step + 0.5 * step @ normal @ step)
        # Behind an edge a posterior falls as an exponential, whose width is the inverse of its slope.
        covariance = torch.linalg.inv(normal + torch.diag(torch.where(held, gradient + normal @ step, 0.0) ** 2))
        modes.append(Mode(end, flux, 0.5 * (covariance + covariance.T), height))
    return modes


def _step(space, x, gradient, normal, longest):
    """Where a step from variates (free,) ends, within where they mean anything, and which of them an edge held."""

    def ahead(move):
        move = move * (longest / move.abs().max()).clamp(max=1)
        return x + move, space.inside((x + move).clamp(-reach, reach)[None])[0]

    reach = space.reach()
    wanted, end = ahead(torch.linalg.solve(normal, -gradient))
    held = wanted != end
    if held.any() and not held.all():
        # The others go where they belong with those at the edge.
        move, free = end - x, ~held
        right = gradient[free] + normal[free][:, held] @ move[held]
        move[free] = torch.linalg.solve(normal[free][:, free], -right)
        _, end = ahead(move)
    return end, held


class System:
    """The negative log posterior, its gradient and its Gauss-Newton matrix at variates."""

    def __init__(self, likelihood, space, patches, scatter, flux_prior):
        self.likelihood, self.space, self.patches = likelihood, space, patches
        self.scatter, self.flux_prior = scatter, flux_prior
        self.data = likelihood.data.double()
        # An angle that is flat is pulled all the same, by a prior about as wide: without data it has a width, too.
        self.pull = torch.tensor([_TURN if name == "pa" else 1.0 for name in space.free], dtype=torch.float64)
        # The user's prior of the angle counts as a normal one.
        self.pa_prior = None if space.pa_prior is None else space.pa_prior.moments

    def at(self, x):
        """Value, gradient (free,), normal matrix (free, free) with the flux integrated out, and the flux."""
        return self.assemble(x, *self.linear(x), self.scatter)

    def columns(self, x):
        """Derivatives of the whitened model of unit flux by the variates, and last itself: (free + 1, value)."""
        white, slopes = self.likelihood.white_jacobian(self.space.parameters(x))
        return torch.cat([(self.space.derivatives(x)[0] @ slopes[0].double()), white[:1].double()])

    def linear(self, x):
        """Products of the `columns` with each other, the data and the patches."""
        columns = self.columns(x)
        projected = (columns.float() @ self.patches.basis).double()
        return columns @ columns.T, columns @ self.data, projected

    def assemble(self, x, gram, right, projected, scatter):
        """What `at` returns, of what `linear` returns, for light that scatters by ``scatter``."""
        shrink = scatter**2 / (1 + scatter**2 * self.patches.power)
        gram = gram - (projected * shrink) @ projected.T
        right = right - (projected * shrink) @ self.patches.data
        mean, spread = self.flux_prior
        a = gram[-1, -1] + 1 / spread**2
        b = right[-1] + mean / spread**2
        flux = b / a
        square = self.data @ self.data - (shrink * self.patches.data) @ self.patches.data + (mean / spread) ** 2
        value = 0.5 * (square - b * flux) + 0.5 * torch.log(a * spread**2)
        value = value + 0.5 * torch.log1p(scatter**2 * self.patches.power).sum()
        gradient = -flux * (right[:-1] - flux * gram[:-1, -1])
        cross = flux * gram[:-1, -1]
        # The flux follows the others: what the data say of them is what it cannot take up.
        normal = flux**2 * gram[:-1, :-1] - cross[:, None] * cross / a
        residuals, rows = self.prior_rows(x)
        value = value + 0.5 * (self.pull * x[0] ** 2).sum() + 0.5 * (residuals**2).sum()
        gradient = gradient + self.pull * x[0] + rows.T @ residuals
        normal = normal + torch.diag(self.pull) + rows.T @ rows
        return float(value), gradient, normal + 1e-6 * torch.eye(len(normal), dtype=normal.dtype), float(flux)

    def prior_rows(self, x, step=1e-4):
        """Residuals (n,) of the user's prior of the angle and of the forms' joint ones, and derivatives (n, free)."""
        slots = [slot for slot in self.space.slots if getattr(self.space.forms, slot).prior_residuals is not None]
        if not slots and self.pa_prior is None:
            return x.new_zeros(0), x.new_zeros(0, x.shape[1])

        def residuals(at):
            parameters = self.space.parameters(at)
            values = dict(zip(self.space.names, parameters.T, strict=True))
            every = []
            if self.pa_prior is not None:
                mean, std = self.pa_prior
                every.append((torch.remainder(values["pa"] - mean + 180, 360) - 180) / std)
            for slot in slots:
                columns = (values[name] for name in self.space.slots[slot])
                every += getattr(self.space.forms, slot).prior_residuals(*columns)
            return torch.stack(every, 1)

        moves = step * torch.eye(x.shape[1], dtype=x.dtype)
        return residuals(x)[0], ((residuals(x + moves) - residuals(x - moves)) / (2 * step)).T
