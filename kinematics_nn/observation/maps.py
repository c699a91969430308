"""Moment maps into plain arrays: what is read, refused, taken as blank and cut."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.utils.masked import Masked
from astropy.wcs import WCS, FITSFixedWarning
from radio_beam import Beam
from radio_beam.beam import NoBeamException
from scipy import ndimage
from spectral_cube.utils import NoBeamError

from kinematics_nn.errors import BlankCube, KinematicsError, MissingBeam, MissingVelocity, WrongMask, WrongUnit
from kinematics_nn.observation.brightness import PER_AREA, cube_beam, flux_scale
from kinematics_nn.observation.grid import pixel_scales, sky_grid

__all__ = ["LARGEST_ERROR", "SMALLEST_PIECE", "MomentMaps", "observe_maps"]

LARGEST_ERROR = 3.0
"""Errors of moment 1 above this, times the median one, blank a pixel."""

SMALLEST_PIECE = 0.05
"""Islands of fewer valid pixels than this share of the largest one's are taken as noise, and blank."""

_CONVENTIONS = ("radio", "optical", "relativistic")
_ZEROS = 0.1  # share of pixels that are 0 exactly, in a map without any other blank: these are its blanks
_KM_S = u.km / u.s
_READ = "fit_maps(moment1, wcs=WCS(header), beam=5 * u.arcsec)"


@dataclass(frozen=True, eq=False, repr=False)
class MomentMaps:
    """
    Moment maps as plain arrays and a dict of plain values, cut to what is valid.

    Parameters
    ----------
    moment1 : ndarray of float64, shape (y, x)
        Velocity [km/s], not a number where not valid.
    moment0 : ndarray of float64, shape (y, x), or None
        In ``header["unit"]`` times km/s, not a number where not valid.
    xi, eta : ndarray of float64, shape (y, x)
        Offsets east and north [arcsec] of each pixel centre from ``header["reference"]``.
    beam : ndarray of float64, shape (3,)
        FWHM along the major and minor axis [arcsec], position angle [deg, east of north].
    header : dict
        Plain values, those of an `~kinematics_nn.observation.Observation` that are of the sky and of units.
    """

    moment1: np.ndarray
    moment0: np.ndarray | None
    xi: np.ndarray
    eta: np.ndarray
    beam: np.ndarray
    header: dict


def observe_maps(moment1, moment0=None, moment1_error=None, *, wcs=None, beam=None, velocity_convention=None):
    """
    Read moment maps into plain arrays, cut to their valid pixels and two beams around them.

    A pixel is valid where moment 1 is finite, moment 0 above 0, and the error of moment 1 finite, above 0 and not more
    than three times its median. In maps of which no pixel is blank and a tenth are 0 exactly, 0 is blank. Islands of
    less than a twentieth of the largest one's pixels, which noise leaves in a mask, are blanked.

    Parameters
    ----------
    moment1 : `~spectral_cube.lower_dimensional_structures.Projection`, `~astropy.units.Quantity`, HDU, str or path
        Velocity field (y, x): what has a unit, or BUNIT, of speed.
    moment0, moment1_error : likewise, optional
        Integrated brightness, and the error of moment 1, on the same pixels. Bare arrays are taken as of unit 1, and
        of the unit of moment 1.
    wcs : `~astropy.wcs.WCS`, optional
        Of the sky, where ``moment1`` has none.
    beam : `~radio_beam.Beam` or `~astropy.units.Quantity`, optional
        The beam or point-spread function, or the FWHM of a round one; by default that of ``moment1``.
    velocity_convention : {"radio", "optical", "relativistic"}, optional
        Of the velocities; by default what VELREF in the header of ``moment1`` says, else optical.

    Returns
    -------
    MomentMaps

    Raises
    ------
    KinematicsError
        With what was found, what is needed and the next call to make.
    """
    if velocity_convention not in (None, *_CONVENTIONS):
        raise MissingVelocity(
            f"velocity_convention={velocity_convention!r}", f"one of {', '.join(_CONVENTIONS)}", "fit_maps(...)"
        )
    values, unit, header, own_wcs, own_beam = _map(moment1, "moment1")
    try:
        velocity = (values * unit).to_value(_KM_S)
    except u.UnitConversionError as error:
        raise WrongUnit(
            f"moment1 in {unit.to_string() or 'no unit'}", "a velocity", "fit_maps(array * u.km / u.s, wcs=...)"
        ) from error
    celestial = _celestial(own_wcs if wcs is None else wcs, velocity.shape)
    if beam is None and own_beam is None:
        raise MissingBeam(
            "no beam in the header of moment1 (BMAJ, BMIN, BPA)",
            "the FWHM of the beam or point-spread function",
            "fit_maps(moment1, beam=1.5 * u.arcsec), or beam=radio_beam.Beam(major, minor, pa)",
        )
    beam = cube_beam(None, own_beam if beam is None else beam)
    valid = _filled(velocity)
    light, brightness = None, u.one / _KM_S
    if moment0 is not None:
        light, brightness = _moment0(moment0, velocity.shape)
        valid &= light > 0
    if moment1_error is not None:
        valid &= _trusted(moment1_error, velocity.shape, unit, valid)
    if not valid.any():
        raise BlankCube(
            f"no pixel of {velocity.shape} left by blanks, moment 0 and errors",
            "some valid pixels",
            "fit_maps(moment1)",
        )
    valid = _large_pieces(valid)
    scales = pixel_scales(celestial)
    crop = tuple(_span(valid.any(axis=1 - axis), 2 * beam.major.to_value(u.arcsec) / scales[axis]) for axis in (0, 1))
    sky = sky_grid(celestial, crop)
    flux_unit, brightness_per_flux = flux_scale(brightness, beam, float(np.prod(scales)))
    convention = velocity_convention or _velref(header)
    return MomentMaps(
        moment1=np.where(valid, velocity, np.nan)[crop],
        moment0=None if light is None else np.where(valid, light, np.nan)[crop],
        xi=sky.xi,
        eta=sky.eta,
        beam=np.array(
            [beam.major.to_value(u.arcsec), beam.minor.to_value(u.arcsec), (beam.pa.to_value(u.deg) + sky.north) % 180]
        ),
        header={
            "unit": brightness.to_string(),
            "flux_unit": flux_unit,
            "brightness_per_flux": brightness_per_flux,
            "integrate_pixels": True,
            "reference": sky.reference,
            "convention": convention,
            "frame": str(header["SPECSYS"]).strip() if header.get("SPECSYS") else None,
            "rest_value": None,
            "celestial": celestial.to_header(relax=True).tostring(),
            "shape": velocity.shape,
            "crop": tuple((part.start, part.stop) for part in crop),
            "object": str(header.get("OBJECT", "")).strip(),
        },
    )


def _map(given, name):
    """Values (y, x), unit, header, WCS and beam (None where there is none) of a map in any guise."""
    if isinstance(given, (str, Path)):
        with fits.open(given) as hdus:
            filled = [hdu for hdu in hdus if getattr(hdu, "data", None) is not None and hdu.is_image]
            if not filled:
                raise WrongMask(f"{given} without an image", "a map (y, x)", _READ)
            return _map(fits.PrimaryHDU(filled[0].data, filled[0].header), name)
    wcs = beam = None
    if isinstance(given, (fits.PrimaryHDU, fits.ImageHDU, fits.CompImageHDU)):
        header, values = given.header, np.asarray(given.data, dtype=np.float64)
        unit, wcs, beam = _unit(str(header.get("BUNIT", ""))), _header_wcs(header), _header_beam(header)
    else:
        header = getattr(given, "header", None) or fits.Header()
        unit, wcs = getattr(given, "unit", None) or u.one, getattr(given, "wcs", None)
        beam = _own_beam(given)
        mask = given.mask if isinstance(given, (np.ma.MaskedArray, Masked)) else False
        given = given.unmasked if isinstance(given, Masked) else given
        values = np.where(mask, np.nan, np.asarray(getattr(given, "value", given), dtype=np.float64))
    values = values.squeeze()
    if values.ndim != 2 or min(values.shape) < 2:
        raise WrongMask(f"{name} of shape {values.shape}", "a map (y, x)", _READ)
    return values, unit, header, wcs, beam


def _unit(text):
    """A unit as headers have it; of "Jy/beam km/s" the second slash divides the km alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)
        try:
            unit = u.Unit(text.strip())
        except ValueError:
            return u.Unit(text.strip(), parse_strict="silent")
    for area in PER_AREA:
        if unit.is_equivalent(area / (u.km * u.s)):
            return unit * u.km**2
    return unit


def _header_wcs(header):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header)


def _own_beam(projection):
    try:
        return getattr(projection, "beam", None)
    except NoBeamError:
        return None


def _header_beam(header):
    try:
        return Beam.from_fits_header(header)
    except NoBeamException:
        return None


def _celestial(wcs, shape):
    celestial = None if wcs is None else wcs.celestial
    if celestial is None or celestial.naxis != 2:
        raise KinematicsError("moment1 without a WCS of the sky", "one of two sky axes", _READ)
    return celestial


def _filled(velocity):
    """Where a map has values."""
    valid = np.isfinite(velocity)
    zero = velocity == 0
    return valid & ~zero if valid.all() and zero.mean() > _ZEROS else valid


def _large_pieces(valid):
    """Valid pixels without the small islands that noise leaves in a mask; touching at corners is touching."""
    labels, count = ndimage.label(valid, np.ones((3, 3)))
    pixels = np.bincount(labels.ravel(), minlength=count + 1)
    pixels[0] = 0
    return (pixels >= SMALLEST_PIECE * pixels.max())[labels] & valid


def _moment0(given, shape):
    """Moment 0 and the unit of its brightness."""
    light, unit, *_ = _map(given, "moment0")
    _same_shape(light, shape, "moment0")
    if not isinstance(unit, u.UnitBase) or isinstance(unit, u.UnrecognizedUnit):
        raise WrongUnit(
            f"moment0 in {unit}", "a unit that astropy.units reads", "fit_maps(moment0=array * u.Unit(...))"
        )
    for area in PER_AREA:
        if unit.is_equivalent(area * _KM_S):
            return light * unit.to(area * _KM_S), area
    # A flux over the line, as of optical spectrographs, or bare numbers: the flux is then theirs times arcsec2.
    return light, unit / _KM_S


def _trusted(given, shape, unit, valid):
    """Where the error of moment 1 is not too large."""
    error, own, *_ = _map(given, "moment1_error")
    _same_shape(error, shape, "moment1_error")
    try:
        error = error * (unit if own == u.one else own).to(_KM_S)
    except u.UnitConversionError as problem:
        raise WrongUnit(
            f"moment1_error in {own}", "a velocity", "fit_maps(moment1_error=array * u.km / u.s)"
        ) from problem
    usable = np.isfinite(error) & (error > 0)
    if not (usable & valid).any():
        return usable
    return usable & (error <= LARGEST_ERROR * np.median(error[usable & valid]))


def _same_shape(array, shape, name):
    if array.shape != shape:
        raise WrongMask(
            f"{name} of shape {array.shape}", f"the pixels of moment1, {shape}", "reproject.reproject_interp(...)"
        )


def _velref(header):
    """Convention of the velocities: VELREF's (from 257: radio), or the optical one."""
    return "radio" if int(header.get("VELREF", 0)) > 256 else "optical"


def _span(flags, pad):
    """Slice from the first to the last true flag and ``pad`` on both sides, of two pixels or more."""
    where, pad = np.flatnonzero(flags), max(1, int(np.ceil(pad - 1e-6)))
    return slice(max(0, int(where[0]) - pad), min(len(flags), int(where[-1]) + 1 + pad))
