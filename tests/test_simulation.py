"""`simulate`: what it says of place, unit, beam, direction and noise is so, read back through astropy alone."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from radio_beam import Beam
from spectral_cube import SpectralCube

from kinematics_nn import simulate
from kinematics_nn.errors import FormError, KinematicsError, WrongUnit
from kinematics_nn.forms import FreemanDisc, Tanh
from kinematics_nn.models import (
    ArctanRotationCurve,
    ConstantDispersion,
    ExponentialDisc,
    ExponentialDispersion,
    TanhRotationCurve,
)

KM_S = u.km / u.s
SMALL = {"shape": (24, 60, 64), "channel_width": 20 * KM_S, "surface_brightness": ExponentialDisc(r_scale=3 * u.arcsec)}


def centroid(cube, channels=slice(None)):
    """Sky position of the light in some channels, through the WCS."""
    image = cube.filled_data[:].value[channels].sum(0)
    y, x = np.indices(image.shape)
    return cube.wcs.celestial.pixel_to_world((image * x).sum() / image.sum(), (image * y).sum() / image.sum())


def mean_velocity(cube, velocity):
    spectrum = cube.filled_data[:].value.sum((1, 2))
    return (spectrum * velocity).sum() / spectrum.sum()


def rotated_kelvin_cube(step=-1.5e6, turn=25.0):
    """A cube in K on a frequency axis, its pixels turned, oblong and away from the equator."""
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN", "FREQ"]
    wcs.wcs.cunit = ["deg", "deg", "Hz"]
    wcs.wcs.crval = [83.0, 62.0, 114.5e9]
    wcs.wcs.crpix = [20.0, 29.0, 21.0]
    wcs.wcs.cdelt = [-1.2 / 3600, 0.9 / 3600, step]
    turn = np.radians(turn)
    wcs.wcs.pc = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    wcs.wcs.restfrq = 115.2712018e9
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.specsys = "BARYCENT"
    wcs.wcs.set()
    data = np.zeros((128, 60, 52), dtype=np.float32) * u.K
    return SpectralCube(
        data, wcs, beam=Beam(5 * u.arcsec, 3 * u.arcsec, 40 * u.deg), header=fits.Header({"VELREF": 258})
    )


def test_the_defaults_are_those_that_are_documented():
    cube = simulate()
    assert cube.shape == (40, 64, 64)
    assert cube.unit == u.Jy / u.beam
    assert cube.beam == Beam(4 * u.arcsec)
    np.testing.assert_allclose(cube.wcs.celestial.proj_plane_pixel_scales()[0].to_value(u.arcsec), 1, rtol=1e-9)
    velocity = cube.spectral_axis.to_value(KM_S)
    np.testing.assert_allclose(np.diff(velocity), 10, rtol=1e-9)
    assert velocity.mean() == pytest.approx(0, abs=1e-9)
    assert cube.velocity_convention == u.doppler_radio
    centre = cube.wcs.celestial.pixel_to_world(31.5, 31.5)
    assert centre.separation(SkyCoord(180 * u.deg, 0 * u.deg)).arcsec < 1e-6
    # East is left, north is up.
    assert cube.wcs.celestial.pixel_to_world(0, 31.5).ra > centre.ra
    assert cube.wcs.celestial.pixel_to_world(31.5, 63).dec > centre.dec


def test_the_flux_is_what_was_asked_for():
    cube = simulate(**SMALL, flux=7.5 * u.Jy * KM_S, beam=Beam(5 * u.arcsec, 3 * u.arcsec, 20 * u.deg))
    pixels_per_beam = (cube.beam.sr / (1 * u.arcsec) ** 2).to_value(u.one)
    found = cube.filled_data[:].sum().value * 20 / pixels_per_beam
    # The field holds all but 1e-3 of a disc with ten scale lengths to its nearest edge; sums are good to 1e-3.
    assert found == pytest.approx(7.5, rel=4e-3)


def test_the_cube_survives_a_file(tmp_path):
    cube = simulate(**SMALL, offset=(3, -2) * u.arcsec, vsys=1500 * KM_S)
    cube.write(tmp_path / "disc.fits")
    again = SpectralCube.read(tmp_path / "disc.fits")
    assert (again.unit, again.shape) == (cube.unit, cube.shape)
    for side in ("major", "minor", "pa"):
        assert getattr(again.beam, side).to_value(u.deg) == pytest.approx(getattr(cube.beam, side).to_value(u.deg))
    np.testing.assert_allclose(again.filled_data[:].value, cube.filled_data[:].value)
    np.testing.assert_allclose(again.spectral_axis.to_value(KM_S), cube.spectral_axis.to_value(KM_S), rtol=1e-9)
    assert centroid(again).separation(centroid(cube)).arcsec < 1e-4


@pytest.mark.parametrize("offset", [(0, 0), (4.3, 0), (0, 4.3), (-5.5, 2.25)])
def test_offset_is_east_and_north_of_the_reference_position(offset):
    cube = simulate(**SMALL, offset=offset * u.arcsec)
    east, north = SkyCoord(*cube.wcs.celestial.wcs.crval, unit="deg").spherical_offsets_to(centroid(cube))
    # The light is symmetric about the centre; 0.02 pixel is what sums over 9 x 4 points and the field's edge leave.
    np.testing.assert_allclose([east.arcsec, north.arcsec], offset, atol=0.02)


@pytest.mark.parametrize("vsys", [-35.0, 1234.0])
def test_the_line_is_at_the_systemic_velocity(vsys):
    cube = simulate(**SMALL, vsys=vsys * KM_S, rotation_curve=ArctanRotationCurve(vmax=90 * KM_S, r_turn=2 * u.arcsec))
    assert mean_velocity(cube, cube.spectral_axis.to_value(KM_S)) == pytest.approx(vsys, abs=0.1)


@pytest.mark.parametrize("pa", [0.0, 30.0, 145.0, 290.0])
def test_the_receding_side_lies_along_the_position_angle(pa):
    cube = simulate(**SMALL, pa=pa * u.deg)
    velocity = cube.spectral_axis.to_value(KM_S)
    red, blue = centroid(cube, velocity > 5), centroid(cube, velocity < -5)
    found = blue.position_angle(red).deg
    # By symmetry the two lie on the major axis, 5 arcsec apart; the corners of the field cut off 0.3 degrees at most.
    assert abs((found - pa + 180) % 360 - 180) < 0.5


@pytest.mark.parametrize("integrate_pixels", [False, True])
def test_integrated_pixels_are_wider_by_a_pixel(integrate_pixels):
    beam = Beam(4 * u.arcsec)
    tiny = ExponentialDisc(r_scale=0.5 * u.arcsec)
    cube = simulate(
        shape=(24, 41, 41), channel_width=20 * KM_S, surface_brightness=tiny, inclination=0 * u.deg, beam=beam,
        integrate_pixels=integrate_pixels,
    )  # fmt: skip
    image = cube.filled_data[:].value.sum(0)
    y, x = np.indices(image.shape) - 20
    expected = 16 / (8 * np.log(2)) + 3 * 0.5**2 + integrate_pixels / 12
    # The pixel's own variance, 1/12, is 3 % of the whole.
    assert (image * x**2).sum() / image.sum() == pytest.approx(expected, rel=0.01)
    assert (image * y**2).sum() / image.sum() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("step", [-1.5e6, 1.5e6])
def test_like_takes_grid_axis_beam_and_unit(step):
    like = rotated_kelvin_cube(step)
    velocity = like.with_spectral_unit(KM_S, velocity_convention="radio").spectral_axis.to_value(KM_S)
    assert (velocity[1] > velocity[0]) == (step < 0)
    vsys = float(velocity[70])
    cube = simulate(
        like=like, vsys=vsys * KM_S, offset=(3.5, 6.0) * u.arcsec, flux=500 * u.K * KM_S * u.arcsec**2, pa=75 * u.deg,
        rotation_curve=ArctanRotationCurve(vmax=150 * KM_S, r_turn=2 * u.arcsec),
        surface_brightness=ExponentialDisc(r_scale=3 * u.arcsec),
    )  # fmt: skip
    assert (cube.shape, cube.unit, cube.beam) == (like.shape, like.unit, like.beam)
    np.testing.assert_allclose(cube.spectral_axis.value, like.spectral_axis.value, rtol=1e-12)
    assert cube.wcs.wcs.compare(like.wcs.wcs)
    data = cube.filled_data[:].value
    # K arcsec2 km/s: the sum over voxels of known area and width.
    assert data.sum() * 1.2 * 0.9 * abs(np.diff(velocity)).mean() == pytest.approx(500, rel=5e-3)
    east, north = SkyCoord(83 * u.deg, 62 * u.deg).spherical_offsets_to(centroid(cube))
    np.testing.assert_allclose([east.arcsec, north.arcsec], [3.5, 6.0], atol=0.03)
    assert mean_velocity(cube, velocity) == pytest.approx(vsys, abs=0.3)
    red, blue = centroid(cube, velocity > vsys + 5), centroid(cube, velocity < vsys - 5)
    assert blue.position_angle(red).deg == pytest.approx(75, abs=1.0)


def test_like_carries_an_elliptical_beam_over_the_pixels():
    like = rotated_kelvin_cube()
    velocity = like.with_spectral_unit(KM_S, velocity_convention="radio").spectral_axis.to_value(KM_S)
    cube = simulate(
        like=like, vsys=float(velocity[70]) * KM_S, flux=500 * u.K * KM_S * u.arcsec**2, inclination=0 * u.deg,
        surface_brightness=ExponentialDisc(r_scale=0.6 * u.arcsec), integrate_pixels=False,
    )  # fmt: skip
    image = cube.filled_data[:].value.sum(0)
    y, x = np.indices(image.shape)
    sky = cube.wcs.celestial.pixel_to_world(x, y)
    east, north = (o.arcsec for o in SkyCoord(83 * u.deg, 62 * u.deg).spherical_offsets_to(sky))
    covariance = np.array([[(image * a * b).sum() for a in (east, north)] for b in (east, north)]) / image.sum()
    angle = np.radians(40.0)
    along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    # Beam and disc add in variance, whatever the pixels; the disc is just resolved by them, hence 2 %.
    for axis, fwhm in ((along, 5.0), (across, 3.0)):
        assert axis @ covariance @ axis == pytest.approx(fwhm**2 / (8 * np.log(2)) + 3 * 0.6**2, rel=0.02)
    assert along @ covariance @ across == pytest.approx(0, abs=0.03)


def test_the_pixels_of_a_cube_are_not_touched_by_like():
    like = rotated_kelvin_cube()
    simulate(like=like, vsys=2000 * KM_S, flux=5 * u.K * KM_S * u.arcsec**2)
    assert not like.filled_data[:].value.any()


@pytest.mark.parametrize(
    "beam", [Beam(4 * u.arcsec), Beam(7 * u.arcsec, 4 * u.arcsec, 30 * u.deg)], ids=["round", "turned"]
)
def test_noise_has_the_rms_asked_for_and_the_beam_for_its_correlation(beam):
    grid = {"shape": (60, 64, 64), "beam": beam}
    clean, noisy = simulate(**grid), simulate(**grid, rms=2 * u.mJy / u.beam, seed=3)
    noise = (noisy.filled_data[:] - clean.filled_data[:]).value
    # 60 x 64 x 64 voxels in beams of 20 to 35 pixels: 7000 independent values and more.
    assert noise.std() == pytest.approx(2e-3, rel=0.03)
    assert abs(noise.mean()) < 5 * 2e-3 / np.sqrt(7000)
    # Alike everywhere, to the field's very edge, and in every channel.
    edge = np.concatenate([noise[:, 0], noise[:, -1], noise[:, :, 0], noise[:, :, -1]])
    assert edge.std() == pytest.approx(2e-3, rel=0.07)
    power = abs(np.fft.fft2(noise, s=(128, 128))) ** 2
    found = np.fft.ifft2(power.mean(0)).real
    window = np.fft.ifft2(abs(np.fft.fft2(np.ones((64, 64)), s=(128, 128))) ** 2).real
    lags = np.arange(-6, 7)
    near = np.ix_(lags, lags)
    found = found[near] / window[near]
    found /= found[6, 6]
    # White noise through a Gaussian beam correlates as that Gaussian with twice its covariance. x runs west.
    y, x = np.meshgrid(lags, lags, indexing="ij")
    angle = beam.pa.to_value(u.rad)
    major, minor = -x * np.sin(angle) + y * np.cos(angle), -x * np.cos(angle) - y * np.sin(angle)
    sides = [side.to_value(u.arcsec) / np.sqrt(8 * np.log(2)) for side in (beam.major, beam.minor)]
    expected = np.exp(-0.25 * ((major / sides[0]) ** 2 + (minor / sides[1]) ** 2))
    # 7000 beams tell a correlation to 0.012; five of those. The beam itself, not wider by root two, is 0.25 off.
    assert abs(found - expected).max() < 0.06
    # Channels are independent.
    assert abs(np.mean(noise[1:] * noise[:-1])) < 5 * noise.var() / np.sqrt(7000)


def test_the_same_seed_gives_the_same_cube():
    def noisy(seed):
        return simulate(**SMALL, rms=1 * u.mJy / u.beam, seed=seed).filled_data[:].value

    np.testing.assert_array_equal(noisy(5), noisy(5))
    assert not np.allclose(noisy(5), noisy(6))


def test_rms_takes_any_unit_of_brightness_or_none():
    one = simulate(**SMALL, rms=1 * u.mJy / u.beam, seed=5).filled_data[:].value
    np.testing.assert_allclose(simulate(**SMALL, rms=1e-3, seed=5).filled_data[:].value, one, rtol=1e-6)


def test_units_are_converted():
    given = simulate(**SMALL, pa=40 * u.deg, vsys=30 * KM_S, thickness=1 * u.arcsec)
    other = simulate(
        shape=SMALL["shape"], pixel_scale=1 / 60 * u.arcmin, channel_width=2e4 * u.m / u.s, pa=40 * np.pi / 180 * u.rad,
        vsys=3e4 * u.m / u.s, thickness=1 / 60 * u.arcmin, flux=1e4 * u.mJy * KM_S, velocity_dispersion=1e4 * u.m / u.s,
        inclination=1 * np.pi / 3 * u.rad, surface_brightness=ExponentialDisc(r_scale=0.05 * u.arcmin),
        rotation_curve=ArctanRotationCurve(vmax=2e5 * u.m / u.s, r_turn=0.05 * u.arcmin), beam=4 * u.arcsec,
    )  # fmt: skip
    peak = given.filled_data[:].value.max()
    np.testing.assert_allclose(other.filled_data[:].value, given.filled_data[:].value, rtol=0, atol=1e-5 * peak)


def test_the_dispersion_may_be_a_model():
    constant = simulate(**SMALL, velocity_dispersion=25 * KM_S).filled_data[:].value
    model = ConstantDispersion(velocity_dispersion=25 * KM_S)
    np.testing.assert_array_equal(simulate(**SMALL, velocity_dispersion=model).filled_data[:].value, constant)


def test_a_falling_dispersion_makes_the_line_of_the_whole_narrower():
    falling = ExponentialDispersion(velocity_dispersion=50 * KM_S, r_dispersion=4 * u.arcsec)
    narrow = SMALL | {"shape": (120, 60, 64), "channel_width": 4 * KM_S}
    cube = simulate(**narrow, inclination=0 * u.deg, velocity_dispersion=falling)
    velocity, spectrum = cube.spectral_axis.to_value(KM_S), cube.filled_data[:].value.sum((1, 2))
    # <exp(-2 R / 4)> over light of scale 3 is (1 + 2 * 3 / 4)^-2, and channels add their own width.
    assert (spectrum * velocity**2).sum() / spectrum.sum() == pytest.approx((50 / 2.5) ** 2 + 4**2 / 12, rel=5e-3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"inclination": 60},
        {"inclination": 60 * u.arcsec / u.s},
        {"pa": 30},
        {"vsys": 3 * u.arcsec},
        {"vsys": 3},
        {"flux": 10},
        {"flux": 10 * u.Jy},
        {"flux": 10 * u.K * KM_S * u.arcsec**2},
        {"thickness": 1 * u.kpc},
        {"offset": (1, 2)},
        {"offset": 3 * u.arcsec},
        {"offset": (1, 2) * u.kpc},
        {"velocity_dispersion": 10 * u.arcsec},
        {"pixel_scale": 1},
        {"pixel_scale": 1 * u.kpc},
        {"channel_width": 1 * u.MHz},
        {"beam": 4},
        {"beam": 4 * KM_S},
        {"rms": 1 * u.K},
        {"rotation_curve": ArctanRotationCurve(vmax=200 * KM_S, r_turn=1 * u.kpc)},
    ],
    ids=str,
)
def test_a_wrong_unit_is_refused_by_name(wrong):
    with pytest.raises(WrongUnit) as raised:
        simulate(**wrong)
    (name,) = wrong
    assert name.removesuffix("_curve") in str(raised.value) or "r_turn" in str(raised.value)


def test_like_in_kelvin_wants_its_flux_in_kelvin():
    with pytest.raises(WrongUnit, match="K"):
        simulate(like=rotated_kelvin_cube(), vsys=2000 * KM_S, flux=10 * u.Jy * KM_S)


def test_a_line_outside_the_band_is_refused():
    with pytest.raises(KinematicsError, match="outside the band"):
        simulate(like=rotated_kelvin_cube(), vsys=20_000 * KM_S, flux=5 * u.K * KM_S * u.arcsec**2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"velocity_dispersion": 10},
        {"rotation_curve": 200 * KM_S},
        {"rotation_curve": ExponentialDisc()},
        {"surface_brightness": ArctanRotationCurve()},
    ],
    ids=["number", "quantity", "light for curve", "curve for light"],
)
def test_what_is_no_model_of_its_kind_is_refused(wrong):
    with pytest.raises((WrongUnit, FormError)):
        simulate(**wrong)


def test_forms_and_names_have_their_default_values():
    for given in ("tanh", TanhRotationCurve, Tanh):
        found = simulate(**SMALL, rotation_curve=given)
        wanted = simulate(**SMALL, rotation_curve=TanhRotationCurve())
        np.testing.assert_array_equal(found.unmasked_data[:], wanted.unmasked_data[:])
    found = simulate(**SMALL, velocity_dispersion="exponential")
    wanted = simulate(**SMALL, velocity_dispersion=ExponentialDispersion())
    np.testing.assert_array_equal(found.unmasked_data[:], wanted.unmasked_data[:])
    assert simulate(**SMALL, velocity_dispersion="9 km/s").shape == (24, 60, 64)
    with pytest.raises(FormError, match=r"called 'tnh'.*'tanh'"):
        simulate(**SMALL, rotation_curve="tnh")


def test_lengths_are_angles_at_a_distance():
    # 1 kpc at 20.6265 Mpc is 10.0000 arcsec
    curve = FreemanDisc(150 * KM_S, 0.5 * u.kpc)
    found = simulate(**SMALL, rotation_curve=curve, thickness=50 * u.pc, distance=20.626480624709636 * u.Mpc)
    curve = FreemanDisc(150 * KM_S, 5 * u.arcsec)
    wanted = simulate(**SMALL, rotation_curve=curve, thickness=0.5 * u.arcsec)
    # float32 of radii that differ in their last digits
    np.testing.assert_allclose(
        found.unmasked_data[:].value,
        wanted.unmasked_data[:].value,
        atol=1e-5 * np.nanmax(wanted.unmasked_data[:].value),
    )
    with pytest.raises(KinematicsError, match=r"distance=.*simulate\(distance="):
        simulate(**SMALL, distance=3 * u.s)
