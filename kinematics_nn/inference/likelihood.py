"""The likelihood of a disc given a cube, with the noise's own covariance, and the light's freedom to be no profile."""

import math

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
    lsf : float or "hanning", optional
        The instrument's line-spread function, as `~kinematics_nn.decoder.DiscDecoder` takes it.
    points : int, optional
        Bounds the memory of rendering.

    Attributes
    ----------
    names : tuple of str
        The parameters, in the order that `log_prob` takes them: angles in degrees, the others in arcsec and km/s.
    """

    def __init__(self, observation, forms, *, lsf=0.0, **options):
        self.whitener = Whitener(observation)
        pixels = self.whitener.rows, self.whitener.columns
        self.decoder = DiscDecoder(Grid.from_observation(observation), forms, lsf=lsf, pixels=pixels, **options)
        self.names = self.decoder.names
        self.data = self.whitener.data
        self._flux = self.names.index("flux")
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
