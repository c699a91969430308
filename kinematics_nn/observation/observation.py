"""What one observation of a galaxy is, once units have ended."""

from dataclasses import dataclass

import numpy as np

from kinematics_nn.observation.correlation import NoiseCorrelation
from kinematics_nn.observation.grid import pixel_matrix

__all__ = ["Observation"]


@dataclass(frozen=True, eq=False, repr=False)
class Observation:
    """
    One galaxy as plain arrays and a dict of plain values; it pickles.

    Channels ascend in velocity, whatever the order in the input cube. Brightness is in the unit of the cube
    (``header["unit"]``), offsets and the beam in arcsec, velocities in km/s.

    Parameters
    ----------
    data : ndarray of float32, shape (channel, y, x)
        Brightness, native byte order, 0 where not valid.
    valid : ndarray of bool, shape (channel, y, x)
        Finite, in the cube's mask, the region and the given mask, and not emission of another source.
    emission : ndarray of bool, shape (channel, y, x)
        Detected emission of the chosen source. It sets the crop and the moment maps, never the likelihood.
    rms : ndarray of float32, shape (channel, y, x)
        Noise of each voxel.
    edges : ndarray of float64, shape (channel + 1,)
        Channel edges [km/s], ascending.
    xi, eta : ndarray of float64, shape (y, x)
        Offsets east and north [arcsec] of each pixel centre from ``header["reference"]``.
    beam : ndarray of float64, shape (3,)
        FWHM along the major and minor axis [arcsec], position angle [deg, east of north].
    correlation : NoiseCorrelation
        Of the noise, over the sky and over channels.
    header : dict
        Plain values: units, reference position, convention and frame, the input's WCS and crop, how the noise was
        measured. The keys are listed in the architecture page of the documentation.
    """

    data: np.ndarray
    valid: np.ndarray
    emission: np.ndarray
    rms: np.ndarray
    edges: np.ndarray
    xi: np.ndarray
    eta: np.ndarray
    beam: np.ndarray
    correlation: NoiseCorrelation
    header: dict

    @property
    def shape(self):
        """Shape of the crop, (channel, y, x)."""
        return self.data.shape

    @property
    def velocity(self):
        """Centre of each channel [km/s], shape (channel,)."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    @property
    def pixel_matrix(self):
        """Offsets (east, north) [arcsec] of one pixel along x (first column) and y (second column), shape (2, 2)."""
        return pixel_matrix(self.xi, self.eta)

    def __repr__(self):
        name = self.header.get("object") or "unnamed"
        return (
            f"<Observation of {name}: {self.shape} voxels, {self.edges[0]:.1f} to {self.edges[-1]:.1f} km/s, "
            f"{np.count_nonzero(self.emission)} with emission>"
        )
