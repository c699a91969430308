r"""The disc that is fitted to the frame: a quarter of its mirror average, with derivatives, and noise made white.

The disc is summed in its own plane, in strips along the major axis: they move with the cosine of the inclination, and
the scale height only smooths across them, as speeds do not change with height.
"""

import math
from dataclasses import dataclass

import torch
from torch.special import ndtr

__all__ = ["MEAN", "PARAMETERS", "FrameScales", "QuarterDisc", "smeared_step", "whiteners"]

PARAMETERS = ("inclination", "scale", "index", "speed", "turn", "dispersion", "height", "brightness")
"""The logit of cos i, and logarithms: of r, m, the projected speed far out, the turnover radius over r, the dispersion,
the scale height over r, and the brightness in the middle; lengths and speeds in half-sizes of the frame."""

MEAN = (0.0, math.log(0.18), 0.0, math.log(0.64), math.log(0.4), math.log(0.15), math.log(0.1), 0.0)
"""Of the priors of the parameters, of what the frame's own size says."""

_STRIPS, _OUT = 32, 1.2  # across the major axis, on one side of it, and how far out
_LEAST_SINE = 0.02  # a disc seen face-on has no height to see
_THIN = 30.0  # sigma of the beam over the scale height, from where all but the variance of the law is below 1e-3
_WHITE = 0.1  # share of the noise that is taken to be white: less makes fits worse, by what no disc model gets right
_FWHM = math.sqrt(8 * math.log(2))


@dataclass(frozen=True)
class FrameScales:
    """What a frame is fitted with, each (batch,); lengths and speeds in half-sizes of the frame.

    Attributes
    ----------
    beam_u, beam_w : FWHM along the frame's axes.
    pixel, channel : of the cube.
    noise : rms of the frame, not of its mirror average.
    corr_u, corr_w : correlation of the noise in neighbours along the major and the minor axis.
    rms, axis_ratio : of the light, seen through the beam: the rms along the major axis.
    """

    beam_u: torch.Tensor
    beam_w: torch.Tensor
    pixel: torch.Tensor
    channel: torch.Tensor
    noise: torch.Tensor
    corr_u: torch.Tensor
    corr_w: torch.Tensor
    rms: torch.Tensor
    axis_ratio: torch.Tensor


class QuarterDisc:
    """The disc, seen in a quarter of the frame, and its derivatives; axes (batch, minor, ..., channel, major).

    Parameters
    ----------
    quarter, weight, scales, known
        As `~kinematics_nn.network.disc_fit.fit_disc` takes them.
    """

    def __init__(self, quarter, weight, scales, known):
        self.data = quarter.transpose(1, 2)
        like = self.data
        self.n, self.minor, self.channels, self.major = like.shape
        # A mean of four.
        self.weight = torch.where(weight > 0.5, weight.clamp(max=1), 0.0) / (0.5 * scales.noise)[:, None, None]
        self.known = known.sqrt()  # a mean of two, where one side has no data
        self.across, self.along = whiteners(scales, self.minor, self.major, mirrored=True)
        # Pixels hold the value at their centre, all that smooths is in the beam; but it is interpolated between them.
        pixel2 = scales.pixel**2 / 6
        self.beam_u = torch.sqrt((scales.beam_u / _FWHM) ** 2 + pixel2)
        self.beam_w2 = (scales.beam_w / _FWHM) ** 2 + pixel2 + 1 / (12 * self.minor**2)
        # Channels hold the mean over their width, and each part of them is taken to have it.
        self.channel2 = _column(scales.channel**2 / 6)
        self.rms, self.axis_ratio = scales.rms, scales.axis_ratio
        u = (torch.arange(self.major).to(like) + 0.5) / (0.5 * self.major) - 1
        self.strip = _OUT / _STRIPS
        self.y = (torch.arange(_STRIPS).to(like) + 0.5) * self.strip
        self.ends = self.strip * torch.arange(-_STRIPS, _STRIPS + 1).to(like)
        self.w = (torch.arange(self.minor).to(like) + 0.5) / self.minor
        radius = torch.hypot(self.y[:, None, None], u)  # (strip, 1, major)
        self.cosine, self.log_radius = u / radius, torch.log(radius)
        self.sine2 = 1 - self.cosine**2
        # Along and across the major axis, over the radius: what speeds differ by in a cell.
        self.cell = 1 / (0.5 * self.major * radius), self.sine2.sqrt() * self.strip / radius
        self.edges = torch.arange(self.channels + 1).to(like)[:, None] / self.channels
        away, half = u[:, None] - u, 1 / self.major
        sigma = self.beam_u[:, None, None]
        self.smear = (ndtr((away + half) / sigma) - ndtr((away - half) / sigma)).transpose(1, 2)  # (n, from, to)

    def start(self):
        """Values (batch, parameter) of what moments say."""
        x = self.data.new_tensor(MEAN).repeat(self.n, 1)
        major2 = (self.rms**2 - self.beam_u**2).clamp(min=0.01)
        minor2 = (self.axis_ratio * self.rms) ** 2 - self.beam_w2
        x[:, 0] = torch.logit((minor2 / major2).clamp(0.02, 0.9).sqrt())
        x[:, 1] = 0.5 * torch.log(major2 / 3)  # an exponential disc
        model, weight = self.with_slopes(x)[0], self.weight[:, :, None] ** 2
        amplitude = (model * self.data * weight).sum((1, 2, 3)) / (model**2 * weight).sum((1, 2, 3)).clamp(min=1e-9)
        x[:, 7] = torch.log(amplitude.clamp(min=1e-3))
        return x

    def white(self, cubes):
        """Cubes (batch, minor, ..., major) over noise, white over the sky."""
        weight = self.weight.view(self.n, self.minor, *[1] * (cubes.ndim - 3), self.major)
        known = self.known.view(self.n, *[1] * (cubes.ndim - 3), self.channels, 1)
        scaled = self.across @ (cubes * weight * known).flatten(2)
        return (scaled.view(self.n, -1, self.major) @ self.along.transpose(1, 2)).view(cubes.shape)

    def model(self, x, edges):
        """The disc (batch, minor, channel, major) in channels with these ``edges`` (channel + 1, 1)."""
        field = self._spectra(x, edges)[0]
        field = (field.flatten(1, 2) @ self.smear).view(field.shape)
        return (self._strips(x)[0] @ field.flatten(2)).view(self.n, self.minor, *field.shape[2:])

    def with_slopes(self, x):
        """The disc (batch, minor, channel, major) and its derivatives (batch, minor, parameter, channel, major)."""
        strips, by_cosine, by_smearing, cosine, smearing = self._strips(x)
        fields = torch.stack(self._spectra(x, self.edges), 2)
        fields = (fields.flatten(1, 3) @ self.smear).view(fields.shape)
        out = (strips @ fields.flatten(2)).view(self.n, self.minor, *fields.shape[2:])
        # By way of the strips' places, and of how the height smears them; sines and cosines in place of the angle.
        slope, sine2 = cosine * (1 - cosine), 1 - cosine**2
        by_height = _row(smearing) * by_smearing
        turned = torch.where(sine2 > _LEAST_SINE**2, slope * cosine / sine2, 0.0)
        by_inclination = _row(slope) * by_cosine - _row(turned) * by_height
        both = torch.cat([by_inclination, by_height], 1) @ fields[:, :, 0].flatten(2)
        by_inclination, by_height = both.view(self.n, 2, self.minor, *out.shape[3:]).unbind(1)
        by_scale, by_index, by_speed, by_turn, by_dispersion = out[:, :, 1:].unbind(2)
        slopes = [by_inclination, by_scale + by_height, by_index, by_speed, by_turn, by_dispersion, by_height]
        return out[:, :, 0], torch.stack([*slopes, out[:, :, 0]], 2)

    def _spectra(self, x, edges):
        """Light (batch, strip, channel, major) of the disc's plane, and its derivatives but by inclination and height.

        By scale, the turnover radius following, by index, speed, turn and dispersion.
        """
        _, scale, index, speed, turn, dispersion, _, brightness = x[:, :, None, None, None].unbind(1)
        log_r, power = self.log_radius - scale, torch.exp(index)
        fall = torch.exp(power * log_r)
        light = torch.exp(brightness - fall)
        q = torch.exp(self.log_radius - scale - turn)
        top = torch.exp(speed) * self.cosine * (2 / math.pi)
        v = top * torch.atan(q)
        # Speeds differ within a cell: along the radius, and as it turns.
        rise, turned = top * q / (1 + q**2), torch.exp(speed) * (2 / math.pi) * torch.atan(q)
        along = (rise * self.cosine + turned * self.sine2) * self.cell[0]
        across = (rise - v) * self.cell[1]
        cell2 = (along**2 + across**2) / 12
        sigma = torch.sqrt(torch.exp(2 * dispersion) + self.channel2 + cell2)
        z = (edges - v) / sigma
        spectra = torch.diff(ndtr(z), dim=2) * light
        gaussian = torch.exp(-0.5 * z**2) * (1 / math.sqrt(2 * math.pi))
        over = light / sigma
        by_v = -torch.diff(gaussian, dim=2) * over
        by_sigma = -torch.diff(gaussian * z, dim=2) * over
        bent, flatter = -rise * (1 - q**2) / (1 + q**2), -torch.exp(speed) * (2 / math.pi) * q / (1 + q**2)
        narrower = along * (bent * self.cosine + flatter * self.sine2) * self.cell[0]
        narrower = narrower + across * (bent + rise) * self.cell[1]
        by_turn = -by_v * rise + by_sigma * (narrower / (12 * sigma))
        return (
            spectra,
            spectra * (power * fall) + by_turn,
            -spectra * (power * fall * log_r),
            by_v * v + by_sigma * (cell2 / sigma),
            by_turn,
            by_sigma * (torch.exp(2 * dispersion) / sigma),
        )

    def _strips(self, x):
        """What pixels (minor) get of strips (batch, minor, strip), and its derivatives by cos i and by the smearing.

        And cos i and the smearing, the scale height seen at an angle, each (batch,).
        """
        cosine, height = torch.sigmoid(x[:, 0]), torch.exp(x[:, 6] + x[:, 1])
        seen = height * (1 - cosine**2).clamp(min=_LEAST_SINE**2).sqrt()
        cos, scale = cosine.clamp(min=1e-3)[:, None, None], seen[:, None, None]
        sigma = torch.sqrt(self.beam_w2)[:, None, None]
        step, by_place, by_scale = smeared_step(self.w[:, None] - cos * self.ends, sigma, scale)
        # Between neighbouring ends, and those of a strip with those of its mirror.
        shares = [-torch.diff(one, dim=2) / cos for one in (step, -by_place * self.ends, by_scale)]
        share, moved, smeared = (one[..., _STRIPS:] + one[..., :_STRIPS].flip(2) for one in shares)
        return share, moved - share / cos, smeared, cosine, seen


def smeared_step(x, sigma, scale):
    r"""A step seen through a Gaussian beam and an exponential law of both sides, :math:`e^{-|t| / b} / 2 b`.

    With the two exponentially modified Gaussians A and C, of either side of the law (Grushka 1972, Anal. Chem. 44,
    1733), the value is :math:`\Phi(x / \sigma) + (C - A) / 2` and the derivative by x :math:`(A + C) / 2 b`.

    Parameters
    ----------
    x, sigma, scale : Tensor
        Places, the beam's standard deviation, and the law's b, in one unit; they broadcast.

    Returns
    -------
    value, by_x, by_scale : Tensor
        From 0 far before the step to 1, and its derivatives by ``x`` and ``scale``.
    """
    z, s = x / sigma, sigma / scale
    gaussian = torch.exp(-0.5 * z**2)
    sides = []
    for at in (z, -z):
        away = s - at
        # Of the two ways to write it each overflows where the other is used.
        near = 0.5 * gaussian * torch.special.erfcx(away.clamp(min=-1) / math.sqrt(2))
        far = torch.exp((s * (0.5 * s - at)).clamp(max=0)) * ndtr(-away)
        sides.append(torch.where(away > 0, near, far))
    slope, bend = (sides[0] + sides[1]) / (2 * scale), (sides[1] - sides[0]) / (2 * scale**2)
    thick = -(x * slope + sigma**2 * bend) / scale
    # Of a thin law, whose variance is all that counts, the two terms are the rounding of each other.
    thin = -2 * scale * z * gaussian / (math.sqrt(2 * math.pi) * sigma**2)
    return ndtr(z) + 0.5 * (sides[1] - sides[0]), slope, torch.where(s > _THIN, thin, thick)


def whiteners(scales, minor, major, mirrored=False):
    """Matrices (batch, minor, minor) and (batch, major, major) that make noise white, one on each side of an image.

    ``mirrored`` is of one half of the minor axis, in an image that is its own mirror: what correlates with a pixel
    correlates with its mirror.
    """
    found = []
    for rho, n, folded in ((scales.corr_w, minor, mirrored), (scales.corr_u, major, False)):
        i = torch.arange(n).to(rho)
        log_rho = torch.log(rho.clamp(1e-3, 0.97))[:, None, None]
        correlation = torch.exp((i[:, None] - i) ** 2 * log_rho)
        if folded:
            correlation = correlation + torch.exp((i[:, None] + i + 1) ** 2 * log_rho)
        correlation = (1 - _WHITE) * correlation + _WHITE * torch.eye(n).to(rho)
        lower = torch.linalg.cholesky_ex(correlation.double())[0]
        found.append(torch.linalg.solve_triangular(lower, torch.eye(n).to(lower), upper=False).to(rho))
    return found


def _row(values):
    return values[:, None, None]


def _column(values):
    return values[:, None, None, None]
