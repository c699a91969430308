"""Synthetic cubes: a rotating Gaussian blob on any WCS, so that the truth of every voxel is known."""

import numpy as np
import pytest
from astropy import units as u
from astropy.wcs import WCS
from radio_beam import Beam
from scipy import ndimage
from spectral_cube import SpectralCube

BEAM = Beam(4 * u.arcsec, 3 * u.arcsec, 30 * u.deg)


def make_wcs(shape=(40, 48, 48), *, scales=(1.0, 1.0), rotation=0.0, centre=(150.0, 2.0), sky=("RA", "DEC"), axis=None):
    """WCS of a cube; scales in arcsec along (y, x), rotation in degrees, axis the spectral keywords to set."""
    wcs = WCS(naxis=3)
    names = [f"{name:-<5}SIN" for name in sky]
    axis = {"ctype": "VRAD", "crval": 1000e3, "cdelt": 10e3, "cunit": "m/s"} | (axis or {})
    wcs.wcs.ctype = [*names, axis["ctype"]]
    wcs.wcs.crval = [*centre, axis["crval"]]
    wcs.wcs.cdelt = [-scales[1] / 3600, scales[0] / 3600, axis["cdelt"]]
    wcs.wcs.crpix = [shape[2] / 2 + 0.5, shape[1] / 2 + 0.5, axis.get("crpix", shape[0] / 2 + 0.5)]
    wcs.wcs.cunit = ["deg", "deg", axis["cunit"]]
    wcs.wcs.specsys = axis.get("specsys", "LSRK")
    if "restfrq" in axis:
        wcs.wcs.restfrq = axis["restfrq"]
    turn = np.radians(rotation)
    wcs.wcs.pc = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    wcs.wcs.set()
    return wcs


def blob(shape, *, peak=1.0, at=None, size=5.0, gradient=1.0, width=2.0):
    """A Gaussian of light whose line moves by ``gradient`` channels a pixel in x; ``at`` is (channel, y, x)."""
    c0, y0, x0 = at if at is not None else [(n - 1) / 2 for n in shape]
    c, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    light = peak * np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / size**2)
    return light * np.exp(-0.5 * ((c - c0 - gradient * (x - x0)) / width) ** 2)


def noise(shape, *, sigma=0.05, fwhm=3.5, seed=1):
    """Noise as an interferometer has it, correlated by a beam of ``fwhm`` pixels, with standard deviation ``sigma``."""
    values = np.random.default_rng(seed).normal(size=shape)
    width = fwhm / 2.3548
    values = ndimage.gaussian_filter(values, (0, width, width), mode="wrap")
    return sigma * values / values.std()


def make_cube(data, wcs=None, *, beam=BEAM, unit=u.Jy / u.beam, **kwargs):
    return SpectralCube(data * unit, wcs=make_wcs(data.shape) if wcs is None else wcs, beam=beam, **kwargs)


@pytest.fixture
def mock():
    """The functions above, under one name."""

    class Mock:
        beam = BEAM

    Mock.wcs, Mock.blob, Mock.noise, Mock.cube = map(staticmethod, (make_wcs, blob, noise, make_cube))
    return Mock


@pytest.fixture
def galaxy():
    """Data of a bright blob in noise, shape (40, 48, 48)."""
    shape = (40, 48, 48)
    return (blob(shape) + noise(shape)).astype(np.float32)
