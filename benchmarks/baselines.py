"""
What is free: moment maps, and least squares on an analytic thin disc. The methods that a network has to beat.

Both take a cube and its rms and return a dict in the package's names and units (deg, arcsec, km/s; ``x`` and ``y`` in
pixels), so that `accuracy` scores them as it scores a fit. Square pixels, north up, and a round beam are assumed, as
`kinms_galaxies` makes them: these are yardsticks, not part of the package.
"""

import numpy as np
from astropy import units as u
from astropy.io import fits
from scipy import fft, ndimage
from scipy.optimize import least_squares
from scipy.special import erf

__all__ = ["fit_least_squares", "moment_guess", "moment_maps"]


def _plain(cube):
    """Data (channel, y, x), channel centres [km/s], channel width, pixel [arcsec], beam FWHM [arcsec] of a cube."""
    data = cube.filled_data[:].value.astype(float)
    velocity = cube.with_spectral_unit(u.km / u.s, velocity_convention="radio").spectral_axis.value
    pixel = abs(cube.wcs.celestial.pixel_scale_matrix[1, 1]) * 3600
    return data, velocity, velocity[1] - velocity[0], pixel, cube.beam.major.to_value(u.arcsec)


def _arctan(radius, vmax, r_turn):
    return vmax * 2 / np.pi * np.arctan(radius / r_turn)


def _emission(data, pixel, beam):
    """Smooth and clip: voxels above 3 sigma of a copy smoothed by the beam, connected to one above 5."""
    width = beam / pixel / 2.355
    smooth = ndimage.gaussian_filter(data, (1, width, width))
    sigma = 1.4826 * np.median(abs(smooth - np.median(smooth)))
    labels, _ = ndimage.label(smooth > 3 * sigma)
    sizes = np.bincount(labels[smooth > 5 * sigma], minlength=2)
    sizes[0] = 0
    return labels == sizes.argmax()


def moment_maps(cube):
    """Moments 0 and 1 over smoothed and clipped voxels: two HDUs, blank where there are none."""
    data, velocity, width, pixel, beam = _plain(cube)
    clipped = np.where(_emission(data, pixel, beam), data, 0)
    light = clipped.sum(0)
    light[light <= 0] = np.nan
    header = cube.wcs.celestial.to_header()
    header.update(cube.beam.to_header_keywords())
    header["VELREF"] = 257  # radio
    planes = (width * light, "Jy/beam km/s"), (np.tensordot(velocity, clipped, 1) / light, "km/s")
    return [
        fits.PrimaryHDU(plane, fits.Header(header, copy=True) + fits.Header({"BUNIT": unit})) for plane, unit in planes
    ]


def moment_guess(cube):
    """
    Geometry from the moments of the light, the curve from an arctan fitted to the moment-1 map.

    No beam enters but for the axis ratio, so the curve is as smeared, and the extent as clipped, as the maps are.
    """
    data, velocity, width, pixel, beam = _plain(cube)
    clipped = np.where(_emission(data, pixel, beam), data, 0)
    light = clipped.sum(0)
    seen = light > 0
    mean_velocity = np.tensordot(velocity, clipped, 1)[seen] / light[seen]
    variance = np.tensordot(velocity**2, clipped, 1)[seen] / light[seen] - mean_velocity**2
    y, x = (index[seen] for index in np.indices(light.shape))
    weight = light[seen] / light[seen].sum()
    xc, yc, vsys = weight @ x, weight @ y, weight @ mean_velocity
    east, north = -(x - xc) * pixel, (y - yc) * pixel
    dipole = weight @ (east * (mean_velocity - vsys)), weight @ (north * (mean_velocity - vsys))

    def axes(pa):
        return east * np.sin(pa) + north * np.cos(pa), east * np.cos(pa) - north * np.sin(pa)

    u_start, w_start = axes(np.arctan2(*dipole))
    blur = (beam / 2.355) ** 2
    major, minor = weight @ u_start**2 - blur, weight @ w_start**2 - blur
    cosi = np.sqrt(np.clip(minor / major, 0.03, 0.99))

    def residual(p):
        u_axis, w_axis = axes(p[0])
        radius = np.hypot(u_axis, w_axis / cosi) + 1e-6
        model = p[1] + _arctan(radius, p[2], abs(p[3]) + 0.1) * u_axis / radius
        return np.sqrt(weight) * (model - mean_velocity)

    span = max(np.percentile(mean_velocity, 95) - vsys, width)
    start = [np.arctan2(*dipole), vsys, span, 0.3 * np.sqrt(major)]
    pa, vsys, projected, r_turn = least_squares(residual, start, loss="soft_l1", f_scale=width / 30).x
    sini, r_scale, r_turn = np.sqrt(1 - cosi**2), np.sqrt(major / 3), abs(r_turn) + 0.1
    if projected < 0:
        pa, projected = pa + np.pi, -projected
    return {
        "inclination": np.degrees(np.arccos(cosi)),
        "pa": np.degrees(pa) % 360,
        "x": xc,
        "y": yc,
        "vsys": vsys,
        "flux": clipped.sum() * width / (np.pi * beam**2 / (4 * np.log(2)) / pixel**2),
        "velocity_dispersion": np.sqrt(np.clip(np.percentile(variance, 25), width**2 / 12, None)),
        "vmax": projected / sini,
        "r_turn": r_turn,
        "r_scale": r_scale,
        "v22": _arctan(2.2 * r_scale, projected, r_turn) / sini,
        "v22_sini": _arctan(2.2 * r_scale, projected, r_turn),
    }


class ThinDisc:
    """
    Exponential disc with an arctan curve: two by two points a pixel, channels by error functions, the beam by FFT.

    Parameters are ``inclination, pa`` [rad], ``x, y`` [pixel], ``vsys`` [km/s], and the logarithms of ``flux, vmax,
    r_turn, r_scale, velocity_dispersion``.
    """

    def __init__(self, shape, velocity, pixel, beam):
        self.pixel = pixel
        self.width = velocity[1] - velocity[0]
        self.edges = np.append(velocity, velocity[-1] + self.width) - self.width / 2
        self.pad = int(np.ceil(2 * beam / pixel))
        ny, nx = shape[1] + 2 * self.pad, shape[2] + 2 * self.pad
        half = np.array([-0.25, 0.25])
        self.x = (np.arange(nx)[:, None] + half).ravel() - self.pad
        self.y = (np.arange(ny)[:, None] + half).ravel() - self.pad
        self.fft_shape = [fft.next_fast_len(n, real=True) for n in (ny, nx)]
        # The transform of a Gaussian of unit peak, in frequencies a pixel: Jy/beam, whatever the beam.
        sigma = beam / pixel / np.sqrt(8 * np.log(2))
        kx, ky = fft.rfftfreq(self.fft_shape[1]), fft.fftfreq(self.fft_shape[0])
        self.area = 2 * np.pi * sigma**2
        self.transfer = np.exp(-2 * (np.pi * sigma) ** 2 * (kx**2 + ky[:, None] ** 2))

    def __call__(self, p):
        inclination, pa, x, y, vsys = p[:5]
        flux, vmax, r_turn, r_scale, sigma = np.exp(p[5:])
        east, north = -(self.x - x) * self.pixel, (self.y[:, None] - y) * self.pixel
        u_axis = east * np.sin(pa) + north * np.cos(pa)
        radius = np.hypot(u_axis, (east * np.cos(pa) - north * np.sin(pa)) / np.cos(inclination)) + 1e-9
        line = vsys + _arctan(radius, vmax, r_turn) * u_axis / radius * np.sin(inclination)
        light = np.exp(-radius / r_scale) / (2 * np.pi * r_scale**2 * np.cos(inclination)) * self.pixel**2 / 4
        share = np.diff(erf((self.edges[:, None, None] - line) / (np.sqrt(2) * sigma)), axis=0) / 2
        fine = light * share * flux * self.area / abs(self.width)
        coarse = fine.reshape(len(share), len(self.y) // 2, 2, len(self.x) // 2, 2).sum((2, 4))
        blurred = fft.irfft2(fft.rfft2(coarse, self.fft_shape) * self.transfer, self.fft_shape)
        return blurred[:, self.pad : coarse.shape[1] - self.pad, self.pad : coarse.shape[2] - self.pad]


def fit_least_squares(cube, rms):
    """Trust-region least squares of `ThinDisc` on every voxel, weighted by ``rms``, from `moment_guess`."""
    data, velocity, _, pixel, beam = _plain(cube)
    guess = moment_guess(cube)
    disc = ThinDisc(data.shape, velocity, pixel, beam)
    logs = ["flux", "vmax", "r_turn", "r_scale", "velocity_dispersion"]
    angles = np.radians(np.clip(guess["inclination"], 5, 85)), np.radians(guess["pa"])
    start = np.array([*angles, guess["x"], guess["y"], guess["vsys"], *np.log([guess[name] for name in logs])])
    ny, nx = data.shape[1:]
    # flux, vmax, r_turn, r_scale and dispersion may go anywhere a disc can, so that no bound helps.
    low = np.array([np.radians(1), -np.inf, 0, 0, velocity[0], -np.inf, *np.log([1, 0.05, 0.3, 0.5])])
    high = np.array([np.radians(88), np.inf, nx, ny, velocity[-1], np.inf, *np.log([2000, 200, 100, 150])])
    scale = np.array([0.02, 0.02, 0.1, 0.1, 1, 0.02, 0.05, 0.1, 0.03, 0.1])
    found = least_squares(
        lambda p: ((disc(p) - data) / rms).ravel(),
        np.clip(start, low + 1e-3, high - 1e-3),
        bounds=(low, high),
        x_scale=scale,
        ftol=1e-5,
        xtol=1e-5,
        max_nfev=60,
    ).x
    fit = dict(zip(["inclination", "pa", "x", "y", "vsys", *logs], [*found[:5], *np.exp(found[5:])], strict=True))
    v22 = _arctan(2.2 * fit["r_scale"], fit["vmax"], fit["r_turn"])
    return fit | {
        "inclination": np.degrees(found[0]),
        "pa": np.degrees(found[1]) % 360,
        "v22": v22,
        "v22_sini": v22 * np.sin(found[0]),
    }
