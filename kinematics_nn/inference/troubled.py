"""Mock galaxies with what real ones have and smooth ones lack, and with the flaws of real cubes; by KinMS."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from scipy.integrate import cumulative_trapezoid
from scipy.ndimage import binary_dilation, gaussian_filter, shift

from ..decoder import regular_grid
from ..training.morphology import AWAY, light_map
from ..training.simulations import Ranges
from ..training.telescope import BLANKS, CLIP, EDGE, MASK
from .broken import BrokenMock
from .mock import PIXEL
from .varied import vary_mock

__all__ = ["TroubledMock", "spoil_cube", "trouble_mock", "troubled_disc"]

CUT = (0.05, 0.45)  # of the line, beyond the end of the band
_OUT = 4.0  # half-light radii that the map of the light goes to
_WARP = 0.15  # half-light radii over which a warp sets in


@dataclass(frozen=True)
class TroubledMock(BrokenMock):
    """A `BrokenMock` of a galaxy whose light is uneven, or its disc warped, or its cube flawed.

    Attributes
    ----------
    uneven : bool
        Whether the light has clumps, spiral arms, or is lopsided.
    warp : tuple of float or None
        How far the outer disc's inclination and position angle [deg] are from those of the truth, and where it begins
        [half-light radii].
    edge : float
        FWHM of the primary beam [field] that the noise is divided by, 0 without.
    continuum : float
        What is left of it in the brightest pixel [noise].
    blanks : int
        Blank channels.
    cut : float
        Share of the line that is beyond the end of the band, negative where that is the low one.
    neighbour : tuple of float or None
        Peak of another galaxy over that of this one, how far off it is along x and y [field], and in velocity
        [channel].
    mask : tuple of float or None
        Direction [rad] and size [field] of what was blanked on one side, all along the band.
    clip : float
        Threshold over the noise of a smoothed cube, under which all was set to 0; 0 where nothing was.
    """

    uneven: bool = False
    warp: tuple | None = None
    edge: float = 0.0
    continuum: float = 0.0
    blanks: int = 0
    cut: float = 0.0
    neighbour: tuple | None = None
    mask: tuple | None = None
    clip: float = 0.0


def trouble_mock(rng, forms):
    """Draw a mock as `~kinematics_nn.inference.varied.vary_mock` does, and trouble it as often as the simulations are.

    Shares and sizes are those of `~kinematics_nn.training.simulations.Ranges`, that the network was trained on.

    Parameters
    ----------
    rng : `~numpy.random.Generator`
    forms : `~kinematics_nn.decoder.Forms`
        That the fit will have.

    Returns
    -------
    TroubledMock
        ``how`` names curve, light and troubles.
    """
    mock, r = vary_mock(rng, forms), Ranges()
    troubles = {}
    if rng.random() > (1 - r.clump_share) * (1 - r.arm_share) * (1 - r.lopsided_share):
        troubles["uneven"] = True
    if rng.random() < r.warp_share:
        troubles["warp"] = (*rng.normal(0, r.warp), rng.uniform(1.2, 2.5))
    if rng.random() < r.edge_share:
        troubles["edge"] = rng.uniform(*EDGE)
    if rng.random() < r.continuum_share:
        troubles["continuum"] = rng.normal(0, r.continuum)
    if rng.random() < r.blank_share:
        troubles["blanks"] = int(rng.integers(*BLANKS))
    if rng.random() < r.cut_share:
        troubles["cut"] = rng.choice([-1, 1]) * rng.uniform(*CUT)
    # Numbers of their own: what these came after is drawn as before.
    (rng,) = rng.spawn(1)
    if rng.random() < r.neighbour_share:
        away, angle = rng.uniform(*AWAY), rng.uniform(0, 2 * np.pi)
        peak = np.exp(rng.uniform(*np.log(r.neighbour)))
        troubles["neighbour"] = peak, away * np.cos(angle), away * np.sin(angle), rng.uniform(-0.25, 0.25)
    if rng.random() < r.mask_share:
        troubles["mask"] = rng.uniform(0, 2 * np.pi), rng.uniform(*MASK)
    if rng.random() < r.clip_share:
        troubles["clip"] = rng.uniform(*CLIP)
    own = {field.name: getattr(mock, field.name) for field in fields(mock)}
    return TroubledMock(**own | {"how": " ".join([mock.how, *troubles])}, **troubles)


def troubled_disc(mock, rng, profile, radius, n):
    """What `~kinematics_nn.inference.mock.kinms_cube` takes for a mock that is troubled, beside what it has.

    Parameters
    ----------
    mock : TroubledMock
    rng : `~numpy.random.Generator`
    profile, radius : ndarray (m,)
        Brightness, in any unit, at radii [arcsec].
    n : int
        Clouds.

    Returns
    -------
    dict
        ``angles`` and ``clouds``.
    """
    angles = _warped(mock, radius) if mock.warp else None
    return {"angles": angles, "clouds": _uneven_clouds(mock, rng, profile, radius, n) if mock.uneven else None}


def _uneven_clouds(mock, rng, profile, radius, n):
    """Clouds (n, 3) of a face-on disc [arcsec] with clumps, arms or more light on one side.

    Azimuths are drawn again until the map of the light keeps them, so that the profile over rings stays as it is.
    """
    light, half = _light(mock, rng)
    mass = cumulative_trapezoid(profile * radius, radius, initial=0)
    r = np.interp(rng.random(n), mass / mass[-1], radius)
    azimuth, left = np.empty(n), np.arange(n)
    while len(left):
        angle = rng.uniform(0, 2 * np.pi, len(left))
        y, x = (np.clip(np.rint(r[left] * wave(angle)).astype(int) + half, 0, 2 * half) for wave in (np.sin, np.cos))
        kept = rng.random(len(left)) * light.max() < light[y, x]
        azimuth[left[kept]] = angle[kept]
        left = left[~kept]
    height = mock.truth["thickness"] * rng.laplace(size=n)
    return np.column_stack([r * np.cos(azimuth), r * np.sin(azimuth), height])


def _warped(mock, radius):
    """Inclination and position angle [deg] of a warped disc at radii [arcsec]."""
    tilt, turn, begin = mock.warp
    outer = 1 / (1 + np.exp(-(radius / mock.truth["r50"] - begin) / _WARP))
    return np.clip(mock.truth["inclination"] + tilt * outer, 0, 90), mock.truth["pa"] + turn * outer


def spoil_cube(mock, rng, cube, clean, noise):
    """A cube with the flaws of its telescope.

    Parameters
    ----------
    mock : TroubledMock
    rng : `~numpy.random.Generator`
    cube : callable
        Makes a SpectralCube of data (channel, y, x).
    clean, noise : ndarray (channel, y, x)
        The galaxy, and the noise in the middle of the field.

    Returns
    -------
    `~spectral_cube.SpectralCube`
    """
    n_channels, n_pixels, _ = clean.shape
    data = clean + noise / _primary_beam(mock, n_pixels)
    if mock.continuum:
        image = clean.sum(0)
        data = data + mock.continuum * noise.std() * image / image.max()
    if mock.neighbour:
        data = data + _neighbour(mock, clean)
    if mock.mask:
        data[:, _behind(mock, n_pixels)] = np.nan
    if mock.clip:
        data = np.where(_bright(mock, data), data, 0.0)
    if mock.blanks:
        data[rng.choice(n_channels, mock.blanks, replace=False)] = np.nan
    whole = cube(data.astype(np.float32))
    if not mock.cut:
        return whole
    # Counted in channels from the first, where the middle of channel N / 2 is at no velocity.
    middle = n_channels // 2 + mock.truth["vsys"] / mock.channel
    end = int(np.rint(middle + np.sign(mock.cut) * (0.5 - abs(mock.cut)) * mock.truth["w50"] / mock.channel))
    return whole[: max(end, 4)] if mock.cut > 0 else whole[min(end, n_channels - 4) :]


def _neighbour(mock, clean):
    """A galaxy like this one (channel, y, x), a quarter turned, off to a side and in velocity."""
    peak, *away, faster = mock.neighbour
    n_channels, n, _ = clean.shape
    other = peak * np.rot90(clean, axes=(1, 2))
    offsets = round(faster * n_channels), *(round(part * n) for part in away[::-1])
    return shift(other, offsets, order=0, prefilter=False)


def _behind(mock, n):
    """Which pixels (y, x) are blank: those beyond a straight line."""
    angle, size = mock.mask
    y, x = np.indices((n, n)) - n // 2
    return x * np.cos(angle) + y * np.sin(angle) > size * n


def _bright(mock, data):
    """Where a cube (channel, y, x) smoothed over two beams is above the threshold, and next to it."""
    sigma = 2 * np.sqrt(mock.beam[0] * mock.beam[1]) / PIXEL / np.sqrt(8 * np.log(2))
    smooth = gaussian_filter(np.nan_to_num(data), (1, sigma, sigma))
    noise = np.sqrt(np.mean(smooth[smooth < 0] ** 2))
    return binary_dilation(smooth > mock.clip * noise, np.ones((3, 3, 3)))


def _light(mock, rng):
    """What the light is multiplied by (y, x) about the centre of the face-on disc, and pixels from there to the end."""
    half = int(np.ceil(_OUT * mock.truth["r50"]))
    grid = regular_grid((1, 2 * half + 1, 2 * half + 1))
    face_on = torch.zeros(1, 4)
    r50 = torch.tensor([mock.truth["r50"]], dtype=torch.float32)
    while True:
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        light = light_map(Ranges(), rng, generator, face_on, grid, r50)[0].numpy()
        if np.ptp(light) > 0:
            return light.clip(min=0), half


def _primary_beam(mock, n):
    """Response (y, x) of the telescope over the field, one in the middle."""
    if not mock.edge:
        return np.ones((n, n))
    y, x = np.indices((n, n)) - n // 2
    return np.exp(-4 * np.log(2) * (x**2 + y**2) / (mock.edge * n) ** 2).clip(min=0.1)
