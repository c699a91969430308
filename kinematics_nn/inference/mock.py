"""Mock galaxies with truths drawn from the prior that a fit uses: observed by our own decoder, or by KinMS."""

import warnings
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS

from ..decoder import Grid, render_on
from ..errors import KinematicsError
from ..observation.correlation import SERIES, WIDTHS, beam_covariance, known_correlation
from .derived import derived
from .diagnosis import beams_across
from .space import ParameterSpace

__all__ = ["GALAXIES", "Mock", "Skies", "draw_mock", "kinms_cube", "mock_grid", "observe_mock"]

GALAXIES = ("own", "kinms", "broken", "varied", "troubled")
"""Whose code renders the galaxies; "broken": our own, galaxies that are not what they are fitted with; "varied":
KinMS's, of other forms in half of them, over all that the network is to serve; "troubled": the same with uneven light,
warps, and cubes that are cut, blank in part, or noisier to their edge."""

INCLINATION = (5.0, 90.0)  # deg
SNR = (3.0, 50.0)  # of the brightest voxel
BEAMS = (2.0, 30.0)  # across, along the major axis
LINE_CHANNELS = (6.0, 30.0)  # that the line is wide
BEAM_PIXELS = (3.0, 5.0)
AXIS_RATIO = (0.6, 1.0)
PIXEL = 1.0  # arcsec: nothing has a scale but what is counted in beams
CENTRE = 1.0  # beams that the centre scatters about the middle of the field
SYSTEMIC = 2.0  # channels that vsys scatters about the middle of the band

_SCALES = {"beam": 1.0, "field": 5.0, "r_scale": 1.0}  # beams: a disc as large as the field is 39 across
_FWHM = np.sqrt(8 * np.log(2))
CLOUD_NOISE = 0.3  # of the telescope's, in what the likelihood makes of either: as much as clouds may add
_CLOUDS = 500_000, 8_000_000  # at least and at most; 8 million take 2 GB
_LEAST_WHITE = 0.05  # of the noise over channels, as the fit's `Whitener` has it


@dataclass(frozen=True)
class Skies:
    """What mocks are seen in; pairs are (low, high).

    Attributes
    ----------
    snr, beams, line_channels, beam_pixels : of the brightest voxel; across; that the line is wide; across the beam.
        Log-uniform, but for ``beams``, where the prior is cut.
    pixels, voxels : largest side of the field, and of the cube, beyond which galaxies are drawn again.
    """

    snr: tuple = SNR
    beams: tuple = BEAMS
    line_channels: tuple = LINE_CHANNELS
    beam_pixels: tuple = BEAM_PIXELS
    pixels: float = np.inf
    voxels: float = np.inf


@dataclass(frozen=True)
class Mock:
    """What a mock observation is of, and by what telescope.

    Attributes
    ----------
    truth : dict of str to float
        The parameters, r50, v22, v22_sini and w50 in arcsec, km/s and deg; ``x``, ``y`` of the centre in 0-based
        pixels; ``snr`` of the brightest voxel and ``beams`` across.
    shape : tuple of int
        (channel, y, x), the sides even.
    channel : float
        [km/s]
    beam : tuple of float
        FWHM [arcsec, a pixel is one], position angle [deg].
    noise, spectral : str
        How the noise is correlated, as `kinematics_nn.simulate` takes them.
    """

    truth: dict
    shape: tuple
    channel: float
    beam: tuple
    noise: str
    spectral: str


def draw_mock(rng, forms, galaxies="own", skies=None):
    """Draw a galaxy from the fit's own prior, and a telescope to see it with.

    The disc is drawn in the very space that the fit explores; its size counts in beams. Inclinations below 5 deg and
    discs of less than 2 or more than 30 beams are drawn again, which cuts the prior and does not tilt it. Field and
    band follow the galaxy, so that no line leaves the band and all of the prior is seen; the fit does not read them.
    S/N, channels across the line and pixels across the beam are log-uniform, noise is of any kind. The flux follows
    from S/N: log-uniform where the fit's prior is flat, a difference of a small part of its error.

    Parameters
    ----------
    rng : `~numpy.random.Generator`
    forms : `~kinematics_nn.decoder.Forms`
    galaxies : {"own", "kinms", "broken", "varied", "troubled"}
        KinMS's have round beams; the others are drawn as one (`break_mock`, `vary_mock`, `trouble_mock` go on).
    skies : Skies, optional

    Returns
    -------
    Mock
    """
    skies = skies or Skies()
    while True:
        mock = _draw(rng, forms, galaxies, skies)
        if mock.shape[1] <= skies.pixels and np.prod(mock.shape) <= skies.voxels:
            return mock


def _draw(rng, forms, galaxies, skies):
    ratio = rng.uniform(*AXIS_RATIO) if galaxies != "kinms" else 1.0
    size, angle = _log_uniform(rng, *skies.beam_pixels) * PIXEL, rng.uniform(0, 180)
    beam = (size / np.sqrt(ratio), size * np.sqrt(ratio), angle if galaxies != "kinms" else 0.0)
    scales = {name: size * value for name, value in _SCALES.items()}
    space = ParameterSpace(forms, (0.0, 0.0, 0.0), (CENTRE * size, CENTRE * size, 1.0), 0.0, scales)
    while True:
        x = torch.as_tensor(rng.standard_normal((1, len(space))))
        values = dict(zip(space.names, space.parameters(x)[0].tolist(), strict=True))
        values["pa"] = rng.uniform(0, 360)
        values |= _derived(forms, values)
        beams = _beams(beam, values, forms)
        if INCLINATION[0] <= values["inclination"] <= INCLINATION[1] and skies.beams[0] <= beams <= skies.beams[1]:
            break
    sigma = forms.velocity_dispersion.evaluate(values["r50"], *_own(forms, values, "velocity_dispersion"))
    line = values["w50"] + _FWHM * float(sigma)
    channel = line / _log_uniform(rng, *skies.line_channels)
    values["vsys"] = channel * SYSTEMIC * rng.standard_normal()
    # Room for the galaxy wherever it is scattered, and for noise around it.
    n_channels = 2 * int(np.ceil(0.5 * line / channel + 3 * SYSTEMIC + 3))
    n_pixels = 2 * int(np.ceil((0.55 * beams + 2 * CENTRE + 2) * size / PIXEL))
    truth = values | {
        "x": n_pixels / 2 - values["east"] / PIXEL,
        "y": n_pixels / 2 + values["north"] / PIXEL,
        "snr": _log_uniform(rng, *skies.snr),
        "beams": beams,
    }
    noise, spectral = str(rng.choice(list(WIDTHS))), str(rng.choice(list(SERIES)))
    return Mock(truth, (n_channels, n_pixels, n_pixels), channel, beam, noise, spectral)


def observe_mock(mock, rng, forms, galaxies="own"):
    """The noisy cube of a mock galaxy.

    Parameters
    ----------
    mock : Mock
    rng : `~numpy.random.Generator`
        Of the noise, and of KinMS's clouds.
    forms : `~kinematics_nn.decoder.Forms`
    galaxies : {"own", "kinms", "broken", "varied", "troubled"}
        Whose code renders it.

    Returns
    -------
    cube : `~spectral_cube.SpectralCube`
        [Jy/beam]
    rms : float
        Of its noise. KinMS's galaxies have more than their S/N says where not even eight million clouds would keep
        the noise of the clouds a small part of it.
    """
    from radio_beam import Beam
    from spectral_cube import SpectralCube

    # x runs west.
    covariance = beam_covariance(np.array(mock.beam), np.diag([-PIXEL, PIXEL]))
    correlation = known_correlation(mock.noise, mock.spectral, covariance, mock.shape[0])
    snr = mock.truth["snr"]
    if galaxies == "broken":
        from .broken import render_broken

        clean = render_broken(mock)
    elif galaxies == "varied":
        from .varied import render_varied

        clean, kept = render_varied(mock, rng, correlation, covariance)
        snr *= kept
    elif galaxies == "troubled":
        from .troubled import spoil_cube, troubled_disc
        from .varied import render_varied

        clean, kept = render_varied(mock, rng, correlation, covariance, partial(troubled_disc, mock, rng))
        snr *= kept
    elif galaxies == "kinms":
        needed = _clouds_needed(mock, forms, correlation, covariance)
        n_clouds = int(np.clip(needed, *_CLOUDS))
        snr *= min(1.0, np.sqrt(n_clouds / needed))
        clean = _kinms_cube(mock, forms, n_clouds, int(rng.integers(1, 1_000_000)))
    else:
        clean = _own_cube(mock, forms)
    rms = float(clean.max()) / snr
    noise = rms * correlation.draw(clean.shape, rng)
    header = _header(mock)
    major, minor, angle = mock.beam
    beam = Beam(major * u.arcsec, minor * u.arcsec, angle * u.deg)

    def cube(data):
        data = u.Quantity(data.astype(np.float32), u.Jy / u.beam)
        return SpectralCube(data, WCS(header), header=header, beam=beam)

    return (spoil_cube(mock, rng, cube, clean, noise) if galaxies == "troubled" else cube(clean + noise)), rms


def kinms_cube(truth, *, profile, curve, radius, shape, pixel, channel, beam, n_clouds, seed, angles=None, clouds=None):
    """Render a galaxy by KinMS (Davis et al. 2013, MNRAS 429, 534), which throws clouds.

    An undisplaced disc lies on the centre of pixel and channel N / 2 of an even number N. The field is rendered twice
    as wide as it is kept, for light that the beam brings in. KinMS normalises the flux inside the field; here it is
    that over the whole sky. Pixels hold averages: its response is the beam's and a pixel's.

    Parameters
    ----------
    truth : dict of str to float
        inclination, pa, east, north, vsys, velocity_dispersion, thickness and flux.
    profile, curve : ndarray (n,)
        Brightness, in any unit, and speed [km/s] at the radii.
    radius : ndarray (n,)
        [arcsec]
    shape : (int, int, int)
        (channel, y, x), even.
    pixel, channel : float
        Side [arcsec] and width [km/s].
    beam : float or None
        FWHM [arcsec] of the round beam; without one, the light is that of the sky, in a field twice as wide.
    n_clouds, seed : int
        The seed at least 1.
    angles : (ndarray (n,), ndarray (n,)), optional
        Inclination and position angle [deg] at the radii, of a disc that is warped.
    clouds : ndarray (n_clouds, 3), optional
        Where they are in the face-on disc [arcsec], along the line of nodes, across, and above; as ``profile`` has it
        and evenly around by default.

    Returns
    -------
    ndarray (channel, y, x)
        Flux [Jy] per pixel, in the flux's unit over km/s.

    Raises
    ------
    KinematicsError
        KinMS is not installed.
    """
    try:
        from kinms import KinMS
    except ImportError as error:
        raise KinematicsError("no kinms here, the other code", "kinms", "pip install kinms") from error
    n_channels, n_pixels, _ = shape
    wide = 2 * n_pixels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        simulator = KinMS(
            wide * pixel, wide * pixel, n_channels * channel, pixel, channel,
            [beam or pixel] * 2 + [0],
            nSamps=n_clouds, seed=seed, cleanOut=beam is None,
        )  # fmt: skip
        cube, clouds, velocity = simulator.model_cube(
            *(angles or (truth["inclination"], truth["pa"])),
            inClouds=[] if clouds is None else clouds,
            gasSigma=truth["velocity_dispersion"],
            diskThick=truth["thickness"],
            sbProf=profile,
            sbRad=radius,
            velRad=radius,
            velProf=curve,
            phaseCent=[-truth["east"], truth["north"]],  # x runs west
            vOffset=truth["vsys"],
            returnClouds=True,
        )
    index = np.column_stack([clouds[:, 0] - truth["east"], clouds[:, 1] + truth["north"]]) / pixel + wide / 2
    at = (velocity + truth["vsys"]) / channel + n_channels / 2
    in_field = (abs(index - wide / 2 + 0.5) < wide / 2).all(axis=1)
    inside = in_field & (abs(at - n_channels / 2 + 0.5) < n_channels / 2)
    cube *= inside.mean() * truth["flux"] / channel  # KinMS left it with sum 1
    if beam is None:
        return cube.T
    kept = slice(n_pixels // 2, n_pixels // 2 + n_pixels)  # pixel n_pixels of the wide field becomes n_pixels / 2
    return np.ascontiguousarray(cube.T[:, kept, kept])


def _clouds_needed(mock, forms, correlation, covariance):
    """How many clouds keep their noise a part of the telescope's where the galaxy is brightest.

    The likelihood divides by the telescope's noise, mode by mode. That of the clouds is correlated as white noise that
    the beam has smoothed, and not over channels: against noise that is white over the sky it counts more in all that is
    smooth, against Hanning-smoothed noise in all that is sharp.
    """
    cells = mock.truth["flux"] / (_own_cube(mock, forms).max() * mock.channel)
    step = max(1, int(0.55 * mock.beam[1] / PIXEL))
    y, x = (step * axis.ravel() for axis in np.indices((15, 15)))
    sky = correlation.over_sky(y, x)
    clouds = known_correlation("wide", "white", covariance, mock.shape[0]).over_sky(y, x)
    over_sky = max(
        clouds.sum() / sky.sum(), np.trace(np.linalg.solve(sky + 0.01 * np.eye(len(sky)), clouds)) / len(sky)
    )
    channels = correlation.over_channels(mock.shape[0])
    channels = (channels + _LEAST_WHITE * np.eye(len(channels))) / (1 + _LEAST_WHITE)
    over_channels = np.trace(np.linalg.inv(channels)) / len(channels)
    return cells * over_sky * over_channels * (mock.truth["snr"] / CLOUD_NOISE) ** 2


def _kinms_cube(mock, forms, n_clouds, seed):
    if not forms.velocity_dispersion.uniform:
        raise KinematicsError("a dispersion that varies", "a constant one, for KinMS", 'calibrate(galaxies="own")')
    truth = mock.truth
    radius = np.linspace(0, 9 * truth["r50"], 3000)
    flux = kinms_cube(
        truth,
        profile=forms.surface_brightness.evaluate(radius, *_own(forms, truth, "surface_brightness")),
        curve=forms.rotation_curve.evaluate(radius, *_own(forms, truth, "rotation_curve")),
        radius=radius,
        shape=mock.shape,
        pixel=PIXEL,
        channel=mock.channel,
        beam=float(mock.beam[0]),
        n_clouds=n_clouds,
        seed=seed,
    )
    return flux * _beam_area(mock) / PIXEL**2


def _own_cube(mock, forms):
    """Brightness [Jy/beam], (channel, y, x), by the decoder."""
    return render_on(mock_grid(mock), forms, mock.truth).numpy()


def mock_grid(mock):
    """The `Grid` of a mock observation."""
    n_channels, n_pixels, _ = mock.shape
    # Offsets and edges about the centre of pixel and channel N / 2, as the header has them.
    offset = (torch.arange(n_pixels) - n_pixels // 2) * PIXEL
    eta, xi = torch.meshgrid(offset, -offset, indexing="ij")
    edges = (torch.arange(n_channels + 1) - n_channels // 2 - 0.5) * mock.channel
    return Grid(xi, eta, edges, torch.tensor(mock.beam), "radio", _beam_area(mock), integrate_pixels=True)


def _beam_area(mock):
    return float(np.pi / (4 * np.log(2)) * mock.beam[0] * mock.beam[1])


def _header(mock):
    n_channels, n_pixels, _ = mock.shape
    return fits.Header(
        {
            "CTYPE1": "RA---SIN", "CRVAL1": 150.0, "CDELT1": -PIXEL / 3600, "CRPIX1": n_pixels // 2 + 1,
            "CTYPE2": "DEC--SIN", "CRVAL2": 2.0, "CDELT2": PIXEL / 3600, "CRPIX2": n_pixels // 2 + 1,
            "CTYPE3": "VRAD", "CRVAL3": 0.0, "CDELT3": mock.channel * 1e3, "CRPIX3": n_channels // 2 + 1,
            "CUNIT1": "deg", "CUNIT2": "deg", "CUNIT3": "m/s", "RADESYS": "ICRS", "SPECSYS": "BARYCENT",
            "RESTFRQ": 230.538e9, "BUNIT": "Jy/beam",
        }
    )  # fmt: skip


def _log_uniform(rng, low, high):
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _own(forms, values, slot):
    """Values of the parameters of a slot."""
    return [values[name] for name in forms.slots[slot]]


def _derived(forms, values):
    tensors = {name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()}
    return {name: float(value[0]) for name, value in derived(forms, tensors).items()}


def _beams(beam, values, forms):
    return float(beams_across(SimpleNamespace(beam=beam), values, forms))
