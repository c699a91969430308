"""The decoder: parameters of a rotating disc in, the cube that a telescope would see out."""

import math
from collections import defaultdict
from dataclasses import dataclass

import torch

from .beam import BeamOperator, beam_covariance
from .geometry import axis_scale, line_of_sight, line_of_sight_speed, sky_to_axes, vertical_law
from .profile import SpectralBins, channel_spectra
from .quadrature import Quadrature

__all__ = ["GEOMETRY", "DiscDecoder", "Forms"]

GEOMETRY = ("inclination", "pa", "east", "north", "vsys", "flux", "thickness")
"""Parameters that every disc has, in the order of the parameter vector; those of the forms follow."""

_SLOTS = {"velocity_dispersion": "dispersion", "rotation_curve": "curve", "surface_brightness": "light"}


@dataclass(frozen=True)
class Forms:
    """The three functional forms of a disc: classes of `kinematics_nn.forms`."""

    rotation_curve: type
    surface_brightness: type
    velocity_dispersion: type

    @property
    def slots(self):
        """Dict of slot -> the names its parameters have in the parameter vector."""
        names = {slot: [p.name for p in getattr(self, slot).parameters] for slot in _SLOTS}
        every = [*GEOMETRY, *(name for slot in names.values() for name in slot)]
        return {slot: tuple(f"{_SLOTS[slot]}_{n}" if every.count(n) > 1 else n for n in names[slot]) for slot in _SLOTS}

    @property
    def parameter_names(self):
        """All parameters, in the order of the parameter vector."""
        return GEOMETRY + tuple(name for slot in self.slots.values() for name in slot)


class DiscDecoder:
    """A disc of given functional forms, seen on a given grid.

    Sources: the thin disc's projection as in Begeman (1989, A&A 223, 47, equation 1); the vertical law is exponential
    in abs(z), that of KinMS (Davis et al. 2013, MNRAS 429, 534).

    Parameters
    ----------
    grid : Grid
        Pixels, channels and beam.
    forms : Forms
        Functional forms.
    quadrature : Quadrature, optional
        Points a pixel is summed at; by default what each disc asks for in each of its parts.
    lsf : float or "hanning", optional
        The instrument's line-spread function: the width (sigma) of a Gaussian on the cube's axis [km/s], or channels
        that were smoothed by (1/4, 1/2, 1/4).
    integrate_pixels : bool, optional
        Whether a pixel holds the average over it or, the default, the value at its centre.
    faint : float, optional
        Share of a disc's light that may be left out in its outskirts; positive.
    pad : int, optional
        Pixels around the field from which the beam brings light in; by default what the beam asks for.
    pixels : (Tensor, Tensor), optional
        Rows and columns of the field that are wanted; by default all.
    points : int, optional
        Points summed at a time: they bound the memory, and where few enough stay in the processor's cache.
    """

    def __init__(
        self,
        grid,
        forms,
        quadrature=None,
        *,
        lsf=0.0,
        integrate_pixels=False,
        faint=1e-4,
        pad=None,
        pixels=None,
        points=200_000,
    ):
        dtype, device = grid.xi.dtype, grid.xi.device
        self.grid, self.forms, self.quadrature = grid, forms, quadrature
        self.faint, self.points = faint, points
        self.pad = grid.padding() if pad is None else pad
        self.names = forms.parameter_names
        matrix = grid.pixel_matrix
        self._side = float(torch.linalg.norm(matrix, dim=0).max())
        self._area = float(torch.linalg.det(matrix.double()).abs())
        xi, eta = grid.padded_offsets(self.pad)
        self._shape = tuple(xi.shape)
        self._xi, self._eta = xi.flatten(), eta.flatten()
        self._rules = {}
        self._edges, self._response, self._lsf = _channels(grid.edges, lsf)
        covariance = beam_covariance(grid.beam.double(), matrix.double())
        self.beam = BeamOperator(covariance, grid.xi.shape, self.pad, integrate_pixels, pixels)
        self._narrow = 0.2 * float(torch.diff(grid.edges).min())
        # A line narrower than a thousandth of a channel is that narrow: it keeps gradients finite.
        self._floor = 5e-3 * self._narrow

    def __call__(self, parameters):
        """Render cubes.

        Parameters
        ----------
        parameters : Tensor (batch, n_parameters)
            In the order of ``names``; angles in degrees.

        Returns
        -------
        Tensor (batch, channel, y, x)
            In the cube's unit.
        """
        at_once = max(1, self.points // (_LIGHTEST * len(self._xi)))
        return torch.cat([self.beam(*self._lit(some)) for some in parameters.split(at_once)])

    def sky(self, parameters, light_map=None):
        """The sky before the beam, averaged over pixels: (batch, channel, y + 2 pad, x + 2 pad), in the cube's unit.

        ``light_map`` (batch, y + 2 pad, x + 2 pad) multiplies the light: clumps, arms, anything the profile is not.
        """
        lit, (y0, x0) = self._lit(parameters, light_map)
        (height, width), (ny, nx) = self._shape, lit.shape[2:]
        return torch.nn.functional.pad(lit, (x0, width - x0 - nx, y0, height - y0 - ny))

    def _lit(self, parameters, light_map=None):
        """The part of the padded sky (batch, channel, y, x) that holds all the light, and where it begins (y, x)."""
        galaxy = self._galaxies(parameters)
        parts = [
            (rule, batch[some], pixel[some])
            for rule, batch, pixel in self._rows(galaxy)
            for some in torch.arange(len(pixel), device=pixel.device).split(
                max(1, self.points // max(len(rule), _LIGHTEST))
            )
        ]
        spectra, light = zip(*(self._spectra(galaxy, *part) for part in parts), strict=True)
        spectra, light = torch.cat(spectra, 1), torch.cat(light)
        batch, pixel = (torch.cat([part[k] for part in parts]) for k in (1, 2))
        factor = self._normalisation(galaxy, light, batch, pixel)[batch]
        if light_map is not None:
            factor = factor * light_map.flatten(1)[batch, pixel]
        spectra = spectra * factor
        y, x = pixel // self._shape[1], pixel % self._shape[1]
        (y0, y1), (x0, x1) = (_limits(at) for at in (y, x))
        # Every pixel takes its row, and those that have none the dark one after the last.
        source = torch.full((len(parameters), (y1 - y0) * (x1 - x0)), spectra.shape[1], device=pixel.device)
        source[batch, (y - y0) * (x1 - x0) + x - x0] = torch.arange(len(pixel), device=pixel.device)
        spectra = torch.nn.functional.pad(spectra, (0, 1))
        sky = spectra.index_select(1, source.flatten()).view(len(spectra), len(parameters), y1 - y0, x1 - x0)
        return sky.transpose(0, 1), (y0, x0)

    def _normalisation(self, galaxy, light, batch, pixel):
        """What a disc that lies in the field as a whole is multiplied by, so that its points have its flux (batch,)."""
        found = torch.zeros_like(galaxy["flux"]).index_add(0, batch, light) * self._area
        y, x = pixel // self._shape[1], pixel % self._shape[1]
        border = (y == 0) | (x == 0) | (y == self._shape[0] - 1) | (x == self._shape[1] - 1)
        cut = torch.zeros_like(found).index_add(0, batch, border.to(found.dtype)) > 0
        one = torch.ones_like(found)
        return torch.where(cut | (found == 0), one, galaxy["flux"] / torch.where(found == 0, one, found))

    def _galaxies(self, parameters):
        """What the galaxies (batch,) have, in plain names."""
        forms = self.forms
        values = dict(zip(self.names, parameters.unbind(1), strict=True))
        light, curve, dispersion = ([values[name] for name in forms.slots[slot]] for slot in _ORDER)
        extent = forms.surface_brightness.half_light_radius(*light) / 1.678
        inclination, pa = torch.deg2rad(values["inclination"]), torch.deg2rad(values["pa"])
        to_axis = axis_scale(values["vsys"], self.grid.convention)
        flux = values["flux"] * self.grid.brightness_per_flux
        scale = 1 / forms.surface_brightness.total(*light)
        galaxy = {
            **{name: values[name] for name in ("east", "north", "vsys", "thickness")},
            "inclination": inclination, "pa": pa, "extent": extent, "flux": flux, "scale": scale, "to_axis": to_axis,
            "light": light, "curve": curve, "dispersion": dispersion,
        }  # fmt: skip
        if forms.velocity_dispersion.uniform:
            sigma = self._width(to_axis * forms.velocity_dispersion.evaluate(extent, *dispersion))
            bins = SpectralBins(self._edges, sigma.clamp(min=self._narrow))
            galaxy |= {"sigma": sigma, "bins": bins, "matrix": self._smoothed(bins.matrix(sigma))}
        return galaxy

    def _width(self, sigma):
        return torch.sqrt(sigma**2 + (self._lsf**2 + self._floor**2))

    def _smoothed(self, spectra):
        """Spectra (..., channel, n) in the channels of the cube."""
        return spectra if self._response is None else self._response @ spectra

    def _spectra(self, galaxy, rule, batch, pixel):
        """Spectra (channel, row) and light (row,) of rows of galaxy and pixel, each summed at the points of a rule.

        Points come before rows, so that what a row has in common runs along the axis that is contiguous.
        """
        forms = self.forms

        def row(value):
            return value[batch] if len(value) > 1 else value

        inclination, extent = row(galaxy["inclination"]), row(galaxy["extent"])
        (x, y), (depth, share) = self._points_of(rule)
        u, w = sky_to_axes(
            self._xi[pixel] - row(galaxy["east"]) + x[:, None],
            self._eta[pixel] - row(galaxy["north"]) + y[:, None],
            row(galaxy["pa"]),
        )  # (sub-pixel, row)
        least = self._least_thickness(extent, inclination, rule)
        thickness = torch.sqrt(row(galaxy["thickness"]) ** 2 + least**2)
        y_w, y_t, z_w, z_t, width = line_of_sight(inclination, thickness, extent)
        if depth.shape[2] > 1:
            depth = depth.index_select(2, pixel)  # (depth, sub-pixel, row)
        y = torch.addcmul(y_w * w, y_t, depth)
        radius = torch.sqrt(torch.addcmul(u * u + 1e-12, y, y))
        cosine = (u / radius).flatten(0, 1)
        radius = radius.flatten(0, 1)  # (point, row)
        height = torch.addcmul(z_w / thickness * w, z_t / thickness, depth).abs()
        # Points that lie in z as far apart as in the sky.
        step = self._side * rule.spacing * z_w.abs() / thickness
        column = (share * vertical_law(height, step, depth.abs())).flatten(0, 1)
        scale = row(galaxy["flux"] * galaxy["scale"]) / rule.sub_pixels * (width / thickness)
        light, curve, dispersion = ([row(value) for value in galaxy[name]] for name in ("light", "curve", "dispersion"))
        brightness = forms.surface_brightness.evaluate(radius, *light) * (column * scale)
        along = line_of_sight_speed(cosine, forms.rotation_curve.evaluate(radius, *curve))
        to_axis, vsys = row(galaxy["to_axis"]), row(galaxy["vsys"])
        projected = to_axis * torch.sin(inclination)
        if "bins" not in galaxy:
            sigma = self._width(to_axis * forms.velocity_dispersion.evaluate(radius, *dispersion))
            return self._exact(torch.addcmul(vsys, projected, along), sigma, brightness), brightness.sum(0)
        bins, narrow = galaxy["bins"], galaxy["sigma"].detach() < self._narrow
        spectra = None
        if not narrow.all():
            a_bin = 1 / row(bins.spacing)
            x = torch.addcmul((vsys - row(bins.first)) * a_bin, projected * a_bin, along)
            gathered, used = bins.gather(x, brightness)
            matrix = galaxy["matrix"][..., used]
            whose, rows = torch.unique_consecutive(batch, return_counts=True)
            parts = zip(whose.tolist(), gathered.split(rows.tolist(), 1), strict=True)
            spectra = torch.cat([matrix[k] @ some for k, some in parts], 1)
        if narrow.any():
            fine = narrow[batch].nonzero()[:, 0]
            speed = torch.addcmul(vsys, projected, along)[:, fine]
            exact = self._exact(speed, galaxy["sigma"][batch[fine]], brightness[:, fine])
            spectra = exact if spectra is None else spectra.index_copy(1, fine, exact)
        return spectra, brightness.sum(0)

    def _exact(self, speed, sigma, brightness):
        return self._smoothed(channel_spectra(speed, sigma.expand_as(speed), brightness, self._edges))

    def _points_of(self, rule):
        """Offsets (sub-pixel,) east and north [arcsec] of a rule's points, and its depths and their weights."""
        if rule not in self._rules:
            dtype, device = self._xi.dtype, self._xi.device
            x, y = rule.offsets(dtype, device)
            m = self.grid.pixel_matrix
            pixel = torch.arange(len(self._xi), device=device)
            depth = rule.depth(pixel % self._shape[1], pixel // self._shape[1], dtype)
            self._rules[rule] = (m[0, 0] * x + m[0, 1] * y, m[1, 0] * x + m[1, 1] * y), depth
        return self._rules[rule]

    @torch.no_grad()
    def _rows(self, galaxy):
        """Rules, and galaxy and pixel of all that they are for: pixels that hold any light worth the name."""
        galaxy = {name: value[:, None] for name, value in galaxy.items() if torch.is_tensor(value)} | {
            "light": [value[:, None] for value in galaxy["light"]]
        }
        profile, extent, inclination = self.forms.surface_brightness, galaxy["extent"], galaxy["inclination"]
        radii = extent * torch.logspace(-2, 1.6, 96, dtype=extent.dtype, device=extent.device)
        grown = torch.cumsum(profile.evaluate(radii, *galaxy["light"]) * radii**2, 1)
        last = (grown < (1 - self.faint) * grown[:, -1:]).sum(1, keepdim=True).clamp(max=radii.shape[1] - 1)
        outer = radii.gather(1, last) + self._side
        u, w = sky_to_axes(self._xi - galaxy["east"], self._eta - galaxy["north"], galaxy["pa"])
        # A disc out to there, and its height above it.
        thickness = galaxy["thickness"] + self._least_thickness(extent, inclination, self.quadrature or Quadrature(5))
        height = thickness * -math.log(self.faint) * torch.sin(inclination) + self._side
        minor = (w.abs() - height).clamp(min=0) / torch.cos(inclination).abs().clamp(min=1e-3)
        lit = u**2 + minor**2 < outer**2
        if self.quadrature is not None:
            return [(self.quadrature, *lit.nonzero(as_tuple=True))]
        sin, cos = torch.sin(inclination), torch.cos(inclination).abs()
        thickness = galaxy["thickness"] + self._least_thickness(extent, inclination, Quadrature(65))
        minor = (extent * cos + galaxy["thickness"] * sin) / self._side
        ratio = thickness * sin / (extent * cos).clamp(min=1e-6 * extent)
        reach = galaxy["thickness"] * sin / cos.clamp(min=1e-6) / self._side
        steepness = torch.cat([minor, reach, ratio], 1).tolist()
        centre = (u.abs() < _CENTRE * self._side) & (w.abs() < _CENTRE * self._side)
        rules = defaultdict(list)
        for k, of in enumerate(steepness):
            rule = Quadrature.suited(*of)
            for part, its in ((lit[k] & ~centre[k], rule), (lit[k] & centre[k], rule.finer())):
                pixel = part.nonzero()[:, 0]
                rules[its].append((torch.full_like(pixel, k), pixel))
        return [
            (rule, *(torch.cat(part) for part in zip(*rows, strict=True)))
            for rule, rows in rules.items()
            if any(len(pixel) for _, pixel in rows)
        ] or [(Quadrature(1, 1, turned=False), *lit.nonzero(as_tuple=True))]

    def _least_thickness(self, extent, inclination, rule):
        """What an edge-on disc is thickened by, so that it cannot fall between the sub-pixels; nothing when face-on."""
        spacing = self._side * rule.spacing
        return 0.5 * spacing**2 / (spacing + extent * torch.cos(inclination).abs())


_LIGHTEST = 8  # points that a pixel counts for at least: what is done once a pixel takes memory, too
_CENTRE = 2.0  # pixels about the centre on every side that are summed more finely

_ORDER = ("surface_brightness", "rotation_curve", "velocity_dispersion")


def _limits(at):
    return (int(at.min()), int(at.max()) + 1) if len(at) else (0, 1)


def _channels(edges, lsf):
    """Edges to render, the matrix from the channels between them to the cube's, and the width of a Gaussian LSF."""
    if isinstance(lsf, str) and lsf != "hanning":
        raise ValueError(f'lsf={lsf!r}: the width of a Gaussian [km/s], or "hanning"')
    if lsf != "hanning":
        return edges, None, float(lsf)
    first, last = 2 * edges[:1] - edges[1:2], 2 * edges[-1:] - edges[-2:-1]
    n = len(edges) - 1
    channel = torch.arange(n, device=edges.device)
    response = edges.new_zeros(n, n + 2)
    for k, share in enumerate((0.25, 0.5, 0.25)):
        response[channel, channel + k] = share
    return torch.cat([first, edges, last]), response, 0.0
