"""Correlated noise made white: what turns a Gaussian likelihood into a sum of squares."""

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular

from ..errors import KinematicsError
from ..observation.correlation import beam_covariance

__all__ = ["Whitener"]

_FWHM = np.sqrt(8 * np.log(2))
_TILE = 16  # points of the grid on a side that are made white together
_HALO = 6  # points around them on whose noise theirs is conditioned: with 4 the errors are 3 % too small in places

_LEAST_KEPT = 0.5  # of the emission: with less on pixels that are valid throughout, it is another galaxy that is fitted


class Whitener:
    """Takes brightness on a grid of half a beam to independent numbers of unit variance.

    Neighbouring pixels within a beam say the same twice: on a grid of half a beam the exact covariance loses nothing
    and costs a quarter of the pixels or less. Over the sky, tiles are whitened one after the other, each conditioned on
    its neighbours that came before (Vecchia 1988, J. R. Stat. Soc. B 50, 297), so that time and memory grow as the
    field, not its square or cube; over channels the covariance is that of all. Pixels that are not valid in every
    channel used are left out, and so are channels where few pixels are valid.

    Parameters
    ----------
    observation : `~kinematics_nn.observation.Observation`
    least_white : float, optional
        White share that the noise over channels is taken to have at least. Hanning smoothing leaves some modes of it
        next to nothing: there no decoder is exact enough, and a line that was smoothed with the noise not the model's.
    most : int, optional
        Numbers that are kept at most: on larger crops the grid is coarser than half a beam, up to a whole one.

    Raises
    ------
    KinematicsError
        Most of the emission is on pixels that are blank in some channel, or all is blank.

    Attributes
    ----------
    rows, columns : Tensor (n,)
        Pixels of the grid.
    channels : ndarray of bool (channel,)
        Channels used.
    spacing : ndarray of int (2,)
        Of the grid along (y, x) [pixel].
    step : float
        The same in beams, the larger of its two sides.
    """

    def __init__(self, observation, least_white=0.05, most=400_000):
        covariance = beam_covariance(observation.beam, observation.pixel_matrix)
        # Across the beam through its middle, along (y, x): of the covariance over (x, y), det / var(x) is var(y | x).
        fwhm = _FWHM * np.sqrt(np.linalg.det(covariance) / np.diag(covariance))
        shape = observation.shape
        # A tenth more than half a beam costs less than the pixels that it saves.
        spacing = np.maximum(1, np.floor(0.55 * fwhm)).astype(int)
        # In threes, where the disc can be rendered on every third of its pixels.
        spacing = np.where(spacing >= 6, spacing // 3 * 3, spacing)
        while np.prod(shape) / np.prod(spacing) > most:
            coarser = spacing + np.where(spacing >= 6, 3, 1)
            if (coarser > np.ceil(fwhm)).any():
                break
            spacing = coarser
        self.spacing = spacing
        self.step = float((spacing / np.maximum(fwhm, 1)).max())
        rows, columns = (np.arange((n % step) // 2, n, step) for n, step in zip(shape[1:], spacing, strict=True))
        valid = observation.valid[:, rows[:, None], columns]
        filled = valid.sum((1, 2))
        if not filled.any():
            raise KinematicsError("a crop that is blank throughout", "valid voxels", "fit() of a cube that has some")
        self.channels = filled > 0.5 * filled.max()
        used = valid[self.channels].all(0)
        emission = observation.emission[:, rows[:, None], columns] & valid
        kept = np.count_nonzero(emission[self.channels] & used) / np.count_nonzero(emission) if emission.any() else 1.0
        if not used.any() or kept < _LEAST_KEPT:
            raise KinematicsError(
                f"blanks that differ from channel to channel, with {kept:.0%} of the emission on pixels without any",
                "blanks that are the same in all channels",
                'fit() of the cube before it was masked to its emission, or fit(method="network")',
            )
        self.rows, self.columns = torch.as_tensor(rows), torch.as_tensor(columns)
        self._points = torch.as_tensor(np.flatnonzero(used))
        rms = observation.rms[:, rows[:, None], columns][self.channels][:, used]
        self._inverse_rms = torch.as_tensor(1 / rms.astype(np.float64)).float()
        index = np.flatnonzero(self.channels)
        over_channels = observation.correlation.over_channels(shape[0])[np.ix_(index, index)]
        over_channels = (over_channels + least_white * np.eye(len(index))) / (1 + least_white)
        lower = cholesky(over_channels, lower=True)
        self._spectral = torch.as_tensor(solve_triangular(lower, np.eye(len(lower)), lower=True)).float()
        y, x = (axis[used] for axis in np.meshgrid(rows, columns, indexing="ij"))
        self._tiles = _tiles(observation.correlation, y, x, spacing)
        self.data = self(torch.as_tensor(observation.data[:, rows[:, None], columns])[None])[0]

    def __call__(self, cubes):
        """White numbers (n, value) of cubes (n, channel, row, column) on the grid, all channels of the observation."""
        cubes = cubes[:, torch.as_tensor(self.channels)] if not self.channels.all() else cubes
        points = cubes.flatten(2)
        if len(self._points) < points.shape[2]:
            points = points.index_select(2, self._points)
        scaled = points * self._inverse_rms
        scaled = self._spectral @ scaled  # (n, channel, point)
        white = [scaled[..., near] @ matrix.T for near, matrix in self._tiles]
        return torch.cat(white, 2).flatten(1)


def _tiles(correlation, y, x, spacing):
    """For each tile: the points it needs (n,), and the matrix (own, n) that makes its own white."""
    at = np.stack([y // spacing[0], x // spacing[1]])
    tile = at // _TILE
    label = tile[0] * (tile[1].max() + 1) + tile[1] if at.size else np.zeros(0, dtype=int)
    found = []
    for this in np.unique(label):
        own = np.flatnonzero(label == this)
        low, high = at[:, own].min(1, keepdims=True) - _HALO, at[:, own].max(1, keepdims=True) + _HALO
        halo = np.flatnonzero((label < this) & ((at >= low) & (at <= high)).all(0))
        near = np.concatenate([own, halo])
        covariance = correlation.over_sky(y[near], x[near])
        n = len(own)
        inside, across, outside = covariance[:n, :n], covariance[:n, n:], covariance[n:, n:]
        if len(halo):
            predicted = cho_solve(cho_factor(outside), across.T).T
            inside = inside - predicted @ across.T
        inverse = solve_triangular(cholesky(inside, lower=True), np.eye(n), lower=True)
        matrix = np.concatenate([inverse, -inverse @ predicted], 1) if len(halo) else inverse
        found.append((torch.as_tensor(near), torch.as_tensor(matrix).float()))
    return found
