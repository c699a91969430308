"""The likelihood of a disc given a cube, with the noise's own covariance, and the light's freedom to be no profile."""

import math
from dataclasses import replace

import torch

from ..decoder import DiscDecoder, Grid
from .whitening import Whitener

__all__ = ["CubeLikelihood"]


class CubeLikelihood:
    """Gaussian likelihood of the voxels of an observation: correlated noise, channels, beam and all.

    Parameters
    ----------
    observation : `~kinematics_nn.observation.Observation`
        As `cube.kinematics.observe()` gives it.
    forms : Forms
        Functional forms.
    points : int, optional
        Bounds the memory of rendering.

    Attributes
    ----------
    names : tuple of str
        The parameters, in the order that `log_prob` takes them: angles in degrees, the others in arcsec and km/s.
    """

    def __init__(self, observation, forms, **options):
        self.whitener = Whitener(observation)
        grid, pixels = _coarse(Grid.from_observation(observation), self.whitener)
        lsf = observation.header.get("lsf", 0.0)
        self.decoder = DiscDecoder(grid, forms, lsf=lsf, pixels=pixels, tabulated=True, **options)
        self.names = self.decoder.names
        self.data = self.whitener.data
        self._constant = -0.5 * len(self.data) * math.log(2 * math.pi)

    def white(self, parameters):
        """The model (n, value) of parameters (n, n_parameters), whitened."""
        return self.whitener(self.decoder(parameters.to(self.decoder.grid.xi.dtype)))

    def log_prob(self, parameters):
        """Log likelihood.

        Parameters
        ----------
        parameters : Tensor (n, n_parameters)
            In the order of ``names``; it may require gradients.

        Returns
        -------
        Tensor (n,)
            float64, normalised over the whitened data.
        """
        rest = self.data.double() - self.white(parameters).double()
        return self._constant - 0.5 * (rest**2).sum(1)

    def white_jacobian(self, parameters):
        """The whitened model (n, value) and its derivatives (n, n_parameters, value)."""
        cubes, slopes = self.decoder.jacobian(parameters.to(self.decoder.grid.xi.dtype))
        n = len(parameters)
        return self.whitener(cubes), self.whitener(slopes.flatten(0, 1)).unflatten(0, (n, -1))


def _coarse(grid, whitener):
    """A grid as coarse as six pixels a beam allow, and which of its rows and columns the likelihood takes.

    What a beam of so many pixels makes of a disc does not depend on how large they are, but for the light of one pixel
    that each of the cube's own holds: that becomes part of the beam. (With four it does, by a chi-squared of 2 at a
    peak of 16 times the noise.)
    """
    steps = [max(1, int(spacing) // 3) for spacing in whitener.spacing]
    if steps == [1, 1]:
        return grid, (whitener.rows, whitener.columns)
    first = [int(at[0]) % step for at, step in zip((whitener.rows, whitener.columns), steps, strict=True)]
    kept = tuple(slice(low, None, step) for low, step in zip(first, steps, strict=True))
    beam = grid.beam
    if grid.integrate_pixels:
        beam = _widened(beam.double(), grid.pixel_matrix.double()).to(beam)
    pixels = tuple(
        (at - low) // step for at, low, step in zip((whitener.rows, whitener.columns), first, steps, strict=True)
    )
    return replace(grid, xi=grid.xi[kept], eta=grid.eta[kept], beam=beam, integrate_pixels=False), pixels


def _widened(beam, matrix):
    """The beam (3,) convolved with a pixel, to second order."""
    pa = torch.deg2rad(beam[2])
    axes = torch.stack([torch.stack([torch.sin(pa), torch.cos(pa)]), torch.stack([torch.cos(pa), -torch.sin(pa)])])
    variance = (beam[:2] / _FWHM) ** 2
    covariance = (axes.T * variance) @ axes + matrix @ matrix.T / 12
    power, directions = torch.linalg.eigh(covariance)
    major = directions[:, 1]
    return torch.stack(
        [_FWHM * power[1].sqrt(), _FWHM * power[0].sqrt(), torch.rad2deg(torch.atan2(major[0], major[1]))]
    )


_FWHM = math.sqrt(8 * math.log(2))
