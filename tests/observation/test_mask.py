"""The emission mask against galaxies of known extent."""

import numpy as np
import pytest
from regions import CirclePixelRegion, PixCoord

from kinematics_nn.errors import NoEmission, SeveralSourcesWarning, TooFewChannels
from kinematics_nn.observation import observe

SHAPE = (40, 64, 64)


def window(observation, array):
    return array[tuple(slice(*side) for side in observation.header["crop"])]


def test_mask_holds_the_galaxy_and_little_else(mock):
    blob = mock.blob(SHAPE, size=6, gradient=0.7)
    observation = observe(mock.cube(blob + mock.noise(SHAPE)))
    truth = window(observation, blob)
    # The clip is near 1 sigma of a voxel (0.05), where a Gaussian of peak 20 sigma has some 90 % of its light inside.
    assert truth[observation.emission].sum() > 0.85 * blob.sum()
    # Two beams from anything above a tenth of a sigma nothing belongs to the galaxy.
    assert not observation.emission[truth < 1e-6].any()
    assert observation.header["n_sources"] == 1


def test_mask_reaches_below_the_noise_of_a_voxel(mock):
    blob = mock.blob(SHAPE, peak=1.0, size=6, gradient=0.7)
    observation = observe(mock.cube(blob + mock.noise(SHAPE, sigma=0.25)))
    # At a peak of 4 sigma a clip of the bare voxels at 3 sigma holds a twentieth of the light, and smoothing over half.
    assert window(observation, blob)[observation.emission].sum() > 0.5 * blob.sum()
    assert observation.header["n_sources"] == 1


def test_noise_alone_is_no_emission(mock):
    for seed in range(3):
        with pytest.raises(NoEmission, match=r"no emission: the brightest voxel is at [345]\."):
            observe(mock.cube(mock.noise(SHAPE, seed=seed)))


def test_negative_peaks_raise_the_threshold(mock):
    data = mock.noise(SHAPE) + mock.blob(SHAPE, peak=3, size=4)
    # Sidelobes of a tenth of the galaxy, 8 sigma above zero and 12 below.
    lobes = mock.blob(SHAPE, peak=0.4, at=(20, 10, 10), size=3, gradient=0)
    lobes = lobes - mock.blob(SHAPE, peak=0.6, at=(20, 54, 10), size=3, gradient=0)
    assert observe(mock.cube(data)).header["n_sources"] == 1
    assert observe(mock.cube(data + lobes)).header["n_sources"] == 1
    assert observe(mock.cube(data + np.abs(lobes)), rms=0.05).header["n_sources"] == 3


@pytest.fixture
def pair(mock):
    first = mock.blob(SHAPE, peak=1.0, at=(20, 16, 16), size=3, gradient=0.5)
    second = mock.blob(SHAPE, peak=0.8, at=(20, 46, 46), size=2.5, gradient=-0.5)
    return first, second, mock.cube(first + second + mock.noise(SHAPE))


def test_the_brighter_of_two_sources_is_taken_and_the_other_is_not_valid(pair):
    first, second, cube = pair
    with pytest.warns(SeveralSourcesWarning, match="2 sources, the second with .* of the flux"):
        observation = observe(cube)
    assert observation.header["n_sources"] == 2
    assert window(observation, first)[observation.emission].sum() > 0.85 * first.sum()
    assert window(observation, second)[observation.emission].sum() < 1e-3 * second.sum()
    _, (_, y_end), (_, x_end) = observation.header["crop"]
    assert y_end < 46
    assert x_end < 46


def test_another_source_in_the_crop_is_blanked(mock):
    galaxy = mock.blob(SHAPE, at=(20, 32, 32), size=8, gradient=0.6)
    satellite = mock.blob(SHAPE, peak=0.8, at=(35, 32, 8), size=1.5, gradient=0)
    observation = observe(mock.cube(galaxy + satellite + mock.noise(SHAPE)))
    there = window(observation, satellite) > 0.3
    assert there.any()
    assert not observation.valid[there].any()
    assert np.all(observation.data[there] == 0)
    assert observation.valid.mean() > 0.95


def test_region_chooses_the_source(pair):
    _, second, cube = pair
    observation = observe(cube, region=CirclePixelRegion(PixCoord(46, 46), radius=12))
    assert window(observation, second)[observation.emission].sum() > 0.85 * second.sum()
    assert observation.header["n_sources"] == 1


def test_all_that_a_region_holds_is_one_galaxy(mock):
    lobes = [mock.blob(SHAPE, at=at, size=3, gradient=0.2) for at in ((8, 32, 18), (31, 32, 46))]
    cube = mock.cube(sum(lobes) + mock.noise(SHAPE))
    with pytest.warns(SeveralSourcesWarning, match="region="):
        assert observe(cube).header["n_sources"] == 2
    observation = observe(cube, region=CirclePixelRegion(PixCoord(32, 32), radius=28))
    for lobe in lobes:
        assert window(observation, lobe)[observation.emission].sum() > 0.85 * lobe.sum()


def test_a_line_of_three_channels_is_refused(mock):
    blob = mock.blob(SHAPE, gradient=0, width=0.5)
    with pytest.raises(TooFewChannels, match=r"a line of [123] channels in a cube of 40; needed: at least 4"):
        observe(mock.cube(blob + mock.noise(SHAPE, sigma=0.01)))


def test_crop_keeps_two_beams_of_sky_and_a_quarter_of_the_band(mock):
    blob = mock.blob((80, 80, 80), size=4, gradient=0.4, width=1.5)
    observation = observe(mock.cube(blob + mock.noise((80, 80, 80))))
    emission = observation.emission
    line = np.flatnonzero(emission.any(axis=(1, 2)))
    rows = np.flatnonzero(emission.any(axis=(0, 2)))
    columns = np.flatnonzero(emission.any(axis=(0, 1)))
    half = int(np.ceil((np.ptp(line) + 1) / 2))
    assert (line[0], emission.shape[0] - 1 - line[-1]) == (half, half)
    # Two beams of 4 arcsec, pixels of 1 arcsec.
    for where, n in ((rows, emission.shape[1]), (columns, emission.shape[2])):
        assert (where[0], n - 1 - where[-1]) == (8, 8)
