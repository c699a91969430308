"""Line profiles: the light of points at given speeds, integrated over channels with true edges."""

import math
from functools import lru_cache

import torch

__all__ = ["SpectralBins", "channel_spectra"]

_VALUES_A_CHUNK = 200_000  # temporaries of a chunk stay in a core's cache; measured best between 1e5 and 4e5

_LEAST_SIGMA = 1.8
"""Bins in a line's sigma, at least: a cubic spline is then within 7e-4 of a Gaussian's peak, and alternates."""

_MARGIN = 5.5  # sigma beyond the band on each side, from where nothing reaches a channel


def channel_spectra(speed, sigma, weight, edges):
    """Mean flux density in each channel of points with Gaussian lines, by one error function a point and edge.

    Parameters
    ----------
    speed : Tensor (k, row)
        Of each point, on the cube's own axis [km/s]; the ``k`` points of a row are summed.
    sigma : Tensor (k, row)
        Gaussian width [km/s], positive.
    weight : Tensor (k, row)
        Light of each point.
    edges : Tensor (channel + 1,)
        Ascending [km/s]. Light beyond the outer edges leaves the cube.

    Returns
    -------
    Tensor (channel, row)
        Light per km/s.
    """
    points, rows = speed.shape
    step = max(1, _VALUES_A_CHUNK // (points * len(edges)))
    inverse = 1 / (math.sqrt(2) * sigma)
    half, edges = 0.5 * weight, edges[:, None, None]
    cumulative = [
        (torch.erf((edges - v) * width) * light).sum(1)
        for v, width, light in zip(*(a.split(step, 1) for a in (speed, inverse, half)), strict=True)
    ]
    cumulative = torch.cat(cumulative, 1) if rows else speed[:1] * edges[:, 0]
    return torch.diff(cumulative, dim=0) / torch.diff(edges[:, 0], dim=0)


class SpectralBins:
    r"""Evenly spaced speeds at which light is gathered before its lines are drawn, for discs of one line width each.

    What a channel gets from a point, as a function of the point's speed, is a function g as smooth as the line is wide.
    Its cubic spline on these bins is :math:`g(v) = \sum_b M_b S((v - v_b) / \Delta)`, so that the spectrum of many
    points is their light, gathered with the weights S into four bins a point, times one small matrix M. That costs a
    tenth of an error function for each point and edge.

    Parameters
    ----------
    edges : Tensor (channel + 1,)
        Ascending [km/s].
    sigma : Tensor (galaxy,)
        Width of the line in each galaxy [km/s].
    """

    def __init__(self, edges, sigma):
        sigma = sigma.detach().double().cpu()
        # Half a channel, or as many times halved as the line is too narrow for: nothing moves while the width does.
        channel = float(torch.diff(edges).min())
        halved = torch.ceil(torch.log2(_LEAST_SIGMA * channel / sigma)).clamp(min=1)
        spacing = channel * 0.5**halved
        self.edges = edges
        margin = spacing * torch.ceil(_MARGIN * sigma / spacing + 2)
        self.count = math.ceil(float(((float(edges[-1] - edges[0]) + 2 * margin) / spacing).max())) + 1
        self.spacing, self.first = spacing.to(edges), (float(edges[0]) - margin).to(edges)

    def gather(self, x, weight):
        """Gather light.

        Parameters
        ----------
        x : Tensor (k, row)
            Speeds of points, counted in bins from the first.
        weight : Tensor (k, row)
            Their light.

        Returns
        -------
        light : Tensor (bin, row)
            In those bins that hold any.
        bins : slice
            Which they are.
        """
        rows = x.shape[1]
        # Far outside the band a point is as good as at its end.
        x = x.clamp(1, self.count - 2.01)
        whole = x.detach().floor()
        lowest, highest = torch.aminmax(whole)
        lowest, highest = int(lowest), int(highest)
        f = x - whole
        g = 1 - f
        ff, gg = f * f, g * g
        near, far = gg * g, ff * f
        count = highest - lowest + 4
        if count * rows < 2**24:  # whole numbers that float32 holds, with half the memory of integers
            row = torch.arange(rows, dtype=x.dtype, device=x.device)
            index = torch.add(row, whole - lowest, alpha=rows).long().flatten()
        else:
            index = ((whole - lowest).long() * rows + torch.arange(rows, device=x.device)).flatten()
        sixth, half, most = weight * (1 / 6), weight * 0.5, weight * (2 / 3)
        light = x.new_zeros(count * rows)
        taps = (
            sixth * near,
            torch.addcmul(most, half, torch.sub(far, ff, alpha=2)),
            torch.addcmul(most, half, torch.sub(near, gg, alpha=2)),
            sixth * far,
        )
        for k, tap in enumerate(taps):
            light[k * rows :].scatter_add_(0, index, tap.flatten())
        return light.view(count, rows), slice(lowest - 1, highest + 3)

    def matrix(self, sigma):
        """Light per km/s (galaxy, channel, bin) that a channel gets from a bin, for lines of ``sigma`` (galaxy,)."""
        centres = self.first[:, None] + self.spacing[:, None] * torch.arange(self.count, device=sigma.device)
        away = (self.edges[:, None] - centres[:, None]) / (math.sqrt(2) * sigma[:, None, None])
        values = torch.diff(0.5 * torch.erf(away), dim=1) / torch.diff(self.edges)[:, None]
        return values @ _spline_inverse(self.count).to(values)


@lru_cache(maxsize=64)
def _spline_inverse(n):
    """(n, n) from values at the bins to the coefficients of the cubic B-spline through them."""
    i = torch.arange(n, dtype=torch.float64)
    return torch.linalg.inv((2 / 3) * (i[:, None] == i) + (1 / 6) * ((i[:, None] - i).abs() == 1))
