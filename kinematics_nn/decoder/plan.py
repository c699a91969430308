"""Which pixels hold light, and the points that each of them is summed at."""

import math
from collections import defaultdict
from typing import NamedTuple

import torch

from .geometry import least_thickness, sky_to_axes
from .quadrature import Quadrature

__all__ = ["Part", "plan"]

_CENTRE = 2.0  # pixels about the centre on every side that are summed more finely


class Part(NamedTuple):
    """Pixels that are summed by one rule: the galaxy and the pixel (row,) of each."""

    rule: Quadrature
    batch: torch.Tensor
    pixel: torch.Tensor

    def split(self, rows):
        """The same in parts of so many rows at most."""
        return [Part(self.rule, *some) for some in zip(self.batch.split(rows), self.pixel.split(rows), strict=True)]


@torch.no_grad()
def plan(field, forms, parameters, quadrature=None, faint=1e-4):
    """What there is to sum.

    Parameters
    ----------
    field : Field
        The padded field.
    forms : Forms
    parameters : Tensor (batch, n_parameters)
    quadrature : Quadrature, optional
        The one rule of all pixels; by default what each disc asks for, and more finely at its centre.
    faint : float
        Share of a disc's light that may be left out in its outskirts.

    Returns
    -------
    list of Part
        Of those pixels alone that hold any light worth the name.
    """
    values = forms.values(parameters)
    light = [value[:, None] for value in values["surface_brightness"]]
    inclination, thickness, pa = (values[name][:, None] for name in ("inclination", "thickness", "pa"))
    inclination, side = torch.deg2rad(inclination), field.side
    extent = forms.extent(values)[:, None]
    u, w = sky_to_axes(field.xi - values["east"][:, None], field.eta - values["north"][:, None], torch.deg2rad(pa))
    sin, cos = torch.sin(inclination), torch.cos(inclination).abs()
    # A disc out to there, and its height above it.
    outer = _outer_radius(forms.surface_brightness, light, extent, faint) + side
    coarse = side * (quadrature or Quadrature(5)).spacing
    height = (thickness + least_thickness(coarse, extent, inclination)) * -math.log(faint) * sin + side
    minor = (w.abs() - height).clamp(min=0) / cos.clamp(min=1e-3)
    lit = u**2 + minor**2 < outer**2
    if quadrature is not None:
        return [Part(quadrature, *lit.nonzero(as_tuple=True))]
    centre = (u.abs() < _CENTRE * side) & (w.abs() < _CENTRE * side)
    minor = (extent * cos + thickness * sin) / side
    reach = thickness * sin / cos.clamp(min=1e-6) / side
    fine = least_thickness(side * Quadrature(65).spacing, extent, inclination)
    ratio = (thickness + fine) * sin / (extent * cos).clamp(min=1e-6 * extent)
    rules = defaultdict(list)
    for k, of in enumerate(torch.cat([minor, reach, ratio], 1).tolist()):
        rule = Quadrature.suited(*of)
        for part, its in ((lit[k] & ~centre[k], rule), (lit[k] & centre[k], rule.finer())):
            pixel = part.nonzero()[:, 0]
            rules[its].append((torch.full_like(pixel, k), pixel))
    parts = [Part(rule, *(torch.cat(part) for part in zip(*rows, strict=True))) for rule, rows in rules.items()]
    return [part for part in parts if len(part.pixel)] or parts[:1]


def _outer_radius(profile, light, extent, faint):
    """Radius (batch, 1) beyond which there is ``faint`` of the light at most."""
    radii = extent * torch.logspace(-2, 1.6, 96, dtype=extent.dtype, device=extent.device)
    grown = torch.cumsum(profile.evaluate(radii, *light) * radii**2, 1)
    last = (grown < (1 - faint) * grown[:, -1:]).sum(1, keepdim=True).clamp(max=radii.shape[1] - 1)
    return radii.gather(1, last)
