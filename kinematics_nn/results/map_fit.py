"""What a fit of moment maps returns: a posterior as that of a cube, and the disc's own maps."""

import astropy.units as u
import numpy as np

from kinematics_nn.errors import KinematicsError

from .fit import KinematicFit
from .maps import moments

__all__ = ["MapFit"]

_CHANNELS = 48
_REACH = 4.0  # dispersions beyond the largest speed that the model's line is rendered to


class MapFit(KinematicFit):
    """
    The posterior of one galaxy's disc, of its moment maps.

    As `KinematicFit`, but for what only a cube has: its ``observation`` is the pseudo-cube of the maps, without noise
    and line width, so there is no reduced chi squared, no residual cube and no `verify`.
    """

    def model_moments(self):
        """
        Moments 0 and 1 of the best disc, through the beam, over the box that the maps were cut to.

        Returns
        -------
        moment0, moment1 : (y, x) array
            [unit of the observation km/s], [km/s]. Moment 1 is over the whole line, in every pixel with light.
        """
        from kinematics_nn.decoder import render_wide

        self._check()
        best = self.best_values
        edges, cube = render_wide(self.observation, self.forms, best, _CHANNELS, _REACH)
        return moments(cube, cube > 0, edges)

    @property
    def model_moment1(self):
        """Velocity field of the best disc: (y, x) `~astropy.units.Quantity` of the input's shape, blank as that is."""
        return self._on_input(self.model_moments()[1])

    @property
    def residual_moment1(self):
        """Moment 1 minus that of the best disc: (y, x) `~astropy.units.Quantity` of the input's shape."""
        seen = moments(self.observation.data, self.observation.emission, self.observation.edges)[1]
        return self._on_input(seen - self.model_moments()[1])

    @property
    def residual_cube(self):
        """Maps have none."""
        raise KinematicsError("a fit of moment maps, which are no cube", "the cube", "fit.residual_moment1")

    def plot(self):
        """
        Draw data, model and residual maps, and the rotation curve.

        Returns
        -------
        `~matplotlib.figure.Figure`
        """
        from .plots import plot_maps

        self._check()
        return plot_maps(self)

    def verify(self, n=50, seed=None, progress=None):
        """Maps have no noise to draw again: refused."""
        raise KinematicsError("a fit of moment maps, whose noise is not known", "a fit of a cube", "fit(cube).verify()")

    def _on_input(self, plane):
        observation = self.observation
        _, *box = observation.header["crop"]
        whole = np.full(observation.header["shape"][1:], np.nan)
        whole[tuple(slice(*side) for side in box)] = np.where(observation.emission.any(axis=0), plane, np.nan)
        return whole * (u.km / u.s)
