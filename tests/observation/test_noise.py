"""Noise against noise of known level."""

import warnings

import numpy as np
import pytest
from astropy import units as u

from kinematics_nn.errors import NoEmission, NoiseWarning, WrongMask, WrongUnit
from kinematics_nn.observation import observe

SHAPE = (40, 64, 64)


def crop(observation, array):
    return np.broadcast_to(array, observation.header["shape"])[
        tuple(slice(*side) for side in observation.header["crop"])
    ]


@pytest.mark.parametrize("fwhm", [0.01, 3.5], ids=["white", "correlated by the beam"])
def test_uniform_noise_is_found_uniform(mock, fwhm):
    data = mock.blob(SHAPE, size=6, gradient=0.7) + mock.noise(SHAPE, sigma=0.05, fwhm=fwhm)
    observation = observe(mock.cube(data))
    # About 5000 independent line-free samples give a median-based level to 1.7 %; twice that.
    np.testing.assert_allclose(observation.rms, 0.05, rtol=0.035)
    assert np.ptp(observation.rms) < 0.05 * 0.05
    assert observation.header["noise"]["method"] == "line-free"


def test_noise_of_each_channel(mock):
    truth = 0.05 * (1 + 0.5 * np.sin(np.arange(40) / 6.0))[:, None, None]
    data = mock.blob(SHAPE, size=6, gradient=0.7) + mock.noise(SHAPE, sigma=1.0) * truth
    observation = observe(mock.cube(data))
    ratio = (observation.rms / crop(observation, truth)).mean(axis=(1, 2))
    # 300 beams a channel: 1.17 / sqrt(300) = 7 % scatter; the mean over 40 channels to 1 %, and 2 % of emission.
    assert np.std(ratio) < 0.09
    assert np.mean(ratio) == pytest.approx(1, abs=0.03)


def test_noise_over_the_field_of_a_corrected_primary_beam(mock):
    y, x = np.mgrid[:64, :64] - 31.5
    attenuation = np.exp(0.5 * (x**2 + y**2) / 25**2)
    data = attenuation * (mock.blob(SHAPE, size=6, gradient=0.7) + mock.noise(SHAPE, sigma=0.05))
    observation = observe(mock.cube(data))
    ratio = observation.rms.mean(axis=0) / crop(observation, 0.05 * attenuation)[0]
    # The window flattens the steep edge by some per cent and 20 channels give 5 %: within 20 %, where it varies by 3.
    assert ratio.min() > 0.8
    assert ratio.max() < 1.2
    assert observation.header["n_sources"] == 1


def test_noise_over_the_field_does_not_hang_on_the_unit(mock):
    y, x = np.mgrid[:64, :64] - 31.5
    attenuation = np.exp(0.5 * (x**2 + y**2) / 25**2)
    data = attenuation * (mock.blob(SHAPE, size=6, gradient=0.7) + mock.noise(SHAPE, sigma=0.05))
    plain = observe(mock.cube(data))
    # As deep spectra in erg/s/cm2/AA: the squares of the noise, 1e-47, are below the smallest float32.
    small = observe(mock.cube(1e-22 * data))
    assert plain.header["noise"]["field_scatter"] > 0.1
    # Rounding of float32, where voxels at the edge of a threshold may change sides.
    np.testing.assert_allclose(small.rms, 1e-22 * plain.rms, rtol=1e-4)


def test_noise_is_not_raised_by_the_galaxy(mock):
    # Most channels and a third of the field are galaxy.
    data = mock.blob(SHAPE, size=10, gradient=0.9, width=3) + mock.noise(SHAPE, sigma=0.02)
    observation = observe(mock.cube(data))
    # Its wings below the mask add some per cent.
    assert np.median(observation.rms) == pytest.approx(0.02, rel=0.08)


def test_simulation_without_noise_gets_a_thousandth_of_its_peak(mock):
    observation = observe(mock.cube(mock.blob(SHAPE, peak=3.0)))
    np.testing.assert_allclose(observation.rms, 3e-3, rtol=1e-2)
    assert observation.header["noise"]["method"] == "floor"


def test_cube_blanked_around_its_emission_says_so(mock):
    blob = mock.blob(SHAPE, size=6, gradient=0.7)
    data = np.where(blob > 0.01, blob + mock.noise(SHAPE, sigma=0.05), np.nan)
    with pytest.warns(NoiseWarning, match="taken from negative values.*Give rms="):
        observation = observe(mock.cube(data))
    # Negative values under faint emission are fewer and smaller than half of the noise would be.
    assert observation.header["noise"]["rms"] == pytest.approx(0.05, rel=0.25)


def test_cube_clipped_into_its_emission_needs_its_noise(mock):
    blob = mock.blob(SHAPE, size=6, gradient=0.7)
    cube = mock.cube(np.where(blob > 0.1, blob + mock.noise(SHAPE, sigma=0.05), np.nan))
    with pytest.raises(NoEmission, match=r"fit\(rms=...\) if you know better"):
        observe(cube)
    assert observe(cube, rms=0.05).emission.sum() > 1000


def test_given_noise_is_taken_as_it_is(mock, galaxy):
    cube = mock.cube(galaxy)
    spectrum = np.linspace(0.04, 0.06, 40)
    field = np.linspace(0.04, 0.06, 48)[:, None] * np.ones(48)
    for rms, truth in (
        (0.05, 0.05),
        (50 * u.mJy / u.beam, 0.05),
        (spectrum, spectrum[:, None, None]),
        (field, field),
        (spectrum[:, None, None] * np.ones((40, 48, 48)), spectrum[:, None, None]),
    ):
        observation = observe(cube, rms=rms)
        np.testing.assert_allclose(observation.rms, crop(observation, truth), rtol=1e-6)
        assert observation.header["noise"]["method"] == "given"


def test_given_spectrum_follows_a_falling_axis(mock, galaxy):
    spectrum = np.linspace(0.04, 0.06, 40)
    wcs = mock.wcs(galaxy.shape, axis={"cdelt": -10e3})
    observation = observe(mock.cube(galaxy, wcs), rms=spectrum)
    assert np.all(np.diff(observation.rms[:, 0, 0]) < 0)


def test_voxels_without_noise_are_not_valid(mock, galaxy):
    rms = np.full((48, 48), 0.05)
    rms[:, :20] = np.nan
    rms[:, 20] = 0
    observation = observe(mock.cube(galaxy), rms=rms)
    assert not crop_columns(observation, 0, 21).any()
    assert np.all(np.isfinite(observation.rms))
    assert np.all(observation.rms > 0)


def crop_columns(observation, start, stop):
    first = observation.header["crop"][2][0]
    return observation.valid[:, :, max(0, start - first) : max(0, stop - first)]


def test_noise_that_does_not_fit_is_refused(mock, galaxy):
    with pytest.raises(WrongUnit, match="rms in K; needed: the cube's unit, Jy / beam"):
        observe(mock.cube(galaxy), rms=1 * u.K)
    with pytest.raises(WrongMask, match=r"rms of shape \(7,\)"):
        observe(mock.cube(galaxy), rms=np.ones(7))


def test_a_good_cube_warns_of_nothing(mock, galaxy):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        observe(mock.cube(galaxy))
