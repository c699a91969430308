"""The likelihood of a disc given a cube, with the noise's own covariance, and the light's freedom to be no profile."""

import math
from dataclasses import replace

import torch

from ..decoder import DiscDecoder, Grid
from ..errors import KinematicsError
from ..results.tables import form_columns
from .space import LIMITS
from .whitening import Whitener

__all__ = ["CubeLikelihood"]

_AT_ONCE = 16  # models rendered at a time


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
        bounds = LIMITS | {"flux": (0.0, math.inf)}
        bounds |= {column: parameter.bounds for column, (_, parameter) in form_columns(forms).items()}
        self._bounds = torch.tensor([bounds.get(name, (-math.inf, math.inf)) for name in self.names]).double().T

    def white(self, parameters):
        """The model (n, value) of parameters (n, n_parameters), whitened."""
        return self.whitener(self.decoder(parameters.to(self.decoder.grid.xi.dtype)))

    def log_prob(self, parameters, flux_prior=None, patches=None):
        """Log likelihood.

        Parameters
        ----------
        parameters : Tensor or array (n, n_parameters)
            In the order of ``names``; a tensor may require gradients.
        flux_prior : (float, float), optional
            Mean and standard deviation of a normal prior under which the flux is integrated out, from 0 on (with
            patches: from a small part of that of their disc), the prior's share below counted as lost. The flux among
            the parameters then counts for nothing.
        patches : `~kinematics_nn.inference.light.Patches`, optional
            `~kinematics_nn.inference.light.render_patches` of a disc near the mode: the light is then free to depart
            from its profile, which is integrated out, as is the scatter of that. They take a ``flux_prior``.

        Returns
        -------
        Tensor (n,)
            float64, normalised over the whitened data; -inf where a parameter means nothing, as beyond 90° of
            inclination, or is not finite. Models are rendered a few at a time; gradients keep all of them in memory.

        Raises
        ------
        KinematicsError
            Patches without a prior of the flux, or another number of parameters.
        """
        if patches is not None and flux_prior is None:
            raise KinematicsError(
                "patches of light about a disc of a given flux", "a prior of it", "log_prob(parameters, (0.0, 100.0))"
            )
        parameters = torch.as_tensor(parameters)
        if parameters.ndim != 2 or parameters.shape[1] != len(self.names):
            raise KinematicsError(
                f"parameters of the shape {tuple(parameters.shape)}",
                f"(n, {len(self.names)}): {', '.join(self.names)}",
                "log_prob(parameters[None]) for one disc",
            )
        low, high = self._bounds
        known = ((parameters >= low) & (parameters <= high) & torch.isfinite(parameters)).all(1)
        log = torch.full((len(parameters),), -math.inf, dtype=torch.float64)
        if not known.any():
            return log
        parts = parameters[known].split(_AT_ONCE)
        return log.index_put((known,), torch.cat([self._log_prob(part, flux_prior, patches) for part in parts]))

    def _log_prob(self, parameters, flux_prior, patches):
        """Log likelihood (n,) of parameters (n, n_parameters) that mean something."""
        if flux_prior is None:
            rest = self.data.double() - self.white(parameters).double()
            return self._constant - 0.5 * (rest**2).sum(1)
        from .light import SCATTERS, Patches, marginal, over_scatters

        scatters = torch.as_tensor(SCATTERS) if patches is not None else torch.zeros(1, dtype=torch.float64)
        of_flux = torch.tensor([name == "flux" for name in self.names])
        white = self.white(torch.where(of_flux, 1.0, parameters))
        log, _ = marginal(self, patches or Patches.none(self), white, flux_prior, scatters)
        return over_scatters(log)

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
