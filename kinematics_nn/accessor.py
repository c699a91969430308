"""
The door ``SpectralCube.kinematics``.

spectral-cube has no registry of accessors, so a descriptor is set on the base of its four cube classes. It keeps no
state: what it gives is made anew at each access, so that it cannot hold a cube (and its memory map) alive, and so that
slabs, slices and masked cubes have it too.
"""

import inspect

from spectral_cube import StokesSpectralCube
from spectral_cube.spectral_cube import BaseSpectralCube

from .errors import StokesCube
from .fitting import fit

__all__ = ["Kinematics", "register_accessor"]


_CUBE, *_ARGUMENTS = inspect.signature(fit).parameters.values()
_SIGNATURE = inspect.Signature([_CUBE.replace(name="self"), *_ARGUMENTS])


class Kinematics:
    """
    Disc kinematics of a spectral-line cube, as ``cube.kinematics``.

    Parameters
    ----------
    cube : `~spectral_cube.SpectralCube`
        The cube: in memory or dask, of one beam or of many.
    """

    def __init__(self, cube):
        self._cube = cube

    def fit(self, **kwargs):
        """
        Fit a rotating disc to the cube: `kinematics_nn.fit` with this cube.

        Parameters
        ----------
        **kwargs
            As `kinematics_nn.fit` takes them.

        Returns
        -------
        fit : `~kinematics_nn.results.KinematicFit`
        """
        return fit(self._cube, **kwargs)

    # What help() and completion show: the arguments of `fit`, written down once.
    fit.__signature__ = _SIGNATURE

    def compare(self, forms, **kwargs):
        """
        Rank functional forms by their evidence in the cube: `kinematics_nn.compare` with this cube.

        Parameters
        ----------
        forms : list
            What to compare.
        **kwargs
            As `kinematics_nn.fit` takes them.

        Returns
        -------
        ranking : `~astropy.table.QTable`
        """
        from .comparison import compare

        return compare(self._cube, forms, **kwargs)

    def observe(self, **kwargs):
        """
        Read from the cube what a fit will see: data, noise, emission, channel edges, offsets and beam.

        Parameters
        ----------
        **kwargs
            As `kinematics_nn.observation.observe` takes them.

        Returns
        -------
        observation : `~kinematics_nn.observation.Observation`
        """
        from .observation import observe

        return observe(self._cube, **kwargs)

    def __repr__(self):
        return f"<Kinematics of a {type(self._cube).__name__} of shape {self._cube.shape}>"


class _Accessor:
    """A descriptor that makes `accessor(cube)` at each access, and is `accessor` itself on the class."""

    def __init__(self, accessor):
        self.accessor = accessor

    def __get__(self, cube, owner=None):
        if cube is None:
            return self.accessor
        try:
            return self.accessor(cube)
        except AttributeError as error:
            # An AttributeError from a descriptor reads as "no such attribute", and __getattr__ takes it from there.
            raise RuntimeError(f"cube.kinematics could not be made: {error}") from error


def _refuse_stokes(cube):
    raise StokesCube(f"a Stokes cube of {', '.join(cube.components)}", "one of intensity", "cube.I.kinematics")


def register_accessor(name="kinematics"):
    """
    Put ``.kinematics`` on spectral-cube's cube classes; done again, it changes nothing.

    Raises
    ------
    RuntimeError
        If the classes have an attribute of that name which is not ours.
    """
    for owner, accessor in ((BaseSpectralCube, Kinematics), (StokesSpectralCube, _refuse_stokes)):
        present = inspect.getattr_static(owner, name, None)
        if present is None:
            setattr(owner, name, _Accessor(accessor))
        elif not (isinstance(present, _Accessor) and present.accessor is accessor):
            raise RuntimeError(
                f"{owner.__name__} has an attribute {name!r} ({present!r}) that kinematics_nn did not put there; "
                "remove it before kinematics_nn is imported"
            )
