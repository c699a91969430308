"""
Galaxies of another code: noisy KinMS cubes with known truths, as FITS files.

KinMS (Davis et al. 2013, MNRAS 429, 534) throws cloudlets; it shares neither code nor method with the decoder of this
package. ``python benchmarks/kinms_galaxies.py FOLDER --n 200 --seed 1`` makes the set, ``--check`` verifies KinMS's
conventions against closed forms instead. Those of kinms 3.0.14, for an even number N of pixels or channels, are

- the array is (x, y, channel); a cloud falls in the voxel whose index is the nearest to ``N / 2`` + offset, so an
  undisplaced disc is centred **on the centre of the pixel** of 0-based index N / 2, and its systemic velocity **on the
  centre of the channel** N / 2. The header that KinMS itself writes has that channel at vSys + half a channel, and is
  not used here;
- ``posAng`` is the position angle of the receding side, east of north, if x runs west (CDELT1 < 0);
- ``diskThick`` is the scale height of an exponential in |z|;
- the beam is sampled at pixel centres with sigma = FWHM / 2.355, the clouds are counted in whole pixels, so the pixel
  is part of the response; the convolution takes what lies outside the field as zero. The fields here are rendered twice
  as wide as they are kept, so that light from outside comes in through the beam as it does on the sky;
- the flux is normalised inside the field: here it is set over the whole sky, from the share of clouds inside;
- velocities add linearly (no redshift factor): the cubes are centred on zero, where that factor is 1 within 1e-4.
"""

import argparse
import time
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import QTable, vstack
from astropy.wcs import WCS
from kinms import KinMS
from scipy.signal import fftconvolve
from spectral_cube import SpectralCube

__all__ = [
    "make_galaxy", "make_galaxies", "read_galaxies", "read_cube", "draw_truth", "arctan_speed", "render", "observe",
    "check_conventions",
]  # fmt: skip

N_PIXELS, N_CHANNELS = 64, 40
PIXEL, CHANNEL, BEAM = 1.0, 10.0, 4.0  # arcsec, km/s, arcsec
N_CLOUDS = 2_000_000  # two seeds differ by about 0.3 % of the peak voxel, a sixteenth of the least noise drawn
RA, DEC = 150.0, 2.0  # of the reference pixel, deg

UNITS = {
    "inclination": u.deg, "pa": u.deg, "ra": u.deg, "dec": u.deg, "x": u.pix, "y": u.pix, "vsys": u.km / u.s,
    "flux": u.Jy * u.km / u.s, "velocity_dispersion": u.km / u.s, "thickness": u.arcsec, "vmax": u.km / u.s,
    "r_turn": u.arcsec, "r_scale": u.arcsec, "v22": u.km / u.s, "v22_sini": u.km / u.s, "snr": u.one,
    "rms": u.Jy / u.beam,
}  # fmt: skip


def draw_truth(rng):
    """
    Draw the parameters of one galaxy: a dict in deg, arcsec, km/s.

    Inclination isotropic in 20-80 deg; vmax, r_scale, r_turn / r_scale, dispersion, thickness / r_scale (zero for
    three in ten) and peak S/N log-uniform. A draw whose line would leave the band is drawn again.
    """

    def log_uniform(low, high):
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    while True:
        truth = {
            "inclination": float(np.degrees(np.arccos(rng.uniform(np.cos(np.radians(80)), np.cos(np.radians(20)))))),
            "pa": rng.uniform(0, 360),
            "vmax": log_uniform(80, 250),
            "r_scale": log_uniform(3, 10),
            "velocity_dispersion": log_uniform(5, 25),
            "vsys": rng.uniform(-15, 15),
            "snr": log_uniform(5, 20),
            "flux": 10.0,
            "east": rng.uniform(-2, 2),
            "north": rng.uniform(-2, 2),
        }
        truth["r_turn"] = truth["r_scale"] * log_uniform(0.05, 1.5)
        truth["thickness"] = 0.0 if rng.uniform() < 0.3 else truth["r_scale"] * log_uniform(0.02, 0.3)
        sini = np.sin(np.radians(truth["inclination"]))
        truth["v22"] = truth["vmax"] * 2 / np.pi * np.arctan(2.2 * truth["r_scale"] / truth["r_turn"])
        truth["v22_sini"] = truth["v22"] * sini
        # The band ends 195 km/s above and 205 km/s below zero; the asymptote is not reached inside the field.
        widest = truth["vmax"] * sini * 2 / np.pi * np.arctan(5 * truth["r_scale"] / truth["r_turn"])
        if widest + 2 * truth["velocity_dispersion"] + abs(truth["vsys"]) < 195:
            return truth


def arctan_speed(truth, radius):
    """The speeds [km/s] of the galaxies of `draw_truth` at radii [arcsec]."""
    return truth["vmax"] * 2 / np.pi * np.arctan(radius / truth["r_turn"])


def render(truth, seed, n_pixels=N_PIXELS, n_clouds=N_CLOUDS, speed=arctan_speed):
    """
    Render one noise-free galaxy with KinMS.

    Parameters
    ----------
    truth : dict
        As `draw_truth` gives, `east` and `north` [arcsec] from the centre of pixel ``n_pixels / 2``.
    seed : int
        At least 1: KinMS multiplies it into its four seeds.
    speed : callable
        The rotation curve [km/s], of the truth and radii [arcsec].

    Returns
    -------
    cube : ndarray (channel, y, x)
        Brightness [Jy / beam].
    """
    wide = 2 * n_pixels
    radius = np.linspace(0, 15 * truth["r_scale"], 3000)
    simulator = KinMS(
        wide * PIXEL, wide * PIXEL, N_CHANNELS * CHANNEL, PIXEL, CHANNEL, [BEAM, BEAM, 0], nSamps=n_clouds, seed=seed
    )  # fmt: skip
    cube, clouds, velocity = simulator.model_cube(
        truth["inclination"],
        truth["pa"],
        gasSigma=truth["velocity_dispersion"],
        diskThick=truth["thickness"],
        sbProf=np.exp(-radius / truth["r_scale"]),
        sbRad=radius,
        velRad=radius,
        velProf=speed(truth, radius),
        phaseCent=[-truth["east"], truth["north"]],  # x runs west
        vOffset=truth["vsys"],
        returnClouds=True,
    )
    index = np.column_stack([clouds[:, 0] - truth["east"], clouds[:, 1] + truth["north"]]) / PIXEL + wide / 2
    channel = (velocity + truth["vsys"]) / CHANNEL + N_CHANNELS / 2
    in_field = (abs(index - wide / 2 + 0.5) < wide / 2).all(axis=1)
    inside = in_field & (abs(channel - N_CHANNELS / 2 + 0.5) < N_CHANNELS / 2)
    cube *= inside.mean() * truth["flux"] / CHANNEL * simulator.psf.sum()  # KinMS left it with sum 1
    kept = slice(n_pixels // 2, n_pixels // 2 + n_pixels)  # pixel n_pixels of the wide field becomes n_pixels / 2
    return np.ascontiguousarray(cube.T[:, kept, kept])


def beam_noise(shape, rng):
    """White noise convolved with the beam, of unit rms: (channel, y, x)."""
    offset = np.arange(-9, 10) * PIXEL
    kernel = np.exp(-4 * np.log(2) * (offset[:, None] ** 2 + offset**2) / BEAM**2)
    kernel /= np.sqrt((kernel**2).sum())
    white = rng.standard_normal((shape[0], shape[1] + 18, shape[2] + 18))
    return fftconvolve(white, kernel[None], mode="valid", axes=(1, 2))


def header(n_pixels=N_PIXELS):
    """The header that says where KinMS put things."""
    return fits.Header(
        {
            "CTYPE1": "RA---SIN", "CRVAL1": RA, "CDELT1": -PIXEL / 3600, "CRPIX1": n_pixels // 2 + 1, "CUNIT1": "deg",
            "CTYPE2": "DEC--SIN", "CRVAL2": DEC, "CDELT2": PIXEL / 3600, "CRPIX2": n_pixels // 2 + 1, "CUNIT2": "deg",
            "CTYPE3": "VRAD", "CRVAL3": 0.0, "CDELT3": CHANNEL * 1e3, "CRPIX3": N_CHANNELS // 2 + 1, "CUNIT3": "m/s",
            "RADESYS": "ICRS", "SPECSYS": "BARYCENT", "RESTFRQ": 230.538e9, "BUNIT": "Jy/beam",
            "BMAJ": BEAM / 3600, "BMIN": BEAM / 3600, "BPA": 0.0,
        }
    )  # fmt: skip


def observe(truth, seed, speed=arctan_speed):
    """The galaxy with noise, as ``(hdu, truth)``; the truth gains sky position, pixel position and rms."""
    clean = render(truth, seed, speed=speed)
    rms = clean.max() / truth["snr"]
    noisy = clean + rms * beam_noise(clean.shape, np.random.default_rng([seed, 1]))
    hdu = fits.PrimaryHDU(noisy.astype(np.float32), header=header())
    truth = {name: value for name, value in truth.items() if name not in ("east", "north")} | {
        "x": N_PIXELS / 2 - truth["east"] / PIXEL,
        "y": N_PIXELS / 2 + truth["north"] / PIXEL,
        "rms": rms,
    }
    centre = SkyCoord.from_pixel(truth["x"], truth["y"], WCS(hdu.header).celestial)
    return hdu, truth | {"ra": centre.ra.deg, "dec": centre.dec.deg}


def make_galaxy(number, seed, folder):
    """
    Make one galaxy in ``folder``, unless it is there, and return its path.

    It depends on ``seed`` and its own number alone, so several processes may fill one folder, and 50 galaxies are the
    first 50 of 200.
    """
    path = Path(folder) / f"galaxy_{seed}_{number:04d}.fits"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    hdu, truth = observe(draw_truth(np.random.default_rng([seed, number])), seed * 100_000 + number)
    table = fits.BinTableHDU(QTable([{name: truth[name] * unit for name, unit in UNITS.items()}]), name="TRUTH")
    part = path.with_suffix(".part")
    fits.HDUList([hdu, table]).writeto(part, overwrite=True)
    part.rename(path)  # a file that is there is whole
    return path


def make_galaxies(n, seed, folder):
    """Make ``n`` galaxies in ``folder``, those that are there already excepted, and return `read_galaxies`."""
    for number in range(n):
        make_galaxy(number, seed, folder)
    return read_galaxies(folder, n, seed)


def read_galaxies(folder, n=None, seed=1):
    """
    Read the set: ``(paths, truths)``, truths a QTable with a row a galaxy.

    Cubes are left to `read_cube`, one at a time: two hundred need not be in memory together.
    """
    paths = sorted(Path(folder).glob(f"galaxy_{seed}_*.fits"))[:n]
    return paths, vstack([QTable.read(path, hdu="TRUTH") for path in paths])


def read_cube(path):
    """The `~spectral_cube.SpectralCube` of one galaxy."""
    return SpectralCube.read(path, hdu=0)


def check_conventions():
    """Compare moments of noise-free KinMS cubes with closed forms, through the WCS only."""
    for pa, inclination in ((30.0, 60.0), (250.0, 40.0)):
        truth = draw_truth(np.random.default_rng(0)) | {
            "pa": pa, "inclination": inclination, "r_scale": 4.0, "r_turn": 2.0, "vmax": 150.0, "thickness": 0.0,
            "vsys": 7.0, "east": 1.3, "north": -2.4, "velocity_dispersion": 8.0,
        }  # fmt: skip
        n_pixels = 128
        data = render(truth, seed=3, n_pixels=n_pixels, n_clouds=4_000_000)
        wcs = WCS(header(n_pixels))
        y, x = np.indices(data.shape[1:])
        sky = SkyCoord.from_pixel(x, y, wcs.celestial)
        east, north = (o.to_value(u.arcsec) for o in SkyCoord(RA, DEC, unit="deg").spherical_offsets_to(sky))
        velocity = wcs.spectral.pixel_to_world_values(np.arange(len(data))) / 1e3

        light, spectrum, total = data.sum(0), data.sum((1, 2)), data.sum()
        momentum = np.tensordot(velocity, data, 1)
        centre = (light * east).sum() / total, (light * north).sum() / total
        vsys = spectrum @ velocity / total
        de, dn = east - centre[0], north - centre[1]
        dipole = [((momentum - vsys * light) * offset).sum() for offset in (de, dn)]
        phi = np.arctan2(*dipole)
        # Second moments of the light: 3 r_scale^2 along the major axis, cos^2 i of that along the minor; beam and pixel
        # add theirs.
        blur = BEAM**2 / (8 * np.log(2)) + PIXEL**2 / 12
        major = (light * (de * np.sin(phi) + dn * np.cos(phi)) ** 2).sum() / total - blur
        minor = (light * (de * np.cos(phi) - dn * np.sin(phi)) ** 2).sum() / total - blur
        beam_area = np.pi * BEAM**2 / (4 * np.log(2)) / PIXEL**2
        found = {
            "east": centre[0],
            "north": centre[1],
            "vsys": vsys,
            "pa": np.degrees(phi) % 360,
            "inclination": np.degrees(np.arccos(np.sqrt(minor / major))),
            "r_scale": np.sqrt(major / 3),
            "flux": total * CHANNEL / beam_area,
        }
        # Cloud noise of 4e6 clouds is 0.1 % in each; half a pixel, half a channel or a mirrored angle is 5 to 100 times
        # the tolerances. KinMS's 2.355 and its cut of the beam at 1e-5 are 0.02 % of the flux.
        tolerance = dict.fromkeys(found, 0.03) | {"vsys": 0.3, "pa": 0.3, "inclination": 0.4}
        for name, value in found.items():
            print(f"{name:12s} {truth[name]:9.3f} {value:9.3f}")
            if not abs(value - truth[name]) < tolerance[name]:
                raise SystemExit(f"KinMS's convention for {name} is not the one stated above")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="verify KinMS's conventions, make nothing")
    options = parser.parse_args()
    if options.check:
        check_conventions()
    elif options.folder is None:
        parser.error("a folder is needed to make galaxies in")
    else:
        start = time.perf_counter()
        paths, _ = make_galaxies(options.n, options.seed, options.folder)
        print(f"{len(paths)} galaxies in {options.folder}, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
