"""Exceptions and warnings by cause.

Every error says what was found, what is needed and the next call to make, so the three are arguments, not a habit.
"""

from astropy.utils.exceptions import AstropyUserWarning

__all__ = [
    "BlankCube",
    "FormError",
    "KinematicsError",
    "KinematicsWarning",
    "MissingBeam",
    "MissingVelocity",
    "NoEmission",
    "NoiseWarning",
    "SeveralSourcesWarning",
    "StokesCube",
    "TooFewChannels",
    "TooLarge",
    "VaryingBeam",
    "WrongMask",
    "WrongUnit",
]


class KinematicsError(ValueError):
    """
    Base of the errors this package raises about what it was given.

    Parameters
    ----------
    found : str
        What was found. Given alone, it is the whole message.
    needed : str, optional
        What is needed instead.
    remedy : str, optional
        The next call to make.
    """

    def __init__(self, found, needed=None, remedy=None):
        # ValueError keeps the three as `args`, so that the error pickles across processes.
        super().__init__(*(part for part in (found, needed, remedy) if part is not None))
        self.found, self.needed, self.remedy = found, needed, remedy

    def __reduce__(self):
        return type(self), (self.found, self.needed, self.remedy)

    def __str__(self):
        message = str(self.found)
        if self.needed:
            message += f"; needed: {self.needed}"
        if self.remedy:
            message += f". Try: {self.remedy}"
        return message


class MissingBeam(KinematicsError):
    """The cube has no beam and none was given."""


class VaryingBeam(KinematicsError):
    """The cube has a beam of its own in each channel."""


class MissingVelocity(KinematicsError):
    """The spectral axis cannot be read as a velocity: no spectral WCS, no rest value, or no convention."""


class NoEmission(KinematicsError):
    """No emission was found where it was looked for."""


class BlankCube(KinematicsError):
    """No voxel is left: blank, masked, or outside the region."""


class TooFewChannels(KinematicsError):
    """Too few channels across the cube or the line to tell rotation."""


class FieldTooSmall(KinematicsError):
    """The field has too few pixels, or is narrower than a beam."""


class WrongUnit(KinematicsError):
    """A unit, of the cube or of an argument, that does not fit its place."""


class WrongMask(KinematicsError):
    """A mask, region or noise array that does not fit the cube."""


class StokesCube(KinematicsError):
    """A cube with several Stokes components."""


class TooLarge(KinematicsError):
    """The cube does not fit into the memory of this machine."""


class FormError(KinematicsError):
    """A functional form that is unknown, or breaks the contract of forms."""


class KinematicsWarning(AstropyUserWarning):
    """Base of the warnings of this package."""


class NoiseWarning(KinematicsWarning):
    """The noise could not be measured the good way; a fallback was taken."""


class SeveralSourcesWarning(KinematicsWarning):
    """Sources of comparable flux were found, and one was chosen."""
