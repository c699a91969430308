"""What goes in, comes out, or is refused."""

import pickle

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.wcs import WCS
from radio_beam import Beam, Beams
from regions import CirclePixelRegion, PixCoord
from spectral_cube import (
    DaskSpectralCube,
    DaskVaryingResolutionSpectralCube,
    LazyMask,
    SpectralCube,
    StokesSpectralCube,
    VaryingResolutionSpectralCube,
)

from kinematics_nn import errors
from kinematics_nn.observation import Observation, observe, opened, reading

FIELDS = ("data", "valid", "emission", "rms", "edges", "xi", "eta", "beam")


def same(first, second):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field), err_msg=field)


def test_arrays_have_the_shapes_and_types_of_the_contract(mock, galaxy):
    observation = observe(mock.cube(galaxy))
    n_channel, n_y, n_x = observation.shape
    for field, dtype in (("data", "f4"), ("valid", "?"), ("emission", "?"), ("rms", "f4")):
        array = getattr(observation, field)
        assert (array.shape, array.dtype) == (observation.shape, np.dtype(dtype))
        assert array.dtype.isnative
        assert array.flags.c_contiguous
    assert observation.edges.shape == (n_channel + 1,)
    assert observation.xi.shape == observation.eta.shape == (n_y, n_x)
    assert np.all(np.diff(observation.edges) > 0)
    assert np.all(observation.rms > 0)
    assert np.all(observation.valid[observation.emission])


def test_crop_points_at_the_voxels_of_the_input(mock, galaxy):
    cube = mock.cube(galaxy)
    observation = observe(cube)
    box = tuple(slice(*side) for side in observation.header["crop"])
    np.testing.assert_array_equal(observation.data, galaxy[box])
    edges = cube.spectral_axis.to_value(u.km / u.s)[box[0]]
    np.testing.assert_allclose(observation.velocity, edges, atol=1e-9)
    there = WCS(fits.Header.fromstring(observation.header["wcs"])).celestial.pixel_to_world(box[2].start, box[1].start)
    # The crop's first pixel is as far from the reference as the offsets say.
    offset = np.hypot(observation.xi[0, 0], observation.eta[0, 0])
    reference = observation.header["reference"]
    distance = np.hypot(
        (there.icrs.ra.deg - reference[0]) * np.cos(np.radians(reference[1])), there.icrs.dec.deg - reference[1]
    )
    assert distance * 3600 == pytest.approx(offset, abs=1e-3)


def test_falling_channels_are_turned(mock, galaxy):
    rising = observe(mock.cube(galaxy))
    falling = observe(mock.cube(galaxy[::-1], mock.wcs(galaxy.shape, axis={"cdelt": -10e3})))
    same(rising, falling)
    assert falling.header["descending"]
    (r0, r1), (f0, f1) = rising.header["crop"][0], falling.header["crop"][0]
    assert (f0, f1) == (40 - r1, 40 - r0)


@pytest.fixture
def spied(mock, galaxy):
    """A dask cube in 36 chunks, masked as SpectralCube.read does it, and the list of the chunks that were computed."""
    da = pytest.importorskip("dask.array")
    chunks = []

    def spy(block):
        if block.size:
            chunks.append(block.shape)
        return block

    lazy = da.from_array(galaxy, chunks=(40, 8, 8)).map_blocks(spy, dtype=galaxy.dtype)
    wcs = mock.wcs(galaxy.shape)
    mask = LazyMask(np.isfinite, data=lazy, wcs=wcs)
    cube = DaskSpectralCube(lazy, wcs=wcs, mask=mask, beam=mock.beam, meta={"BUNIT": "Jy/beam"})
    chunks.clear()
    return cube, chunks


def test_dask_cube_gives_the_same_and_is_read_once(mock, galaxy, spied):
    cube, chunks = spied
    observation = observe(cube)
    assert len(chunks) == 36
    same(observation, observe(mock.cube(galaxy)))


def test_mask_of_a_dask_cube_is_honoured(mock, galaxy, spied):
    cube, _ = spied
    keep = np.ones(galaxy.shape, dtype=bool)
    keep[:, 20:23] = False
    same(observe(cube.with_mask(keep)), observe(mock.cube(galaxy).with_mask(keep)))
    same(observe(cube.with_mask(cube > -0.1 * cube.unit)), observe(mock.cube(np.where(galaxy > -0.1, galaxy, np.nan))))


def test_region_is_all_that_is_read_of_a_dask_cube(spied):
    cube, chunks = spied
    observe(cube, region=CirclePixelRegion(PixCoord(24, 24), radius=6), rms=0.05)
    # Radius 6 and 8 pixels of margin: 29 pixels across, in 4 by 4 of the 6 by 6 chunks.
    assert len(chunks) == 16


def test_mask_that_follows_from_the_data_reads_no_more_than_the_region(mock, galaxy, spied):
    cube, chunks = spied
    region = CirclePixelRegion(PixCoord(24, 24), radius=6)
    mask = cube > -0.05 * cube.unit
    observation = observe(cube, region=region, mask=mask, rms=0.05)
    # The 16 chunks of the region, once for the data and once for the mask.
    assert len(chunks) == 32
    same(observation, observe(mock.cube(galaxy), region=region, mask=galaxy > -0.05, rms=0.05))


def test_it_pickles(mock, galaxy):
    observation = observe(mock.cube(galaxy))
    again = pickle.loads(pickle.dumps(observation))
    assert isinstance(again, Observation)
    same(observation, again)
    assert again.header == observation.header


def test_byte_order_and_precision_do_not_matter(mock, galaxy):
    plain = observe(mock.cube(galaxy))
    same(plain, observe(mock.cube(galaxy.astype(">f4"))))
    same(plain, observe(mock.cube(galaxy.astype(">f8"))))


def test_a_path_is_read(mock, galaxy, tmp_path):
    mock.cube(galaxy).write(tmp_path / "galaxy.fits")
    observation = observe(tmp_path / "galaxy.fits")
    np.testing.assert_allclose(observation.data, observe(mock.cube(galaxy)).data)


def test_opened_gives_the_cube_of_a_path_or_itself(mock, galaxy, tmp_path):
    cube = mock.cube(galaxy)
    cube.write(tmp_path / "galaxy.fits")
    assert opened(cube) is cube
    for path in (tmp_path / "galaxy.fits", str(tmp_path / "galaxy.fits")):
        np.testing.assert_array_equal(opened(path).filled_data[:], cube.filled_data[:])


def test_the_cubes_own_mask_is_honoured_whatever_it_fills_with(mock, galaxy):
    hidden = np.ones(galaxy.shape, dtype=bool)
    hidden[:, 20:23] = False
    cube = mock.cube(galaxy)
    masked = cube.with_mask(hidden)
    observation = observe(masked.with_fill_value(0 * u.Jy / u.beam))
    first = observation.header["crop"][1][0]
    assert not observation.valid[:, 20 - first : 23 - first].any()
    assert np.all(observation.data[:, 20 - first : 23 - first] == 0)
    given = observe(cube, mask=hidden)
    first = given.header["crop"][1][0]
    assert not given.valid[:, 20 - first : 23 - first].any()
    assert given.valid.mean() > 0.9
    by_map = observe(cube, mask=hidden[0])
    same(given, by_map)
    same(given, observe(cube, mask=cube.with_mask(hidden).mask))


def test_mask_follows_a_falling_axis(mock, galaxy):
    keep = np.ones(galaxy.shape, dtype=bool)
    keep[:12] = False
    falling = mock.cube(galaxy, mock.wcs(galaxy.shape, axis={"cdelt": -10e3}))
    observation = observe(falling, mask=keep)
    hidden = ~observation.valid.any(axis=(1, 2))
    # The first channels of the input are the fastest.
    assert hidden.any()
    assert np.all(observation.velocity[hidden] > 1000 + 10 * (20 - 12 - 1))


# spectral-cube says what it cannot read, and we read it all the same.
@pytest.mark.filterwarnings("ignore:Could not parse unit", "ignore:.*multiple slashes")
@pytest.mark.parametrize(
    ("bunit", "unit", "flux_unit", "factor"),
    [
        ("JY/BEAM", "Jy / beam", "Jy km / s", "beam"),
        ("Jy/Beam", "Jy / beam", "Jy km / s", "beam"),
        ("mJy/bm", "mJy / beam", "Jy km / s", "1000 beam"),
        ("Jy beam^-1", "Jy / beam", "Jy km / s", "beam"),
        ("JY/PIXEL", "Jy / pix", "Jy km / s", "pixel"),
        ("K", "K", "K km arcsec2 / s", 1),
        ("K (Tmb)", "K", "K km arcsec2 / s", 1),
        ("mK", "mK", "K km arcsec2 / s", 1000),
        ("MJy/sr", "MJy / sr", "Jy km / s", (u.arcsec**-2).to(u.sr**-1) * 1e-6),
        ("1e-20 erg/s/cm2/AA", "1e-20 erg/s/cm2/AA", "1e-20 erg km arcsec2 / (s2 cm2 AA)", 1),
        ("", "", "arcsec2 km / s", 1),
    ],
)
def test_units(mock, galaxy, bunit, unit, flux_unit, factor):
    # Two arcsec2 a pixel.
    header = mock.wcs(galaxy.shape, scales=(2.0, 1.0)).to_header()
    header.update(BUNIT=bunit, BMAJ=4 / 3600, BMIN=3 / 3600, BPA=30.0)
    observation = observe(SpectralCube.read(fits.PrimaryHDU(galaxy, header)))
    # A Gaussian beam of FWHM a by b holds pi a b / (4 ln 2).
    solid_angle = np.pi * 4 * 3 / (4 * np.log(2))
    expected = {"beam": solid_angle, "1000 beam": 1000 * solid_angle, "pixel": 2.0}.get(factor, factor)
    assert observation.header["brightness_per_flux"] == pytest.approx(expected, rel=1e-6)
    assert u.Unit(observation.header["unit"]) == u.Unit(unit)
    assert u.Unit(observation.header["flux_unit"]) == u.Unit(flux_unit)


def test_flux_of_a_point_source_is_its_peak(mock):
    # One Jy in one beam is a peak of 1 Jy/beam, and the flux unit, spread over the beam, says so.
    shape = (40, 64, 64)
    y, x = np.mgrid[:64, :64] - 31.5
    beam = Beam(6 * u.arcsec)
    line = np.exp(-0.5 * ((np.arange(40) - 19.5) / 3) ** 2)[:, None, None]
    data = line * np.exp(-4 * np.log(2) * (x**2 + y**2) / 36) + mock.noise(shape, sigma=1e-3)
    observation = observe(mock.cube(data, beam=beam))
    light = np.sum(observation.data * observation.emission) * 10.0 / observation.header["brightness_per_flux"]
    # 1 Jy times the integral of the line, less the 1 to 2 % below the clip.
    assert light == pytest.approx(3 * np.sqrt(2 * np.pi) * 10, rel=0.02)


def test_beam_is_required_and_may_be_given(mock, galaxy):
    cube = mock.cube(galaxy, beam=None)
    with pytest.raises(errors.MissingBeam, match=r"no beam in the header.*fit\(beam=5 \* u.arcsec\)"):
        observe(cube)
    np.testing.assert_allclose(observe(cube, beam=4 * u.arcsec).beam[:2], 4)
    np.testing.assert_allclose(observe(cube, beam="4 arcsec").beam[:2], 4)
    np.testing.assert_allclose(observe(cube, beam=mock.beam).beam, [4, 3, 30], atol=1e-4)
    assert observe(mock.cube(galaxy), beam=5 * u.arcsec).beam[0] == pytest.approx(5)
    for wrong in (4, 4 * u.km, "wide"):
        with pytest.raises(errors.WrongUnit, match=r"a radio_beam\.Beam or an angle"):
            observe(cube, beam=wrong)
    with pytest.raises(errors.MissingBeam, match=r"pixels; needed: 0\.5 pixels or more"):
        observe(cube, beam=0.01 * u.arcsec)


def test_noise_is_above_nothing(mock, galaxy):
    with pytest.raises(errors.KinematicsError, match="rms=-1, which is positive nowhere"):
        observe(mock.cube(galaxy), rms=-1)


@pytest.mark.parametrize("kind", [VaryingResolutionSpectralCube, DaskVaryingResolutionSpectralCube])
def test_varying_beams_are_refused(mock, galaxy, kind):
    beams = Beams(major=np.linspace(3, 4, 40) * u.arcsec, minor=3 * np.ones(40) * u.arcsec, pa=np.zeros(40) * u.deg)
    data = galaxy
    if kind is DaskVaryingResolutionSpectralCube:
        data = pytest.importorskip("dask.array").from_array(galaxy)
    cube = kind(data, wcs=mock.wcs(galaxy.shape), beams=beams, meta={"BUNIT": "Jy/beam"})
    with pytest.raises(errors.VaryingBeam, match=r"cube.convolve_to\(cube.beams.common_beam\(\)\)"):
        observe(cube)


def test_stokes_cube_is_refused(mock, galaxy):
    cube = mock.cube(galaxy)
    with pytest.raises(errors.StokesCube, match=r"Stokes cube of I, Q.*cube.I.kinematics"):
        observe(StokesSpectralCube({"I": cube, "Q": cube}))


def test_what_is_no_cube_is_refused(galaxy):
    with pytest.raises(TypeError, match="expected a SpectralCube or the path of one, got ndarray"):
        observe(galaxy)


def test_blank_cube_is_refused(mock, galaxy):
    with pytest.raises(errors.BlankCube, match=r"no voxel of \(40, 48, 48\)"):
        observe(mock.cube(galaxy * np.nan))
    with pytest.raises(errors.BlankCube):
        observe(mock.cube(galaxy), mask=np.zeros(galaxy.shape, dtype=bool))


def test_cube_of_zeros_has_no_emission(mock, galaxy):
    with pytest.raises(errors.NoEmission):
        observe(mock.cube(galaxy * 0))


def test_three_channels_are_too_few(mock, galaxy):
    with pytest.raises(errors.TooFewChannels, match="a cube of 3 channels; needed: at least 4"):
        observe(mock.cube(galaxy[18:21]))


@pytest.mark.parametrize(("part", "said"), [(slice(22, 24), "48 x 2 pixels"), (slice(None), "beam of 60.0 x 60.0")])
def test_narrow_fields_are_refused(mock, galaxy, part, said):
    with pytest.raises(errors.FieldTooSmall, match=said):
        observe(mock.cube(galaxy[:, part]), beam=60 * u.arcsec if part == slice(None) else None)


@pytest.mark.parametrize("unit", [u.km / u.s, u.Jy, u.Jy / u.beam * u.km / u.s, u.mag])
def test_what_is_no_brightness_is_refused(mock, galaxy, unit):
    with pytest.raises(errors.WrongUnit, match="a brightness: Jy/beam, Jy/pixel, K"):
        observe(mock.cube(galaxy, unit=unit))


@pytest.mark.filterwarnings("ignore:Could not parse unit")
def test_unreadable_unit_is_refused(mock, galaxy):
    for bunit in ("W.U.", "MJY/BEAM"):
        header = mock.wcs(galaxy.shape).to_header()
        header.update(BUNIT=bunit, BMAJ=4 / 3600, BMIN=3 / 3600, BPA=30.0)
        with pytest.raises(errors.WrongUnit, match=f"BUNIT = '{bunit}'"):
            observe(SpectralCube.read(fits.PrimaryHDU(galaxy, header)))


def test_mask_that_does_not_fit_is_refused(mock, galaxy):
    cube = mock.cube(galaxy)
    for wrong in (np.ones((3, 3), dtype=bool), np.ones(galaxy.shape)):
        with pytest.raises(errors.WrongMask, match="needed: True and False, of shape"):
            observe(cube, mask=wrong)
    with pytest.raises(errors.WrongMask, match="a cube as mask"):
        observe(cube, mask=cube)


def test_cube_too_large_for_the_memory_is_refused_before_it_is_read(mock, galaxy, monkeypatch):
    monkeypatch.setattr(reading, "_memory", lambda: 1e6)
    with pytest.raises(errors.TooLarge, match=r"GiB of memory; needed: a smaller cube. Try: fit\(region="):
        observe(mock.cube(galaxy))


def test_errors_pickle():
    error = pickle.loads(pickle.dumps(errors.MissingBeam("none", "one", "beam=")))
    assert str(error) == "none; needed: one. Try: beam="
    assert isinstance(error, errors.KinematicsError)
    assert isinstance(error, ValueError)
