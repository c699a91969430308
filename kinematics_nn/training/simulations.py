"""Simulated galaxies: drawn from the priors of the forms, rendered by the decoder, with the noise of a telescope.

The network has no scale, so a simulation needs none: a pixel is 1 arcsec, a channel 1 km/s, and what varies is how many
of them the beam, the disc and the line take. Beams lie along the pixel axes, and discs at any angle to them.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ..decoder import DiscDecoder, Forms, regular_grid
from ..errors import FormError
from ..forms.base import Form
from ..network.targets import MULTIPLES, Disc
from .morphology import light_map, log_uniform, neighbour, warped
from .telescope import Telescope

__all__ = ["Ranges", "Simulator", "ranges_of_forms"]

_FWHM = 2.3548
_CANDIDATES = 50  # sizes drawn for one that is taken


@dataclass(frozen=True)
class Ranges:
    """What the simulations span; each pair is (low, high), drawn log-uniform unless said otherwise.

    Attributes
    ----------
    beam : FWHM of the major axis [pixel].
    axis_ratio : of the beam, uniform; a share ``round_share`` is round.
    r50 : largest half-light radius [pixel]; the smallest is ``least_r50`` beams (1.5 beams across, for an exponential).
    snr : peak voxel over noise.
    v22_sini : projected speed at 1.31 r50 [channel].
    dispersion : [channel]; from lines that only rotation widens to such as hide it.
    line : width of the line, 2 v22_sini + 2.355 dispersions [channel]; pairs that give another are drawn again.
    thickness : scale height over r50 / 1.678; a share ``thin_share`` is infinitely thin.
    centre, vsys : standard deviation of the offsets [pixel, channel], normal.
    clumps : rms of the logarithm of the light about its profile, in ``clump_share`` of the discs.
    arms : contrast of spiral arms, uniform, in ``arm_share`` of the discs; one to four, of a pitch of 8 to 35 degrees.
    lopsided : m = 1 part of the light, over its mean, from two r50 outwards, uniform, in ``lopsided_share`` of the
        discs (Rix & Zaritsky 1995, ApJ 447, 82, found 0.2 and more in a third).
    warp : standard deviations of the inclination and position angle of the outer disc from the inner one's [deg],
        normal; it begins at 1.2 to 2.5 r50, in ``warp_share`` of the batches. The truth is the inner disc.
    neighbour : peak of another galaxy in the field over that of the galaxy, in ``neighbour_share`` of the batches.
    noises : kinds of spatial correlation and their shares: as the beam, sqrt(2) wider, none, with negative lobes.
    hanning_share, crop_share : shares with Hanning-smoothed noise, and cut to a box around the emission.
    edge_share : of the batches, with noise that rises to the edge of the field, as after the correction for a primary
        beam of 0.7 to 2 fields.
    continuum : standard deviation of what is left of a continuum [noise], in ``continuum_share`` of the batches.
    mask_share, clip_share, blank_share : shares of the batches with a mask of some shape, with all but the emission set
        to zero (blank in half of them), and with one to four blank channels.
    cut : channels cut off at one end, uniform, in ``cut_share`` of the batches: a line at the edge of the band.
    fine : parts that channels are divided into, in ``fine_share`` of the batches: channels far narrower than the line.
    curves, lights : forms and their shares.
    """

    beam: tuple = (1.2, 12.0)
    axis_ratio: tuple = (0.4, 1.0)
    round_share: float = 0.4
    least_r50: float = 0.35
    r50: float = 24.0
    snr: tuple = (2.5, 100.0)
    v22_sini: tuple = (0.2, 15.0)
    dispersion: tuple = (0.03, 8.0)
    line: tuple = (3.0, 34.0)
    thickness: tuple = (0.02, 0.3)
    thin_share: float = 0.25
    centre: float = 2.5
    vsys: float = 1.5
    clumps: tuple = (0.05, 0.6)
    clump_share: float = 0.3
    arms: tuple = (0.0, 0.8)
    arm_share: float = 0.2
    lopsided: tuple = (0.0, 0.4)
    lopsided_share: float = 0.2
    warp: tuple = (4.0, 6.0)
    warp_share: float = 0.08
    neighbour: tuple = (0.1, 1.0)
    neighbour_share: float = 0.06
    noises: dict = field(default_factory=lambda: {"beam": 0.45, "wide": 0.25, "white": 0.15, "lobes": 0.15})
    hanning_share: float = 0.4
    crop_share: float = 0.5
    edge_share: float = 0.2
    continuum: float = 0.3
    continuum_share: float = 0.06
    mask_share: float = 0.08
    clip_share: float = 0.08
    blank_share: float = 0.08
    cut_share: float = 0.2
    cut: tuple = (8, 22)
    fine_share: float = 0.08
    fine: tuple = (2, 5)
    curves: dict = field(
        default_factory=lambda: {
            "arctan": 0.36, "tanh": 0.1, "polyex": 0.1, "freeman": 0.06, "pseudo_isothermal": 0.06, "brandt": 0.08,
            "nfw": 0.05, "courteau": 0.05, "burkert": 0.02, "flat": 0.02, "linear": 0.02,
            "disc:freeman+halo:nfw": 0.04, "bulge:hernquist+disc:freeman+halo:pseudo_isothermal": 0.04,
        }
    )  # fmt: skip
    lights: dict = field(
        default_factory=lambda: {
            "exponential": 0.52, "sersic": 0.15, "gaussian": 0.06, "ring": 0.06, "exponential_hole": 0.08,
            "truncated_exponential": 0.08, "double_exponential": 0.05,
        }
    )  # fmt: skip


def ranges_of_forms(rotation_curve=None, surface_brightness=None):
    """`Ranges` of galaxies that all have one rotation curve, or one light, or both.

    Parameters
    ----------
    rotation_curve, surface_brightness : str, optional
        Names that every process knows: of forms of this package and of installed plug-ins, and of sums of them such as
        ``disc:freeman+halo:nfw``.

    Raises
    ------
    FormError
        There is no such form, or none that galaxies can be drawn from.
    """
    from ..forms.registry import get_form

    given = {"rotation_curve": rotation_curve, "surface_brightness": surface_brightness}
    for kind, name in given.items():
        if name is None:
            continue
        form = get_form(name, kind)
        if _made_for_each(form):
            raise FormError(
                f"{kind} {name!r}, which is made for each observation",
                "a form that is the same for every galaxy",
                'fit(weights="default"), whose curves have no form',
            )
        if kind == "rotation_curve" and not any(parameter.powers[0] for parameter in form.parameters):
            raise FormError(f"{kind} {name!r}, none of whose parameters sets a speed", "one that does")
    some = {"curves": rotation_curve, "lights": surface_brightness}
    return replace(Ranges(), **{key: {name: 1.0} for key, name in some.items() if name is not None})


class Simulator:
    """Draws batches of galaxies with their truths.

    Parameters
    ----------
    seed : int
        The batches are a function of it alone.
    ranges : Ranges, optional
    shape : (int, int), optional
        Channels, and pixels a side.
    device : optional
        Where cubes are rendered.
    """

    def __init__(self, seed, ranges=None, shape=(40, 64), device="cpu"):
        self.ranges = ranges or Ranges()
        self.rng = np.random.default_rng(seed)
        self.generator = torch.Generator(device=device).manual_seed(int(self.rng.integers(2**62)))
        self.sizes = tuple((shape[0], n, n) for n in (shape[1], 5 * shape[1] // 8))
        self.telescope = Telescope(self.ranges, self.rng, self.generator)
        self._decoders = {}

    def __call__(self, batch):
        """A batch of galaxies of one pair of forms in fields of one size: (`Cubes`, `Disc`)."""
        from ..forms.registry import get_form

        r, rng = self.ranges, self.rng
        curve, light = (
            get_form(_chosen(rng, w), k) for w, k in ((r.curves, "rotation_curve"), (r.lights, "surface_brightness"))
        )
        beam, r50, small = _sizes(rng, r, batch)
        self.shape = self.sizes[int(small)]
        ratio = np.where(rng.random(batch) < r.round_share, 1.0, rng.uniform(*r.axis_ratio, batch))
        light_values = [p.prior.resolve(_scales(1.0)).sample(rng, batch) for p in light.parameters]
        lengths = [p.unit == "arcsec" for p in light.parameters]
        stretch = r50 / light.half_light_radius(*light_values)
        light_values = [v * stretch if is_length else v for v, is_length in zip(light_values, lengths, strict=True)]
        inclination = np.arccos(rng.uniform(0, 1, batch))
        v22_sini, dispersion = _line(rng, r, batch)
        v22 = v22_sini / np.sin(np.maximum(inclination, np.deg2rad(1)))
        curve_values = [
            np.array([p.prior.resolve(_scales(s)).sample(rng) for s in r50 / 1.678]) for p in curve.parameters
        ]
        speed_scale = v22 / curve.evaluate(1.31 * r50, *curve_values)
        curve_values = [
            v * speed_scale ** float(p.powers[0]) for v, p in zip(curve_values, curve.parameters, strict=True)
        ]
        thin = rng.random(batch) < r.thin_share
        thickness = np.where(thin, 0.0, log_uniform(rng, r.thickness, batch)) * r50 / 1.678
        east, north = rng.normal(0, r.centre, (2, batch))
        columns = [
            np.rad2deg(inclination), rng.uniform(0, 360, batch), east, north, rng.normal(0, r.vsys, batch),
            np.ones(batch), thickness, dispersion, *curve_values, *light_values,
        ]  # fmt: skip
        parameters = torch.as_tensor(np.stack(columns, 1), dtype=torch.float32, device=self.telescope.device)
        clean, brighter = self._render(curve, light, parameters, beam, ratio, self._tensor(r50))
        other = neighbour(r, rng, clean) if rng.random() < r.neighbour_share else None
        cubes, rms = self.telescope(clean, log_uniform(rng, r.snr, batch), beam, ratio, other)
        radii = np.array(MULTIPLES) * r50[:, None]
        columns = [[v[:, None] for v in values] for values in (curve_values, light_values)]
        speed = curve.evaluate(radii, *columns[0])
        profile = light.evaluate(radii, *columns[1]) / light.total(*columns[1]) * 2 * np.pi * r50[:, None] ** 2
        disc = Disc(
            inclination=torch.deg2rad(parameters[:, 0]), pa=torch.deg2rad(parameters[:, 1]), east=parameters[:, 2],
            north=parameters[:, 3], vsys=parameters[:, 4], flux=brighter / rms, dispersion=parameters[:, 7],
            thickness=parameters[:, 6], r50=self._tensor(r50), speed=self._tensor(speed), light=self._tensor(profile),
        )  # fmt: skip
        return cubes, disc

    def _tensor(self, array):
        return self.telescope.tensor(array)

    def _render(self, curve, light, parameters, beam, ratio, r50):
        """Clean cubes of profiles of a flux of one, and what it is with the light uneven (batch,)."""
        from ..forms.registry import get_form

        key = curve.name, light.name, self.shape
        if key not in self._decoders:
            forms = Forms(curve, light, get_form("constant", "velocity_dispersion"))
            self._decoders[key] = DiscDecoder(
                regular_grid(self.shape, device=self.telescope.device),
                forms,
                faint=3e-4,
                pad=self.telescope.pad,
            )
        decoder, rng = self._decoders[key], self.rng
        field = regular_grid((1, *decoder.field.shape), device=self.telescope.device)
        light_of = light_map(self.ranges, rng, self.generator, parameters, field, r50)
        if rng.random() < self.ranges.warp_share:
            outer, inside, outside = warped(self.ranges, rng, parameters, field, r50)
            sky = decoder.sky(parameters, inside) + decoder.sky(outer, outside)
        else:
            sky = decoder.sky(parameters)
        column = sky.sum(1)
        brighter = (column * light_of).sum((1, 2)) / column.sum((1, 2)).clamp(min=1e-30)
        sky = sky * light_of[:, None]
        # As exact as the noise needs, in a third of the time.
        return self.telescope.operator(beam, ratio, self.shape[1:])(sky.bfloat16()).float(), brighter


def _sizes(rng, ranges, batch):
    """Beams and half-light radii (batch,) [pixel], and whether they go to the small field, which costs less than half.

    Radii are log-uniform from what a beam resolves to the largest, whatever the beam. All of a batch go to one field,
    to the small one as often as discs are small.
    """
    beam, r50, small = np.empty(0), np.empty(0), None
    while len(beam) < batch:
        beams = log_uniform(rng, ranges.beam, _CANDIDATES * batch)
        sizes = log_uniform(rng, (ranges.least_r50 * beams, ranges.r50), beams.shape)
        are_small = sizes < ranges.r50 / 4
        small = bool(rng.random() < are_small.mean()) if small is None else small
        beam, r50 = (np.append(old, new[are_small == small]) for old, new in ((beam, beams), (r50, sizes)))
    return beam[:batch], r50[:batch], small


def _line(rng, ranges, batch):
    """Projected speeds and dispersions (batch,) of lines as wide as they may be [channel]."""
    chosen = np.empty((2, 0))
    while chosen.shape[1] < batch:
        speed, dispersion = (log_uniform(rng, limits, 4 * batch) for limits in (ranges.v22_sini, ranges.dispersion))
        width = 2 * speed + _FWHM * dispersion
        inside = (width >= ranges.line[0]) & (width <= ranges.line[1])
        chosen = np.concatenate([chosen, np.stack([speed, dispersion])[:, inside]], 1)
    return chosen[:, :batch]


def _made_for_each(form):
    """Whether a form, or a component of it, is made for each observation."""
    parts = [part for _, part in getattr(form, "components", ())]
    if parts:
        return any(map(_made_for_each, parts))
    return form.for_observation.__func__ is not Form.for_observation.__func__


def _chosen(rng, weights):
    p = np.array(list(weights.values()), dtype=float)
    return str(rng.choice(list(weights), p=p / p.sum()))


def _scales(r_scale):
    """Scales of the relative priors in units of the disc; the light's own are stretched to size afterwards."""
    return {"r_scale": r_scale, "beam": r_scale, "field": 10 * r_scale}
