"""The decoder: parameters of a rotating disc in, the cube that a telescope would see out."""

import torch

from .beam import BeamOperator, beam_covariance
from .channels import Channels
from .galaxies import coefficients, line_width
from .jacobian import jacobian
from .plan import plan
from .points import PointsOfRule, form_parameters, light_and_speed

__all__ = ["DiscDecoder"]


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
        self.grid, self.forms, self.quadrature = grid, forms, quadrature
        self.faint, self.points = faint, points
        self.pad = grid.padding() if pad is None else pad
        self.names = forms.parameter_names
        self.field = grid.padded(self.pad)
        covariance = beam_covariance(grid.beam.double(), grid.pixel_matrix.double())
        self.beam = BeamOperator(covariance, grid.xi.shape, self.pad, integrate_pixels, pixels)
        self._rules = {}
        self.channels = Channels(grid.edges, lsf)

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
        at_once = max(1, self.points // (_LIGHTEST * len(self.field.xi)))
        return torch.cat([self.beam(*self._lit(some)) for some in parameters.split(at_once)])

    def jacobian(self, parameters):
        """Render cubes, and their derivatives by every parameter.

        Parameters
        ----------
        parameters : Tensor (batch, n_parameters)
            As in a call.

        Returns
        -------
        cubes : Tensor (batch, channel, y, x)
        derivatives : Tensor (batch, n_parameters, channel, y, x)
            In the cube's unit over the parameter's; without a graph.
        """
        return jacobian(self, parameters)

    def sky(self, parameters, light_map=None):
        """The sky before the beam, averaged over pixels: (batch, channel, y + 2 pad, x + 2 pad), in the cube's unit.

        ``light_map`` (batch, y + 2 pad, x + 2 pad) multiplies the light: clumps, arms, anything the profile is not.
        """
        lit, (y0, x0) = self._lit(parameters, light_map)
        (height, width), (ny, nx) = self.field.shape, lit.shape[2:]
        return torch.nn.functional.pad(lit, (x0, width - x0 - nx, y0, height - y0 - ny))

    def plan(self, parameters, points):
        """Parts of the sky to sum, of about so many points each at most."""
        parts = plan(self.field, self.forms, parameters, self.quadrature, self.faint)
        return [some for part in parts for some in part.split(max(1, points // max(len(part.rule), _LIGHTEST)))]

    def rules(self, parts):
        """The rules (rule,) among parts, and how far apart their points are (rule, 1) [arcsec]."""
        rules = list(dict.fromkeys(part.rule for part in parts))
        spacing = [[self.field.side * rule.spacing] for rule in rules]
        return rules, torch.tensor(spacing, dtype=self.field.xi.dtype, device=self.field.xi.device)

    def points_of(self, rule):
        """The `PointsOfRule`, kept."""
        if rule not in self._rules:
            self._rules[rule] = PointsOfRule(rule, self.field)
        return self._rules[rule]

    def _lit(self, parameters, light_map=None):
        """The part of the padded sky (batch, channel, y, x) that holds all the light, and where it begins (y, x)."""
        parts = self.plan(parameters, self.points)
        rules, spacing = self.rules(parts)
        table = coefficients(self.forms, parameters, spacing, self.grid.convention, self.channels.least_sigma)
        lines = self.channels.lines(table["sigma"][0]) if "sigma" in table else None
        names, numbers = list(table), torch.stack(list(table.values()), 1)  # (rule, name, batch)
        spectra, light = [], []
        for part in parts:
            its = numbers[rules.index(part.rule)]
            c = dict(zip(names, (its if len(parameters) == 1 else its[:, part.batch]).unbind(), strict=True))
            brightness, speed = light_and_speed(self.forms, c, placed := self.points_of(part.rule).place(c, part.pixel))
            if lines is None:
                radius = placed.radius.flatten(0, 1)
                sigma = self.forms.velocity_dispersion.evaluate(radius, *form_parameters(c, "dispersion"))
                sigma = line_width(c["to_axis"] * sigma, self.channels.least_sigma)
                spectra.append(self.channels.exact(torch.addcmul(c["vsys"], c["speed"], speed), sigma, brightness))
            else:
                spectra.append(lines(c, speed, brightness, part.batch))
            light.append(brightness.sum(0))
        batch, pixel = torch.cat([part.batch for part in parts]), torch.cat([part.pixel for part in parts])
        factor = self._factor(parameters, torch.cat(light), batch, pixel)[batch]
        if light_map is not None:
            factor = factor * light_map.flatten(1)[batch, pixel]
        sky, corner = self.place(torch.cat(spectra, 1) * factor, batch, pixel, len(parameters))
        return sky.transpose(0, 1), corner

    def _factor(self, parameters, light, batch, pixel):
        """What light of a flux of one is multiplied by (batch,), so that a disc that lies in the field has its flux."""
        flux = parameters[:, self.names.index("flux")] * self.grid.brightness_per_flux
        found = torch.zeros_like(flux).index_add(0, batch, light) * self.field.area
        cut = torch.zeros_like(flux).index_add(0, batch, self.field.at_border(pixel).to(flux)) > 0
        return flux / torch.where(cut | (found == 0), torch.ones_like(found), found)

    def place(self, spectra, batch, pixel, n):
        """The part of the padded sky (..., n, y, x) that holds the pixels of n galaxies, and where it begins (y, x).

        ``spectra`` (..., row) are those of ``batch`` (row,) and ``pixel`` (row,).
        """
        width = self.field.shape[1]
        y, x = pixel // width, pixel % width
        (y0, y1), (x0, x1) = (_limits(at) for at in (y, x))
        # Every pixel takes its row, and those that have none the dark one after the last.
        source = torch.full((n, (y1 - y0) * (x1 - x0)), len(pixel), device=pixel.device)
        source[batch, (y - y0) * (x1 - x0) + x - x0] = torch.arange(len(pixel), device=pixel.device)
        sky = torch.nn.functional.pad(spectra, (0, 1)).index_select(-1, source.flatten())
        return sky.view(*spectra.shape[:-1], n, y1 - y0, x1 - x0), (y0, x0)


_LIGHTEST = 8  # points that a pixel counts for at least: what is done once a pixel takes memory, too


def _limits(at):
    return (int(at.min()), int(at.max()) + 1) if len(at) else (0, 1)
