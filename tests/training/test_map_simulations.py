"""Simulated moment maps: the moments of the cube where it is bright, and a flux that counts as the maps do."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kinematics_nn.errors import KinematicsError
from kinematics_nn.training.maps import MapRanges, MapSimulator, moment_maps
from kinematics_nn.training.simulations import Ranges, Simulator
from kinematics_nn.training.store import make_shard, simulate_shards

# Galaxies with room in field and band.
BRIGHT = Ranges(
    snr=(300.0, 300.1), beam=(1.5, 2.4), r50=5.0, least_r50=1.0, v22_sini=(1.2, 5.0), dispersion=(0.25, 1.0),
    centre=1.0, clump_share=0.0, crop_share=0.0, cut_share=0.0,
)  # fmt: skip


def simulator(seed=1, uniform=0.0, **maps):
    return MapSimulator(seed, BRIGHT, shape=(28, 48), maps=MapRanges(uniform_share=uniform, **maps))


def test_maps_of_a_bright_cube_are_its_moments():
    without = ("edge", "neighbour", "mask", "clip", "blank", "continuum")
    plain = replace(BRIGHT, **{f"{what}_share": 0.0 for what in without})
    cubes, _ = Simulator(5, plain, shape=(28, 48))(4)
    ranges = MapRanges(threshold=(4.0, 4.0), smoothing=(1.0, 1.0), cut_share=0.0, grown_share=1.0)
    moment0, moment1 = moment_maps(cubes, np.random.default_rng(0), ranges)
    velocity = 0.5 * (cubes.edges[0, 1:] + cubes.edges[0, :-1])
    whole = cubes.data.sum(1)
    mean = (cubes.data * velocity[:, None, None]).sum(1) / whole
    bright = whole > 0.3 * whole.amax((1, 2), keepdim=True)
    assert torch.isfinite(moment1[bright]).all()
    # Unit noise over the 28 channels is 5, of 300 and more: at 4 sigma 7 %; and some light is outside the mask.
    torch.testing.assert_close(moment0[bright], whole[bright], rtol=0.07, atol=0)
    torch.testing.assert_close(moment1[bright], mean[bright], rtol=0, atol=0.5)


def test_where_nothing_is_left_is_blank():
    cubes, _ = Simulator(4, Ranges(snr=(3.0, 3.1)), shape=(24, 32))(4)
    cubes = replace(cubes, weight=cubes.weight * (torch.arange(32) < 16))
    wide, narrow = (
        torch.isfinite(moment_maps(cubes, np.random.default_rng(0), MapRanges(threshold=(k, k)))[0]) for k in (2.5, 4.5)
    )
    assert 0 < narrow.sum() < wide.sum() < 0.5 * wide.numel()
    assert not wide[..., 16:].any(), "outside the field"
    # A pruned map is one island: of noise peaks, far from it, there are none.
    whole, pruned = (
        torch.isfinite(moment_maps(cubes, np.random.default_rng(0), replace(MapRanges(threshold=(2.5, 2.5)), **k))[0])
        for k in ({"pruned_share": 0.0}, {"pruned_share": 1.0})
    )
    assert (pruned & ~whole).sum() == 0
    assert pruned.sum() < whole.sum()


def test_the_flux_is_that_of_the_pseudo_cube():
    for seed in range(3):
        cubes, disc = simulator(seed, grown_share=1.0, cut_share=0.0)(4)
        area = torch.linalg.det(cubes.matrix).abs()
        seen = cubes.data.sum((1, 2, 3)) * torch.diff(cubes.edges).mean(1) * area
        share = (seen / disc.flux)[torch.isfinite(disc.flux)]
        # The field and the mask cut off the outermost light, and nothing adds any.
        assert (share < 1.05).all()
        assert share.median() > 0.6


def test_without_moment_0_the_light_is_even_and_the_flux_the_same():
    (given, disc), (even, same) = (simulator(3, uniform)(4) for uniform in (0.0, 1.0))
    assert torch.equal(given.weight, even.weight)
    torch.testing.assert_close(disc.flux, same.flux, equal_nan=True)
    light = even.data.sum(1)[even.weight > 0]
    torch.testing.assert_close(light, torch.full_like(light, 30.0))
    assert given.data.sum(1)[given.weight > 0].std() > 5


def test_too_small_a_map_is_marked():
    faint = Ranges(snr=(2.5, 2.6), beam=(1.5, 1.6), r50=1.0)
    _, disc = MapSimulator(1, faint, shape=(24, 32))(8)
    assert not torch.isfinite(disc.flux).all()


def test_a_store_of_maps_is_not_one_of_cubes(tmp_path):
    threads = torch.get_num_threads()
    kept = make_shard(tmp_path / "shard00000.safetensors", 3, 0, galaxies=16, input="maps")
    torch.set_num_threads(threads)
    assert 8 <= kept <= 16
    assert list(simulate_shards(tmp_path, 1, seed=3, input="maps")) == []
    with pytest.raises(KinematicsError, match="another input"):
        list(simulate_shards(tmp_path, 1, seed=3))
