"""The correlation of the noise, measured on voxels without emission."""

import numpy as np
from scipy import fft, ndimage

from kinematics_nn.observation.correlation import (
    FWHM_PER_SIGMA,
    LEAST_WIDTH,
    SERIES,
    WIDTHS,
    NoiseCorrelation,
    gaussian,
    positive,
    reach_of,
    series_of,
    squared_distance,
)

__all__ = ["measure_correlation"]

# Independent samples, below which the beam says more of the correlation than the data do (each lag to 0.06).
ENOUGH = 300

# Channels without emission, below which they are no sample of the band: those at its ends, on which the continuum was
# measured, correlate unlike all others.
ENOUGH_QUIET = 10

# Voxels looked at, and parts in which they are taken apart to know the error of the whole.
MOST_VOXELS, PARTS = 3_000_000, 8

# A stray peak of more than that times the noise is no noise.
CLIP = 4.0

# Mean squared misfit over squared error, below which a model agrees, and an rms misfit that is always let pass.
LIKELY, SMALL = 2.0, 0.01

# Widths of a Gaussian that are tried, times the beam's.
TRIED = np.linspace(0, 2.5, 126)

# How near neighbouring channels are taken for a known series: closer than three errors, or this.
SAME_SERIES = 0.02

# Sigma, in FWHM of the beam, of the Gaussian by which the measured lags fade out. Its transform is positive, and blurs
# the power by a fifth of what noise as wide as the beam has.
FADE = 2.2

# Channels beyond which the correlation is that of the continuum, the same at every distance.
SHORT = 6


def measure_correlation(snr, free, emission, covariance, n_channel):
    """
    Correlation of the noise over the sky and over channels.

    Products of voxels are averaged at every lag, over the voxels free of emission. Those in channels without any are
    taken alone if they suffice, then those off the galaxy: emission too faint to be seen correlates over some beams
    and channels, and looks like noise that does. Where a known correlation agrees with what was measured it is taken;
    else what was measured replaces a Gaussian of the beam's shape and of free width, lag by lag, by the share that
    is beyond the errors (James & Stein 1961, Proc. 4th Berkeley Symp. 1, 361), and powers are made positive.

    Parameters
    ----------
    snr : ndarray of float32, shape (channel, y, x)
        Data over rms, 0 where blank; the whole field.
    free : ndarray of bool, shape (channel, y, x)
        Not blank, and free of emission.
    emission : ndarray of bool, shape (channel, y, x)
        Of any source.
    covariance : ndarray, shape (2, 2)
        Of the beam over (x, y) [pixel^2].
    n_channel : int
        Channels of the crop.

    Returns
    -------
    NoiseCorrelation
    """
    free, sample = _sample(free, emission, covariance)
    if np.count_nonzero(free) < ENOUGH * _beam_pixels(covariance):
        spatial, spectral = gaussian(covariance, 1.0, reach_of(covariance)), series_of((), n_channel)
        note = {"spatial": "assumed", "width": 1.0, "spectral": "assumed", "continuum": 0.0, "n_independent": 0}
        sample = "none"
    else:
        clipped = np.where(free, np.clip(snr, -CLIP, CLIP), np.float32(0))
        spatial, note = _spatial(clipped, free, covariance)
        spectral, spectral_note = _spectral(clipped, free, covariance, n_channel)
        note |= spectral_note
        share = np.sum(spatial**2) * (2 * np.sum(spectral[: SHORT + 1] ** 2) - 1)
        note["n_independent"] = int(np.count_nonzero(free) / share)
    spatial = positive(spatial)
    note |= {"lobe": float(spatial.min()), "neighbour": float(spectral[1]), "sample": sample}
    return NoiseCorrelation(spatial, spectral, note)


def _beam_pixels(covariance):
    return max(1.0, 2 * np.pi * np.sqrt(np.linalg.det(covariance)))


def _sample(free, emission, covariance):
    """Voxels to measure on, the farthest from emission that suffice, and their name."""
    enough = 2 * ENOUGH * _beam_pixels(covariance)
    quiet = free.any(axis=(1, 2)) & ~ndimage.binary_dilation(emission.any(axis=(1, 2)), iterations=3)
    if np.count_nonzero(quiet) >= ENOUGH_QUIET and np.count_nonzero(free[quiet]) >= enough:
        return free & quiet[:, None, None], "channels without emission"
    size = [2 * round(FWHM_PER_SIGMA * np.sqrt(covariance[axis, axis])) + 1 for axis in (1, 0)]
    off = free & ~ndimage.maximum_filter(emission.any(axis=0), size=size, mode="constant")
    if np.count_nonzero(off) >= enough:
        return off, "off the galaxy"
    return free, "all free of emission"


def _mean(products, pairs):
    """Mean product of pairs from its sums over parts of the sample (part, ...), and the error of it."""
    total = np.maximum(pairs.sum(axis=0), 1)
    mean = products.sum(axis=0) / total
    scatter = np.sqrt(np.sum((products - pairs * mean) ** 2, axis=0)) / total
    return mean, scatter * np.sqrt(len(pairs) / max(1, len(pairs) - 1))


def _spatial(snr, free, covariance):
    """Correlation over lags on the sky, and what is known of it."""
    used = np.flatnonzero(free.any(axis=(1, 2)))
    used = used[:: 1 + len(used) * snr[0].size // MOST_VOXELS]
    reach = min(reach_of(covariance), min(snr.shape[1:]) // 2)
    shape = [fft.next_fast_len(n + reach, real=True) for n in snr.shape[1:]]
    lags = np.ix_(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    sums = [], []
    for part in np.array_split(used, min(PARTS, len(used))):
        for values, products in zip((snr[part], free[part].astype(np.float32)), sums, strict=True):
            power = np.sum(np.abs(fft.rfft2(values, shape)) ** 2, axis=0, dtype=float)
            products.append(fft.irfft2(power, shape)[lags])
    found, error = _mean(np.array(sums[0]), np.array(sums[1]).round())
    found, error = found / found[reach, reach], error / found[reach, reach]
    fwhm = FWHM_PER_SIGMA * np.sqrt(_beam_pixels(covariance) / (2 * np.pi))
    # Errors of neighbouring lags are alike, and known better than each of them.
    error = np.sqrt(ndimage.gaussian_filter(error**2, max(1.0, fwhm), mode="nearest"))

    away, beams = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]), squared_distance(covariance, reach)
    core = (beams < (1.5 * FWHM_PER_SIGMA) ** 2) | (away < 1.5)
    names = [*WIDTHS, *(["scaled"] * len(TRIED))]
    widths = np.append(list(WIDTHS.values()), TRIED)
    models = np.exp(-0.5 * beams[core] / np.maximum(widths, LEAST_WIDTH)[:, None] ** 2)
    misfit = np.mean((models - found[core]) ** 2, axis=1)
    allowed = max(LIKELY * np.mean(error[core] ** 2), SMALL**2)
    width = float(TRIED[np.argmin(misfit[len(WIDTHS) :])])
    # A known width goes before one that fits a little better.
    for best in (np.argmin(misfit[: len(WIDTHS)]), np.argmin(misfit)):
        if misfit[best] < allowed:
            return gaussian(covariance, widths[best], reach_of(covariance)), {"spatial": names[best], "width": width}
    plain = gaussian(covariance, width, reach)
    excess = found - plain
    explained = error**2 / ndimage.gaussian_filter(excess**2, max(1.0, 0.5 * fwhm), mode="nearest")
    fade = np.exp(-0.5 * (away / (FADE * max(1.0, fwhm))) ** 2)
    return fade * (plain + np.clip(1 - explained, 0, 1) * excess), {"spatial": "measured", "width": width}


def _spectral(snr, free, covariance, n_channel):
    """Correlation over lags in channels, and what is known of it."""
    # Pixels within a beam say nearly the same.
    step = max(1, int(0.5 * FWHM_PER_SIGMA * np.sqrt(np.linalg.eigvalsh(covariance)[0])))
    n = len(snr)
    length = fft.next_fast_len(2 * n, real=True)
    sums = []
    for values in (snr[:, ::step, ::step], free[:, ::step, ::step]):
        columns = values.astype(np.float32).reshape(n, -1).T
        columns = columns[:: 1 + columns.size // MOST_VOXELS]
        power = np.abs(fft.rfft(columns, length)) ** 2
        parts = np.array([part.sum(axis=0, dtype=float) for part in np.array_split(power, PARTS)])
        sums.append(fft.irfft(parts, length)[:, :n])
    products, pairs = sums[0], sums[1].round()
    found, error = _mean(products, pairs)
    variance = found[0]
    # The continuum that is taken off all channels was measured in few of them: its noise is in each.
    far = (np.arange(n) > SHORT) & (pairs.sum(axis=0) > 0.5 * pairs[:, 0].sum())
    shared, its_error = _mean(products[:, far].sum(axis=1), pairs[:, far].sum(axis=1))
    certain = np.count_nonzero(far) >= SHORT and shared > max(4 * its_error, SMALL * variance)
    continuum = float(shared / variance) if certain else 0.0
    short = (found[1 : SHORT + 1] / variance - continuum) / (1 - continuum)
    # One error does for all lags, and is known better than each.
    error = np.sqrt(np.mean(error[1 : SHORT + 1] ** 2)) / variance
    for kind, known in SERIES.items():
        exact = np.append(known, np.zeros(SHORT))[: len(short)]
        if np.all(abs(short - exact) < max(3 * error, SAME_SERIES)):
            return series_of(known, n_channel, continuum), {"spectral": kind, "continuum": continuum}
    short = short * np.clip(1 - error**2 / np.maximum(short**2, 1e-12), 0, 1)
    return series_of(short, n_channel, continuum), {"spectral": "measured", "continuum": continuum}
