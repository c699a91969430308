"""Cubes, tables and pictures that the command line reads and writes."""

import warnings
from pathlib import Path

import astropy.units as u
import numpy as np

from ..errors import KinematicsError
from ..quantities import parse_range
from .arguments import given, quantities
from .messages import say

__all__ = ["check_pictures", "cut_slab", "read_cube", "write_cube", "write_results"]


def read_cube(name):
    """A cube by its path, or by the name of a data set."""
    from astropy.io.fits.verify import VerifyWarning
    from astropy.wcs import FITSFixedWarning
    from spectral_cube.utils import StokesWarning

    from .. import datasets
    from ..observation import opened

    path = Path(name)
    if not path.exists():
        if name not in datasets.names():
            raise KinematicsError(f"no file and no data set {name}", f"a path, or one of {', '.join(datasets.names())}")
        try:
            path = datasets.fetch(name)
        except ValueError as error:
            raise KinematicsError(str(error)) from error
    with warnings.catch_warnings():
        # What astropy mends in old headers is nothing to act on here.
        for category in (FITSFixedWarning, StokesWarning, VerifyWarning):
            warnings.simplefilter("ignore", category)
        return opened(path)


def cut_slab(cube, args):
    """The channels of a cube that ``--slab`` asks for."""
    if args.slab is None:
        return cube
    from ..observation.reading import cube_header
    from ..observation.spectral import spectral_axis

    low, high = (end.value for end in parse_range(args.slab, u.km / u.s, name="--slab"))
    options = quantities(args, rest_value=None) | given(args, "velocity_convention")
    axis = spectral_axis(cube.wcs, cube.shape[0], velref=int(cube_header(cube).get("VELREF", 0)), **options)
    edges = axis.edges
    if high <= edges[0] or low >= edges[-1]:
        raise KinematicsError(f"--slab {args.slab}", f"a part of {edges[0]:.1f} to {edges[-1]:.1f} km / s")
    start = max(0, np.searchsorted(edges, low, side="right") - 1)
    stop = min(len(edges) - 1, np.searchsorted(edges, high))
    return cube[len(edges) - 1 - stop : len(edges) - 1 - start] if axis.descending else cube[start:stop]


def check_pictures(*paths):
    """Refuse an ending that no format of pictures has."""
    for path in paths:
        if path is not None and Path(path).suffix.lower() not in (".png", ".pdf", ".svg"):
            raise KinematicsError(f"{path} names no format of pictures", "an ending .png, .pdf or .svg")


def write_results(result, output, samples, plot, corner, overwrite):
    """Write the tables and pictures of a fit that have a path."""
    for path, write in ((output, result.write), (samples, result.write_samples)):
        if path is not None:
            write(path, overwrite=overwrite)
            say(f"wrote {path}")
    for path, draw in ((plot, result.plot), (corner, result.corner)):
        if path is not None:
            _write_picture(draw(), path, overwrite)


def _write_picture(figure, path, overwrite):
    import matplotlib.pyplot as plt

    from ..results.files import whole_file

    with whole_file(path, overwrite) as partial:
        figure.savefig(partial, dpi=200)
    plt.close(figure)
    say(f"wrote {path}")


def write_cube(cube, path, overwrite):
    """Write a cube as FITS, whole or not at all."""
    from ..results.files import whole_file

    with whole_file(path, overwrite) as partial:
        cube.write(str(partial), format="fits")
    say(f"wrote {path}")
