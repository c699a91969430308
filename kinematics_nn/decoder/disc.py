"""The decoder: parameters of a rotating disc in, the cube that a telescope would see out."""

import math
from dataclasses import dataclass

import torch

from .beam import BeamOperator, beam_covariance
from .geometry import axis_scale, line_of_sight, line_of_sight_speed, sky_to_axes, vertical_law
from .profile import channel_spectra
from .quadrature import Quadrature

__all__ = ["GEOMETRY", "DiscDecoder", "Forms"]

GEOMETRY = ("inclination", "pa", "east", "north", "vsys", "flux", "thickness")
"""Parameters that every disc has, in the order of the parameter vector; those of the forms follow."""

_POINTS = 400_000  # summed at a time: what a batch or a large field takes in memory is bounded by them

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
        Points a pixel is summed at.
    lsf : float, optional
        Gaussian width (sigma) of the instrument's line-spread function on the cube's axis [km/s].
    integrate_pixels : bool, optional
        Whether a pixel holds the average over it or, the default, the value at its centre.
    faint : float, optional
        Pixels where the disc is sure to be fainter than this fraction of its brightest are not rendered; positive.
    """

    def __init__(self, grid, forms, quadrature=None, *, lsf=0.0, integrate_pixels=False, faint=1e-6, pad=None):
        dtype, device = grid.xi.dtype, grid.xi.device
        self.grid, self.forms, self.lsf, self.faint = grid, forms, lsf, faint
        self.quadrature = quadrature or Quadrature()
        self.pad = grid.padding() if pad is None else pad
        self.names = forms.parameter_names
        matrix = grid.pixel_matrix.double()
        self._pixel = float(torch.linalg.det(matrix).abs().sqrt())
        xi, eta = grid.padded_offsets(self.pad)
        self._shape = tuple(xi.shape)
        self._xi, self._eta = xi.flatten(), eta.flatten()
        x, y = self.quadrature.offsets(dtype, device)
        m = matrix.to(dtype)
        self._in_pixel = m[0, 0] * x + m[0, 1] * y, m[1, 0] * x + m[1, 1] * y
        self.beam = BeamOperator(beam_covariance(grid.beam.double(), matrix), grid.xi.shape, self.pad, integrate_pixels)

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
        return self.beam(self.sky(parameters))

    def sky(self, parameters, light_map=None):
        """The sky before the beam, averaged over pixels: (batch, y + 2 pad, x + 2 pad, channel), in the cube's unit.

        ``light_map`` (batch, y + 2 pad, x + 2 pad) multiplies the light: clumps, arms, anything the profile is not.
        """
        forms = self.forms
        galaxy = dict(zip(self.names, parameters.T[..., None], strict=True))  # each (batch, 1)
        light = [galaxy[name] for name in forms.slots["surface_brightness"]]
        extent = forms.surface_brightness.half_light_radius(*light) / 1.678
        # What the disc must be multiplied by for its flux.
        scale = galaxy["flux"] * (self.grid.brightness_per_flux / len(self.quadrature))
        scale = scale / forms.surface_brightness.total(*light)
        rows = torch.stack(self._rows({name: value.detach() for name, value in galaxy.items()}, extent.detach()))
        parts = rows.split(max(1, _POINTS // len(self.quadrature)), dim=1)
        spectra = torch.cat([self._spectra(*part, galaxy, extent, scale, light_map) for part in parts])
        sky = spectra.new_zeros(len(parameters), len(self._xi), spectra.shape[-1])
        return sky.index_put_(tuple(rows), spectra).unflatten(1, self._shape)

    def _spectra(self, batch, pixel, galaxy, extent, scale, light_map):
        """Spectra (row, channel) of rows of galaxy and pixel."""
        forms, slots = self.forms, self.forms.slots
        values, extent = {name: value[batch] for name, value in galaxy.items()}, extent[batch]  # each (row, 1)
        light, curve, dispersion = ([values[name] for name in slots[slot]] for slot in _ORDER)
        inclination = torch.deg2rad(values["inclination"])
        u, w = sky_to_axes(
            self._xi[pixel, None] + self._in_pixel[0] - values["east"],
            self._eta[pixel, None] + self._in_pixel[1] - values["north"],
            torch.deg2rad(values["pa"]),
        )  # (row, k)
        least = self._least_thickness(extent, inclination)
        thickness = torch.sqrt(values["thickness"] ** 2 + least**2)
        nx = self._shape[1]
        depth = self.quadrature.depth(pixel % nx, pixel // nx, u.dtype)
        y, z, width = line_of_sight(w, inclination, thickness, extent, depth)
        radius = torch.sqrt(u**2 + y**2 + 1e-12)
        column = vertical_law(z, thickness, 2 * least, depth) * width
        brightness = scale[batch] * forms.surface_brightness.evaluate(radius, *light) * column
        if light_map is not None:
            brightness = brightness * light_map.flatten(1)[batch, pixel][:, None]

        to_axis = axis_scale(values["vsys"], self.grid.convention)
        v_rot = forms.rotation_curve.evaluate(radius, *curve)
        speed = values["vsys"] + to_axis * line_of_sight_speed(u, y, v_rot, inclination)
        sigma = to_axis * forms.velocity_dispersion.evaluate(radius, *dispersion)
        # A line narrower than a thousandth of a channel is that narrow: it keeps gradients finite.
        floor = 1e-3 * torch.diff(self.grid.edges).min()
        sigma = torch.sqrt(sigma**2 + self.lsf**2 + floor**2).expand_as(speed)
        return channel_spectra(speed, sigma, brightness, self.grid.edges)

    def _rows(self, values, extent):
        """Galaxy and pixel of all that may be brighter than ``faint``: a disc out to there, and its height above it."""
        forms = self.forms
        light = [values[name] for name in forms.slots["surface_brightness"]]
        reach = torch.linspace(0.03, 27, 96, dtype=extent.dtype, device=extent.device) * extent
        profile = forms.surface_brightness.evaluate(reach, *light)
        bright = profile > 0.1 * self.faint * profile.amax(1, keepdim=True)
        outer = torch.where(bright, reach, 0).amax(1, keepdim=True) + self._pixel
        inclination = torch.deg2rad(values["inclination"])
        u, w = sky_to_axes(self._xi - values["east"], self._eta - values["north"], torch.deg2rad(values["pa"]))
        thickness = values["thickness"] + self._least_thickness(extent, inclination)
        height = thickness * math.log(10 / self.faint) * torch.sin(inclination) + self._pixel
        minor = (w.abs() - height).clamp(min=0) / torch.cos(inclination).abs().clamp(min=1e-3)
        return (u**2 + minor**2 < outer**2).nonzero(as_tuple=True)

    def _least_thickness(self, extent, inclination):
        """What an edge-on disc is thickened by, so that it cannot fall between the sub-pixels; nothing when face-on."""
        spacing = self._pixel * self.quadrature.spacing
        return 0.5 * spacing**2 / (spacing + extent * torch.cos(inclination).abs())


_ORDER = ("surface_brightness", "rotation_curve", "velocity_dispersion")
