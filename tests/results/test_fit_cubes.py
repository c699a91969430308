"""Model and residual in the frame of the input, and the arrays that the figure shows."""

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from handmade import CHANNEL, PIXEL, SHAPE, TRUTH, input_wcs
from radio_beam import Beam
from spectral_cube import SpectralCube

from kinematics_nn.decoder import Forms
from kinematics_nn.errors import KinematicsError, TooLarge
from kinematics_nn.forms.dispersion import Constant
from kinematics_nn.forms.rotation_curves import Arctan
from kinematics_nn.forms.surface_brightness import Exponential
from kinematics_nn.results import KinematicFit
from kinematics_nn.results.cubes import beam_in_cube_frame
from kinematics_nn.results.cubes import input_wcs as wcs_of
from kinematics_nn.results.maps import emission_extent, moments, position_velocity


@pytest.fixture
def channel_ramp(monkeypatch):
    """A decoder that fills each voxel with its channel's velocity, ascending, as the agreement with `render` is."""
    velocity = np.sort(1500.0 - CHANNEL * (np.arange(SHAPE[0]) - 12))

    def render(observation, forms, parameters, full=True):
        assert {"inclination", "vmax", "r_scale"} <= set(parameters)
        if full:
            return np.broadcast_to(velocity[:, None, None], SHAPE).astype(np.float32)
        centres = 0.5 * (observation.edges[1:] + observation.edges[:-1])
        return np.broadcast_to(centres[:, None, None], observation.data.shape).astype(np.float32)

    monkeypatch.setattr("kinematics_nn.decoder.render", render, raising=False)


def test_model_cube_has_the_frame_of_the_input(fit, channel_ramp, tmp_path):
    model = fit.model_cube
    assert isinstance(model, SpectralCube)
    assert model.shape == SHAPE
    assert model.unit == u.Jy / u.beam
    assert model.wcs.wcs.compare(input_wcs().wcs, tolerance=1e-9)
    assert model.beam == Beam(5 * u.arcsec, 4 * u.arcsec, 30 * u.deg)
    # Each channel holds its own velocity: an axis left unflipped would hold it upside down.
    axis = model.spectral_axis.to_value(u.km / u.s)
    assert axis[0] > axis[-1]
    assert model.unmasked_data[:, 3, 4].value == pytest.approx(axis, rel=1e-6)

    path = tmp_path / "model.fits"
    model.write(str(path))
    header = fits.getheader(path)
    assert (header["BUNIT"], header["OBJECT"], header["SPECSYS"]) == ("Jy beam-1", "Hand-made", "BARYCENT")
    assert header["BMAJ"] * 3600 == pytest.approx(5)


def test_model_cube_of_the_real_decoder(observation):
    """Flux, centre and receding side of the cube are those of the parameters."""
    forms = Forms(Arctan, Exponential, Constant)
    samples = {name: np.full(2, value) for name, value in TRUTH.items()} | {"r_scale": np.full(2, 4.0)}
    model = KinematicFit(observation, forms, samples, meta={}).model_cube
    light = model.unmasked_data[:].value.sum(axis=0) * CHANNEL
    # The field holds seven scale lengths: all but 0.5 % of the light; the rest is the decoder's own tolerance.
    flux = light.sum() * PIXEL**2 / observation.header["brightness_per_flux"]
    assert flux == pytest.approx(TRUTH["flux"], rel=0.02)
    y, x = np.indices(light.shape)
    assert (light * x).sum() / light.sum() == pytest.approx(27, abs=0.1)
    assert (light * y).sum() / light.sum() == pytest.approx(23, abs=0.1)
    # The position angle is 2 degrees: what lies north recedes.
    axis = model.spectral_axis.to_value(u.km / u.s)
    north, south = (model.unmasked_data[:, row, 27].value for row in (28, 18))
    assert np.average(axis, weights=north) > TRUTH["vsys"] + 80
    assert np.average(axis, weights=south) < TRUTH["vsys"] - 80


def test_residual_is_input_minus_model_under_its_mask(fit, channel_ramp):
    data = np.full(SHAPE, 2000.0, np.float32)
    data[0, 0, 0] = np.nan
    fit.cube = SpectralCube(data * u.Jy / u.beam, wcs=input_wcs(), mask=None)
    fit.cube = fit.cube.with_mask(np.arange(SHAPE[2]) > 0)
    residual = fit.residual_cube
    axis = residual.spectral_axis.to_value(u.km / u.s)
    assert residual.filled_data[:, 5, 5].value == pytest.approx(2000 - axis, rel=1e-5)
    assert np.isnan(residual.filled_data[:, :, 0]).all()
    assert residual.unit == u.Jy / u.beam


# spectral-cube says what it cannot read, and we read it all the same.
@pytest.mark.filterwarnings("ignore:Could not parse unit")
@pytest.mark.parametrize(
    ("bunit", "unit"), [("mJy/bm", "mJy / beam"), ("JY/PIXEL", "Jy / pix"), ("K (Tb)", "K"), ("Jy/beam", "Jy / beam")]
)
@pytest.mark.parametrize("use_dask", [False, True])
def test_residual_in_a_unit_that_only_the_intake_reads(fit, channel_ramp, bunit, unit, use_dask):
    header = input_wcs().to_header()
    header.update(BUNIT=bunit, BMAJ=5 / 3600, BMIN=4 / 3600, BPA=30.0)
    hdu = fits.PrimaryHDU(np.full(SHAPE, 2000.0, np.float32), header)
    fit.observation.header["unit"] = unit
    fit.cube = SpectralCube.read(hdu, use_dask=use_dask)
    residual = fit.residual_cube
    assert residual.unit == u.Unit(unit)
    axis = residual.spectral_axis.to_value(u.km / u.s)
    assert residual.filled_data[:, 5, 5].value == pytest.approx(2000 - axis, rel=1e-5)


def test_residual_of_a_cube_in_another_scale_of_the_unit(fit, channel_ramp):
    fit.cube = SpectralCube(np.full(SHAPE, 2e6, np.float32) * u.mJy / u.beam, wcs=input_wcs())
    residual = fit.residual_cube
    assert residual.unit == u.Jy / u.beam
    axis = residual.spectral_axis.to_value(u.km / u.s)
    assert residual.filled_data[:, 5, 5].value == pytest.approx(2000 - axis, rel=1e-5)


def test_residual_without_a_cube_says_why(fit):
    with pytest.raises(KinematicsError, match=r"holds no cube \(it was fitted by path, or pickled\).*fit.cube ="):
        fit.residual_cube  # noqa: B018


def test_model_cube_too_large_for_the_memory_is_refused(fit, channel_ramp, monkeypatch):
    monkeypatch.setattr("kinematics_nn.observation.reading._memory", lambda: 1e6)
    with pytest.raises(TooLarge, match=r"cube\[:, 4:44, 4:52\]\.kinematics\.fit"):
        fit.model_cube  # noqa: B018


def test_rotation_curve_is_a_model_with_units(fit):
    curve = fit.rotation_curve
    best = fit.best_values
    assert curve.vmax.quantity == best["vmax"] * u.km / u.s
    assert curve(best["r_turn"] * u.arcsec).to_value(u.km / u.s) == pytest.approx(best["vmax"] / 2)


def test_beam_in_the_frame_of_a_galactic_cube(observation):
    """In Galactic coordinates north is turned; the beam of the observation counts from ICRS north."""
    wcs = input_wcs()
    wcs.wcs.ctype = ["GLON-SIN", "GLAT-SIN", "VRAD"]
    wcs.wcs.crval = [120.0, 30.0, 1500e3]
    wcs.wcs.radesys = ""
    wcs.wcs.set()
    header = dict(observation.header, wcs=wcs.to_header(relax=True).tostring())
    turned = type(observation)(**(vars(observation) | {"header": header}))
    centre = wcs.celestial.pixel_to_world(27.5, 23.5)
    north = centre.directional_offset_by(0 * u.deg, 1 * u.arcsec)
    turn = centre.icrs.position_angle(north.icrs).deg
    difference = beam_in_cube_frame(turned).pa.to_value(u.deg) - (30 - turn)
    assert (difference + 90) % 180 - 90 == pytest.approx(0, abs=1e-3)
    # The turn is large enough for the test to mean something.
    assert abs((turn + 90) % 180 - 90) > 5
    assert wcs_of(turned).wcs.ctype[0] == "GLON-SIN"


def test_moments_of_a_line_on_uneven_channels():
    edges = np.array([0.0, 10.0, 30.0, 60.0])
    data = np.array([1.0, 2.0, 1.0])[:, None, None] * np.ones((3, 2, 2))
    mask = np.ones((3, 2, 2), bool)
    mask[:, 0, 0] = False
    mask[2, 1, 1] = False
    moment0, moment1 = moments(data, mask, edges)
    # Sums of brightness times channel width, by hand.
    assert moment0[0, 1] == 10 + 40 + 30
    assert moment1[0, 1] == pytest.approx((10 * 5 + 40 * 20 + 30 * 45) / 80)
    assert moment0[1, 1] == 50
    assert np.isnan(moment0[0, 0])
    assert np.isnan(moment1[0, 0])


@pytest.mark.parametrize("pa", [0.0, 30.0, 90.0, 200.0, 300.0])
def test_slice_follows_the_receding_side(observation, pa):
    """Data equal to the offset along the major axis: the slice is then the offset itself."""
    angle = np.deg2rad(pa)
    along = (observation.xi - TRUTH["east"]) * np.sin(angle) + (observation.eta - TRUTH["north"]) * np.cos(angle)
    data = np.broadcast_to(along, observation.data.shape)
    offset, lines = position_velocity(observation, data, TRUTH["east"], TRUTH["north"], pa, reach=20)
    # Linear interpolation is exact on a plane; 1e-3 arcsec is the flat-sky error of the hand-made offsets.
    assert lines == pytest.approx(np.broadcast_to(offset, lines.shape), abs=1e-3)
    assert np.diff(offset).max() <= PIXEL / 2 + 1e-9


def test_slice_outside_the_field_is_blank(observation):
    _, lines = position_velocity(observation, observation.data, 0, 0, 0, reach=60)
    assert np.isnan(lines[:, 0]).all()
    assert np.isfinite(lines[:, lines.shape[1] // 2]).all()


def test_extent_of_the_emission(observation):
    # Emission is a circle of 20 arcsec about the centre, in pixels of 1.5.
    assert emission_extent(observation, TRUTH["east"], TRUTH["north"], 77) == pytest.approx(20, abs=PIXEL)
