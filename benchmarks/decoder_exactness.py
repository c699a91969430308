"""The decoder against another code: twelve noise-free discs of KinMS, thin and thick, from 10 to 85 degrees.

``python benchmarks/decoder_exactness.py`` prints one row a disc; with ``--rst`` that is what the documentation holds as
``docs/accuracy/decoder_exactness.inc``. 64 x 64 pixels of 1 arcsec, 40 channels of 10 km/s, beam 4 arcsec, pixels
integrated as KinMS's are, the field at least 8 scale lengths wide. The discs differ in all that may hide an error:
scale length down to 2 pixels, turnover radius down to 0.3 pixels, dispersion down to 0.3 channels, a centre between
pixels, a systemic velocity between channels, scale height below and above a pixel.

A third code stands between the two, ``disc_sum``: the disc as four million points of equal light, evenly spread in its
own coordinates, each with its exact line. It has no clouds' noise and nothing of the decoder's quadrature on the sky,
and so tells which of the two is wrong. Over the voxels where KinMS is brighter than 2 % of its peak voxel, in percent
of the peak, the rms

- ``rms``: of decoder - KinMS;
- ``seeds``: of KinMS - KinMS with another seed;
- ``decoder``: of decoder - sum, the decoder's own error; ``sum`` is that of two such sums over other points.

The decoder is the one that ``benchmarks/decoder.py`` times: with its defaults, in float32.
``flux`` is the sum over the cube, decoder over KinMS, less one, in percent. ``moment 1`` is the rms difference [km/s]
of the mean velocity over the pixels brighter than 10 % of the peak of moment 0, and beside it that of the two seeds.
KinMS takes a beam's sigma as FWHM / 2.355, which makes its flux per beam 0.015 % too small.
"""

import argparse
import sys

import numpy as np
import torch
from astropy.convolution import Gaussian2DKernel, convolve_fft
from astropy.table import Table
from kinms_galaxies import BEAM, CHANNEL, N_CHANNELS, N_PIXELS, PIXEL, render

from kinematics_nn.decoder import DiscDecoder, Forms, Grid
from kinematics_nn.forms import get_form

__all__ = ["DISCS", "FORMS", "kinms_grid", "decode", "disc_sum", "compare"]

N_CLOUDS = 5_000_000

FORMS = Forms(
    get_form("arctan", "rotation_curve"),
    get_form("exponential", "surface_brightness"),
    get_form("constant", "velocity_dispersion"),
)

_COLUMNS = "inclination thickness r_scale r_turn vmax velocity_dispersion pa east north vsys".split()
_ROWS = [
    (10, 0.0, 5.0, 2.0, 200, 10, 30, 0.7, -1.3, 7),
    (20, 1.0, 4.0, 0.5, 250, 6, 110, -0.4, 0.5, -4),
    (30, 0.0, 8.0, 4.0, 220, 15, 200, 1.6, 0.2, 5),
    (40, 0.6, 2.0, 1.0, 180, 10, 285, 0.5, 0.5, -13),
    (50, 0.0, 2.0, 0.3, 150, 4, 65, -1.2, -0.8, 2),
    (60, 0.0, 5.0, 2.0, 150, 10, 30, 0.7, -1.3, 7),
    (60, 1.5, 6.0, 3.0, 150, 8, 170, 0.0, 0.0, 0),
    (67, 0.3, 3.0, 0.8, 160, 5, 245, 0.3, 1.9, 11),
    (75, 1.0, 5.0, 2.0, 150, 10, 250, 0.7, -1.3, 7),
    (75, 0.0, 6.0, 0.5, 150, 3, 340, -0.6, -0.3, -8),
    (80, 0.2, 8.0, 5.0, 160, 12, 90, 0.0, 0.5, 3),
    (85, 0.0, 5.0, 1.0, 140, 8, 45, 0.2, 0.4, -6),
]
DISCS = [dict(zip(_COLUMNS, map(float, row), strict=True)) | {"flux": 10.0} for row in _ROWS]
"""Parameters in arcsec, km/s and degrees; lines of up to 3 sigma stay within the band."""


def kinms_grid(dtype=torch.float32):
    """Where KinMS puts things: zero on the centre of pixel and channel N / 2."""
    offset = (torch.arange(N_PIXELS, dtype=dtype) - N_PIXELS // 2) * PIXEL
    north, west = torch.meshgrid(offset, offset, indexing="ij")
    edges = (torch.arange(N_CHANNELS + 1, dtype=dtype) - N_CHANNELS // 2 - 0.5) * CHANNEL
    area = np.pi * BEAM**2 / (4 * np.log(2))
    beam = torch.tensor([BEAM, BEAM, 0.0], dtype=dtype)
    return Grid(xi=-west, eta=north, edges=edges, beam=beam, brightness_per_flux=area)


def decode(disc, dtype=torch.float32):
    """The decoder's cube (channel, y, x) of a disc on KinMS's voxels, by its defaults."""
    decoder = DiscDecoder(kinms_grid(dtype), FORMS, integrate_pixels=True)
    with torch.no_grad():
        return decoder(torch.tensor([[disc[name] for name in decoder.names]], dtype=dtype))[0].double().numpy()


def disc_sum(disc, n=4_000_000, start=0.5):
    """A disc on KinMS's voxels (channel, y, x), summed over points of equal light in its own coordinates.

    The points are those of a Kronecker sequence (irrational steps in the shares of light inside a radius, around the
    centre and below a height), which fills the disc evenly; ``start`` shifts it.
    """
    wide, scale = 2 * N_PIXELS, disc["r_scale"]
    radii = np.linspace(0, 25, 100_001)
    inclination, pa = np.radians(disc["inclination"]), np.radians(disc["pa"])
    edges = kinms_grid(torch.float64).edges
    line = torch.distributions.Normal(0.0, torch.tensor(disc["velocity_dispersion"], dtype=torch.float64))
    sky = torch.zeros(wide * wide, N_CHANNELS, dtype=torch.float64)
    for index in np.array_split(np.arange(n), max(1, n // 50_000)):
        # Powers of the root of x^4 = x + 1 are as far from any fraction as three numbers together can be.
        light, around, height = (start + index[:, None] * 1.2207440846057596 ** -np.array([1.0, 2.0, 3.0])).T % 1
        radius = scale * np.interp(light, 1 - np.exp(-radii) * (1 + radii), radii)
        z = disc["thickness"] * np.sign(height - 0.5) * -np.log1p(-abs(2 * height - 1))
        u, y = radius * np.cos(2 * np.pi * around), radius * np.sin(2 * np.pi * around)
        w = y * np.cos(inclination) + z * np.sin(inclination)
        column = wide // 2 + np.rint(-(u * np.sin(pa) + w * np.cos(pa) + disc["east"]) / PIXEL).astype(int)
        row = wide // 2 + np.rint((u * np.cos(pa) - w * np.sin(pa) + disc["north"]) / PIXEL).astype(int)
        speed = disc["vmax"] * 2 / np.pi * np.arctan(radius / disc["r_turn"]) * np.cos(2 * np.pi * around)
        speed = torch.as_tensor(disc["vsys"] + speed * np.sin(inclination))
        inside = torch.as_tensor((row >= 0) & (row < wide) & (column >= 0) & (column < wide))
        spectra = torch.diff(line.cdf(edges - speed[:, None]))
        sky.index_add_(0, torch.as_tensor(row * wide + column)[inside], spectra[inside])
    sky = sky.unflatten(0, (wide, wide)).permute(2, 0, 1).numpy() * disc["flux"] / (n * CHANNEL)
    beam = Gaussian2DKernel(BEAM / PIXEL / np.sqrt(8 * np.log(2)), x_size=33)
    kept = slice(N_PIXELS // 2, N_PIXELS // 2 + N_PIXELS)
    seen = np.stack([convolve_fft(image, beam)[kept, kept] for image in sky])
    return seen * np.pi * BEAM**2 / (4 * np.log(2)) / PIXEL**2


def emission(cube):
    """Voxels (channel, y, x) that are compared."""
    return cube > 0.02 * cube.max()


def moment_1(cube, where):
    """Mean velocity [km/s] of the pixels in ``where`` (y, x), counted from the first channel."""
    return np.tensordot(np.arange(len(cube)) * CHANNEL, cube, 1)[where] / cube.sum(0)[where]


def compare(ours, theirs):
    """Rms residual within the emission and flux difference [fractions], and rms difference of moment 1 [km/s]."""
    light = theirs.sum(0)
    bright = light > 0.1 * light.max()
    return (
        np.sqrt(np.mean((ours - theirs)[emission(theirs)] ** 2)) / theirs.max(),
        ours.sum() / theirs.sum() - 1,
        np.sqrt(np.mean((moment_1(ours, bright) - moment_1(theirs, bright)) ** 2)),
    )


def row(disc, n_clouds=N_CLOUDS, seeds=(3, 4)):
    """One row of the table."""
    first, second = (render(disc, seed, n_clouds=n_clouds) for seed in seeds)
    ours = decode(disc)
    rms, flux, velocity = compare(ours, first)
    between_seeds, _, velocity_seeds = compare(second, first)
    exact = disc_sum(disc)
    return {
        **{name: disc[name] for name in ("inclination", "thickness", "r_scale", "r_turn", "velocity_dispersion")},
        "rms %": 100 * rms,
        "seeds %": 100 * between_seeds,
        "decoder %": 100 * compare(ours, exact)[0],
        "sum %": 100 * compare(disc_sum(disc, start=0.1), exact)[0],
        "flux %": 100 * flux,
        "moment 1": velocity,
        "its seeds": velocity_seeds,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clouds", type=int, default=N_CLOUDS)
    parser.add_argument("--rst", action="store_true", help="as a table of reStructuredText")
    options = parser.parse_args()
    table = Table([row(disc, options.clouds) for disc in DISCS])
    for name in table.colnames[5:]:
        table[name].info.format = ".3f"
    table.rename_columns(["velocity_dispersion"], ["dispersion"])
    if options.rst:
        table.write(sys.stdout, format="ascii.rst")
    else:
        table.pprint_all()


if __name__ == "__main__":
    main()
