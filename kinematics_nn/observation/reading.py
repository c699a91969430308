"""A cube as it comes: opened, its header, and its values, where they fit into memory."""

import os
import warnings
from pathlib import Path

import dask.array
import numpy as np
from astropy.wcs import FITSFixedWarning
from spectral_cube import SpectralCube, StokesSpectralCube
from spectral_cube.spectral_cube import BaseSpectralCube

from kinematics_nn.errors import KinematicsError, StokesCube, TooLarge

__all__ = ["check_memory", "cube_header", "opened", "read"]

# Data, masks, noise and the smoothed copies of the detection, at their peak.
BYTES_PER_VOXEL = 40


def opened(cube):
    """
    The cube itself, whether it or its path is given.

    Parameters
    ----------
    cube : `~spectral_cube.SpectralCube`, `~spectral_cube.DaskSpectralCube`, str or path
        A cube, or the path of one that ``SpectralCube.read`` opens.

    Returns
    -------
    `~spectral_cube.SpectralCube`

    Raises
    ------
    KinematicsError
        If the file does not read as a cube.
    StokesCube
        If it holds several Stokes components.
    TypeError
        If it is neither a cube nor a path.
    """
    if isinstance(cube, (str, Path)):
        cube = _from_file(cube)
    if isinstance(cube, StokesSpectralCube):
        raise StokesCube(
            f"a Stokes cube of {', '.join(cube.components)}", "one of intensity", "cube.I.kinematics.fit()"
        )
    if not isinstance(cube, BaseSpectralCube):
        raise TypeError(
            f"expected a SpectralCube or the path of one, got {type(cube).__name__}: SpectralCube.read(path)"
        )
    return cube


def _from_file(path):
    try:
        return SpectralCube.read(str(path))
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:  # any, as formats have readers of their own: one answer for all of them
        raise KinematicsError(
            f"{path} does not read as a cube ({error})", "a spectral-line cube", "SpectralCube.read(path, format=...)"
        ) from error


def cube_header(cube):
    """The header of a cube, parsed anew at each call, for 20 ms; what was mended when it was read is not said again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return cube.header


def read(cube, box):
    """
    Values of a box of the sky; the one time that the data are read.

    Parameters
    ----------
    cube : `~spectral_cube.SpectralCube` or `~spectral_cube.DaskSpectralCube`
    box : tuple of slice
        In (y, x).

    Returns
    -------
    data : ndarray of float32, shape (channel, y, x)
        Native byte order, 0 where blank or masked.
    finite : ndarray of bool, shape (channel, y, x)
        Where it is neither.

    Raises
    ------
    TooLarge
        If the box does not fit into memory.
    """
    n_voxel = cube.shape[0] * np.prod([part.stop - part.start for part in box])
    check_memory(
        n_voxel, "fit(region=...), cube.spectral_slab(...).kinematics.fit(), or cube.downsample_axis(2, axis=1)"
    )
    view = (slice(None), *box)
    if isinstance(cube._data, np.ndarray):
        # A cube that fills its masked voxels with 0 would pass them off as data.
        filled = cube if np.isnan(cube.fill_value) else cube.with_fill_value(np.nan)
        values = filled.unitless_filled_data[view]
    else:
        # spectral-cube would compute the mask of finite voxels apart, and read everything twice. The cube's own way to
        # compute keeps to the scheduler that cube.use_dask_scheduler has set.
        values = cube._data[view]
        if cube.mask is not None:
            include = cube.mask.include(data=cube._data, wcs=cube.wcs, view=view)
            values = dask.array.where(include, values, np.float32(np.nan))
        values = cube._compute(values)
    data = np.array(values, dtype=np.float32)
    finite = np.isfinite(data)
    data[~finite] = 0
    return data, finite


def check_memory(n_voxel, remedy):
    """
    Refuse to work on more voxels than fit into memory.

    Parameters
    ----------
    n_voxel : int
    remedy : str
        The next call to make.

    Raises
    ------
    TooLarge
        If they need more than 80 % of it.
    """
    needed, there = n_voxel * BYTES_PER_VOXEL, _memory()
    if there is not None and needed > 0.8 * there:
        raise TooLarge(
            f"{n_voxel:.3g} voxels, {needed / 2**30:.1f} GiB to work on, and {there / 2**30:.1f} GiB of memory",
            "a smaller cube",
            remedy,
        )


def _memory():
    """
    Memory of this machine in bytes, or None where the system does not tell.

    All of it, not what is free just now: that leaves out the cache of files, which the system gives back.
    """
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
