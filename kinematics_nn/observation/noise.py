"""The noise of each voxel, from voxels without emission."""

import warnings

import numpy as np
from scipy import ndimage

from kinematics_nn.errors import NoiseWarning
from kinematics_nn.observation.mask import SIGMA_PER_FWHM, SIGMA_PER_MAD

__all__ = ["coarse_field", "measure_noise"]

# Fewer independent samples than this give no level to 15 %, and the next way is taken.
ENOUGH = 60

# Below this share of the peak there is no noise but that of arithmetic (a merger seen by ALMA reaches 2e-4), and the
# simulation gets an assumed one, with which the likelihood stays finite.
NOISE_FREE, ASSUMED = 1e-5, 1e-3

# Relative standard error of a level from a MAD, times the square root of the number of samples (efficiency 37 %).
MAD_ERROR = 1.17

# Where the noise varies over the field by less than this, a map of it adds more scatter than it takes away.
LEAST_VARIATION = 0.03

# FWHM, in beams, of the window over which the noise is averaged in the field. Twelve beams are in it, so that twenty
# channels give the level to 5 %; a wider one flattens the edge of a primary beam (4 beams: by 10 %).
FIELD_WINDOW = 2.5


def measure_noise(data, finite, free, fwhm):
    """
    Noise of each voxel, the product of a level, a spectrum and a map.

    Spectrum and map are shrunk towards uniform noise by the share of their scatter that measurement explains, so a
    cube with uniform noise gets uniform noise.

    Parameters
    ----------
    data : ndarray of float32, shape (channel, y, x)
        0 where blank.
    finite : ndarray of bool, shape (channel, y, x)
    free : ndarray of bool, shape (channel, y, x)
        Finite and free of emission.
    fwhm : tuple of float
        FWHM of the beam along (y, x) [pixels].

    Returns
    -------
    rms : ndarray of float32, shape (channel, y, x)
    note : dict
        How it was measured: ``method`` ("line-free", "negative" or "floor"), ``rms`` (the median), ``n_line_free``
        (channels with no emission at all), ``channel_scatter`` and ``field_scatter`` (fractional, after shrinking).

    Warns
    -----
    NoiseWarning
        If there are too few voxels free of emission, and the noise is taken from negative values, or assumed.
    """
    beam_pixels = max(1.0, np.pi / (4 * np.log(2)) * fwhm[0] * fwhm[1])
    n_line_free = int(np.count_nonzero((free == finite).all(axis=(1, 2)) & finite.any(axis=(1, 2))))
    note = {"method": "line-free", "n_line_free": n_line_free, "channel_scatter": 0.0, "field_scatter": 0.0}
    spectrum, field = np.ones(data.shape[0]), np.ones(data.shape[1:])
    peak = float(data.max())
    # Many cubes come with 0 for blank: exact zeros say nothing of the noise.
    quiet = free & (data != 0)
    if np.count_nonzero(quiet) >= ENOUGH * beam_pixels:
        field, note["field_scatter"] = _field(data, quiet, fwhm)
        level, spectrum, note["channel_scatter"] = _spectrum(data / field.astype(np.float32), quiet, beam_pixels)
    else:
        # A cube blanked around its emission: what is negative in it is noise all the same.
        negative = data[data < 0]
        enough = negative.size >= ENOUGH * beam_pixels
        note["method"] = "negative"
        level = -SIGMA_PER_MAD * float(np.median(negative)) if enough else 0.0
        if np.count_nonzero(free) < ENOUGH * beam_pixels:
            assumed = (
                "the noise is taken from negative values" if enough else f"a noise of {ASSUMED * peak:.3g} is assumed"
            )
            warnings.warn(
                f"only {np.count_nonzero(free) / beam_pixels:.0f} beams are free of emission, {ENOUGH} are needed to "
                f"measure the noise: {assumed}. Give rms= if you know it.",
                NoiseWarning,
                stacklevel=4,
            )
    if level <= NOISE_FREE * peak:
        note.update(method="floor", channel_scatter=0.0, field_scatter=0.0)
        rms = np.full(data.shape, ASSUMED * peak, dtype=np.float32)
    else:
        rms = (level * spectrum[:, None, None] * field).astype(np.float32)
    note["rms"] = float(np.median(rms[finite]))
    return rms, note


def coarse_field(data, finite, fwhm):
    """
    Shape of the noise over the field before any emission is known.

    From the differences of neighbouring channels, in which a line as wide as a galaxy's nearly cancels, and their
    median along each line of sight, which the few channels where it doesn't leave alone.

    Parameters
    ----------
    data : ndarray of float32, shape (channel, y, x)
        0 where blank.
    finite : ndarray of bool, shape (channel, y, x)
    fwhm : tuple of float
        FWHM of the beam along (y, x) [pixels].

    Returns
    -------
    ndarray of float64, shape (y, x)
        Median 1.
    """
    both = finite[1:] & finite[:-1] & (data[1:] != 0)
    steps = np.abs(np.diff(data, axis=0))
    steps[~both] = np.inf
    steps.sort(axis=0)
    count = both.sum(axis=0)
    median = np.take_along_axis(steps, (count // 2)[None].clip(max=len(steps) - 1), axis=0)[0]
    known = (count >= 4) & np.isfinite(median)
    if not known.any():
        return np.ones(data.shape[1:])
    smooth, weight = _window(np.where(known, median, 0.0), fwhm), _window(known.astype(float), fwhm)
    field = np.divide(smooth, weight, out=np.zeros_like(smooth), where=weight > 0.05)
    middle = np.median(field[known])
    return np.where(field > 0, field / middle, 1.0) if middle > 0 else np.ones(data.shape[1:])


def _field(data, quiet, fwhm):
    """
    Relative noise over the field, and its scatter.

    Two maps from the lower and the upper half of the channels share only what is real, so their covariance is the
    variance of the true map.
    """
    squares = np.where(quiet, data, np.float32(0))
    # In a small unit (1 erg/s/cm2/AA) the squares of the noise would be below the smallest float32.
    squares /= np.abs(squares).max()
    squares *= squares
    typical = squares.sum() / np.count_nonzero(quiet)
    # A stray peak of 4 sigma and more is no noise.
    np.minimum(squares, 16 * typical, out=squares)
    half = np.searchsorted(np.cumsum(quiet.sum(axis=(1, 2))), np.count_nonzero(quiet) / 2) + 1
    maps, weights = [], []
    for part in (slice(None, half), slice(half, None)):
        weight = _window(quiet[part].sum(axis=0).astype(float), fwhm)
        power = _window(squares[part].sum(axis=0).astype(float), fwhm)
        maps.append(power)
        weights.append(weight)
    known = (weights[0] > 1) & (weights[1] > 1) & (maps[0] > 0) & (maps[1] > 0)
    none = np.ones(data.shape[1:]), 0.0
    if np.count_nonzero(known) < 2:
        return none
    low, high = (0.5 * np.log(power[known] / weight[known]) for power, weight in zip(maps, weights, strict=True))
    together = 0.5 * np.log((maps[0] + maps[1])[known] / (weights[0] + weights[1])[known])
    true_variance = float(np.mean((low - low.mean()) * (high - high.mean())))
    if true_variance < LEAST_VARIATION**2:
        return none
    shrink = min(1.0, true_variance / float(np.var(together)))
    field = np.ones(data.shape[1:])
    field[known] = np.exp(shrink * (together - np.median(together)))
    return field, float(np.std(np.log(field[known])))


def _spectrum(data, quiet, beam_pixels):
    """Level of the noise, its relative spectrum, and the scatter of that; data divided by the map of the field."""
    level = SIGMA_PER_MAD * float(np.median(np.abs(data[quiet])))
    n_channel = data.shape[0]
    log_ratio, error = np.zeros(n_channel), np.full(n_channel, np.inf)
    for channel in range(n_channel):
        values = data[channel][quiet[channel]]
        beams = values.size / beam_pixels
        if beams >= 10 and level > 0:
            own = SIGMA_PER_MAD * float(np.median(np.abs(values - np.median(values))))
            if own > 0:
                log_ratio[channel], error[channel] = np.log(own / level), MAD_ERROR / np.sqrt(beams)
    known = np.isfinite(error)
    if np.count_nonzero(known) < 3:
        return level, np.ones(n_channel), 0.0
    # The excess over the scatter of measurement is true; each channel is shrunk by its own share (James and Stein).
    excess = max(0.0, float(np.var(log_ratio[known]) - np.mean(error[known] ** 2)))
    shrunk = np.where(known, log_ratio * excess / (excess + error**2), 0.0)
    return level, np.exp(shrunk), float(np.std(shrunk))


def _window(image, fwhm):
    sigma = [FIELD_WINDOW * SIGMA_PER_FWHM * max(width, 1.0) for width in fwhm]
    return ndimage.gaussian_filter(image, sigma, mode="constant", truncate=3)
