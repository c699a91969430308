"""The network frame: every galaxy turned, scaled and centred alike, so that one network serves all.

An observation of any size enters as a batch of `Cubes`. Its moments give a first centre, velocity, extent, line width
and position angle; the cube is resampled to a fixed number of pixels and channels in those units. A disc is
symmetric under two mirrors (minor axis; major axis together with velocity), so one Gauss-Newton step of the frame
against its own mirror average corrects centre, velocity and angle, and the second frame is made from those. What is
even under the mirrors goes to the encoder as a quarter cube, what is odd as numbers among the `facts`.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import grid_sample

from .disc_fit import fit_disc, odd_step
from .disc_model import PARAMETERS, FrameScales
from .mirror import Oddness, mirror_mean, oddness
from .moment_guess import moment_guess
from .targets import MULTIPLES

__all__ = ["CHANNELS", "FACTS", "ODD_FACTS", "PIXELS", "PLANES", "WITHOUT_DISC", "Cubes", "Frame", "make_frame"]

PIXELS, CHANNELS = 32, 24
PLANES = CHANNELS // 2 + 3
"""Planes of the encoder's input: half the channels (the mirror gives the others), moments 0 and 1, and the weight."""

_EXTENT, _WIDTH = (
    3.2,
    2.6,
)  # half-sizes of the frame in rms radii and rms velocities, from a scan of the information lost

FACTS = (
    "beam_u", "beam_w", "beam_twist", "channel", "pixel", "snr", "noise", "asymmetry",
    "corr_v", "corr_u", "corr_w", "axis_ratio", "band_low", "band_high", "line_width",
    "shift_u", "shift_w", "shift_v", "shift_pa", "error_u", "error_w", "error_v", "error_pa",
    "free_u", "free_w", "free_v", "free_pa", "free_error_u", "free_error_w", "free_error_v", "free_error_pa",
    "lopsided_u", "lopsided_w", "lopsided_error_u", "lopsided_error_w", "uneven",
    "disc_u", "disc_w", "disc_v", "disc_pa", "disc_error_u", "disc_error_w", "disc_error_v", "disc_error_pa",
    "disc_free_u", "disc_free_w", "disc_free_v", "disc_free_pa",
    "disc_free_error_u", "disc_free_error_w", "disc_free_error_v", "disc_free_error_pa",
    "disc_lopsided_u", "disc_lopsided_w", "disc_lopsided_error_u", "disc_lopsided_error_w",
    "fit_inclination", "fit_r50", "fit_index", "fit_speed", "fit_turn", "fit_dispersion", "fit_height", "fit_flux",
    *(f"fit_error_{name}" for name in PARAMETERS), "misfit",
    *(f"fit_{curve}_{multiple}" for curve in ("speed", "light") for multiple in MULTIPLES),
)  # fmt: skip
"""Names of the facts, all free of scale. ``shift`` is the last Gauss-Newton step, ``error`` its formal error, ``free``
the same where light may be ``lopsided``; ``uneven`` is the odd part of moment 0 that is left, over noise. ``fit`` is of
`~kinematics_nn.network.disc_fit.fit_disc`, and ``disc`` the steps that are left against that disc, in finer channels.
"""

ODD_FACTS = {
    mirror: (
        "beam_twist",
        *(f"{kind}_{axis}" for kind in ("shift", "free", "disc", "disc_free") for axis in axes),
        *(f"{kind}_{axis}" for kind in ("lopsided", "disc_lopsided") for axis in axes if axis in "uw"),
    )
    for mirror, axes in (("minor", ("w", "pa")), ("major", ("u", "v", "pa")))
}
"""Facts that change sign under the mirror of the minor axis, and of the major axis with velocity."""


WITHOUT_DISC = FACTS.index("disc_u")
"""How many of the first facts do without a fitted disc."""

_AXES = ("u", "w", "v", "pa")  # of a Gauss-Newton step
_FINE = 2 * CHANNELS  # channels of the steps against the disc: velocities hang on the steep sides of lines
_MORE = 5  # Gauss-Newton steps where one side of the line is not in the band, and the moments' velocity is far off


@dataclass
class Cubes:
    """A batch of cubes on regular grids, as the frame takes them.

    Attributes
    ----------
    data : Tensor (batch, channel, y, x)
        Brightness over the noise, one number a cube; 0 where not valid, or of another source.
    weight : Tensor (batch, y, x)
        Inverse relative noise, 0 where a pixel is blank, 1 where all is as the median.
    seen : Tensor (batch, channel)
        1, and 0 where a channel has no data.
    matrix : Tensor (batch, 2, 2)
        Offsets (east, north) [arcsec] of one pixel along x and along y.
    origin : Tensor (batch, 2)
        Offsets (east, north) [arcsec] of the first pixel's centre.
    edges : Tensor (batch, channel + 1)
        [km/s], ascending.
    beam : Tensor (batch, 3)
        FWHM major, minor [arcsec], position angle [deg].
    dark : bool
        Whether there is nothing beyond the band, as of moment maps, rather than nothing known.
    """

    data: torch.Tensor
    weight: torch.Tensor
    seen: torch.Tensor
    matrix: torch.Tensor
    origin: torch.Tensor
    edges: torch.Tensor
    beam: torch.Tensor
    dark: bool = False


@dataclass
class Frame:
    """What the encoder sees, and the way back.

    Attributes
    ----------
    image : Tensor (batch, PLANES, PIXELS / 2, PIXELS)
        The quarter of the mirror-averaged frame and its moments; axes (plane, minor, major).
    facts : Tensor (batch, len(FACTS))
        What the encoder is told.
    east, north, pa, vsys : Tensor (batch,)
        Where the frame lies [arcsec, rad, km/s], the last Gauss-Newton step included.
    extent, width : Tensor (batch,)
        Half-size of the frame [arcsec] and its half-width in velocity [km/s].
    flux : Tensor (batch,)
        Flux in the frame [data unit km/s arcsec^2].
    """

    image: torch.Tensor
    facts: torch.Tensor
    east: torch.Tensor
    north: torch.Tensor
    pa: torch.Tensor
    vsys: torch.Tensor
    extent: torch.Tensor
    width: torch.Tensor
    flux: torch.Tensor


def make_frame(cubes, steps=3, facts=None):
    """Put cubes into the network frame.

    Parameters
    ----------
    cubes : Cubes
    steps : int
        Gauss-Newton steps, one resampling each; five more where a part of the line has no data.
    facts : int, optional
        How many of the `FACTS` are wanted, the first ones: those of a fitted disc, the last, cost most of the time. All
        by default.

    Returns
    -------
    Frame
    """
    told = FACTS[:facts]
    east, north, vsys, pa, extent, width, axis_ratio = moment_guess(cubes)
    pixel = torch.linalg.det(cubes.matrix).abs().sqrt()
    channel = torch.diff(cubes.edges, dim=-1).mean(-1)
    extent = torch.maximum(_EXTENT * extent, 2 * pixel)
    width = _WIDTH * width + 0.5 * channel
    place = torch.stack([east, north, vsys, pa], 1)
    for _ in range(steps - 1):
        place, sight = _stepped(cubes, place, extent, width)
    cut = torch.nonzero((sight.seen != sight.seen.flip(1)).any(1))[:, 0] if steps > 1 else ()
    if len(cut):
        some = replace(cubes, **{key: value[cut] for key, value in vars(cubes).items() if torch.is_tensor(value)})
        for _ in range(_MORE):
            place[cut], _ = _stepped(some, place[cut], extent[cut], width[cut])
    place, sight = _stepped(cubes, place, extent, width)
    (east, north, vsys, pa), mean, weight, odd = place.unbind(1), sight.mean, sight.weight, sight.odd
    step = sight.step
    image = _quarter(mean, weight)
    flux = mean.clamp(min=0).sum((1, 2, 3)) * (2 * extent / PIXELS) ** 2 * (2 * width / CHANNELS)

    noise, rest = odd.noise, odd.rest
    bright = mean > 3 * noise[:, None, None, None]
    rest_bright = (rest**2 * bright).sum((1, 2, 3)) / bright.sum((1, 2, 3)).clamp(min=1)
    asymmetry = 0.5 * torch.log((rest_bright + noise**2) / noise**2)
    corr = _noise_correlation(rest, ~bright)
    beam_u, beam_w, twist = _beam_in_frame(cubes.beam, pa, extent)
    facts = {
        "beam_u": torch.log(beam_u), "beam_w": torch.log(beam_w), "beam_twist": twist,
        "channel": torch.log(channel / width), "pixel": torch.log(pixel / extent),
        "snr": torch.log(mean.amax((1, 2, 3)).clamp(min=1e-3) / noise), "noise": torch.log(noise),
        "asymmetry": asymmetry, "corr_v": corr[0], "corr_u": corr[1], "corr_w": corr[2], "axis_ratio": axis_ratio,
        "band_low": ((vsys - cubes.edges[:, 0]) / width).clamp(0, 2),
        "band_high": ((cubes.edges[:, -1] - vsys) / width).clamp(0, 2),
        "line_width": torch.log(width / channel),
    }  # fmt: skip
    for k, axis in enumerate(_AXES):
        facts[f"shift_{axis}"] = torch.asinh(step[:, k] / 0.02)
        facts[f"error_{axis}"] = torch.log(odd.error[:, k])
        facts[f"free_{axis}"] = torch.asinh(odd.free_step[:, k].clamp(-0.5, 0.5) / 0.02)
        facts[f"free_error_{axis}"] = torch.log(odd.free_error[:, k])
    for k, axis in enumerate(("u", "w")):
        facts[f"lopsided_{axis}"] = torch.asinh(odd.lopsided[:, k] / 0.1)
        facts[f"lopsided_error_{axis}"] = torch.log(odd.lopsided_error[:, k])
    facts["uneven"] = _unevenness(rest, bright, noise)
    if len(told) > WITHOUT_DISC:
        scales = FrameScales(
            beam_u=beam_u, beam_w=beam_w, pixel=pixel / extent, channel=channel / width, noise=noise,
            corr_u=corr[1], corr_w=corr[2], rms=torch.full_like(extent, 1 / _EXTENT), axis_ratio=axis_ratio,
        )  # fmt: skip
        fine, there, seen = _resample(cubes, place, extent, width, _FINE)
        facts |= _of_disc(sight, fine - mirror_mean(fine, seen), there, seen, scales)
    facts = torch.stack([facts[name] for name in told], 1)
    return Frame(image, facts, east, north, pa, vsys, extent, width, flux)


@dataclass
class _Sight:
    """A frame on the way: mirror average, weight, which channels have data, what is odd, and the step it asks for."""

    mean: torch.Tensor
    weight: torch.Tensor
    seen: torch.Tensor
    odd: Oddness
    step: torch.Tensor


def _stepped(cubes, place, extent, width):
    """A Gauss-Newton step of ``place`` (batch, 4: east, north, vsys, pa): the place, and the `_Sight` before it."""
    frame, weight, seen = _resample(cubes, place, extent, width, CHANNELS)
    mean = mirror_mean(frame, seen)
    odd = oddness(frame, mean, weight, seen)
    # A step of more than a quarter of the frame is noise, not a shift.
    step = odd.step.clamp(-0.25, 0.25)
    sin, cos = torch.sin(place[:, 3]), torch.cos(place[:, 3])
    move = [
        extent * (step[:, 0] * sin + step[:, 1] * cos),
        extent * (step[:, 0] * cos - step[:, 1] * sin),
        width * step[:, 2],
        step[:, 3],
    ]
    return place + torch.stack(move, 1), _Sight(mean, weight, seen, odd, step)


def _of_disc(sight, odd, weight, seen, scales):
    """The facts that a disc says, fitted to a frame's average: dict of Tensor (batch,).

    ``odd`` is of the frame in finer channels, of which ``seen`` have data, where the last step has put it; so is its
    ``weight``.
    """
    mean = sight.mean
    known = 0.5 * (sight.seen + sight.seen.flip(1))[:, CHANNELS // 2 :]
    disc = fit_disc(mean[:, CHANNELS // 2 :, PIXELS // 2 :], _mirrored_quarter(sight.weight), scales, known)
    there, error, free, free_error = odd_step(odd, disc.rendered(_FINE), weight, scales, seen)
    facts = {}
    for kind, found, its in (("disc", there, error), ("disc_free", free, free_error)):
        beyond = torch.asinh(found[:, :4].clamp(-0.5, 0.5) / 0.02)
        facts |= {f"{kind}_{axis}": beyond[:, k] for k, axis in enumerate(_AXES)}
        facts |= {f"{kind}_error_{axis}": torch.log(its[:, k]) for k, axis in enumerate(_AXES)}
    for k, axis in enumerate(("u", "w"), start=4):
        facts[f"disc_lopsided_{axis}"] = torch.asinh(free[:, k] / 0.1)
        facts[f"disc_lopsided_error_{axis}"] = torch.log(free_error[:, k])
    values = dict(zip(PARAMETERS, disc.values.unbind(1), strict=True))
    facts |= {f"fit_{name}": values[name] for name in ("inclination", "index", "turn", "dispersion", "height")}
    facts |= {
        "fit_r50": torch.log(disc.r50),
        "fit_speed": torch.log(disc.speed),
        "misfit": 0.5 * torch.log(disc.misfit.clamp(min=1e-6)),
    }
    total = disc.model.sum((1, 2, 3)) / mean.clamp(min=0).sum((1, 2, 3)).clamp(min=1e-9)
    facts["fit_flux"] = torch.log(total.clamp(min=1e-3))
    for curve, values in (("speed", disc.log_speeds), ("light", disc.log_lights)):
        facts |= {f"fit_{curve}_{m}": values[:, k] for k, m in enumerate(MULTIPLES)}
    return facts | {f"fit_error_{name}": torch.log(disc.errors[:, k]) for k, name in enumerate(PARAMETERS)}


def _resample(cubes, place, extent, width, channels):
    """A frame, its weight, and which of its channels have data.

    (batch, channels, PIXELS, PIXELS; axes velocity, minor, major), (batch, PIXELS, PIXELS), (batch, channels).
    """
    data = cubes.data
    ny, nx = data.shape[2:]
    east, north, vsys, pa = place.unbind(1)
    # Channels: the average over what a frame channel has of the band, from overlaps with the true edges.
    steps = torch.linspace(-1, 1, channels + 1, dtype=data.dtype, device=data.device)
    edges = vsys[:, None] + width[:, None] * steps
    low = torch.maximum(edges[:, :-1, None], cubes.edges[:, None, :-1])
    high = torch.minimum(edges[:, 1:, None], cubes.edges[:, None, 1:])
    overlap = (high - low).clamp(min=0) / torch.diff(edges, dim=-1)[:, :, None]
    beyond = 1 - overlap.sum(2) if cubes.dark else 0
    overlap = overlap * cubes.seen[:, None]
    share = overlap.sum(2) + beyond
    seen = share > 0.5
    overlap = overlap * (seen / share.clamp(min=0.5))[:, :, None]
    data = (overlap @ data.flatten(2)).unflatten(2, (ny, nx))
    fine = (torch.arange(2 * PIXELS, dtype=data.dtype, device=data.device) + 0.5) / PIXELS - 1
    u = fine[None, None, :] * extent[:, None, None]
    w = fine[None, :, None] * extent[:, None, None]
    sin, cos = torch.sin(pa)[:, None, None], torch.cos(pa)[:, None, None]
    dx = east[:, None, None] + u * sin + w * cos - cubes.origin[:, 0, None, None]
    dy = north[:, None, None] + u * cos - w * sin - cubes.origin[:, 1, None, None]
    inverse = torch.linalg.inv(cubes.matrix)[:, :, :, None, None]
    x = inverse[:, 0, 0] * dx + inverse[:, 0, 1] * dy
    y = inverse[:, 1, 0] * dx + inverse[:, 1, 1] * dy
    points = torch.stack([(2 * x + 1) / nx - 1, (2 * y + 1) / ny - 1], -1)
    planes = torch.cat([data, cubes.weight[:, None]], 1)
    planes = grid_sample(planes, points, align_corners=False, padding_mode="zeros")
    # Four times as fast as torch's pooling.
    planes = planes[..., ::2] + planes[..., 1::2]
    planes = 0.25 * (planes[..., ::2, :] + planes[..., 1::2, :])
    return planes[:, :-1], planes[:, -1], seen.to(planes.dtype)


def _unevenness(rest, bright, noise):
    """Half the logarithm of the power (batch,) of the odd part of the galaxy's moment 0, over that of white noise."""
    power = ((rest * bright).sum(1) ** 2).sum((1, 2))
    return 0.5 * torch.log((power / bright.sum((1, 2, 3)).clamp(min=1) / noise**2).clamp(min=1e-3))


def _noise_correlation(rest, faint):
    """Correlation of neighbours in velocity, along and across the major axis, over faint voxels: three (batch,)."""
    noise = rest * faint
    power = (noise**2).sum((1, 2, 3)).clamp(min=1e-12)
    return [(noise * noise.roll(1, axis)).sum((1, 2, 3)) / power for axis in (1, 3, 2)]


def _beam_in_frame(beam, pa, extent):
    """FWHM along the frame's axes over its half-size, and the correlation of the two."""
    angle = torch.deg2rad(beam[:, 2]) - pa
    major, minor = beam[:, 0] / extent, beam[:, 1] / extent
    uu = (major * torch.cos(angle)) ** 2 + (minor * torch.sin(angle)) ** 2
    ww = (major * torch.sin(angle)) ** 2 + (minor * torch.cos(angle)) ** 2
    uw = (major**2 - minor**2) * torch.sin(angle) * torch.cos(angle)
    return torch.sqrt(uu), torch.sqrt(ww), uw / torch.sqrt(uu * ww)


def _quarter(mean, weight):
    """The encoder's image: asinh of the upper half of minor axis and velocity, moments 0 and 1, mirrored weight."""
    quarter = mean[:, CHANNELS // 2 :, PIXELS // 2 :]
    full = mean[:, :, PIXELS // 2 :]
    v = (torch.arange(CHANNELS, dtype=mean.dtype, device=mean.device) + 0.5) / (0.5 * CHANNELS) - 1
    moment0 = full.sum(1)
    noise = math.sqrt(CHANNELS)
    positive = full.clamp(min=0)
    positive = torch.where(full > 1.0, positive, 0.0)
    moment1 = (positive * v[:, None, None]).sum(1) / (positive.sum(1) + 1.0)
    seen = _mirrored_quarter(weight)
    return torch.cat([torch.asinh(quarter), torch.asinh(moment0 / noise)[:, None], moment1[:, None], seen[:, None]], 1)


def _mirrored_quarter(weight):
    """Weights (batch, minor / 2, major), the mean of a pixel's and its mirrors'."""
    weight = 0.5 * (weight + weight.flip(1))[:, PIXELS // 2 :]
    return 0.5 * (weight + weight.flip(2))
