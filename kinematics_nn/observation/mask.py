"""Where the emission is: smooth, clip, grow, and tell the sources apart."""

import numpy as np
from scipy import ndimage

__all__ = ["find_sources", "robust_level", "smooth"]

# A peak of SEED noise starts a source and it grows down to GROW (Serra et al. 2012, MNRAS 422, 1835: smooth + clip).
SEED, GROW = 5.0, 3.0

# How much of the emission a negative peak can hide.
NEGATIVE_SHARE = 0.3

# FWHM of the spectral smoothing [channels]: lines of a resolved galaxy are a few channels wide in a single beam.
SPECTRAL_FWHM = 3.0

SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
SIGMA_PER_MAD = 1.4826  # of a Gaussian


def smooth(values, fwhm):
    """
    Smooth by the beam and over three channels.

    Parameters
    ----------
    values : ndarray of float32, shape (channel, y, x)
        Blank voxels are 0.
    fwhm : tuple of float
        FWHM of the beam along (y, x) [pixels].

    Returns
    -------
    ndarray of float32, shape (channel, y, x)
    """
    sigma = SIGMA_PER_FWHM * np.array([SPECTRAL_FWHM, *fwhm])
    return ndimage.gaussian_filter(values, sigma, mode="constant", truncate=3)


def robust_level(values, minimum=30):
    """
    Standard deviation of the noise among values that may hold emission.

    Emission is positive, so below zero there is noise alone: the median there goes before the one over all, which
    emission widens, wherever it's the smaller.

    Parameters
    ----------
    values : ndarray
        Any shape, finite.
    minimum : int, optional
        Fewer negative values than this say nothing.

    Returns
    -------
    float
    """
    # A median of a hundred thousand is good to 0.5 %, and the whole of a big cube takes a second to sort.
    values = values[:: 1 + values.size // 100_000]
    level = SIGMA_PER_MAD * np.median(np.abs(values - np.median(values)))
    negative = values[values < 0]
    if negative.size >= minimum:
        level = min(level, -SIGMA_PER_MAD * np.median(negative))
    return float(level)


def find_sources(snr, finite, fwhm, free=None):
    """
    Label the sources of emission.

    The cube is smoothed by the beam and over three channels; voxels above 3 times the smoothed noise belong to a
    source if they touch one above 5 times. What happens below zero happens above it too (sidelobes, poor bandpass):
    a seed must stand above the deepest negative peak of the cube, and a channel's clip near that of the channel, up to
    a share of the emission, since a negative peak may be true absorption. Pieces closer than two beams and seven
    channels are one source: noise tears a faint disc into pieces, and an edge-on one into two lobes.

    Parameters
    ----------
    snr : ndarray of float32, shape (channel, y, x)
        Data over noise, 0 where blank.
    finite : ndarray of bool, shape (channel, y, x)
    fwhm : tuple of float
        FWHM of the beam along (y, x) [pixels].
    free : ndarray of bool, shape (channel, y, x), optional
        Voxels known to be free of emission, to measure the smoothed noise on; by default a robust estimate over all.

    Returns
    -------
    labels : ndarray of int32, shape (channel, y, x)
        0 where there is no emission, else the number of the source.
    near : ndarray of bool, shape (channel, y, x)
        Within a beam and three channels of emission: not to be trusted as free of it.
    """
    smoothed = smooth(snr, fwhm)
    level = robust_level(smoothed[finite if free is None else free])
    # Of white noise of level 1 at least this is left; a noise-free simulation has less, and its mask no end.
    level = max(level, 0.05)
    high, low = smoothed.max(axis=(1, 2)), -smoothed.min(axis=(1, 2))
    seed = max(SEED * level, min(low.max(), NEGATIVE_SHARE * high.max()))
    clip = np.maximum(GROW * level, np.minimum(0.8 * low, NEGATIVE_SHARE * high))
    above = (smoothed > clip[:, None, None]) & finite
    pieces, n_pieces = ndimage.label(above)
    seeded = np.zeros(n_pieces + 1, dtype=bool)
    seeded[np.unique(pieces[above & (smoothed > seed)])] = True
    emission = seeded[pieces]

    size = [7] + [2 * max(1, round(width)) + 1 for width in fwhm]
    near = ndimage.maximum_filter(emission.view(np.uint8), size=size, mode="constant").astype(bool)
    groups, _ = ndimage.label(near)
    return np.where(emission, groups, 0).astype(np.int32), near
