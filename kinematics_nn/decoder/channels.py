"""The channels of a cube, and the spectra of points in them: by bins of speed, or one by one where lines are narrow."""

import math
from functools import cached_property

import torch

from .narrow import narrow_spectra, narrow_spectra_slopes
from .profile import SpectralBins, channel_spectra, channel_spectra_slopes

__all__ = ["Channels", "Lines"]


class Channels:
    """Channels with true edges, and what the instrument does to a line.

    Parameters
    ----------
    edges : Tensor (channel + 1,)
        Ascending [km/s].
    lsf : float or "hanning"
        The width (sigma) of a Gaussian [km/s], or channels smoothed by (1/4, 1/2, 1/4).
    """

    def __init__(self, edges, lsf):
        if lsf != "hanning" and (isinstance(lsf, str) or not 0 <= lsf < math.inf):
            raise ValueError(f'lsf={lsf!r}: the width (sigma) of a Gaussian [km/s], zero or more, or "hanning"')
        channel = float(torch.diff(edges).min())
        self.edges, self._response = (edges, None) if lsf != "hanning" else _hanning(edges)
        self.narrowest = 0.2 * channel
        # A line narrower than a thousandth of a channel is that narrow: it keeps gradients finite.
        self.least_sigma = math.hypot(1e-3 * channel, 0.0 if lsf == "hanning" else float(lsf))

    def lines(self, sigma):
        """`Lines` of galaxies of uniform width ``sigma`` (galaxy,)."""
        return Lines(self, sigma)

    def exact(self, speed, sigma, weight):
        """Spectra (channel, row) of points (k, row), as `channel_spectra`."""
        return self.smoothed(channel_spectra(speed, sigma.expand_as(speed), weight, self.edges))

    def exact_slopes(self, speed, sigma, weight, slopes):
        """Spectra and their derivatives (1 + parameter, channel, row), as `channel_spectra_slopes`."""
        return self.smoothed(channel_spectra_slopes(speed, sigma.expand_as(speed), weight, slopes, self.edges))

    def narrow(self, speed, sigma, weight):
        """`exact` of lines of one width of a fifth of a channel at most, as `narrow_spectra`."""
        return self.smoothed(narrow_spectra(speed, sigma, weight, self.edges))

    def narrow_slopes(self, speed, sigma, weight, slopes):
        """`exact_slopes` of such lines, as `narrow_spectra_slopes`."""
        return self.smoothed(narrow_spectra_slopes(speed, sigma, weight, slopes, self.edges))

    def smoothed(self, spectra):
        """Spectra (..., channel, n) in the channels of the cube."""
        return spectra if self._response is None else self._response @ spectra


class Lines:
    """Spectra of points of galaxies that have one line width each.

    Where it is a fifth of a channel or less they are not gathered in bins: each is in two channels at most, or three.

    Parameters
    ----------
    channels : Channels
    sigma : Tensor (galaxy,)
        Width on the cube's axis [km/s].
    """

    def __init__(self, channels, sigma):
        self.channels, self.sigma = channels, sigma
        self.bins = SpectralBins(channels.edges, sigma.clamp(min=channels.narrowest))
        self.matrix = channels.smoothed(self.bins.matrix(sigma))
        self._narrow = (sigma.detach() < channels.narrowest).tolist()

    def __call__(self, c, speed, brightness, galaxies, rows):
        """Spectra of points (k, row) of rows of a few galaxies, one after the other.

        Parameters
        ----------
        c : dict
            Their coefficients (row,), or (1,) of one galaxy.
        speed, brightness : Tensor (k, row)
            Of points; the speed over ``c["speed"]``.
        galaxies, rows : list of int
            Which they are, and how many rows each has.

        Returns
        -------
        list of Tensor (channel, row)
            Of each galaxy.
        """
        narrow = [not self.in_bins(k) for k in galaxies]
        gathered, used = [None] * len(galaxies), None
        if not all(narrow):
            a_bin, first = 1 / self.bins.spacing, self.bins.first
            if len(galaxies) == 1:
                a_bin, first = a_bin[galaxies[0]], first[galaxies[0]]
            else:
                batch = torch.tensor(galaxies).repeat_interleave(torch.tensor(rows)).to(a_bin.device)
                a_bin, first = a_bin[batch], first[batch]
            x = torch.addcmul((c["vsys"] - first) * a_bin, c["speed"] * a_bin, speed)
            gathered, used = self.bins.gather(x, brightness)
            gathered = gathered.split(rows, 1)
        if any(narrow):
            speed = torch.addcmul(c["vsys"], c["speed"], speed)
        own = zip(galaxies, narrow, gathered, speed.split(rows, 1), brightness.split(rows, 1), strict=True)
        return [
            self.channels.narrow(v, self.sigma[k], b) if thin else self.matrix[k, :, used] @ bins
            for k, thin, bins, v, b in own
        ]

    def in_bins(self, k):
        """Whether the lines of galaxy k are wide enough for bins."""
        return not self._narrow[k]

    def slopes(self, c, speed, brightness, by_weight, by_speed, out):
        """Spectra, derivatives and that by the width of one galaxy's rows, into (1 + parameter + 1, channel, row).

        Derivatives (parameter, k, row) go in of the light, and of the speed [km/s] times the light.
        """
        a_bin = 1 / self.bins.spacing
        x = torch.addcmul((c["vsys"] - self.bins.first) * a_bin, c["speed"] * a_bin, speed)
        gathered, used = self.bins.gather_slopes(x, brightness, by_weight, by_speed.mul_(a_bin))
        for field, spectra in zip(gathered, out[:-1], strict=True):
            torch.mm(self.matrix[0, :, used], field, out=spectra)
        torch.mm(self.matrix_slope[0, :, used], gathered[0], out=out[-1])

    @cached_property
    def matrix_slope(self):
        """Derivative of the matrix by the width."""
        return self.channels.smoothed(self.bins.matrix_slope(self.sigma))


def _hanning(edges):
    """Edges to render, and the matrix from the channels between them to the cube's."""
    first, last = 2 * edges[:1] - edges[1:2], 2 * edges[-1:] - edges[-2:-1]
    n = len(edges) - 1
    channel = torch.arange(n, device=edges.device)
    response = edges.new_zeros(n, n + 2)
    for k, share in enumerate((0.25, 0.5, 0.25)):
        response[channel, channel + k] = share
    return torch.cat([first, edges, last]), response
