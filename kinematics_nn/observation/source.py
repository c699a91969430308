"""Which emission is the galaxy, and which is another's."""

import warnings

import numpy as np

from kinematics_nn.errors import NoEmission, SeveralSourcesWarning, TooFewChannels
from kinematics_nn.observation.mask import find_sources, robust_level
from kinematics_nn.observation.noise import coarse_field, measure_noise

__all__ = ["LEAST_CHANNELS", "check_line", "choose", "detect"]

# Rotation cannot be told from fewer.
LEAST_CHANNELS = 4

# Another source with this share of the flux may be the other half of a galaxy, and the user is asked.
COMPARABLE = 0.3


def detect(data, finite, fwhm, given_rms):
    """
    Find all sources and the noise, each with the help of the other.

    Sources over a first, rough noise leave the voxels on which the noise is measured, and are found again over that.

    Parameters
    ----------
    data : ndarray of float32, shape (channel, y, x)
        0 where blank.
    finite : ndarray of bool, shape (channel, y, x)
    fwhm : tuple of float
        FWHM of the beam along (y, x) [pixels].
    given_rms : ndarray, shape (channel, y, x), optional
        Noise known beforehand.

    Returns
    -------
    labels : ndarray of int32, shape (channel, y, x)
        0 where there is no emission, else the number of the source.
    rms : ndarray of float32, shape (channel, y, x)
    note : dict
        How the noise was measured.
    free : ndarray of bool, shape (channel, y, x)
        Voxels that hold noise and no emission; none where the noise is an assumed one.
    """
    if given_rms is not None:
        rms = np.where(finite, given_rms, np.float32(1))
        labels, near = find_sources(data / rms, finite, fwhm)
        note = {"method": "given", "rms": float(np.median(rms[finite]))}
        return labels, rms, note, finite & ~near & (data != 0)
    field = coarse_field(data, finite, fwhm).astype(np.float32)
    relative = data / field
    scale = max(robust_level(relative[finite]), 1e-3 * float(relative.max())) or 1.0
    _, near = find_sources(relative / np.float32(scale), finite, fwhm)
    free = finite & ~near
    rms, note = measure_noise(data, finite, free, fwhm)
    if not note["rms"] > 0:
        raise NoEmission("no positive value in the cube", "emission", "cube.max() to see the brightest voxel")
    labels, near = find_sources(data / rms, finite, fwhm, free if note["method"] == "line-free" else None)
    return labels, rms, note, finite & ~near & (data != 0) & (note["method"] == "line-free")


def choose(labels, data, valid, rms):
    """
    Emission of the source with the most flux where the data may be used, and the number of sources.

    Parameters
    ----------
    labels : ndarray of int, shape (channel, y, x)
        From `detect`.
    data, rms : ndarray of float32, shape (channel, y, x)
    valid : ndarray of bool, shape (channel, y, x)

    Returns
    -------
    emission : ndarray of bool, shape (channel, y, x)
    n_sources : int

    Raises
    ------
    NoEmission
        If there is none.
    """
    found = np.where(valid, labels, 0)
    flux = np.bincount(found.ravel(), weights=data.ravel())
    flux[0] = -np.inf
    if not np.any(flux > 0):
        best = float((data / rms)[valid].max())
        raise NoEmission(
            f"no emission: the brightest voxel is at {best:.1f} times the noise of {np.median(rms[valid]):.3g}",
            "a peak of 5 times the noise, smoothed by the beam and three channels",
            "fit(region=...) or fit(rms=...) if you know better, cube.spectral_slab(...) to leave out bad channels",
        )
    ranked = np.sort(flux[flux > 0])[::-1]
    if len(ranked) > 1 and ranked[1] > COMPARABLE * ranked[0]:
        warnings.warn(
            f"{len(ranked)} sources, the second with {ranked[1] / ranked[0]:.0%} of the flux of the first: "
            "the first is taken. Give region= around the other, or around all that is one galaxy.",
            SeveralSourcesWarning,
            stacklevel=3,
        )
    return found == np.argmax(flux), len(ranked)


def check_line(emission, data):
    """Refuse a line that is above a tenth of its peak in fewer channels than rotation takes."""
    line = np.where(emission, data, 0).sum(axis=(1, 2))
    n_line = int(np.count_nonzero(line > 0.1 * line.max()))
    if n_line < LEAST_CHANNELS:
        raise TooFewChannels(
            f"a line of {n_line} channels in a cube of {len(line)}",
            f"at least {LEAST_CHANNELS}",
            "the cube before its channels were averaged",
        )
