"""Moment maps as they come: units, blanks, beams, WCS, and what is refused with the next call."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.utils.masked import Masked
from astropy.wcs import WCS
from radio_beam import Beam
from spectral_cube import Projection

from kinematics_nn.errors import BlankCube, KinematicsError, MissingBeam, MissingVelocity, WrongMask, WrongUnit
from kinematics_nn.observation.maps import observe_maps

KM_S = u.km / u.s


def header(beam=True, **cards):
    made = {
        "CTYPE1": "RA---SIN", "CRVAL1": 150.0, "CDELT1": -0.5 / 3600, "CRPIX1": 20.0, "CUNIT1": "deg",
        "CTYPE2": "DEC--SIN", "CRVAL2": 2.0, "CDELT2": 0.5 / 3600, "CRPIX2": 16.0, "CUNIT2": "deg",
    }  # fmt: skip
    made |= {"BMAJ": 2 / 3600, "BMIN": 1 / 3600, "BPA": 30.0} if beam else {}
    return fits.Header(made | cards)


def velocities(shape=(30, 40)):
    """30 by 40 pixels, of which a patch of 12 by 20 is valid."""
    field = np.full(shape, np.nan)
    field[8:20, 10:30] = 1000 + np.arange(20) + 0.1 * np.arange(12)[:, None]
    return field


def hdu(values, **cards):
    return fits.PrimaryHDU(values, header(**cards))


@pytest.fixture
def wanted():
    return observe_maps(hdu(velocities(), BUNIT="km/s", OBJECT="N1", SPECSYS="LSRK"))


def test_is_cut_and_on_the_sky(wanted):
    # Two beams of 4 pixels around the patch, as far as there is room.
    assert wanted.header["crop"] == ((0, 28), (2, 38))
    np.testing.assert_array_equal(wanted.moment1, velocities()[0:28, 2:38])
    assert wanted.header["shape"] == (30, 40)
    assert (wanted.header["object"], wanted.header["frame"]) == ("N1", "LSRK")
    np.testing.assert_allclose(wanted.beam, [2, 1, 30])
    np.testing.assert_allclose(np.diff(wanted.xi, axis=1), -0.5, rtol=1e-4)
    np.testing.assert_allclose(np.diff(wanted.eta, axis=0), 0.5, rtol=1e-4)
    ra, dec = wanted.header["reference"]
    x, y = WCS(header()).celestial.world_to_pixel_values(ra, dec)
    np.testing.assert_allclose([x, y], [19.5, 13.5], atol=1e-6)


def test_any_guise_gives_the_same(tmp_path, wanted):
    path = tmp_path / "m1.fits"
    hdu(1e3 * velocities()[None, None], BUNIT="m/s").writeto(path)
    bare, wcs = velocities() * KM_S, WCS(header())
    projection = Projection(bare, wcs=wcs, header=header(), beam=Beam(2 * u.arcsec, 1 * u.arcsec, 30 * u.deg))
    beam = Beam(2 * u.arcsec, 1 * u.arcsec, 30 * u.deg)
    sky = {"wcs": wcs, "beam": beam}
    masked = Masked(np.nan_to_num(velocities(), nan=7.0) * KM_S, mask=np.isnan(velocities()))
    for given, options in ((path, {}), (str(path), {}), (projection, {}), (bare, sky), (masked, sky)):
        maps = observe_maps(given, **options)
        np.testing.assert_allclose(maps.moment1, wanted.moment1, rtol=1e-12)
        np.testing.assert_allclose(maps.beam, wanted.beam)
        np.testing.assert_allclose(maps.xi, wanted.xi)


@pytest.mark.parametrize(
    ("text", "factor", "unit", "flux_unit"),
    [
        ("Jy/beam.km/s", 1.0, "Jy / beam", "Jy km / s"),
        ("mJy/beam km/s", 1e-3, "Jy / beam", "Jy km / s"),
        ("Jy beam-1 m s-1", 1e-3, "Jy / beam", "Jy km / s"),
        ("K.km/s", 1.0, "K", "K km arcsec2 / s"),
        ("", 1.0, "s / km", "arcsec2"),
        ("erg s-1 cm-2", 1.0, None, "arcsec2 erg / (s cm2)"),
    ],
)
def test_units_of_moment_0(text, factor, unit, flux_unit):
    maps = observe_maps(hdu(velocities(), BUNIT="km/s"), hdu(np.full((30, 40), 2.0), BUNIT=text))
    np.testing.assert_allclose(np.nanmax(maps.moment0), 2 * factor)
    assert unit is None or u.Unit(maps.header["unit"]) == u.Unit(unit)
    assert u.Unit(maps.header["flux_unit"]) == u.Unit(flux_unit)


def test_what_is_blank():
    light, error = np.ones((30, 40)), np.full((30, 40), 2.0)
    light[8, 10], light[9, 10], error[10, 10], error[11, 10], error[12, 10] = 0, np.nan, 6.1, np.nan, 0
    maps = observe_maps(hdu(velocities(), BUNIT="km/s"), light, error)
    y, x = np.argwhere(np.isfinite(velocities()[0:28, 2:38]) & ~np.isfinite(maps.moment1)).T
    assert sorted(zip(y.tolist(), (x + 2).tolist(), strict=True)) == [(y, 10) for y in range(8, 13)]
    assert np.array_equal(np.isfinite(maps.moment0), np.isfinite(maps.moment1))
    # Zeros are blanks where there is no other, and velocities where there is.
    zeros = np.nan_to_num(velocities())
    zeros[9, 12] = 0.0
    assert np.isfinite(observe_maps(hdu(zeros, BUNIT="km/s")).moment1).sum() == 239
    zeros[0, 0] = np.nan
    assert np.isfinite(observe_maps(hdu(zeros, BUNIT="km/s")).moment1).sum() == 1199


def test_small_islands_are_noise_and_pieces_are_not():
    field = velocities()
    field[:, 20] = np.nan  # the galaxy in two halves, of 120 and 108 pixels
    field[25, 35:40], field[28, 0:7] = 1000.0, 1000.0  # of five and of seven
    found = observe_maps(hdu(field, BUNIT="km/s"))
    assert np.isfinite(found.moment1).sum() == 120 + 108 + 7


@pytest.mark.parametrize(
    ("cards", "convention"), [({}, "optical"), ({"VELREF": 2}, "optical"), ({"VELREF": 258}, "radio")]
)
def test_convention(cards, convention):
    given = hdu(velocities(), BUNIT="km/s", **cards)
    assert observe_maps(given).header["convention"] == convention
    assert observe_maps(given, velocity_convention="relativistic").header["convention"] == "relativistic"


def _map(unit="km/s", **options):
    return hdu(velocities(), BUNIT=unit, **options)


@pytest.mark.parametrize(
    ("kind", "said", "call"),
    [
        (WrongUnit, "moment1 in no unit", lambda: observe_maps(_map(unit=""))),
        (WrongUnit, "moment1 in Jy", lambda: observe_maps(_map(unit="Jy"))),
        (MissingBeam, "no beam in the header", lambda: observe_maps(_map(beam=False))),
        (WrongUnit, "beam=<Quantity 1. km>", lambda: observe_maps(_map(), beam=1 * u.km)),
        (KinematicsError, "without a WCS", lambda: observe_maps(velocities() * KM_S, beam=1 * u.arcsec)),
        (WrongMask, r"moment0 of shape \(3, 4\)", lambda: observe_maps(_map(), np.ones((3, 4)))),
        (WrongUnit, "moment0 in", lambda: observe_maps(_map(), hdu(np.ones((30, 40)), BUNIT="what"))),
        (WrongUnit, "moment1_error in Jy", lambda: observe_maps(_map(), None, np.ones((30, 40)) * u.Jy)),
        (WrongMask, r"moment1 of shape \(3, 30, 40\)", lambda: observe_maps(hdu(np.ones((3, 30, 40)), BUNIT="km/s"))),
        (BlankCube, "no pixel", lambda: observe_maps(_map(), np.zeros((30, 40)))),
        (MissingVelocity, "velocity_convention=", lambda: observe_maps(_map(), velocity_convention="z")),
    ],
)
def test_what_is_refused(kind, said, call):
    with pytest.raises(kind, match=said) as caught:
        call()
    assert caught.value.needed


def test_real_maps(real_data):
    """Beams, units and shapes of ALMA's velocity fields, which have a Stokes axis or none and velocities far off."""
    for name, radius in (("ngc0383", 5), ("ngc0524", 9), ("ngc1387", 12)):
        paths = [real_data / "maps" / f"{name}_mom{k}.fits" for k in (1, 0)]
        if not all(path.is_file() for path in paths):
            pytest.skip("no maps in KINEMATICS_NN_DATA")
        maps = observe_maps(*paths)
        assert maps.header["flux_unit"] == "Jy km / s"
        assert maps.header["convention"] == "radio"
        light = np.nan_to_num(maps.moment0)
        r = np.sqrt((light * (maps.xi**2 + maps.eta**2)).sum() / light.sum())
        assert 0.2 * radius < r < radius, "arcsec"
