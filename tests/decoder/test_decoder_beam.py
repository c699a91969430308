"""The beam operator alone: two ways that agree, flux kept, and nothing that wraps around."""

import math

import numpy as np
import pytest
import torch

from kinematics_nn.decoder import BeamOperator, beam


def operator(covariance, shape=(24, 30), pad=12, **options):
    return BeamOperator(torch.tensor(covariance, dtype=torch.float64), shape, pad, **options)


def point(y, x, shape=(24, 30), pad=12):
    sky = torch.zeros(1, 1, shape[0] + 2 * pad, shape[1] + 2 * pad, dtype=torch.float64)
    sky[0, 0, y + pad, x + pad] = 1
    return sky


TURNED = [[7.0, 2.5], [2.5, 4.0]]
STRAIGHT = [[7.0, 0.0], [0.0, 4.0]]


@pytest.mark.parametrize("covariance", [STRAIGHT, TURNED])
@pytest.mark.parametrize("integrate_pixels", [False, True])
def test_a_point_becomes_the_beam(covariance, integrate_pixels):
    image = operator(covariance, integrate_pixels=integrate_pixels)(point(10, 13))[0, 0].numpy()
    own = np.array(covariance) - (0 if integrate_pixels else np.eye(2) / 12)
    y, x = np.indices(image.shape)
    away = np.stack([x - 13, y - 10], -1)
    square = np.einsum("yxi,ij,yxj->yx", away, np.linalg.inv(own), away)
    expected = np.exp(-0.5 * square) / (2 * np.pi * np.sqrt(np.linalg.det(own)))
    # A Gaussian of two pixels is sampled without aliasing to 1e-10 or better; the float64 sums are as good.
    np.testing.assert_allclose(image, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("side", [1.7, 2.5, 6.0])
def test_bands_shears_and_fourier_agree(side, monkeypatch):
    straight = [[side, 0.0], [0.0, 1.4 * side]]
    barely = 2e-4 * side  # just enough off the axes to be sheared
    turned = [[side, barely], [barely, 1.4 * side]]
    ways = [operator(covariance) for covariance in (straight, turned)]
    monkeypatch.setattr(beam, "_NARROWEST", math.inf)
    ways.append(operator(turned))
    assert [way._transfer is not None for way in ways] == [False, False, True], "all ways are under test"
    assert [way._to_shear is not None for way in ways] == [False, True, False]
    rng = np.random.default_rng(0)
    sky = torch.as_tensor(rng.standard_normal((2, 3, 48, 54)))
    bands, shears, fourier = (way(sky).numpy() for way in ways)
    # A beam of FWHM 3 pixels has 5e-4 of its amplitude left at the Nyquist frequency, where the ways differ; shears use
    # one of 0.7 of its width.
    assert abs(bands - fourier).max() < 1e-3 * abs(bands).max()
    assert abs(bands - shears).max() < 1e-2 * abs(bands).max()


@pytest.mark.parametrize("covariance", [STRAIGHT, TURNED])
def test_a_part_of_the_sky_is_the_sky_with_nothing_around_it(covariance):
    way = operator(covariance)
    part = torch.as_tensor(np.random.default_rng(1).standard_normal((2, 3, 9, 14)))
    for y, x in ((0, 0), (5, 21), (39, 40)):
        whole = torch.zeros(2, 3, 48, 54, dtype=torch.float64)
        whole[..., y : y + 9, x : x + 14] = part
        # What is beyond five sigma of the beam may be left out.
        torch.testing.assert_close(way(part, (y, x)), way(whole), rtol=0, atol=1e-5)


@pytest.mark.parametrize("covariance", [STRAIGHT, TURNED])
def test_chosen_pixels_are_those_of_the_field(covariance):
    sky = torch.as_tensor(np.random.default_rng(2).standard_normal((1, 2, 48, 54)))
    rows, columns = torch.tensor([0, 3, 4, 23]), torch.tensor([1, 2, 17, 29])
    chosen = operator(covariance, pixels=(rows, columns))(sky)
    torch.testing.assert_close(chosen, operator(covariance)(sky)[..., rows[:, None], columns], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("covariance", [STRAIGHT, TURNED])
@pytest.mark.parametrize("corner", [(0, 0), (0, 29), (23, 0), (23, 29)])
def test_a_source_at_the_edge_does_not_come_back_on_the_other_side(covariance, corner):
    image = operator(covariance, pad=9)(point(*corner, pad=9))[0, 0].numpy()
    y, x = np.indices(image.shape)
    opposite = (abs(y - corner[0]) > 12) | (abs(x - corner[1]) > 15)
    # The pad of 3.4 sigma makes the way around 6.8 sigma long.
    assert abs(image[opposite]).max() < 1e-7 * image.max()
    assert image.max() == image[corner]


UPRIGHT = [[4.0, 0.0], [0.0, 7.0]]
LEANING = [[4.0, 1.0], [1.0, 7.0]]


@pytest.mark.parametrize("covariance", [UPRIGHT, LEANING])
def test_a_source_outside_the_field_shines_in_on_its_own_side_only(covariance):
    # As the decoder pads: 1.3 times the FWHM, 3.06 sigma, and the source at its end.
    image = operator(covariance, pad=8)(point(-8, 15, pad=8))[0, 0].numpy()
    near, far = image[0].max(), abs(image[12:]).max()
    assert near > 0
    assert far < 1e-3 * near


@pytest.mark.parametrize("covariance", [STRAIGHT, TURNED])
def test_light_is_kept(covariance):
    image = operator(covariance)(point(11, 15))
    # 11 pixels are 4 sigma of the longer axis.
    assert float(image.sum()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("covariance", [STRAIGHT, TURNED])
def test_no_weight_is_a_denormal_number(covariance):
    """They cost some processors a hundred multiplications each, and add nothing to any sum."""
    operator = BeamOperator(torch.tensor(covariance), (64, 64), 8)
    matrices = [matrix for matrix in operator._matrices(torch.float32) if matrix is not None]
    assert len(matrices) >= 2
    for matrix in matrices:
        assert ((matrix == 0) | (matrix.abs() > 1e-9)).all()
        assert (matrix == 0).any()


def test_each_sky_of_a_batch_has_its_own_beam():
    covariances = torch.tensor([STRAIGHT, [[3.0, 0.0], [0.0, 9.0]]], dtype=torch.float64)
    sky = point(10, 13).expand(2, -1, -1, -1)
    both = BeamOperator(covariances, (24, 30), 12)(sky)
    for k, covariance in enumerate(covariances):
        torch.testing.assert_close(both[k : k + 1], BeamOperator(covariance, (24, 30), 12)(point(10, 13)))


def test_a_batch_of_turned_beams_is_refused():
    with pytest.raises(ValueError, match="along the pixel axes"):
        operator([TURNED, STRAIGHT])
