"""Simulated galaxies: drawn from the priors of the forms, rendered by the decoder, with the noise of a telescope.

The network has no scale, so a simulation needs none: a pixel is 1 arcsec, a channel 1 km/s, and what varies is how many
of them the beam, the disc and the line take. Beams lie along the pixel axes, and discs at any angle to them.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.nn.functional import interpolate

from ..decoder import BeamOperator, DiscDecoder, Forms, Quadrature, regular_grid
from ..errors import FormError
from ..forms.base import Form
from ..network.frame import Cubes
from ..network.targets import MULTIPLES, Disc

__all__ = ["Ranges", "Simulator", "ranges_of_forms"]

_FWHM = 2.3548


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
    dispersion : [channel].
    thickness : scale height over r50 / 1.678; a share ``thin_share`` is infinitely thin.
    clumps : rms of the logarithm of the light about its profile, in ``clump_share`` of the discs.
    hanning_share, crop_share : shares with Hanning-smoothed noise, and cut to a box around the emission.
    cut : channels cut off at the low end, uniform, in ``cut_share`` of the batches: a line at the edge of the band.
    curves, lights : forms and their shares.
    centre, vsys : standard deviation of the offsets [pixel, channel], normal.
    """

    beam: tuple = (1.5, 9.0)
    axis_ratio: tuple = (0.5, 1.0)
    round_share: float = 0.4
    least_r50: float = 0.35
    r50: float = 24.0
    snr: tuple = (2.5, 100.0)
    v22_sini: tuple = (1.2, 15.0)
    dispersion: tuple = (0.25, 4.0)
    thickness: tuple = (0.02, 0.3)
    thin_share: float = 0.25
    centre: float = 2.5
    vsys: float = 1.5
    clumps: tuple = (0.05, 0.6)
    clump_share: float = 0.35
    hanning_share: float = 0.4
    crop_share: float = 0.5
    cut_share: float = 0.15
    cut: tuple = (8, 22)
    curves: dict = field(
        default_factory=lambda: {
            "arctan": 0.4, "tanh": 0.12, "polyex": 0.12, "freeman": 0.08, "pseudo_isothermal": 0.08, "brandt": 0.1,
            "nfw": 0.05, "courteau": 0.05,
        }
    )  # fmt: skip
    lights: dict = field(
        default_factory=lambda: {
            "exponential": 0.55, "sersic": 0.15, "gaussian": 0.06, "ring": 0.06, "exponential_hole": 0.08,
            "truncated_exponential": 0.1,
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
        self.device = device
        self.pad = 8
        self._decoders = {}

    def __call__(self, batch):
        """A batch of galaxies of one pair of forms in fields of one size: (`Cubes`, `Disc`)."""
        from ..forms.registry import get_form

        r, rng = self.ranges, self.rng
        curve, light = (
            get_form(_choose(rng, w), k) for w, k in ((r.curves, "rotation_curve"), (r.lights, "surface_brightness"))
        )
        beam = _log_uniform(rng, r.beam, batch)
        ratio = np.where(rng.random(batch) < r.round_share, 1.0, rng.uniform(*r.axis_ratio, batch))
        least, most = np.log(r.least_r50 * beam), np.log(r.r50)
        # Small discs go to a small field, which costs less than half; their share keeps r50 log-uniform.
        border = np.clip(np.log(r.r50 / 4), least, most)
        small = rng.random() < np.mean((border - least) / (most - least))
        self.shape = self.sizes[int(small)]
        r50 = np.exp(rng.uniform(least, border) if small else rng.uniform(border, most))
        light_values = [p.prior.resolve(_scales(1.0)).sample(rng, batch) for p in light.parameters]
        lengths = [p.unit == "arcsec" for p in light.parameters]
        stretch = r50 / light.half_light_radius(*light_values)
        light_values = [v * stretch if is_length else v for v, is_length in zip(light_values, lengths, strict=True)]
        inclination = np.arccos(rng.uniform(0, 1, batch))
        v22_sini = _log_uniform(rng, r.v22_sini, batch)
        v22 = v22_sini / np.sin(np.maximum(inclination, np.deg2rad(1)))
        curve_values = [
            np.array([p.prior.resolve(_scales(s)).sample(rng) for s in r50 / 1.678]) for p in curve.parameters
        ]
        speed_scale = v22 / curve.evaluate(1.31 * r50, *curve_values)
        curve_values = [
            v * speed_scale ** float(p.powers[0]) for v, p in zip(curve_values, curve.parameters, strict=True)
        ]
        dispersion = _log_uniform(rng, r.dispersion, batch)
        thin = rng.random(batch) < r.thin_share
        thickness = np.where(thin, 0.0, _log_uniform(rng, r.thickness, batch)) * r50 / 1.678
        east, north = rng.normal(0, r.centre, (2, batch))
        columns = [
            np.rad2deg(inclination), rng.uniform(0, 360, batch), east, north, rng.normal(0, r.vsys, batch),
            np.ones(batch), thickness, dispersion, *curve_values, *light_values,
        ]  # fmt: skip
        parameters = torch.as_tensor(np.stack(columns, 1), dtype=torch.float32, device=self.device)
        clean = self._render(curve, light, parameters, beam, ratio)
        rms = clean.amax((1, 2, 3)) / self._tensor(_log_uniform(rng, r.snr, batch))
        data = clean / rms[:, None, None, None] + self._noise(beam, ratio)
        cubes = self._crop(data, clean / rms[:, None, None, None], beam, ratio)
        radii = np.array(MULTIPLES) * r50[:, None]
        columns = [[v[:, None] for v in values] for values in (curve_values, light_values)]
        speed = curve.evaluate(radii, *columns[0])
        profile = light.evaluate(radii, *columns[1]) / light.total(*columns[1]) * 2 * np.pi * r50[:, None] ** 2
        disc = Disc(
            inclination=torch.deg2rad(parameters[:, 0]), pa=torch.deg2rad(parameters[:, 1]), east=parameters[:, 2],
            north=parameters[:, 3], vsys=parameters[:, 4], flux=1 / rms, dispersion=parameters[:, 7],
            thickness=parameters[:, 6], r50=self._tensor(r50), speed=self._tensor(speed), light=self._tensor(profile),
        )  # fmt: skip
        return cubes, disc

    def _tensor(self, array):
        return torch.as_tensor(np.asarray(array), dtype=torch.float32, device=self.device)

    def _render(self, curve, light, parameters, beam, ratio):
        from ..forms.registry import get_form

        key = curve.name, light.name, self.shape
        if key not in self._decoders:
            forms = Forms(curve, light, get_form("constant", "velocity_dispersion"))
            self._decoders[key] = DiscDecoder(
                regular_grid(self.shape, device=self.device),
                forms,
                Quadrature(sub_pixels=5, depths=2),
                faint=3e-4,
                pad=self.pad,
            )
        sky = self._decoders[key].sky(parameters, self._clumps(len(parameters)))
        return self._beam(beam, ratio, "beam")(sky)

    def _clumps(self, batch):
        """Maps (batch, y + 2 pad, x + 2 pad) of mean one that make some discs clumpy, on 2 to 16 pixels."""
        r, rng = self.ranges, self.rng
        rms = np.where(rng.random(batch) < r.clump_share, _log_uniform(rng, r.clumps, batch), 0.0)
        side = self.shape[1] + 2 * self.pad
        coarse = int(side / _log_uniform(rng, (2.0, 16.0), None)) + 2
        field = torch.randn(batch, 1, coarse, coarse, device=self.device, generator=self.generator)
        field = interpolate(field, size=(side, side), mode="bicubic", align_corners=True)[:, 0]
        rms = self._tensor(rms)[:, None, None]
        return torch.exp(rms * field - 0.5 * rms**2)

    def _beam(self, beam, ratio, kind):
        """Beams with the major axis along y."""
        covariance = torch.diag_embed(self._tensor(np.stack([(beam * ratio) ** 2, beam**2], 1) / _FWHM**2))
        factor = {"beam": 1.0, "wide": 2.0, "lobes": 6.0}[kind]
        return BeamOperator(covariance * factor, self.shape[1:], self.pad)

    def _noise(self, beam, ratio):
        """Unit noise (batch, channel, y, x): white or correlated in one of several ways, Hanning or not."""
        nc, ny, nx = self.shape
        white = torch.randn(
            len(beam), nc, ny + 2 * self.pad, nx + 2 * self.pad, device=self.device, generator=self.generator
        ).bfloat16()  # noise needs no more digits, and its products take half the time
        kind = self.rng.choice(["beam", "wide", "white", "lobes"], p=[0.45, 0.25, 0.15, 0.15])
        if kind == "white":
            noise = white[..., self.pad : -self.pad, self.pad : -self.pad]
        elif kind == "lobes":
            noise = self._beam(beam, ratio, "beam")(white) - 0.5 * self._beam(beam, ratio, "lobes")(white)
        else:
            noise = self._beam(beam, ratio, kind)(white)
        noise = noise.float()
        if self.rng.random() < self.ranges.hanning_share:
            padded = torch.cat([noise[:, :1], noise, noise[:, -1:]], 1)
            noise = 0.25 * padded[:, :-2] + 0.5 * padded[:, 1:-1] + 0.25 * padded[:, 2:]
        inner = noise[:, 2:-2:3, 2:-2, 2:-2]  # a third of the channels, for speed
        return noise / inner.std((1, 2, 3), keepdim=True)

    def _crop(self, data, clean, beam, ratio):
        """`Cubes` as intake makes them: some whole, some cut to a box of the emission with two beams around it."""
        batch, nc = data.shape[:2]
        seen = clean > 3
        bounds = []
        cropped = torch.as_tensor(self.rng.random(batch) < self.ranges.crop_share, device=self.device)
        margins = (np.full(batch, nc // 8), np.ceil(2 * beam), np.ceil(2 * beam * ratio))
        for axis, margin in zip((1, 2, 3), margins, strict=True):
            others = tuple(a for a in (1, 2, 3) if a != axis)
            line = seen.any(others[1]).any(others[0])  # (batch, n)
            index = torch.arange(line.shape[1], device=self.device)
            margin = self._tensor(margin)
            low = torch.where(line, index, line.shape[1]).amin(1) - margin
            high = torch.where(line, index, -1).amax(1) + margin
            inside = (index >= low[:, None]) & (index <= high[:, None])
            bounds.append(inside | ~cropped[:, None] | ~line.any(1, keepdim=True))
        in_v, in_y, in_x = bounds
        weight = (in_y[:, :, None] & in_x[:, None]).to(data.dtype)
        data = data * weight[:, None] * in_v[:, :, None, None]
        grid = regular_grid(self.shape, device=self.device)
        first = int(self.rng.integers(*self.ranges.cut)) if self.rng.random() < self.ranges.cut_share else 0
        matrix, origin = grid.pixel_matrix, torch.stack([grid.xi[0, 0], grid.eta[0, 0]])
        width = self._tensor(beam)
        return Cubes(
            data=data[:, first:], weight=weight,
            matrix=matrix.expand(batch, 2, 2), origin=origin.expand(batch, 2),
            edges=grid.edges[first:].expand(batch, -1),
            beam=torch.stack([width, width * self._tensor(ratio), torch.zeros_like(width)], 1),
        )  # fmt: skip


def _made_for_each(form):
    """Whether a form, or a component of it, is made for each observation."""
    parts = [part for _, part in getattr(form, "components", ())]
    if parts:
        return any(map(_made_for_each, parts))
    return form.for_observation.__func__ is not Form.for_observation.__func__


def _choose(rng, weights):
    p = np.array(list(weights.values()), dtype=float)
    return str(rng.choice(list(weights), p=p / p.sum()))


def _log_uniform(rng, limits, size):
    return np.exp(rng.uniform(np.log(limits[0]), np.log(limits[1]), size))


def _scales(r_scale):
    """Scales of the relative priors in units of the disc; the light's own are stretched to size afterwards."""
    return {"r_scale": r_scale, "beam": r_scale, "field": 10 * r_scale}
