"""Which pixels hold light, and the points that each of them is summed at."""

import math
from collections import defaultdict
from dataclasses import replace
from typing import NamedTuple

import torch

from .geometry import least_thickness, sky_to_axes
from .quadrature import Quadrature

__all__ = ["Part", "grouped", "measures", "plan"]

_CENTRE = 2.0  # pixels about the centre on every side that are summed more finely
_FAR, _WIDE = 2.5, 3.0
"""Scale lengths from where on one point is enough of a pixel, where the light's smaller scale is so many pixels."""

_LIGHTEST = 8  # points that a pixel counts for at least: what is done once a pixel takes memory, too


class Part(NamedTuple):
    """Pixels that are summed by one rule: the galaxy and the pixel (row,) of each."""

    rule: Quadrature
    batch: torch.Tensor
    pixel: torch.Tensor

    @property
    def cost(self):
        """In points."""
        return len(self.pixel) * max(len(self.rule), _LIGHTEST)

    def split(self, points):
        """The same in parts of about so many points at most."""
        rows = max(1, points // max(len(self.rule), _LIGHTEST))
        return [Part(self.rule, *some) for some in zip(self.batch.split(rows), self.pixel.split(rows), strict=True)]


def grouped(parts, points, alone=False):
    """Galaxies in their order, as many at a time as have about so many points together.

    Parameters
    ----------
    parts : list (galaxy) of list of Part
    points : int
    alone : bool, optional
        Whether each galaxy is one of its own, however few points it has.

    Returns
    -------
    list of (int, int, list of Part)
        The first galaxy and one past the last, and their parts, those of one rule joined.
    """
    groups, cost = [], math.inf
    for k, of in enumerate(parts):
        own = sum(part.cost for part in of)
        cost += own
        if alone or cost > points:
            groups.append((k, []))
            cost = own
        groups[-1][1].extend(of)
    ends = [first for first, _ in groups[1:]] + [len(parts)]
    return [(first, end, _joined(of, points)) for (first, of), end in zip(groups, ends, strict=True)]


def _joined(parts, points):
    by_rule = defaultdict(list)
    for part in parts:
        by_rule[part.rule].append(part)
    joined = [
        of[0] if len(of) == 1 else Part(rule, *(torch.cat([part[k] for part in of]) for k in (1, 2)))
        for rule, of in by_rule.items()
    ]
    return [some for part in joined for some in part.split(points)]


@torch.no_grad()
def plan(field, forms, parameters, quadrature=None, faint=1e-4, fineness=None):
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
    fineness : Fineness, optional
        Of the rule that each disc asks for.

    Returns
    -------
    list (batch) of list of Part
        Of those pixels alone that hold any light worth the name; one at least for each galaxy, be it empty.
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
        return [[_part(quadrature, k, its)] for k, its in enumerate(lit)]
    centre = (u.abs() < _CENTRE * side) & (w.abs() < _CENTRE * side) & lit
    lit ^= centre
    minor, reach, ratio = measures(field, inclination, thickness, extent)
    # Far out, where a pixel is small beside everything, one point is enough of it.
    smooth = (u**2 + (w / cos.clamp(min=1e-3)) ** 2 > (_FAR * extent) ** 2) & (minor > _WIDE) & lit
    lit ^= smooth
    parts = []
    for k, of in enumerate(torch.cat([minor, reach, ratio], 1).tolist()):
        rule = Quadrature.suited(*of, fineness)
        if rule.turned:
            lit[k] |= smooth[k]
            smooth[k] = False
        three = [(rule, lit), (replace(rule, sub_pixels=1), smooth), (rule.finer(), centre)]
        three = [_part(its, k, where[k]) for its, where in three]
        parts.append([part for part in three if len(part.pixel)] or three[:1])
    return parts


def measures(field, inclination, thickness, extent):
    """What `Quadrature.suited` asks for: tensors minor, reach and ratio of inclinations [rad], heights and scales."""
    sin, cos = torch.sin(inclination), torch.cos(inclination).abs()
    fine = least_thickness(field.side * Quadrature(65).spacing, extent, inclination)
    ratio = (thickness + fine) * sin / (extent * cos).clamp(min=1e-6 * extent)
    return (extent * cos + thickness * sin) / field.side, thickness * sin / cos.clamp(min=1e-6) / field.side, ratio


def _part(rule, k, lit):
    pixel = lit.nonzero()[:, 0]
    return Part(rule, torch.full_like(pixel, k), pixel)


_RADII = torch.logspace(-2, 1.6, 96)  # scale lengths


def _outer_radius(profile, light, extent, faint):
    """Radius (batch, 1) beyond which there is ``faint`` of the light at most."""
    radii = extent * _RADII.to(extent)
    grown = torch.cumsum(profile.evaluate(radii, *light) * radii**2, 1)
    last = (grown < (1 - faint) * grown[:, -1:]).sum(1, keepdim=True).clamp(max=radii.shape[1] - 1)
    return radii.gather(1, last)
