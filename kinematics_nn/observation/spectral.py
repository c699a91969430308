"""The spectral axis as velocity: convention, rest value, and the true edges of the channels."""

from typing import NamedTuple

import numpy as np
from astropy import units as u
from astropy.constants import c
from astropy.wcs import InvalidSubimageSpecificationError

from kinematics_nn.errors import MissingVelocity, WrongUnit

__all__ = ["SpectralAxis", "spectral_axis"]

# One entry a convention: the equivalency between frequency and velocity that astropy has for it.
DOPPLER = {"radio": u.doppler_radio, "optical": u.doppler_optical, "relativistic": u.doppler_relativistic}

# Spectral types of FITS paper III (Greisen et al. 2006, A&A 446, 747, table 1) that are velocities already.
AXIS_CONVENTION = {
    "VRAD": "radio",
    "VOPT": "optical",
    "ZOPT": "optical",
    "VELO": "relativistic",
    "BETA": "relativistic",
}

SET_SPECTRAL_AXIS = "SpectralCube.read(path) with CTYPE3, CRVAL3, CDELT3, CRPIX3 and CUNIT3 set in the header"


class SpectralAxis(NamedTuple):
    """
    A spectral axis read as velocity.

    Parameters
    ----------
    edges : ndarray of float64, shape (channel + 1,)
        Channel edges [km/s], ascending.
    descending : bool
        Whether the velocity fell along the input's axis, so that its channels are to be turned.
    convention : {"radio", "optical", "relativistic"}
        Convention of the velocities.
    frame : str or None
        Rest frame, the SPECSYS of the FITS header.
    rest_value : str or None
        Rest frequency or wavelength.
    """

    edges: np.ndarray
    descending: bool
    convention: str
    frame: str | None
    rest_value: str | None


def spectral_axis(wcs, n_channel, *, velref=0, rest_value=None, velocity_convention=None):
    """
    Velocity edges of the channels of a cube.

    The edges are the WCS evaluated at half-integer pixels and then converted, so they are exact for an axis that is
    linear in frequency and not in velocity.

    Parameters
    ----------
    wcs : `~astropy.wcs.WCS`
        WCS of the cube.
    n_channel : int
        Number of channels.
    velref : int, optional
        AIPS's VELREF keyword (1 to 255: optical, from 257: radio), asked where the axis names no convention.
    rest_value : `~astropy.units.Quantity` or str, optional
        Rest frequency or wavelength of the line, in the medium of the axis; by default the header's. Where it differs
        from the header's, a velocity axis is referred to the new one. An axis of wavelengths in air (AWAV) needs a
        wavelength in air: the header's RESTWAV is one in vacuum, 83 km/s away.
    velocity_convention : {"radio", "optical", "relativistic"}, optional
        Convention to express velocities in; by default that of the axis, or of VELREF.

    Returns
    -------
    SpectralAxis

    Raises
    ------
    MissingVelocity
        Without a spectral axis, or without the rest value or convention that a frequency or wavelength axis needs.
    WrongUnit
        If ``rest_value`` is no frequency, wavelength or energy (on an axis in air: no wavelength), or the axis is none
        of these nor a velocity.
    """
    if velocity_convention is not None and velocity_convention not in DOPPLER:
        raise MissingVelocity(
            f"velocity_convention={velocity_convention!r}",
            f"one of {', '.join(DOPPLER)}",
            "velocity_convention='radio'",
        )
    values, axis_type = _world_edges(wcs, n_channel)
    in_air = axis_type == "AWAV"
    # FITS defines the header's as a value in vacuum (Greisen et al. 2006, table 1).
    rest_header = None if in_air else _header_rest(wcs)
    rest = rest_header if rest_value is None else _as_rest(rest_value)
    if in_air and rest is not None and not rest.unit.is_equivalent(u.m):
        raise WrongUnit(
            f"rest_value={rest_value!r} and an axis of wavelengths in air",
            "the line's wavelength in air",
            "rest_value=6562.80 * u.AA",
        )
    native = _axis_convention(axis_type, velref)
    is_velocity = axis_type in AXIS_CONVENTION
    convention = velocity_convention or native

    if not is_velocity and (rest is None or convention is None):
        missing = ", ".join(
            text
            for text, absent in (
                ("rest_value=6562.80 * u.AA" if in_air else "rest_value=115.2712018 * u.GHz", rest is None),
                ("velocity_convention='radio'", convention is None),
            )
            if absent
        )
        raise MissingVelocity(
            f"a {axis_type} axis with rest value {rest} and velocity convention {convention}",
            f"the rest {'wavelength of the line in air' if in_air else 'frequency or wavelength of the line'} and a "
            "velocity convention",
            f"fit({missing}), with the line's own values",
        )

    if not is_velocity:
        # Two wavelengths in air are taken as if in vacuum: the index of air cancels in their ratio, to about 1e-6.
        velocity = values.to(u.Hz, u.spectral()).to(u.km / u.s, DOPPLER[convention](rest))
    else:
        velocity = _as_velocity(values, axis_type)
        moved = rest is not None and rest_header is not None and rest.to(u.Hz, u.spectral()) != rest_header
        if convention != native or moved:
            # Between two conventions the rest value cancels: any will do where the header names none.
            new = 1 * u.GHz if rest is None else rest
            old = new if rest_header is None else rest_header
            frequency = velocity.to(u.Hz, DOPPLER[native](old))
            velocity = frequency.to(u.km / u.s, DOPPLER[convention](new))

    edges = velocity.to_value(u.km / u.s)
    steps = np.diff(edges)
    if not (np.all(np.isfinite(edges)) and (np.all(steps > 0) or np.all(steps < 0))):
        raise MissingVelocity(
            f"velocities from {edges[0]:.6g} to {edges[-1]:.6g} km/s that do not rise or fall steadily",
            "channels in order of velocity",
            SET_SPECTRAL_AXIS,
        )
    descending = bool(steps[0] < 0)
    return SpectralAxis(
        edges=np.ascontiguousarray(edges[::-1] if descending else edges),
        descending=descending,
        convention=convention,
        frame=wcs.wcs.specsys.strip() or None,
        rest_value=None if rest is None else str(rest),
    )


def _world_edges(wcs, n_channel):
    """World values at the edges of the channels, and the four letters of the axis type."""
    if wcs.wcs.spec < 0:
        raise MissingVelocity(f"no spectral axis among {', '.join(wcs.wcs.ctype)}", "a spectral WCS", SET_SPECTRAL_AXIS)
    try:
        spectral = wcs.spectral
    except InvalidSubimageSpecificationError as error:
        raise MissingVelocity(
            "a spectral axis that is mixed with the sky axes by the PC matrix",
            "one that stands alone",
            SET_SPECTRAL_AXIS,
        ) from error
    pixels = np.arange(n_channel + 1) - 0.5
    values = u.Quantity(spectral.wcs_pix2world(pixels, 0)[0], spectral.wcs.cunit[0])
    return values, spectral.wcs.ctype[0][:4]


def _axis_convention(axis_type, velref):
    """
    Convention that the header names, or None.

    A bare VELO is the relativistic velocity in FITS, but CASA, AIPS and Miriad wrote it for the velocity that VELREF
    names; VELREF is believed where it is set.
    """
    if axis_type in ("VRAD", "VOPT", "ZOPT", "BETA"):
        return AXIS_CONVENTION[axis_type]
    if velref > 0:
        return "radio" if velref > 256 else "optical"
    return AXIS_CONVENTION.get(axis_type)


def _as_velocity(values, axis_type):
    """Velocity of an axis of redshift (ZOPT), of beta, or of velocity."""
    if axis_type in ("ZOPT", "BETA"):
        return values.to_value(u.dimensionless_unscaled) * c.to(u.km / u.s)
    return values.to(u.km / u.s)


def _header_rest(wcs):
    if wcs.wcs.restfrq > 0:
        return wcs.wcs.restfrq * u.Hz
    if wcs.wcs.restwav > 0:
        return (wcs.wcs.restwav * u.m).to(u.Hz, u.spectral())
    return None


def _as_rest(rest_value):
    try:
        rest = u.Quantity(rest_value)
    except (TypeError, ValueError) as error:
        raise WrongUnit(
            f"rest_value={rest_value!r}", "a frequency or wavelength", "rest_value=115.2712018 * u.GHz"
        ) from error
    if not rest.unit.is_equivalent(u.Hz, u.spectral()) or not rest.isscalar or not rest > 0 * rest.unit:
        raise WrongUnit(f"rest_value={rest_value!r}", "a frequency or wavelength", "rest_value=115.2712018 * u.GHz")
    return rest
