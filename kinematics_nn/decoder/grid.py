"""What an observation fixes for the decoder: pixels, channels and beam, as tensors."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

__all__ = ["Field", "Grid", "regular_grid"]


@dataclass(frozen=True)
class Grid:
    """Pixels, channels and beam of an observation.

    Attributes
    ----------
    xi, eta : Tensor (y, x)
        Offsets east and north of the reference position [arcsec].
    edges : Tensor (channel + 1,)
        Channel edges, ascending [km/s].
    beam : Tensor (3,)
        FWHM major, minor [arcsec], position angle [deg].
    convention : str
        Of the velocity axis: 'radio', 'optical' or 'relativistic'.
    brightness_per_flux : float
        Cube unit in one flux unit / (km/s) / arcsec2.
    integrate_pixels : bool
        Whether a pixel holds the average over it, or the value at its centre. Here the default is the latter; an
        `~kinematics_nn.observation.Observation` says which, by default the former.
    """

    xi: torch.Tensor
    eta: torch.Tensor
    edges: torch.Tensor
    beam: torch.Tensor
    convention: str = "radio"
    brightness_per_flux: float = 1.0
    integrate_pixels: bool = False

    @classmethod
    def from_observation(cls, observation, dtype=torch.float32, device=None):
        """The grid of an `~kinematics_nn.observation.Observation`."""

        def tensor(array):
            return torch.as_tensor(np.ascontiguousarray(array), dtype=dtype, device=device)

        return cls(
            xi=tensor(observation.xi),
            eta=tensor(observation.eta),
            edges=tensor(observation.edges),
            beam=tensor(observation.beam),
            convention=observation.header["convention"],
            brightness_per_flux=observation.header["brightness_per_flux"],
            integrate_pixels=observation.header.get("integrate_pixels", False),
        )

    @property
    def pixel_matrix(self):
        """(2, 2) offsets (east, north) [arcsec] of one pixel along x (first column) and y (second column)."""
        ny, nx = self.xi.shape
        along_x = [(a[:, -1] - a[:, 0]).mean() / (nx - 1) for a in (self.xi, self.eta)]
        along_y = [(a[-1] - a[0]).mean() / (ny - 1) for a in (self.xi, self.eta)]
        return torch.stack([torch.stack(along_x), torch.stack(along_y)], dim=1)

    def padding(self):
        """Pixels beyond the field from which the beam still brings light in (3 sigma of the major axis)."""
        side = torch.linalg.norm(self.pixel_matrix, dim=0).min()
        return max(1, math.ceil(1.3 * float(self.beam[0] / side)))

    def padded(self, pad):
        """The `Field` of this grid and the ``pad`` pixels around it."""
        matrix, (ny, nx) = self.pixel_matrix, self.xi.shape
        # Inside the field the offsets are the WCS's own; around it they go on linearly.
        y = torch.arange(-pad, ny + pad, dtype=self.xi.dtype, device=self.xi.device)
        x = torch.arange(-pad, nx + pad, dtype=self.xi.dtype, device=self.xi.device)
        inner_y, inner_x = y.clamp(0, ny - 1), x.clamp(0, nx - 1)
        index = (inner_y.long()[:, None], inner_x.long()[None])
        xi, eta = (
            plane[index] + matrix[k, 1] * (y - inner_y)[:, None] + matrix[k, 0] * (x - inner_x)
            for k, plane in enumerate((self.xi, self.eta))
        )
        return Field(xi.flatten(), eta.flatten(), tuple(xi.shape), matrix)


@dataclass(frozen=True)
class Field:
    """Pixels in rows, one after the other.

    Attributes
    ----------
    xi, eta : Tensor (pixel,)
        Offsets of their centres east and north of the reference position [arcsec].
    shape : (int, int)
        Pixels (y, x).
    pixel_matrix : Tensor (2, 2)
        As of a `Grid`.
    """

    xi: torch.Tensor
    eta: torch.Tensor
    shape: tuple[int, int]
    pixel_matrix: torch.Tensor

    @cached_property
    def side(self):
        """The longer side of a pixel [arcsec]."""
        return float(torch.linalg.norm(self.pixel_matrix, dim=0).max())

    @cached_property
    def area(self):
        """Of a pixel [arcsec2]."""
        return float(torch.linalg.det(self.pixel_matrix.double()).abs())

    @cached_property
    def rows_and_columns(self):
        """Row and column (pixel,) of each pixel."""
        pixel = torch.arange(len(self.xi), device=self.xi.device)
        return pixel // self.shape[1], pixel % self.shape[1]

    @cached_property
    def border(self):
        """Whether each pixel (pixel,) is one of the outermost."""
        (y, x), (ny, nx) = self.rows_and_columns, self.shape
        return (y == 0) | (x == 0) | (y == ny - 1) | (x == nx - 1)


def regular_grid(shape, pixel_scale=1.0, channel_width=1.0, beam=(3.0, 3.0, 0.0), dtype=torch.float32, device=None):
    """A plain `Grid` about zero: north up, east left, radio velocities, pixels that hold the value at their centre.

    Parameters
    ----------
    shape : (int, int, int)
        Channels, rows and columns of pixels; two at least of either.
    pixel_scale : float, optional
        Side of a pixel [arcsec].
    channel_width : float, optional
        [km/s].
    beam : (float, float, float), optional
        FWHM major, minor [arcsec], position angle [deg, east of north].
    dtype, device : optional
        Of the tensors.

    Returns
    -------
    Grid
    """
    nc, ny, nx = shape
    eta, xi = torch.meshgrid(
        (torch.arange(ny, dtype=dtype, device=device) - (ny - 1) / 2) * pixel_scale,
        -(torch.arange(nx, dtype=dtype, device=device) - (nx - 1) / 2) * pixel_scale,
        indexing="ij",
    )
    edges = (torch.arange(nc + 1, dtype=dtype, device=device) - nc / 2) * channel_width
    return Grid(xi=xi, eta=eta, edges=edges, beam=torch.as_tensor(beam, dtype=dtype, device=device))
