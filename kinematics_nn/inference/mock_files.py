"""Cubes of mock galaxies on disk: rendered once, fitted by every method and every network."""

import json
import warnings
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS

from ..errors import KinematicsError
from ..results.files import whole_file
from .mock import observe_mock

__all__ = ["kept_cube"]


def kept_cube(path, mock, rng, forms, galaxies):
    """The noisy cube of a mock, from ``path`` or, where nothing is there, from `observe_mock` and kept there.

    Parameters
    ----------
    path : path
        A FITS file; truths and rms are in its table.
    mock, rng, forms, galaxies
        As `~kinematics_nn.inference.mock.observe_mock` takes them.

    Returns
    -------
    cube : `~spectral_cube.SpectralCube`
        [Jy/beam]
    rms : float

    Raises
    ------
    KinematicsError
        The file is of another mock: drawn by another version, or fitted with other forms.
    """
    from radio_beam import Beam
    from spectral_cube import SpectralCube

    path = Path(path)
    truth = json.dumps({name: float(f"{value:.6g}") for name, value in mock.truth.items()})
    if not path.exists():
        cube, rms = observe_mock(mock, rng, forms, galaxies)
        path.parent.mkdir(parents=True, exist_ok=True)
        hdu = fits.PrimaryHDU(np.asarray(cube.unitless_filled_data[:], dtype=np.float32), cube.header)
        table = fits.BinTableHDU.from_columns(
            [fits.Column("truth", f"{len(truth)}A", array=[truth]), fits.Column("rms", "D", array=[rms])]
        )
        with whole_file(path, overwrite=True) as partial, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fits.HDUList([hdu, table]).writeto(partial)
        return cube, rms
    with fits.open(path, memmap=False) as file:
        header, data = file[0].header, file[0].data.astype(np.float32)
        row = file[1].data[0]
        found, rms = row["truth"], float(row["rms"])
    if found != truth:
        raise KinematicsError(f"{path} holds {found}", truth, "another folder, --keep")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cube = SpectralCube(data * u.Jy / u.beam, WCS(header), header=header, beam=Beam.from_fits_header(header))
    return cube, rms
