"""Offsets on the sky against astropy's own."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from regions import CirclePixelRegion, CircleSkyRegion, PixCoord, PointSkyRegion, Regions

from kinematics_nn.errors import WrongMask
from kinematics_nn.observation import observe
from kinematics_nn.observation.grid import pixel_scales, region_mask, sky_grid

BOX = (slice(5, 30), slice(8, 40))


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"rotation": 37.0},
        {"scales": (2.0, 0.5), "rotation": -12.0},
        {"sky": ("GLON", "GLAT"), "centre": (212.0, 40.0), "rotation": 10.0},
        {"centre": (0.001, -89.0)},
    ],
    ids=["plain", "rotated", "oblong pixels", "Galactic", "at the pole and RA 0"],
)
def test_offsets_are_those_of_astropy(mock, kwargs):
    celestial = mock.wcs(**kwargs).celestial
    sky = sky_grid(celestial, BOX)
    reference = SkyCoord(*sky.reference, unit="deg")
    assert reference.separation(celestial.pixel_to_world(23.5, 17.0)) < 1e-6 * u.arcsec
    for y, x in ((0, 0), (24, 31), (3, 20)):
        pixel = celestial.pixel_to_world(8 + x, 5 + y).icrs
        east, north = reference.spherical_offsets_to(pixel)
        # A micro-arcsecond: rounding of degrees in float64.
        np.testing.assert_allclose(sky.xi[y, x], east.to_value(u.arcsec), atol=1e-6)
        np.testing.assert_allclose(sky.eta[y, x], north.to_value(u.arcsec), atol=1e-6)


def test_east_is_left_and_north_is_up_in_a_plain_cube(mock):
    sky = sky_grid(mock.wcs(scales=(2.0, 1.0)).celestial, BOX)
    # One pixel: 1 arcsec east to the left, 2 arcsec north upwards; the projection bends that by 1e-8.
    np.testing.assert_allclose(np.diff(sky.xi, axis=1), -1.0, rtol=1e-5)
    np.testing.assert_allclose(np.diff(sky.eta, axis=0), 2.0, rtol=1e-5)
    np.testing.assert_allclose(pixel_scales(mock.wcs(scales=(2.0, 1.0)).celestial), [2.0, 1.0])


def test_beam_of_a_galactic_cube_is_turned_to_icrs(mock, galaxy):
    wcs = mock.wcs(sky=("GLON", "GLAT"), centre=(212.0, 40.0))
    observation = observe(mock.cube(galaxy, wcs))
    centre = SkyCoord(*observation.header["reference"], unit="deg").galactic
    along = centre.directional_offset_by(mock.beam.pa, 1 * u.arcsec)
    expected = centre.icrs.position_angle(along.icrs).to_value(u.deg)
    # An arcsecond of baseline gives the direction to 1e-5 deg.
    assert (observation.beam[2] - expected + 90) % 180 - 90 == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(observation.beam[:2], [4, 3])
    assert abs(observation.beam[2] - 30) > 20


def test_region_on_the_sky_and_in_pixels_agree(mock, tmp_path):
    celestial = mock.wcs(rotation=20).celestial
    pixel = CirclePixelRegion(PixCoord(20, 25), radius=6.3)
    sky = CircleSkyRegion(celestial.pixel_to_world(20, 25), radius=6.3 * u.arcsec)
    inside = region_mask(pixel, celestial, (48, 48))
    y, x = np.mgrid[:48, :48]
    np.testing.assert_array_equal(inside, np.hypot(x - 20, y - 25) < 6.3)
    np.testing.assert_array_equal(region_mask(sky, celestial, (48, 48)), inside)
    for name in ("galaxy.reg", "galaxy.crtf"):
        Regions([sky]).write(tmp_path / name, format="ds9" if name.endswith("reg") else "crtf")
        np.testing.assert_array_equal(region_mask(tmp_path / name, celestial, (48, 48)), inside)
    both = region_mask([pixel, CirclePixelRegion(PixCoord(40, 40), radius=2)], celestial, (48, 48))
    assert both[40, 40]
    assert both[25, 20]
    assert both.sum() > inside.sum()


@pytest.mark.parametrize("first", [True, False], ids=["excluded first", "excluded last"])
def test_excluded_region_is_cut_out(mock, tmp_path, first):
    celestial = mock.wcs().celestial
    y, x = np.mgrid[1:49, 1:49]  # DS9 counts pixels from 1
    disc, star = np.hypot(x - 21, y - 26) < 12.3, np.hypot(x - 24, y - 26) < 3.3
    lines = ["circle(21,26,12.3)", "-circle(24,26,3.3)"]
    path = tmp_path / "galaxy.reg"
    path.write_text("\n".join(["image", *(reversed(lines) if first else lines)]))
    np.testing.assert_array_equal(region_mask(path, celestial, (48, 48)), disc & ~star)
    path.write_text("\n".join(["image", lines[1]]))
    np.testing.assert_array_equal(region_mask(path, celestial, (48, 48)), ~star)


def test_region_that_holds_nothing_is_refused(mock, tmp_path):
    celestial = mock.wcs().celestial
    with pytest.raises(WrongMask, match="holds none of the 48 x 48 pixels"):
        region_mask(CirclePixelRegion(PixCoord(400, 400), radius=3), celestial, (48, 48))
    with pytest.raises(WrongMask, match="PointSkyRegion, which has no area"):
        region_mask(PointSkyRegion(celestial.pixel_to_world(3, 3)), celestial, (48, 48))
    with pytest.raises(WrongMask, match="a DS9 or CRTF region file"):
        region_mask(tmp_path / "absent.reg", celestial, (48, 48))
    # No format that regions knows by its name or its content.
    (tmp_path / "notes.txt").write_text("the galaxy in the middle")
    with pytest.raises(WrongMask, match="a DS9 or CRTF region file"):
        region_mask(tmp_path / "notes.txt", celestial, (48, 48))
