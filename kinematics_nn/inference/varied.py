"""Mock galaxies over all that the network is to serve: KinMS's, and half of them of other forms than the fit's."""

from dataclasses import replace

import numpy as np
from scipy import fft

from ..decoder import render_on
from ..forms import get_form
from ..observation.correlation import known_correlation
from .broken import drawn_forms, reformed
from .mock import CLOUD_NOISE, PIXEL, Skies, draw_mock, kinms_cube, mock_grid

__all__ = ["CURVES", "LIGHTS", "WIDE", "render_varied", "vary_mock"]

CURVES = ("tanh", "polyex", "freeman", "pseudo_isothermal", "nfw", "brandt", "burkert")
LIGHTS = ("sersic", "gaussian", "ring", "exponential_hole", "truncated_exponential")
"""Forms of the half that is not of those which are fitted."""

WIDE = Skies(
    snr=(3.0, 100.0), beams=(1.5, 50.0), line_channels=(4.0, 100.0), beam_pixels=(1.5, 30.0), pixels=160, voxels=2.5e6
)
"""The range that the network is to serve, but for fields and cubes that are large: they only take longer."""

_CLOUDS = 200_000, 4_000_000
_OUT = 9.0  # half-light radii that clouds are thrown to


def vary_mock(rng, forms):
    """Draw a mock as `draw_mock` does, in `WIDE` skies, and give half of them another curve and another light.

    The half-light radius stays, and the speed at 1.31 of it; the other parameters are from their priors.

    Parameters
    ----------
    rng : `~numpy.random.Generator`
    forms : `~kinematics_nn.decoder.Forms`
        That the fit will have.

    Returns
    -------
    BrokenMock
        ``how`` names curve and light.
    """
    mock = draw_mock(rng, forms, "varied", WIDE)
    curve, light = forms.rotation_curve, forms.surface_brightness
    if rng.random() < 0.5:
        curve = get_form(str(rng.choice(CURVES)), "rotation_curve")
        light = get_form(str(rng.choice(LIGHTS)), "surface_brightness")
    true, own = drawn_forms(rng, mock, forms, curve, light)
    varied = reformed(mock, forms, true, own, f"{curve.name} {light.name}")
    # The band is as wide as it was, beside a line that may be wider.
    wider = max(0.0, varied.truth["w50"] - mock.truth["w50"]) / mock.channel
    n_channels, *sides = mock.shape
    return replace(varied, shape=(n_channels + 2 * int(np.ceil(0.5 * wider)), *sides))


def render_varied(mock, rng, correlation, covariance, disc=None):
    """Brightness [Jy/beam] of a mock by KinMS, without noise, and what is left of its S/N.

    The network sees what is smooth: clouds are as many as keep their noise a part of the telescope's in the mean over
    a few beams. Where that is more than four millions, the S/N comes down to what so many allow.

    Parameters
    ----------
    mock : BrokenMock
    rng : `~numpy.random.Generator`
    correlation : NoiseCorrelation
        Of the telescope's noise.
    covariance : ndarray (2, 2)
        Of the beam, in pixels.
    disc : callable, optional
        Takes profile, radii [arcsec] and the number of clouds, and returns what `kinms_cube` is to have beside.

    Returns
    -------
    clean : ndarray (channel, y, x)
    kept : float
        Share of the S/N, 1 at the most.
    """
    truth, forms = mock.truth, mock.forms
    radius = np.linspace(0, _OUT * truth["r50"], 3000)
    light, curve = ([mock.values[name] for name in forms.slots[s]] for s in ("surface_brightness", "rotation_curve"))
    profile = forms.surface_brightness.evaluate(radius, *light)
    within = np.trapezoid(2 * np.pi * radius * profile, radius) / forms.surface_brightness.total(*light)
    needed = _clouds_needed(mock, correlation, covariance)
    n_clouds = int(np.clip(needed, *_CLOUDS))
    more = {} if disc is None else disc(profile, radius, n_clouds)
    sky = kinms_cube(
        truth | {"flux": truth["flux"] * float(within)},
        profile=profile,
        curve=forms.rotation_curve.evaluate(radius, *curve),
        radius=radius,
        shape=mock.shape,
        pixel=PIXEL,
        channel=mock.channel,
        beam=None,
        n_clouds=n_clouds,
        seed=int(rng.integers(1, 1_000_000)),
        **more,
    )
    area = np.pi / (4 * np.log(2)) * mock.beam[0] * mock.beam[1] / PIXEL**2
    return area * _seen(sky, covariance), min(1.0, np.sqrt(n_clouds / needed))


def _seen(sky, covariance):
    """The sky (channel, y, x) through a Gaussian beam of a covariance [pixel], in the half of the field that is kept.

    KinMS's own beam is a direct sum, which takes minutes where the beam is many pixels wide.
    """
    n = sky.shape[1]
    fy, fx = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)
    (xx, xy), (_, yy) = covariance
    transfer = np.exp(-2 * np.pi**2 * (xx * fx**2 + 2 * xy * fx * fy + yy * fy**2)).astype(np.float32)
    kept = slice(n // 4, n // 4 + n // 2)  # pixel n / 2, of the centre, becomes n / 4
    out = np.zeros((len(sky), n // 2, n // 2), dtype=np.float32)
    for channel, image in enumerate(sky):
        if image.any():
            seen = fft.irfft2(fft.rfft2(image.astype(np.float32)) * transfer, s=(n, n))
            out[channel] = seen[kept, kept]
    return out


def _clouds_needed(mock, correlation, covariance):
    """Clouds that keep their noise a part of the telescope's, in the mean over a few beams around the brightest one."""
    clean = render_on(mock_grid(mock), mock.forms, mock.values)
    cells = mock.truth["flux"] / (float(clean.max()) * mock.channel)
    step = max(1, int(0.55 * mock.beam[1] / PIXEL))
    y, x = (step * axis.ravel() for axis in np.indices((9, 9)))
    sky = correlation.over_sky(y, x)
    clouds = known_correlation("wide", "white", covariance, mock.shape[0]).over_sky(y, x)
    return cells * max(1.0, clouds.sum() / sky.sum()) * (mock.truth["snr"] / CLOUD_NOISE) ** 2
