"""How the noise of neighbouring voxels hangs together: its correlation over the sky and over channels."""

from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.linalg import cholesky, toeplitz

__all__ = ["SERIES", "WIDTHS", "NoiseCorrelation", "beam_covariance", "gaussian", "known_correlation", "positive"]

# Widths, times the beam's, that noise has by its making: an interferometer's is correlated as its beam, white noise
# that was seen through the beam, or smoothed to it, as the beam convolved with itself.
WIDTHS = {"white": 0.0, "beam": 1.0, "wide": np.sqrt(2)}

# Correlation at lags of 1, 2, ... channels (Hanning: weights of 1/4, 1/2, 1/4).
SERIES = {"white": (), "hanning": (2 / 3, 1 / 6), "hanning, averaged by two": (0.3,)}

# FWHM of the beam to which lags are kept; a dirty beam has lobes of some per cent there.
REACH = 4.0

# Least power of any mode over the mean: what no estimate tells from none. It bounds the condition of the covariance.
FLOOR = 1e-4

# Rounds to make a correlation positive; after that no more than 0.001 is left to mend.
SWEEPS = 6

# In place of a width of 0, which nothing can be divided by.
LEAST_WIDTH = 1e-3

FWHM_PER_SIGMA = np.sqrt(8 * np.log(2))


@dataclass(frozen=True, eq=False, repr=False)
class NoiseCorrelation:
    """
    Correlation of the noise between voxels, the product of one over the sky and one over channels.

    The covariance of the voxels :math:`(c, p)` and :math:`(c', p')` is their two rms times
    ``spatial[L + dy, L + dx] * spectral[abs(c - c')]``; pixels farther apart than ``L`` are uncorrelated. Both are
    positive definite, over any set of pixels and over the channels of the crop.

    Parameters
    ----------
    spatial : ndarray of float64, shape (2 L + 1, 2 L + 1)
        Over lags in pixels (y, x) of the cube, 1 in the middle; symmetric under reversal of both.
    spectral : ndarray of float64, shape (channel,)
        Over lags in channels of the crop, 1 first.
    note : dict
        Plain values. ``spatial``: "white", "beam" (the beam's own shape), "wide" (wider by the root of 2), "scaled"
        (the beam's, times ``width``), "measured" (lag by lag) or "assumed" (the beam's, as there was too little to
        measure it). ``width``: of its core, times the beam's. ``lobe``: its most negative value. ``spectral``:
        "white", "hanning", "hanning, averaged by two", "measured" or "assumed". ``neighbour``: correlation of
        neighbouring channels. ``continuum``: what channels far apart share. ``n_independent``: independent samples
        that it was measured on. ``sample``: which voxels these were.
    """

    spatial: np.ndarray
    spectral: np.ndarray
    note: dict

    def over_sky(self, y, x):
        """
        Correlation matrix of pixels.

        Parameters
        ----------
        y, x : ndarray of int, shape (n,)
            Pixels, from any origin.

        Returns
        -------
        ndarray of float64, shape (n, n)
        """
        y, x = np.asarray(y), np.asarray(x)
        reach = self.spatial.shape[0] // 2
        dy, dx = y[:, None] - y, x[:, None] - x
        near = (abs(dy) <= reach) & (abs(dx) <= reach)
        return np.where(near, self.spatial[np.where(near, dy, 0) + reach, np.where(near, dx, 0) + reach], 0.0)

    def over_channels(self, n):
        """Correlation matrix of ``n`` neighbouring channels, shape (n, n)."""
        return toeplitz(self.spectral[:n])

    def draw(self, shape, rng):
        """
        Noise of unit rms with this correlation.

        Parameters
        ----------
        shape : tuple of int
            (channel, y, x), of no more channels than ``spectral``.
        rng : `~numpy.random.Generator`

        Returns
        -------
        ndarray of float32, shape (channel, y, x)
        """
        reach = self.spatial.shape[0] // 2
        # What wraps around ends beyond the field.
        wide = [fft.next_fast_len(n + reach, real=True) for n in shape[1:]]
        wide = [max(n, 2 * reach + 1) for n in wide]
        root = np.sqrt(_power(self.spatial, wide).clip(min=0)).astype(np.float32)
        white = rng.standard_normal((shape[0], *wide), dtype=np.float32)
        noise = fft.irfft2(fft.rfft2(white) * root, wide)[:, : shape[1], : shape[2]]
        over_channels = cholesky(self.over_channels(shape[0]), lower=True).astype(np.float32)
        return np.tensordot(over_channels, noise, axes=1)

    def __repr__(self):
        return f"<NoiseCorrelation: {self.note['spatial']} over the sky, {self.note['spectral']} over channels>"


def beam_covariance(beam, pixel_matrix):
    """
    Covariance of a beam in pixels.

    Parameters
    ----------
    beam : ndarray, shape (3,)
        FWHM along the major and minor axis [arcsec], position angle [deg, east of north].
    pixel_matrix : ndarray, shape (2, 2)
        Offsets (east, north) [arcsec] of one pixel along x (first column) and y (second column).

    Returns
    -------
    ndarray, shape (2, 2)
        Over (x, y) [pixel^2].
    """
    sin, cos = np.sin(np.radians(beam[2])), np.cos(np.radians(beam[2]))
    axes = np.array([[sin, cos], [cos, -sin]]) * np.asarray(beam[:2]) / FWHM_PER_SIGMA
    root = np.linalg.solve(pixel_matrix, axes)
    return root @ root.T


def reach_of(covariance):
    """Lag in pixels up to which the correlation is kept, for a beam of that covariance [pixel^2]."""
    return max(4, int(np.ceil(REACH * FWHM_PER_SIGMA * np.sqrt(np.linalg.eigvalsh(covariance)[1]))))


def gaussian(covariance, width, reach):
    """
    Gaussian of the beam's shape over all lags.

    Parameters
    ----------
    covariance : ndarray, shape (2, 2)
        Of the beam over (x, y) [pixel^2].
    width : float
        Times the beam's; 0 is 1 in the middle alone.
    reach : int
        Largest lag [pixel].

    Returns
    -------
    ndarray of float64, shape (2 reach + 1, 2 reach + 1)
    """
    return np.exp(-0.5 * squared_distance(covariance, reach) / max(width, LEAST_WIDTH) ** 2)


def squared_distance(covariance, reach):
    """Squared distance of all lags in units of the beam's sigma, shape (2 reach + 1, 2 reach + 1)."""
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inverse = np.linalg.inv(covariance)
    return inverse[0, 0] * x**2 + 2 * inverse[0, 1] * x * y + inverse[1, 1] * y**2


def known_correlation(spatial, spectral, covariance, n_channel):
    """
    A correlation that noise has by its making.

    Parameters
    ----------
    spatial : {"white", "beam", "wide"}
        None, that of the beam, or that of the beam convolved with itself.
    spectral : {"white", "hanning", "hanning, averaged by two"}
    covariance : ndarray, shape (2, 2)
        Of the beam over (x, y) [pixel^2].
    n_channel : int

    Returns
    -------
    NoiseCorrelation
    """
    lags = positive(gaussian(covariance, WIDTHS[spatial], reach_of(covariance)))
    series = series_of(SERIES[spectral], n_channel)
    note = {"spatial": spatial, "width": WIDTHS[spatial], "spectral": spectral, "continuum": 0.0}
    note |= {"lobe": float(lags.min()), "neighbour": float(series[1:2].sum())}
    return NoiseCorrelation(lags, series, note)


def series_of(short, n_channel, continuum=0.0):
    """Correlation over channels from that at lags of 1, 2, ..., and from what all channels share beside it."""
    short = positive(np.concatenate([short[::-1], [1.0], short]))[len(short) :]
    spectral = np.full(n_channel, continuum)
    spectral[: len(short)] += (1 - continuum) * short[:n_channel]
    return spectral


def positive(correlation):
    """
    A near correlation whose power is nowhere below `FLOOR`, so that all its matrices are positive definite.

    To have no power below zero, and no lags beyond the last, is met in turns (projections on convex sets); white noise
    on top mends what little is left.

    Parameters
    ----------
    correlation : ndarray of float64
        Over an odd number of lags in each axis, symmetric under reversal of all.

    Returns
    -------
    ndarray of float64
        Of the same shape, 1 in the middle.
    """
    middle = tuple(n // 2 for n in correlation.shape)
    # Finer than one mode a lag: between those, power could be negative.
    fine = [fft.next_fast_len(3 * n, real=True) for n in correlation.shape]
    for sweep in range(SWEEPS):
        correlation = correlation / correlation[middle]
        power = _power(correlation, fine)
        if power.min() >= FLOOR or sweep == SWEEPS - 1:
            break
        correlation = fft.irfftn(np.maximum(power, 2 * FLOOR), fine)[_lags(correlation.shape, fine)]
    correlation[middle] += max(0.0, FLOOR - power.min())
    # Symmetric to the last digit, which rounding took.
    return 0.5 * (correlation + np.flip(correlation)) / correlation[middle]


def _lags(shape, grid):
    """Where the lags of a correlation lie on a periodic grid that begins with lag 0."""
    return np.ix_(*((np.arange(n) - n // 2) % m for n, m in zip(shape, grid, strict=True)))


def _power(correlation, grid):
    wide = np.zeros(grid)
    wide[_lags(correlation.shape, grid)] = correlation
    return fft.rfftn(wide).real
