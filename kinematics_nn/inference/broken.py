"""Mock galaxies that break the model which they are fitted with: clumpy, holed, lopsided, or of another curve."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..decoder import DiscDecoder, Forms
from ..forms import get_form
from ..training.morphology import disc_plane
from .derived import derived
from .mock import Mock, draw_mock, mock_grid

__all__ = ["BREAKS", "BrokenMock", "break_mock", "drawn_forms", "reformed", "render_broken"]

BREAKS = ("clumpy", "holed", "lopsided", "nfw", "declining")
"""How discs differ from the model."""

CLUMPS = 0.4  # rms of the logarithm of the light
CLUMP_BEAMS = 0.7  # correlation length of the clumps, sigma over the beam's FWHM
LOPSIDED = 0.3  # m = 1 part of the light over its mean, from two half-light radii outwards
_KEPT = ("inclination", "pa", "east", "north", "vsys", "flux", "thickness", "velocity_dispersion")
_SAME = ("x", "y", "snr", "beams")


@dataclass(frozen=True)
class BrokenMock(Mock):
    """A `Mock` whose ``truth`` holds what a disc of any form has; it is rendered with ``forms`` and their ``values``.

    Attributes
    ----------
    how : str
        One of `BREAKS`.
    forms : Forms
    values : dict of str to float
    light : (y, x) array, optional
        What the light is multiplied by, but for a factor, over the padded field.
    """

    how: str = ""
    forms: Forms | None = None
    values: dict | None = None
    light: np.ndarray | None = None


def break_mock(rng, forms):
    """Draw a mock as `draw_mock` does, and break it in one of `BREAKS`, each as often.

    The flux and the half-light radius of the profile stay, and the speed at 1.31 of it; where the light is uneven the
    truth is the radius that holds half of it as it is, and the speed there. Holes are those of
    ``exponential_hole`` and the curves those of ``nfw``, or of ``brandt`` with its peak within 1.5 half-light radii,
    with their other parameters from their priors.

    Parameters
    ----------
    rng : `~numpy.random.Generator`
    forms : `~kinematics_nn.decoder.Forms`
        That the fit will have.

    Returns
    -------
    BrokenMock
    """
    mock, how = draw_mock(rng, forms), str(rng.choice(BREAKS))
    light, curve = forms.surface_brightness, forms.rotation_curve
    if how == "holed":
        light = get_form("exponential_hole", "surface_brightness")
    elif how in ("nfw", "declining"):
        curve = get_form({"nfw": "nfw", "declining": "brandt"}[how], "rotation_curve")
    true, own = drawn_forms(rng, mock, forms, curve, light)
    if how == "declining":
        own["r_peak"] = mock.truth["r50"] * rng.uniform(0.5, 1.5)
    return _lit(reformed(mock, forms, true, own, how), rng)


def drawn_forms(rng, mock, forms, curve, light):
    """The `Forms` of a mock's disc with ``curve`` and ``light``, and its values, new ones drawn from their priors.

    The half-light radius is the mock's; speeds are still to be brought to its own, by `reformed`.
    """
    truth, true = mock.truth, replace(forms, rotation_curve=curve, surface_brightness=light)
    own = {name: truth[name] for name in forms.parameter_names}
    if light is not forms.surface_brightness:
        drawn = _drawn(rng, light, truth["r50"] / 1.678)
        stretch = truth["r50"] / float(light.half_light_radius(*drawn))
        lengths = [p.unit == "arcsec" for p in light.parameters]
        drawn = [v * stretch if length else v for v, length in zip(drawn, lengths, strict=True)]
        own |= dict(zip(true.slots["surface_brightness"], drawn, strict=True))
    if curve is not forms.rotation_curve:
        own |= dict(zip(true.slots["rotation_curve"], _drawn(rng, curve, truth["r50"] / 1.678), strict=True))
    return true, own


def reformed(mock, forms, true, own, how):
    """The `BrokenMock` of the values ``own`` of forms ``true``, with the mock's speed at 1.31 of its r50."""
    truth, curve, columns = mock.truth, true.rotation_curve, true.slots["rotation_curve"]
    if curve is not forms.rotation_curve:
        scale = truth["v22"] / float(curve.evaluate(1.31 * truth["r50"], *(own[name] for name in columns)))
        powers = [float(p.powers[0]) if p.powers else 0.0 for p in curve.parameters]
        own |= {name: own[name] * scale**power for name, power in zip(columns, powers, strict=True)}
    values = {name: own[name] for name in true.parameter_names}
    tensors = {name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()}
    known = {name: float(value[0]) for name, value in derived(true, tensors).items()}
    truth = {name: truth[name] for name in _KEPT} | known | {name: truth[name] for name in _SAME}
    seen = {name: getattr(mock, name) for name in ("shape", "channel", "beam", "noise", "spectral")}
    return BrokenMock(truth, **seen, how=how, forms=true, values=values)


def render_broken(mock):
    """Brightness [Jy/beam] of a `BrokenMock`, (channel, y, x), without noise: ours, as KinMS has no light map."""
    decoder, sky = _sky(mock)
    light = torch.as_tensor(1.0 if mock.light is None else mock.light, dtype=sky.dtype)
    column = sky[0].sum(0)
    with torch.no_grad():
        return decoder.beam(sky * light * (column.sum() / (column * light).sum()))[0].numpy()


def _sky(mock):
    """The decoder of a mock, and the sky (1, channel, y, x) of its profile."""
    grid = mock_grid(mock)
    decoder = DiscDecoder(grid, mock.forms)
    parameters = torch.tensor([[mock.values[name] for name in mock.forms.parameter_names]], dtype=grid.xi.dtype)
    with torch.no_grad():
        return decoder, decoder.sky(parameters)


def _lit(mock, rng):
    """The mock with its light, and with the half-light radius that this has, where it is uneven."""
    if mock.how not in ("clumpy", "lopsided"):
        return mock
    decoder, sky = _sky(mock)
    light, column = _light_map(mock, rng, decoder.field), sky[0].sum(0).numpy()
    disc = torch.tensor([[mock.truth[name] for name in ("inclination", "pa", "east", "north")]])
    radius = disc_plane(disc, decoder.field)[0].numpy().ravel()
    # Both of the pixels' light: that what is off in one is off in the other.
    growth = _half(radius, (column * light).ravel()) / _half(radius, column.ravel())
    tensors = {name: torch.tensor([value], dtype=torch.float64) for name, value in mock.values.items()}
    known = derived(mock.forms, tensors, r50=torch.tensor([growth * mock.truth["r50"]], dtype=torch.float64))
    truth = mock.truth | {name: float(value[0]) for name, value in known.items()}
    return replace(mock, light=light, truth=truth)


def _half(radius, light):
    """The radius that holds half of the light, both of pixels (n,)."""
    order = np.argsort(radius)
    sums = np.cumsum(light[order], dtype=np.float64)
    return float(np.interp(0.5 * sums[-1], sums, radius[order]))


def _light_map(mock, rng, field):
    """What the light is multiplied by, but for a factor, over the padded field (y, x)."""
    from scipy.ndimage import gaussian_filter

    if mock.how == "clumpy":
        sigma = CLUMP_BEAMS * np.sqrt(mock.beam[0] * mock.beam[1])
        clumps = gaussian_filter(rng.standard_normal(field.shape), sigma, mode="wrap")
        return np.exp(CLUMPS * clumps / clumps.std())
    disc = torch.tensor([[mock.truth[name] for name in ("inclination", "pa", "east", "north")]])
    radius, azimuth = (of.view(field.shape).numpy() for of in disc_plane(disc, field))
    wave = np.cos(azimuth - rng.uniform(0, 2 * np.pi))
    return 1 + LOPSIDED * np.minimum(radius / mock.truth["r50"] / 2, 1) * wave


def _drawn(rng, form, r_scale):
    scales = {"r_scale": r_scale, "beam": r_scale, "field": 10 * r_scale}
    return [float(p.prior.resolve(scales).sample(rng)) for p in form.parameters]
