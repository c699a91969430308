"""Mocks with what real galaxies have: uneven light, warps, and cubes that are cut, blank in part, or noisy outside."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from observed import FORMS

from kinematics_nn.inference.troubled import spoil_cube, trouble_mock, troubled_disc
from kinematics_nn.inference.varied import render_varied
from kinematics_nn.observation.correlation import beam_covariance, known_correlation
from kinematics_nn.training.simulations import Ranges


@pytest.fixture(scope="module")
def mocks():
    return [trouble_mock(np.random.default_rng([6, k]), FORMS) for k in range(200)]


@pytest.fixture
def plain(mocks):
    """A mock with nothing wrong, to be troubled."""
    return replace(
        min(mocks, key=lambda m: np.prod(m.shape)), uneven=False, warp=None, edge=0, continuum=0, blanks=0, cut=0,
        neighbour=None, mask=None, clip=0,
    )  # fmt: skip


def test_troubles_are_as_frequent_as_in_training(mocks):
    r = Ranges()
    even = (1 - r.clump_share) * (1 - r.arm_share) * (1 - r.lopsided_share)
    shares = {
        "uneven": 1 - even,
        "warp": r.warp_share,
        "edge": r.edge_share,
        "cut": r.cut_share,
        "blanks": r.blank_share,
        "neighbour": r.neighbour_share,
        "mask": r.mask_share,
        "clip": r.clip_share,
    }
    for name, share in shares.items():
        found = np.mean([bool(getattr(mock, name)) for mock in mocks])
        assert abs(found - share) < 3.5 * np.sqrt(share * (1 - share) / len(mocks)), name
        assert all((name in mock.how.split()) == bool(getattr(mock, name)) for mock in mocks)


def test_uneven_clouds_keep_the_profile(plain):
    mock = replace(plain, uneven=True)
    r50 = mock.truth["r50"]
    radius = np.linspace(0, 9 * r50, 3000)
    clouds = troubled_disc(mock, np.random.default_rng(1), np.exp(-radius / (r50 / 1.678)), radius, 100_000)["clouds"]
    r, azimuth = np.hypot(*clouds.T[:2]), np.arctan2(clouds[:, 1], clouds[:, 0])
    # Half of the light within r50, to the counts' 0.5 %.
    assert np.mean(r < r50) == pytest.approx(0.5, abs=0.005)
    # The noise of even counts is 1.8 % in 32 parts; the faintest clumps have an rms of 5 %, over a few beams.
    counts, _ = np.histogram(azimuth, 32)
    assert counts.std() / counts.mean() > 0.025
    assert abs(clouds[:, 2]).mean() == pytest.approx(mock.truth["thickness"], rel=0.02)
    assert troubled_disc(plain, None, None, None, 0) == {"angles": None, "clouds": None}


def test_a_warp_leaves_the_inner_disc(plain):
    mock = replace(plain, warp=(5.0, -8.0, 2.0))
    radius = np.array([0.0, 1.0, 2.0, 4.0]) * mock.truth["r50"]
    inclination, pa = troubled_disc(mock, None, None, radius, 0)["angles"]
    truth = mock.truth["inclination"], mock.truth["pa"]
    np.testing.assert_allclose(inclination[:2], truth[0], atol=0.01)
    np.testing.assert_allclose(pa[[0, 2, 3]] - truth[1], [0, -4, -8], atol=0.02)


def test_kinms_takes_uneven_clouds_and_warps(plain):
    """Light that is uneven shows, and a warped disc has the light of a flat one."""
    pytest.importorskip("kinms")
    covariance = beam_covariance(np.array(plain.beam), np.diag([-1.0, 1.0]))
    correlation = known_correlation("wide", "white", covariance, plain.shape[0])
    plain = replace(plain, truth=plain.truth | {"snr": 60.0})
    flat, uneven, warped = (
        render_varied(
            mock,
            np.random.default_rng(2),
            correlation,
            covariance,
            partial(troubled_disc, mock, np.random.default_rng(3)),
        )[0]
        for mock in (plain, replace(plain, uneven=True), replace(plain, warp=(0.0, 40.0, 1.2)))
    )
    assert uneven.sum() == pytest.approx(flat.sum(), rel=0.01)
    assert warped.sum() == pytest.approx(flat.sum(), rel=0.01)
    for other in (uneven, warped):
        assert abs(other - flat).max() > 0.03 * flat.max()


@pytest.mark.parametrize("side", [1, -1])
def test_flaws_of_the_cube(plain, side):
    n_channels, n_pixels, _ = plain.shape
    mock = replace(plain, edge=0.7, blanks=2, cut=0.25 * side)
    clean, noise = np.zeros(plain.shape), np.random.default_rng(0).standard_normal(plain.shape)
    seen = []
    assert (
        spoil_cube(mock, np.random.default_rng(3), lambda data: seen.append(data) or data, clean, noise).shape[0]
        < n_channels
    )
    (data,) = seen
    assert np.isnan(data).all((1, 2)).sum() == 2
    rms = np.nanstd(data, 0)
    assert np.median(rms[[0, 0, -1, -1], [0, -1, 0, -1]]) > 2 * np.median(rms[n_pixels // 2 - 1 : n_pixels // 2 + 1])
    # A quarter of the line lies beyond the end of the band.
    kept = spoil_cube(
        replace(mock, blanks=0),
        np.random.default_rng(3),
        lambda data: data,
        clean + np.arange(n_channels)[:, None, None],
        0 * noise,
    )
    velocity = (kept[:, 0, 0] - n_channels // 2) * mock.channel - mock.truth["vsys"]
    end = velocity[-1] if side > 0 else velocity[0]
    assert abs(end) / mock.truth["w50"] == pytest.approx(0.25, abs=1.5 * mock.channel / mock.truth["w50"])


def _seen(mock, clean, noise):
    return spoil_cube(mock, np.random.default_rng(3), lambda data: data, clean, noise)


def test_a_neighbour_is_beside_the_galaxy_and_fainter(plain):
    clean, (n_channels, n, _) = np.zeros(plain.shape), plain.shape
    clean[n_channels // 2, n // 2, n // 2] = 8.0
    other = _seen(replace(plain, neighbour=(0.5, 0.3, -0.2, 0.25)), clean, 0 * clean) - clean
    assert other.max() == pytest.approx(4.0)
    channel, y, x = np.unravel_index(other.argmax(), other.shape)
    # To the pixel of the quarter turn, and that of rounding.
    assert channel - n_channels // 2 == pytest.approx(0.25 * n_channels, abs=1)
    assert (x - n // 2, y - n // 2) == pytest.approx((0.3 * n, -0.2 * n), abs=2)


def test_masks_are_blank_on_one_side_of_the_galaxy(plain):
    clean, n = np.ones(plain.shape, dtype=np.float32), plain.shape[1]
    blank = np.isnan(_seen(replace(plain, mask=(0.5 * np.pi, 0.25)), clean, 0 * clean))
    assert (blank == blank[0, :, :1]).all()  # along y alone, in all channels
    np.testing.assert_array_equal(np.flatnonzero(blank[0, :, 0]), np.arange(n // 2 + n // 4 + 1, n))


def test_clipped_cubes_keep_what_is_bright_and_next_to_it(plain):
    noise = np.random.default_rng(0).standard_normal(plain.shape)
    clean, (n_channels, n, _) = np.zeros(plain.shape), plain.shape
    clean[n_channels // 2, n // 2, n // 2] = 1e4
    data = _seen(replace(plain, clip=4.0), clean, noise)
    assert data[n_channels // 2, n // 2, n // 2] > 0.99e4
    # Four sigma of the smoothed noise and their neighbours are rare; far off nearly all is 0.
    assert np.mean(data[:2] != 0) < 0.01
    np.testing.assert_array_equal(data[data != 0], (clean + noise).astype(np.float32)[data != 0])
