"""The unit of a cube, the unit of its line flux, and the beam that joins the two."""

import re

import numpy as np
from astropy import units as u
from radio_beam import Beam
from spectral_cube import DaskVaryingResolutionSpectralCube, VaryingResolutionSpectralCube
from spectral_cube.utils import NoBeamError

from kinematics_nn.errors import MissingBeam, VaryingBeam, WrongUnit

__all__ = ["cube_beam", "cube_unit", "flux_scale"]

# What is no brightness, however it is scaled: an axis, a flux density that does not say per what, or a moment map
# ("Jy/beam km/s" among them, which FITS reads as a division).
PER_AREA = (u.Jy / u.beam, u.Jy / u.pix, u.Jy / u.sr, u.K)
NO_BRIGHTNESS = (u.m / u.s, u.m, u.s, u.Hz, u.rad, u.sr, u.mag, u.Jy, u.Jy * u.m / u.s)
NO_BRIGHTNESS += tuple(unit * speed for unit in PER_AREA for speed in (u.m / u.s, 1 / (u.m * u.s)))

STATE_UNIT = "header['BUNIT'] = 'Jy/beam' (or 'K', 'Jy/pixel') and SpectralCube.read(fits.PrimaryHDU(data, header))"

# "mJy/bm", "JY/PIXEL", "Jy beam^-1": common, and no unit of the FITS standard.
RADIO_UNIT = re.compile(r"([munk]?)jy[/.*]?(beam|bm|pixel|pix|px)(?:\^?-1)?", re.IGNORECASE)


def cube_unit(unit, bunit=""):
    """
    Unit of a cube's values, read from headers that keep to no standard too.

    A cube without a unit is dimensionless, and is fitted as it is: its flux is then in arcsec2 km/s.

    Parameters
    ----------
    unit : `~astropy.units.UnitBase`
        What spectral-cube made of it: dimensionless, where it could not read it.
    bunit : str, optional
        What the header says.

    Returns
    -------
    `~astropy.units.UnitBase`

    Raises
    ------
    WrongUnit
        If the unit cannot be read, or is that of no brightness.
    """
    unit = u.Unit(unit)
    if unit == u.dimensionless_unscaled:
        unit = _parse(bunit.strip())
    if not isinstance(unit, u.UnitBase) or any(unit.is_equivalent(other) for other in NO_BRIGHTNESS):
        raise WrongUnit(
            f"a cube in {unit}", "a brightness: Jy/beam, Jy/pixel, K, or a flux density per pixel", STATE_UNIT
        )
    return unit


def _parse(text):
    try:
        u.Unit(text)
    except ValueError:
        pass
    else:
        # spectral-cube could read this one, so the cube is dimensionless because somebody made it so.
        return u.dimensionless_unscaled
    bare = re.sub(r"\(.*?\)|\[.*?\]|\s", "", text)
    match = RADIO_UNIT.fullmatch(bare)
    # "MJY/BEAM" may be milli or mega: that is for the user to say.
    if match and match[1] != "M":
        per = u.beam if match[2].lower() in ("beam", "bm") else u.pix
        return u.Unit(f"{match[1].lower()}Jy") / per
    try:
        return u.Unit(bare)
    except ValueError as error:
        raise WrongUnit(f"a cube with BUNIT = {text!r}", "a unit that astropy.units reads", STATE_UNIT) from error


def cube_beam(cube, beam=None):
    """
    The beam of a cube, or the one given for it.

    Parameters
    ----------
    cube : `~spectral_cube.SpectralCube`
    beam : `~radio_beam.Beam`, `~astropy.units.Quantity` or str, optional
        A beam, or the FWHM of a round one. It goes before the cube's own.

    Returns
    -------
    `~radio_beam.Beam`

    Raises
    ------
    MissingBeam
        If there is neither, or it has no size.
    VaryingBeam
        If each channel has its own.
    WrongUnit
        If ``beam`` is neither a beam nor an angle.
    """
    if isinstance(cube, (VaryingResolutionSpectralCube, DaskVaryingResolutionSpectralCube)):
        raise VaryingBeam(
            f"a beam of its own in each of {cube.shape[0]} channels",
            "one beam",
            "cube.convolve_to(cube.beams.common_beam()).kinematics.fit()",
        )
    if beam is None:
        try:
            beam = cube.beam
        except NoBeamError as error:
            raise MissingBeam(
                "no beam in the header (BMAJ, BMIN, BPA)",
                "the FWHM of the beam or point-spread function",
                "fit(beam=5 * u.arcsec), or fit(beam=radio_beam.Beam(major, minor, pa))",
            ) from error
    elif not isinstance(beam, Beam):
        try:
            fwhm = u.Quantity(beam)
            beam = Beam(fwhm.to(u.arcsec))
        except (TypeError, u.UnitConversionError) as error:
            raise WrongUnit(f"beam={beam!r}", "a radio_beam.Beam or an angle", "fit(beam=5 * u.arcsec)") from error
    sizes = u.Quantity([beam.major, beam.minor])
    if not (np.all(np.isfinite(sizes)) and np.all(sizes > 0)):
        raise MissingBeam(f"a beam of {beam.major} by {beam.minor}", "a finite size", "fit(beam=5 * u.arcsec)")
    return beam


def flux_scale(unit, beam, pixel_area):
    """
    Unit of the integrated line flux, and the factor from flux to brightness.

    Parameters
    ----------
    unit : `~astropy.units.UnitBase`
        Unit of the cube.
    beam : `~radio_beam.Beam`
        For its solid angle, pi / (4 ln 2) times the FWHM of both axes.
    pixel_area : float
        Solid angle of a pixel [arcsec2].

    Returns
    -------
    flux_unit : str
        ``"Jy km / s"`` for any flux density per beam, pixel or solid angle; ``"K km arcsec2 / s"`` for brightness
        temperatures; otherwise ``"<unit> arcsec2 km / s"``.
    brightness_per_flux : float
        What turns flux unit / (km/s) / arcsec2 into the cube's unit.
    """
    areas = ((u.beam, beam.sr.to_value(u.arcsec**2)), (u.pix, pixel_area), (u.arcsec**2, 1.0))
    for per, area in areas:
        if unit.is_equivalent(u.Jy / per):
            return "Jy km / s", float((u.Jy / per).to(unit) * area)
    if unit.is_equivalent(u.K):
        return "K km arcsec2 / s", float(u.K.to(unit))
    return (unit * u.arcsec**2 * u.km / u.s).to_string(), 1.0
