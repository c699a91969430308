"""Whitening: correlated noise becomes independent numbers of unit variance, exactly or nearly."""

import numpy as np
import pytest
import torch
from observed import FORMS, changed, dense_covariance, make_observation, sky_correlation, vector

from kinematics_nn.decoder import DiscDecoder, Grid
from kinematics_nn.errors import KinematicsError
from kinematics_nn.inference.whitening import Whitener


def matrix_of(whitener, observation, pixels):
    """The whitener as a matrix (value, voxel used), from its response to each voxel alone."""
    index = np.flatnonzero(whitener.channels)
    grid = (len(whitener.rows), len(whitener.columns))
    full = np.zeros(observation.shape[1:], int) - 1
    full[whitener.rows[:, None], whitener.columns] = np.arange(np.prod(grid)).reshape(grid)
    at = full.ravel()[pixels]
    n = len(index) * len(at)
    cubes = torch.zeros(n, observation.shape[0], np.prod(grid))
    cubes[np.arange(n), np.repeat(index, len(at)), np.tile(at, len(index))] = 1
    return whitener(cubes.unflatten(2, grid)).double().numpy().T


def blank(observation, rng):
    valid = observation.valid.copy()
    valid[:, rng.random(observation.shape[1:]) < 0.2] = False
    return valid


def cases():
    rng = np.random.default_rng(3)
    plain = make_observation((6, 14, 16))
    varying = plain.rms * rng.uniform(0.7, 1.5, plain.shape).astype(np.float32)
    edge = plain.valid.copy()
    edge[[0, 5]] = False
    edge[0, :2] = True
    return {
        "plain": plain,
        "hanning": make_observation((6, 14, 16), spectral="hanning"),
        "as the beam": make_observation((6, 14, 16), spatial="beam"),
        "white": make_observation((6, 14, 16), spatial="white"),
        "elongated beam": make_observation((6, 14, 16), beam=(6.0, 3.0, 40.0)),
        "beam of a pixel": make_observation((6, 14, 16), beam=(1.2, 1.1, 0.0)),
        "rms by voxel": changed(plain, rms=varying),
        "blanks": changed(plain, valid=blank(plain, rng)),
        "channels dropped": changed(plain, valid=edge),
    }


CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_a_small_field_is_whitened_exactly(name):
    observation = CASES[name]
    whitener = Whitener(observation, least_white=0)
    covariance, pixels = dense_covariance(observation, whitener)
    white = matrix_of(whitener, observation, pixels)
    assert len(white) == len(covariance)
    found = white @ covariance @ white.T
    # float32 whitening of a covariance whose condition is some hundred.
    np.testing.assert_allclose(found, np.eye(len(found)), atol=2e-4)


@pytest.mark.parametrize(("pa", "spacing"), [(0, [6, 2]), (90, [2, 6])])
def test_the_grid_is_as_fine_as_the_beam_is_wide_along_either_axis(pa, spacing):
    """FWHM of 12 and 4 pixels: 0.55 of them are 6 and 2 whole pixels, the long one along y at a PA of 0."""
    whitener = Whitener(make_observation((6, 30, 30), beam=(12.0, 4.0, pa)))
    assert whitener.spacing.tolist() == spacing
    assert whitener.step == pytest.approx(0.5)


def test_a_grid_in_threes_keeps_to_the_numbers_there_may_be():
    """A beam of 12 pixels: steps of 6 leave 6 x 20 x 20 numbers of 120 x 120 pixels, and the next whole step is 9."""
    whitener = Whitener(make_observation((6, 120, 120), beam=(12.0, 12.0, 0)), most=2000)
    assert whitener.spacing.tolist() == [9, 9]


def test_modes_without_noise_are_not_trusted():
    """Brightness that alternates from channel to channel: Hanning smoothing leaves next to no such noise."""

    def power(spectral, least_white):
        whitener = Whitener(make_observation((12, 14, 16), spectral=spectral), least_white)
        alternating = torch.tensor([1.0, -1.0]).repeat(6)[:, None, None]
        cube = alternating.expand(12, len(whitener.rows), len(whitener.columns))
        return float((whitener(cube[None]).double() ** 2).mean())

    plain = power("white", 0.05)
    assert power("white", 0.0) == pytest.approx(plain, rel=1e-4)
    # A white share of 0.05 bounds what a mode weighs at 1.05 / 0.05 = 21 times that in white noise.
    assert power("hanning", 0.05) < 21 * plain < 0.3 * power("hanning", 0.0)


def test_what_is_left_out_is_what_is_not_valid():
    whitener = Whitener(CASES["channels dropped"])
    assert whitener.channels.tolist() == [False, True, True, True, True, False]
    blanks = CASES["blanks"]
    whitener = Whitener(blanks)
    kept = blanks.valid[0][whitener.rows[:, None], whitener.columns].sum()
    assert 0 < kept < len(whitener.rows) * len(whitener.columns)
    assert len(whitener.data) == kept * blanks.shape[0]


def test_cubes_that_are_masked_to_their_emission_are_refused():
    observation = make_observation()
    with pytest.raises(KinematicsError, match="blanks that differ from channel to channel"):
        Whitener(changed(observation, valid=observation.emission))
    # A few voxels of another galaxy are no reason.
    valid = observation.valid.copy()
    valid[3, 2:4, 5:9] = False
    assert len(Whitener(changed(observation, valid=valid)).data) == (20 * 20 - 8) * 12


def test_a_crop_without_a_valid_voxel_is_refused():
    observation = make_observation((5, 12, 12))
    with pytest.raises(KinematicsError, match="blank throughout"):
        Whitener(changed(observation, valid=observation.valid & False))


def test_noise_that_was_drawn_becomes_white():
    # `NoiseCorrelation.draw` makes noise by Fourier transform, and knows nothing of what whitens it.
    observation = make_observation((12, 40, 40), spectral="hanning", snr=1e-6)
    assert abs(observation.data / observation.rms).max() < 6
    data = Whitener(observation, least_white=0).data.double()
    n = len(data)
    assert float(data.mean()) == pytest.approx(0, abs=4 / np.sqrt(n))
    assert float((data**2).mean()) == pytest.approx(1, abs=4 * np.sqrt(2 / n))
    # Neighbours in a channel, and channels of a pixel (values of all channels of a tile lie together).
    for lag in (1, 2, 7, 16, 256):
        assert float((data[lag:] * data[:-lag]).mean()) == pytest.approx(0, abs=4 / np.sqrt(n))


@pytest.mark.parametrize(
    ("beam", "spatial"),
    [((4.0, 4.0, 0.0), "wide"), ((3.5, 3.0, 20.0), "wide"), ((6.0, 3.0, 40.0), "wide"), ((6.0, 3.0, 40.0), "beam")],
)
def test_tiles_lose_next_to_nothing(beam, spatial):
    observation = make_observation((8, 46, 48), beam=beam, spatial=spatial, r_scale=6.0)
    whitener = Whitener(observation)
    assert len(whitener.rows) > 16 or len(whitener.columns) > 16, "one tile is no test"
    decoder = DiscDecoder(Grid.from_observation(observation), FORMS, pixels=(whitener.rows, whitener.columns))
    slopes = decoder.jacobian(vector(decoder.names, r_scale=6.0).float())[1][0]
    sky, _ = sky_correlation(observation, whitener)
    flat = slopes.double().flatten(2).numpy() / observation.rms[0, 0, 0]
    # The channels are independent and alike.
    solved = np.linalg.solve(sky, flat.reshape(-1, len(sky)).T).T.reshape(flat.shape)
    exact = np.einsum("acp,bcp->ab", flat, solved)
    white = whitener(slopes).double().numpy()
    errors = [np.sqrt(np.diag(np.linalg.inv(fisher))) for fisher in (white @ white.T, exact)]
    # The errors of all parameters; a hundredth is less than the noise itself is known to.
    np.testing.assert_allclose(errors[0], errors[1], rtol=0.01)


def test_large_crops_are_bounded():
    observation = make_observation((4, 60, 60), beam=(6.0, 6.0, 0.0))
    full, coarse = Whitener(observation), Whitener(observation, most=1200)
    assert full.step < 0.56
    assert len(coarse.data) <= 1300
    assert full.step < coarse.step <= 1.0
