"""Line profiles: the light of points at given speeds, integrated over channels with true edges."""

import math

import torch

from .weights import significant

__all__ = ["SpectralBins", "channel_spectra", "channel_spectra_slopes"]

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


def channel_spectra_slopes(speed, sigma, weight, slopes, edges):
    """`channel_spectra`, and its derivatives by parameters.

    Parameters
    ----------
    speed, sigma, weight, edges : Tensor
        As there.
    slopes : (Tensor, Tensor, Tensor)
        Derivatives (parameter, k, row) of the weight, and of speed and of sigma times the weight.

    Returns
    -------
    Tensor (1 + parameter, channel, row)
        Light per km/s, then its derivatives.
    """
    points, rows = speed.shape
    step = max(1, _VALUES_A_CHUNK // (3 * points * len(edges)))
    by_weight, by_speed, by_sigma = slopes
    light = torch.cat([weight[None], by_weight])
    none = torch.zeros_like(weight[None])
    # What the error function, the Gaussian and the Gaussian times its argument are multiplied by.
    factors = torch.stack([light, torch.cat([none, -by_speed]) / sigma, torch.cat([none, -by_sigma]) / sigma])
    found = []
    for some in torch.arange(rows, device=speed.device).split(step):
        z = (edges[:, None] - speed[:, some].T[:, None]) / sigma[:, some].T[:, None]  # (row, edge, k)
        gaussian = torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        values = torch.cat([0.5 * torch.erf(z / math.sqrt(2)), gaussian, gaussian * z], 2)
        found.append(values @ factors[..., some].permute(3, 0, 2, 1).flatten(1, 2))
    cumulative = torch.cat(found).permute(2, 1, 0) if rows else speed.new_zeros(len(light), len(edges), 0)
    return torch.diff(cumulative, dim=1) / torch.diff(edges)[:, None]


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
        x, _ = self._within(x)
        f, index, count, bins = _bins_of(x)
        g = 1 - f
        ff, sixth = f * f, weight * (1 / 6)
        first, last = sixth * (g * g * g), sixth * (ff * f)
        second = torch.addcmul(torch.add(weight * (2 / 3), last, alpha=3), weight, ff, value=-1)
        light = x.new_zeros(count * rows)
        for k, tap in enumerate((first, second, weight - first - second - last, last)):
            light[k * rows :].scatter_add_(0, index, tap.flatten())
        return light.view(count, rows), bins

    def gather_slopes(self, x, weight, by_weight, by_x):
        """Gather light, and the derivatives of what is gathered.

        Parameters
        ----------
        x, weight : Tensor (k, row)
            As in `gather`.
        by_weight, by_x : Tensor (parameter, k, row)
            Derivatives of ``weight``, and of ``x`` times ``weight``.

        Returns
        -------
        light : Tensor (1 + parameter, bin, row)
            Gathered light, then its derivatives.
        bins : slice
        """
        n, rows = 1 + len(by_weight), x.shape[1]
        x, outside = self._within(x)
        f, index, count, bins = _bins_of(x)
        g = 1 - f
        ff, gg = f * f, g * g
        first, last = gg * g / 6, ff * f / 6
        second = 2 / 3 - ff + 3 * last
        taps = torch.stack([first, second, 1 - first - second - last, last])
        slopes = torch.stack([-0.5 * gg, 1.5 * ff - 2 * f, 2 * g - 1.5 * gg, 0.5 * ff])
        if outside is not None:
            slopes *= ~outside
        index = (index + torch.arange(4, device=x.device)[:, None] * rows).flatten()
        light, shares = x.new_zeros(n, count * rows), torch.empty_like(taps)
        for k in range(n):
            if k == 0:
                torch.mul(taps, weight, out=shares)
            else:
                torch.mul(taps, by_weight[k - 1], out=shares).addcmul_(slopes, by_x[k - 1])
            light[k].scatter_add_(0, index, shares.view(-1))
        return light.view(n, count, rows), bins

    def _within(self, x):
        """``x`` on the bins, and which are not: far outside the band a point is as good as at its end."""
        low, high = 1, self.count - 2.01
        if not x.numel():
            return x, None
        least, most = torch.aminmax(x.detach())
        if least >= low and most <= high:
            return x, None
        return x.clamp(low, high), (x < low) | (x > high)

    def matrix(self, sigma):
        """Light per km/s (galaxy, channel, bin) that a channel gets from a bin, for lines of ``sigma`` (galaxy,)."""
        values = torch.diff(0.5 * torch.erf(self._away(sigma) / math.sqrt(2)), dim=1)
        return (
            significant(values @ significant(_spline_inverse(self.count).to(values))) / torch.diff(self.edges)[:, None]
        )

    def matrix_slope(self, sigma):
        """Derivative of `matrix` by ``sigma``."""
        away = self._away(sigma)
        values = torch.diff(significant(away * torch.exp(-0.5 * away**2)), dim=1) / -math.sqrt(2 * math.pi)
        slopes = significant(values @ significant(_spline_inverse(self.count).to(values)))
        return slopes / sigma[:, None, None] / torch.diff(self.edges)[:, None]

    def _away(self, sigma):
        """Edges from bins (galaxy, channel + 1, bin), in sigma."""
        centres = self.first[:, None] + self.spacing[:, None] * torch.arange(self.count, device=sigma.device)
        return (self.edges[:, None] - centres[:, None]) / sigma[:, None, None]


def _bins_of(x):
    """Where in its bin a point is, the index (k * row,) of its first bin and row, the number of bins and which."""
    rows = x.shape[1]
    whole = x.detach().floor()
    lowest, highest = (int(end) for end in torch.aminmax(whole)) if whole.numel() else (1, 1)
    count = highest - lowest + 4
    row = torch.arange(rows, device=x.device)
    if count * rows < 2**24:  # whole numbers that float32 holds, with half the memory of integers
        index = torch.add(row.to(x.dtype), whole - lowest, alpha=rows).long()
    else:
        index = torch.add(row, (whole - lowest).long(), alpha=rows)
    return x - whole, index.flatten(), count, slice(lowest - 1, highest + 3)


def _spline_inverse(n):
    """(n, n) from values at the bins to the coefficients of the cubic B-spline through them.

    By the closed form for a series without ends (Unser 1999, IEEE Signal Process. Mag. 16, 22): channels get nothing at
    the ends of the bins. A wide band of thin lines has thousands of bins, too many to invert or to keep a matrix of.
    """
    side = math.sqrt(3) * (math.sqrt(3) - 2) ** torch.arange(n, dtype=torch.float64)
    return torch.cat([side.flip(0), side[1:]]).unfold(0, n, 1).flip(0)
