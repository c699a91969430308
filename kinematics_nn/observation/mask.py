"""Where the emission is: smooth, clip, grow, and tell the sources apart."""

import numpy as np
from scipy import ndimage

__all__ = ["find_sources", "robust_level", "smooth"]

# A peak of SEED times the noise starts a source, and it grows down to GROW.
SEED, GROW = 5.0, 3.0

# FWHM of the smoothing: (beams, channels). The fine one finds the emission. The coarse one joins what it finds, through
# what is faint and wide, such as the middle of a disc whose two horns stand out: without it, half of the large discs of
# peak S/N 3 fall into two "sources". It's kept out of the mask: there it draws a skirt of noise around the galaxy.
FINE, COARSE = (1.0, 3.0), (2.0, 6.0)

# What the coarse smoothing sees where the fine one has found emission, times the noise: bright sources would spread
# over their neighbours.
REPLACEMENT = 2.0

# How much of the emission a negative peak can hide.
NEGATIVE_SHARE = 0.3

# Pieces nearer than this many beams and channels, twice, are one source.
REACH = (1.0, 3)

SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))
SIGMA_PER_MAD = 1.4826  # of a Gaussian


def smooth(values, fwhm, scale=FINE):
    """
    Smooth by Gaussians over the sky and over channels.

    Parameters
    ----------
    values : ndarray of float32, shape (channel, y, x)
        Blank voxels are 0.
    fwhm : tuple of float
        FWHM of the beam along (y, x) [pixels].
    scale : tuple of float, optional
        FWHM of the smoothing, in beams and in channels.

    Returns
    -------
    ndarray of float32, shape (channel, y, x)
    """
    return ndimage.gaussian_filter(values, _sigma(fwhm, scale), mode="constant", truncate=3)


def _sigma(fwhm, scale):
    beams, channels = scale
    return SIGMA_PER_FWHM * np.array([channels, *(beams * width for width in fwhm)])


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

    Smooth and clip, as SoFiA does (Serra et al. 2015, MNRAS 448, 1922, section 3.1): smoothed by the beam and over
    three channels, voxels above 3 times the smoothed noise belong to a source if they touch one above 5 times.
    What happens below zero happens above it too (sidelobes, poor bandpass): a seed must stand above the deepest
    negative peak of the cube, and a channel's clip near that of the channel, up to a share of the emission, since a
    negative peak may be true absorption. Pieces closer than two beams and seven channels, or joined by emission that a
    coarser smoothing shows, are one source: noise tears a faint disc into pieces, and an edge-on one into two lobes.

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
    emission = _grown(*_clip(smooth(snr, fwhm), finite, free, _white(fwhm, FINE)))
    toned = np.where(emission, np.minimum(snr, np.float32(REPLACEMENT)), snr)
    faint, _ = _clip(smooth(toned, fwhm, COARSE), finite, free, _white(fwhm, COARSE))
    size = [2 * REACH[1] + 1] + [2 * max(1, round(REACH[0] * width)) + 1 for width in fwhm]
    near = ndimage.maximum_filter(emission.view(np.uint8), size=size, mode="constant").astype(bool)
    groups, _ = ndimage.label(near | faint)
    return np.where(emission, groups, 0).astype(np.int32), near


def _clip(smoothed, finite, free, least):
    """Voxels above the clip and above the seed, at one scale; the smoothed noise is at least ``least``."""
    # Smoothing leaves less than all of the noise, whatever the correlation; more than that is emission.
    level = min(max(robust_level(smoothed[finite if free is None else free]), least), 1.0)
    high, low = smoothed.max(axis=(1, 2)), -smoothed.min(axis=(1, 2))
    seed = max(SEED * level, min(low.max(), NEGATIVE_SHARE * high.max()))
    clip = np.maximum(GROW * level, np.minimum(0.8 * low, NEGATIVE_SHARE * high))
    above = (smoothed > clip[:, None, None]) & finite
    return above, above & (smoothed > seed)


def _grown(above, seeds):
    """Pieces of ``above`` that hold a seed."""
    pieces, n_pieces = ndimage.label(above)
    seeded = np.zeros(n_pieces + 1, dtype=bool)
    seeded[np.unique(pieces[seeds])] = True
    return seeded[pieces]


def _white(fwhm, scale):
    """
    Half of what smoothing leaves of white noise of level 1.

    Noise that is correlated keeps more; in a simulation without noise nothing is left, and the clip needs some value.
    """
    return 0.5 * float(np.prod([min(1.0, (2 * np.sqrt(np.pi) * width) ** -0.5) for width in _sigma(fwhm, scale)]))
