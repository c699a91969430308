"""The decoder: parameters of a rotating disc in, the cube that a telescope would see out."""

import torch

from .beam import BeamOperator, beam_covariance
from .channels import Channels
from .galaxies import coefficients, line_width
from .jacobian import jacobian
from .lit import LitBox
from .plan import grouped, plan
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
        Whether a pixel holds the average over it, or the value at its centre; by default as the grid says.
    faint : float, optional
        Share of a disc's light that may be left out in its outskirts, between 0 and 1.
    pad : int, optional
        Pixels around the field from which the beam brings light in; by default 1.3 FWHM of the major axis, 3 sigma.
    pixels : (Tensor, Tensor), optional
        Rows and columns of the field that are wanted; by default all.
    points : int, optional
        Points summed at a time: they bound the memory, and where few enough stay in the processor's cache.
    tabulated : bool, optional
        Whether the speeds of a costly curve are taken from a table, a galaxy at a time: for large galaxies.

    Attributes
    ----------
    fineness : Fineness or None
        Of the rule that each disc asks for; it may be set at any time.

    Raises
    ------
    ValueError
        Where ``lsf`` or ``faint`` is out of range, or parameters are not (batch, n_parameters).
    """

    def __init__(
        self,
        grid,
        forms,
        quadrature=None,
        *,
        lsf=0.0,
        integrate_pixels=None,
        faint=1e-4,
        pad=None,
        pixels=None,
        points=200_000,
        tabulated=False,
    ):
        if not 0 < faint < 1:
            raise ValueError(f"faint={faint!r}: the share of the light that may be left out, between 0 and 1, say 1e-4")
        self.grid, self.forms, self.quadrature = grid, forms, quadrature
        self.faint, self.points, self.fineness, self.tabulated = faint, points, None, tabulated
        self.pad = grid.padding() if pad is None else pad
        self.names = forms.parameter_names
        self.field = grid.padded(self.pad)
        integrate = grid.integrate_pixels if integrate_pixels is None else integrate_pixels
        covariance = beam_covariance(grid.beam.double(), grid.pixel_matrix.double())
        self.beam = BeamOperator(covariance, grid.xi.shape, self.pad, integrate, pixels)
        self._rules = {}
        self.channels = Channels(grid.edges, lsf)
        # glibc gives memory back at twice the largest block that was ever freed, and asking for it anew in pages costs
        # a thin cube a third of its time. Once a large block has come and gone, which nothing was written to, it keeps.
        block = torch.empty(_KEPT_BY_GLIBC, dtype=torch.uint8)
        del block

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
        cubes = None
        if not (torch.is_grad_enabled() and parameters.requires_grad):
            channels = len(self.grid.edges) - 1
            cubes = parameters.new_empty(len(parameters), channels, *self.beam.field)
        seen = [
            self.beam(sky, corner, None if cubes is None else cubes[k : k + 1])
            for k, (sky, corner) in enumerate(self._skies(parameters))
        ]
        return torch.cat(seen) if cubes is None else cubes

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
        """Render skies that no beam has seen.

        Parameters
        ----------
        parameters : Tensor (batch, n_parameters)
            As in a call.
        light_map : Tensor (batch, y + 2 pad, x + 2 pad), optional
            Multiplies the light: clumps, arms, anything the profile is not.

        Returns
        -------
        Tensor (batch, channel, y + 2 pad, x + 2 pad)
            Averages over pixels, in the cube's unit.
        """
        (height, width), skies = self.field.shape, []
        for lit, (y0, x0) in self._skies(parameters, light_map):
            ny, nx = lit.shape[2:]
            skies.append(torch.nn.functional.pad(lit, (x0, width - x0 - nx, y0, height - y0 - ny)))
        return torch.cat(skies)

    def plan(self, parameters, points):
        """Galaxies in groups (first, one past the last, parts) of about so many points; see `plan.grouped`."""
        if parameters.ndim != 2 or parameters.shape[1] != len(self.names):
            found, names = tuple(parameters.shape), ", ".join(self.names)
            raise ValueError(f"parameters of shape {found}: they are (batch, {len(self.names)}), in the order {names}")
        of_each = plan(self.field, self.forms, parameters, self.quadrature, self.faint, self.fineness)
        # A table of a costly curve is of one galaxy.
        return grouped(of_each, points, alone=self.tabulated and self.forms.rotation_curve.costly)

    def rules(self, parts):
        """Dict of the rules among parts to their number, and how far apart their points are (rule, 1) [arcsec]."""
        rules = {rule: k for k, rule in enumerate(dict.fromkeys(part.rule for part in parts))}
        spacing = [[self.field.side * rule.spacing] for rule in rules]
        return rules, torch.tensor(spacing, dtype=self.field.xi.dtype, device=self.field.xi.device)

    def points_of(self, rule):
        """The `PointsOfRule`, kept."""
        if rule not in self._rules:
            self._rules[rule] = PointsOfRule(rule, self.field)
        return self._rules[rule]

    def _skies(self, parameters, light_map=None):
        """Galaxies in turn: its padded sky (1, channel, y, x) where it is lit, and where that begins (y, x)."""
        at_once = max(1, _PIXELS_PLANNED // len(self.field.xi))
        for start in range(0, len(parameters), at_once):
            for k, (sky, (y, x)) in enumerate(self._planned(parameters[start : start + at_once]), start):
                if light_map is not None:
                    sky = sky * light_map[k, y : y + sky.shape[2], x : x + sky.shape[3]]
                yield sky, (y, x)

    def _planned(self, parameters):
        """`_skies` of galaxies that are planned together."""
        groups = self.plan(parameters, self.points)
        rules, spacing = self.rules(part for *_, parts in groups for part in parts)
        table = coefficients(self.forms, parameters, spacing, self.grid.convention, self.channels.least_sigma)
        lines = self.channels.lines(table["sigma"][0]) if "sigma" in table else None
        names, numbers = list(table), torch.stack(list(table.values()), 1)  # (rule, name, batch)
        flux = parameters[:, self.names.index("flux")] * self.grid.brightness_per_flux
        for first, end, parts in groups:
            pieces = [[] for _ in range(first, end)]
            for part in parts:
                its = numbers[rules[part.rule]]
                its = its[:, first:end] if end - first == 1 else its.index_select(1, part.batch)
                for k, *piece in self._spectra(part, dict(zip(names, its.unbind(), strict=True)), lines, first):
                    pieces[k - first].append(piece)
            for total, own in zip(flux[first:end], pieces, strict=True):
                yield self._sky(total, *zip(*own, strict=True))

    def _spectra(self, part, c, lines, first):
        """Number, pixels (row,), spectra (channel, row) and light (row,) of each galaxy of a part, for a flux of one.

        And how many sub-pixels its pixels have.
        """
        points = self.points_of(part.rule).place(c, part.pixel)
        brightness, speed = light_and_speed(self.forms, c, points, self.tabulated)
        galaxies, rows = (of.tolist() for of in torch.unique_consecutive(part.batch, return_counts=True))
        if not galaxies:  # a disc outside the field
            galaxies, rows = [first], [0]
        if lines is not None:
            spectra = lines(c, speed, brightness, galaxies, rows)
        else:
            own = form_parameters(c, "dispersion")
            sigma = c["to_axis"] * self.forms.velocity_dispersion.evaluate(points.radius.flatten(0, 1), *own)
            speed = torch.addcmul(c["vsys"], c["speed"], speed)
            spectra = self.channels.exact(speed, line_width(sigma, self.channels.least_sigma), brightness)
            spectra = spectra.split(rows, 1)
        light, numbers = brightness.sum(0).split(rows), [part.rule.sub_pixels] * len(rows)
        return zip(galaxies, part.pixel.split(rows), spectra, light, numbers, strict=True)

    def _sky(self, flux, pixels, spectra, light, sub_pixels):
        """The lit part of the sky (1, channel, y, x) of one galaxy, and its corner, of pieces for a flux of one."""
        pixel = torch.cat(pixels)
        lit = LitBox(self.field, pixel, list(zip(map(len, pixels), sub_pixels, strict=True)))
        found = lit.light(torch.cat(light)) * self.field.area
        # A disc that lies in the field as a whole is multiplied so that its points have its flux.
        if found > 0 and not self.field.border.index_select(0, pixel).any():
            flux = flux / found
        dark = spectra[0].new_zeros(len(spectra[0]), 1)
        return lit.sky(torch.cat([*spectra, dark], 1)) * flux, lit.corner


_PIXELS_PLANNED = 1_000_000  # at a time, of all galaxies
_KEPT_BY_GLIBC = 32_000_000  # bytes; larger blocks than 32 MiB do not count there
