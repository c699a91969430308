"""The points of a disc that pixels are summed at: where they are, their light and how fast they recede."""

from typing import NamedTuple

import torch

from .geometry import line_of_sight_speed, vertical_law
from .table import speeds

__all__ = ["Placed", "PointsOfRule", "light_and_speed"]


class Placed(NamedTuple):
    """Points in the disc's frame.

    Points come before rows (pixels), so that what a row has in common runs along the axis that is contiguous.

    Attributes
    ----------
    u, w : Tensor (1, sub-pixel, row)
        Offsets along the major and the minor axis [arcsec].
    depth : Tensor (depth, sub-pixel or 1, row or 1), optional
        Along the line of sight, in the reach of the light; none is zero throughout.
    y, z, radius : Tensor (depth, sub-pixel, row)
        In the plane at right angles to the major axis [arcsec], above it [scale heights], and from the centre [arcsec].
    share : Tensor (depth, 1, 1) or float
        The weight of a point.
    """

    u: torch.Tensor
    w: torch.Tensor
    depth: torch.Tensor | None
    y: torch.Tensor
    z: torch.Tensor
    radius: torch.Tensor
    share: torch.Tensor | float


class PointsOfRule:
    """The points of a `Quadrature` in the pixels of a `Field`."""

    def __init__(self, rule, field):
        dtype, device, matrix = field.xi.dtype, field.xi.device, field.pixel_matrix
        self.field, self._share = field, 1 / rule.sub_pixels
        x, y = rule.offsets(dtype, device)
        self._xi, self._eta = ((row[0] * x + row[1] * y)[:, None] for row in matrix)
        self._depth = self._turn = None
        if rule.depths > 1:
            self._depth, weight = rule.depth(dtype, device)
            self._share = weight * self._share
            if rule.turned:
                row, column = field.rows_and_columns
                self._turn = rule.turn(column, row)

    def place(self, c, pixel):
        """Points of ``pixel`` (row,) in discs of coefficients ``c``: dict of name to (row,) or (1,)."""
        depth = self._depth
        if self._turn is not None:
            depth = depth.index_select(2, self._turn.index_select(0, pixel))
        sin, cos = c["sin"], c["cos"]
        xi = self.field.xi.index_select(0, pixel) - c["east"]
        eta = self.field.eta.index_select(0, pixel) - c["north"]
        u = (xi * sin + eta * cos + (self._xi * sin + self._eta * cos))[None]
        w = (xi * cos - eta * sin + (self._xi * cos - self._eta * sin))[None]
        y, z = c["y_w"] * w, c["z_w"] * w
        if depth is not None:
            y, z = torch.addcmul(y, c["y_t"], depth), torch.addcmul(z, c["z_t"], depth)
        # The root's gradient is finite at the centre.
        radius = torch.sqrt(torch.addcmul(torch.addcmul(u.new_full((), _CORE), u, u), y, y))
        return Placed(u, w, depth, y, z, radius, self._share)


_CORE = 1e-12  # arcsec2


def light_and_speed(forms, c, points, tabulated=False):
    """Light (point, row) of points for a flux of one, and their speed along the line of sight over ``c["speed"]``."""
    light, curve = (form_parameters(c, name) for name in ("light", "curve"))
    away = 0.0 if points.depth is None else points.depth.abs()
    column = vertical_law(points.z.abs(), c["step"], away) * (c["weight"] * points.share)
    weight = column.flatten(0, 1)
    radius, cosine = points.radius.flatten(0, 1), (points.u / points.radius).flatten(0, 1)
    form = forms.rotation_curve
    own = speeds(form, radius, curve) if tabulated else form.evaluate(radius, *curve)
    speed = line_of_sight_speed(cosine, own)
    return forms.surface_brightness.evaluate(radius, *light) * weight, speed


def form_parameters(c, name):
    """Those of ``light``, ``curve`` or ``dispersion`` among the coefficients, in order."""
    return [c[key] for key in c if key.startswith(name)]
