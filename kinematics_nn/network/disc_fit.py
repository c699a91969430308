r"""A disc fitted to the frame: what its even half says at its best, and templates without noise for its odd half.

The quarter of the mirror average holds what is even: inclination, size, light, speeds, widths. A disc of a Sérsic-like
light :math:`\exp(-(R / r)^m)`, an arctangent curve and one dispersion is fitted to it by damped least squares, against
noise that is correlated over the sky. Few galaxies are such discs: the fit is what the encoder is told, not what it
must believe.
"""

import math
from dataclasses import dataclass

import torch

from .disc_model import MEAN, QuarterDisc, whiteners
from .mirror import ODD_SHARE, odd_templates, valid_in_mirrors
from .targets import LIGHT_FLOOR, MULTIPLES, SPEED_FLOOR

__all__ = ["DiscFit", "fit_disc", "odd_step"]

_SPREAD = (1.8, 0.7, 0.4, 0.8, 1.0, 1.2, 0.8, 8.0)  # of the priors
_STEPS = 12  # within 5 % of the least chi-squared in nine simulated galaxies of ten


@dataclass(frozen=True)
class DiscFit:
    """A fitted disc.

    Attributes
    ----------
    values, errors : Tensor (batch, len(PARAMETERS))
        And their formal errors, priors included.
    misfit : Tensor (batch,)
        Mean square of what is left, over noise.
    model : Tensor (batch, channel, minor, major)
        In the whole frame.

    It keeps what it was fitted to, for `rendered`.
    """

    values: torch.Tensor
    errors: torch.Tensor
    misfit: torch.Tensor
    model: torch.Tensor
    _disc: "QuarterDisc"

    def rendered(self, channels):
        """The model in another number of channels, which hold the mean brightness in each."""
        half = channels // 2
        edges = torch.arange(half + 1).to(self.values)[:, None] / half
        return _whole(self._disc.model(self.values, edges).transpose(1, 2) * (half / self._disc.channels))

    @property
    def r50(self):
        """Half-light radius (batch,), by the median of a gamma variate of Wilson & Hilferty (1931, PNAS 17, 684)."""
        scale, power = torch.exp(self.values[:, 1]), torch.exp(self.values[:, 2])
        shape = 2 / power
        return scale * (shape * (1 - 1 / (9 * shape)) ** 3) ** (1 / power)

    @property
    def speed(self):
        """Projected speed (batch,) at the half-light radius."""
        return self._speeds(self.r50[:, None])[:, 0]

    def _speeds(self, radii):
        turn = torch.exp(self.values[:, 1] + self.values[:, 4])
        return torch.exp(self.values[:, 3, None]) * (2 / math.pi) * torch.atan(radii / turn[:, None])

    @property
    def log_speeds(self):
        """Projected speeds (batch, len(MULTIPLES)) as the targets have them."""
        return torch.log(self._speeds(self._radii) + SPEED_FLOOR)

    @property
    def log_lights(self):
        """Light (batch, len(MULTIPLES)) as the targets have it, over flux / (2 pi r50^2)."""
        scale, power = torch.exp(self.values[:, 1, None]), torch.exp(self.values[:, 2, None])
        total = scale**2 * torch.exp(torch.lgamma(2 / power)) / power  # over 2 pi
        return torch.log(torch.exp(-((self._radii / scale) ** power)) * self.r50[:, None] ** 2 / total + LIGHT_FLOOR)

    @property
    def _radii(self):
        return self.r50[:, None] * self.values.new_tensor(MULTIPLES)


def fit_disc(quarter, weight, scales, known=None):
    """Fit a disc to quarters of mirror averages.

    A galaxy whose frame is not finite has a fit that is not, and leaves the others of its batch as they are.

    Parameters
    ----------
    quarter : Tensor (batch, channel, minor, major)
        Upper halves of velocity and minor axis, the whole major axis.
    weight : Tensor (batch, minor, major)
        Mirrored weights of their pixels.
    scales : FrameScales
    known : Tensor (batch, channel), optional
        Share of a channel's mirrors that have data; all by default.

    Returns
    -------
    DiscFit
    """
    known = torch.ones_like(quarter[:, :, 0, 0]) if known is None else known
    disc = QuarterDisc(quarter, weight, scales, known)
    x, spread = disc.start(), quarter.new_tensor(_SPREAD)
    mean = quarter.new_tensor(MEAN)
    precision = 1 / spread.double() ** 2
    count = (weight > 0.5).sum((1, 2)).clamp(min=1) * (known > 0).sum(1).clamp(min=1)
    damping = quarter.new_full((len(x),), 1e-2).double()
    model, slopes = disc.with_slopes(x)
    rest = disc.white(disc.data - model)
    chi2 = (rest**2).sum((1, 2, 3))
    for _ in range(_STEPS):
        # As long as the disc is a poor fit its chi-squared counts for less, and priors keep what it says little of.
        heat = (chi2 / count).clamp(min=1)
        along = disc.white(slopes).transpose(1, 2).flatten(2)
        normal = (along @ along.transpose(1, 2)).double() / heat[:, None, None] + torch.diag(precision)
        right = (along @ rest.flatten(1)[:, :, None])[..., 0].double() / heat[:, None] - precision * (x - mean)
        damped = normal + torch.diag_embed(damping[:, None] * torch.diagonal(normal, dim1=1, dim2=2))
        step = torch.linalg.solve_ex(damped, right)[0].to(x.dtype)
        step = step / (step.abs() / spread.clamp(max=1)).amax(1, keepdim=True).clamp(min=1)
        there = torch.minimum(torch.maximum(x + step, mean - 5 * spread), mean + 5 * spread)
        model_there, slopes_there = disc.with_slopes(there)
        rest_there = disc.white(disc.data - model_there)
        chi2_there = (rest_there**2).sum((1, 2, 3))
        gain = (chi2 - chi2_there) / heat + (((x - mean) / spread) ** 2 - ((there - mean) / spread) ** 2).sum(1)
        better = gain > 0
        x, chi2 = torch.where(better[:, None], there, x), torch.where(better, chi2_there, chi2)
        model, rest, slopes = (
            torch.where(better.view(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in ((model_there, model), (rest_there, rest), (slopes_there, slopes))
        )
        damping = torch.where(better, 0.1 * damping, 10 * damping).clamp(1e-7, 1e4)
    errors = torch.diagonal(torch.linalg.inv_ex(normal)[0], dim1=1, dim2=2).sqrt().to(x.dtype)
    return DiscFit(x, errors, chi2 / count, _whole(model.transpose(1, 2)), disc)


def _whole(quarter):
    """The frame (batch, channel, minor, major) of which this is a quarter."""
    half = torch.cat([quarter.flip(2), quarter], 2)
    return torch.cat([half.flip(1, 3), half], 1)


def odd_step(odd, model, weight, scales, seen):
    """The Gauss-Newton step of a frame against the fitted disc, as of `~kinematics_nn.network.mirror.oddness`.

    Parameters
    ----------
    odd : Tensor (batch, channel, minor, major)
        The frame less its mirror average.
    model : Tensor like odd
        Of `fit_disc`.
    weight : Tensor (batch, minor, major)
    scales : FrameScales
    seen : Tensor (batch, channel)
        Which channels have data.

    Returns
    -------
    step, error : Tensor (batch, 4)
        Along the major axis, minor axis and velocity (in half-sizes of the frame) and turned [rad].
    free, free_error : Tensor (batch, 6)
        The same where light may be lopsided, and how much brighter one side is, along the major and the minor axis.
    """
    valid = valid_in_mirrors(weight, seen)
    scale = valid / (math.sqrt(ODD_SHARE) * scales.noise)[:, None, None, None]
    across, along = whiteners(scales, *odd.shape[2:])
    fields = torch.cat([odd_templates(model), odd[:, None]], 1) * scale[:, None]
    white = (across[:, None, None] @ fields @ along[:, None, None].transpose(3, 4)).flatten(2)
    templates, rest = white[:, :-1], white[:, -1:]
    normal = (templates @ templates.transpose(1, 2)).double()
    normal = normal + torch.diag_embed(1e-6 * torch.diagonal(normal, dim1=1, dim2=2) + 1e-9)
    right = (templates @ rest.transpose(1, 2)).double()
    total, count = (rest.double() ** 2).sum((1, 2)), valid.sum((1, 2, 3)).clamp(min=1)
    found = []
    for n in (4, 6):
        covariance = torch.linalg.inv_ex(normal[:, :n, :n])[0]
        step = (covariance @ right[:, :n])[..., 0]
        # Of what is left: the noise in these channels, and what is uneven.
        variance = ((total - (step * right[:, :n, 0]).sum(1)) / count).clamp(min=1e-6)
        found += [step, (torch.diagonal(covariance, dim1=1, dim2=2) * variance[:, None]).sqrt()]
    return tuple(one.to(odd) for one in found)
