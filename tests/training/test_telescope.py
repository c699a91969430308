"""What a telescope and its pipeline do to simulated cubes: each by itself, on a bright galaxy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kinematics_nn.training.simulations import Ranges, Simulator

NONE = {f"{name}_share": 0.0 for name in ("edge", "continuum", "mask", "clip", "blank", "cut", "fine", "crop")}


def observed(clean=None, n=6, snr=30.0, seed=1, **ranges):
    """Cubes of a blob of 9 pixels in the middle of the field and of the band."""
    telescope = Simulator(seed, replace(Ranges(noises={"beam": 1.0}, hanning_share=0.0), **NONE | ranges)).telescope
    if clean is None:
        at = torch.arange(64.0) - 31.5
        disc = torch.exp(-0.5 * (at[:, None] ** 2 + at**2) / 16)
        line = torch.exp(-0.5 * (torch.arange(40.0) - 19.5) ** 2 / 9)
        clean = (line[:, None, None] * disc).expand(n, -1, -1, -1)
    with torch.no_grad():
        return telescope(clean, np.full(n, snr), np.full(n, 4.0), np.full(n, 0.8))


def test_peak_over_noise_is_what_was_asked():
    cubes, rms = observed(snr=25.0)
    assert float(rms[0]) == pytest.approx(1 / 25, rel=0.04)  # the blob's peak lies between pixels
    assert float(cubes.data[:, 19:21, 31:33, 31:33].mean()) == pytest.approx(25, rel=0.05)
    assert float(cubes.data[:, :5].std()) == pytest.approx(1, rel=0.03)


def test_noise_rises_to_the_edge_as_the_weight_says():
    cubes, _ = observed(edge_share=1.0)
    spread = cubes.data[:, :8].std(1)  # line-free
    # Eight channels leave a quarter on each standard deviation, 24,000 pixels little on their mean.
    assert float((spread * cubes.weight).mean()) == pytest.approx(0.97, abs=0.06)
    corner, middle = cubes.weight[:, 0, 0], cubes.weight[:, 32, 32]
    assert (corner < middle).all()


def test_a_continuum_is_in_all_channels():
    cubes, _ = observed(continuum_share=1.0, continuum=20.0)
    spectrum = cubes.data[:, :, 30:34, 30:34].mean((2, 3))
    ends = spectrum[:, :5].mean(1), spectrum[:, -5:].mean(1)
    # 80 voxels, of which neighbours are alike
    assert float((ends[0] - ends[1]).abs().max()) < 1.5
    assert float(torch.stack(ends).std()) > 5


def test_masks_take_pixels_away():
    cubes, _ = observed(mask_share=1.0)
    blank = cubes.weight == 0
    assert blank.any()
    assert not blank.all()
    assert (cubes.data.abs().amax(1)[blank] == 0).all()
    assert (cubes.data.abs().amax(1)[~blank] > 0).all()


def test_clipped_cubes_keep_the_emission_alone():
    cubes, _ = observed(clip_share=1.0)
    assert (cubes.data == 0).float().mean() > 0.7
    assert (cubes.data[:, 19:21, 28:36, 28:36] > 0).all()


def test_blank_channels():
    cubes, _ = observed(blank_share=1.0)
    blank = (cubes.data == 0).all((0, 2, 3))
    assert 1 <= int(blank.sum()) <= 4
    assert torch.equal(cubes.seen, (~blank).float().expand_as(cubes.seen))


def test_what_is_cut_away_is_dark_or_blank():
    """Half of the cubes that come with the emission alone have zeros for the rest, half are blank there."""
    kinds = set()
    for seed in range(8):
        cubes, _ = observed(clip_share=1.0, seed=seed)
        lit = cubes.data != 0
        if cubes.weight.min() == 1:
            assert (cubes.seen == 1).all()
            kinds.add("dark")
        else:
            assert torch.equal(cubes.weight > 0, lit.any(1))
            assert torch.equal(cubes.seen > 0, lit.flatten(2).any(2))
            kinds.add("blank")
    assert len(kinds) == 2


def test_bands_are_cut_at_either_end():
    ends = set()
    for seed in range(20):
        cubes, _ = observed(n=1, seed=seed, cut_share=1.0)
        assert 18 <= cubes.data.shape[1] == cubes.edges.shape[1] - 1
        ends.add((float(cubes.edges[0, 0]) > -20, float(cubes.edges[0, -1]) < 20))
    assert ends == {(True, False), (False, True)}


def test_fine_channels_hold_the_same_brightness():
    cubes, _ = observed(fine_share=1.0)
    parts = cubes.data.shape[1] // 40
    assert parts > 1
    assert (cubes.edges[0, ::parts] == torch.arange(-20.0, 21.0)).all()
    spectrum = cubes.data[..., 24:40, 24:40].sum((0, 2, 3))
    centre = (spectrum * 0.5 * (cubes.edges[0, 1:] + cubes.edges[0, :-1])).sum() / spectrum.sum()
    assert float(centre) == pytest.approx(0, abs=0.3)


def test_a_neighbour_that_intake_knows_is_cut_out():
    telescope = Simulator(1, replace(Ranges(), **NONE)).telescope
    clean, other = torch.zeros(2, 1, 40, 64, 64)
    clean[:, 18:22, 28:36, 28:36] = 1.0
    other[:, 18:22, 50:58, 50:58] = 0.5
    with torch.no_grad():
        found = [telescope(clean, np.array([40.0]), np.array([3.0]), np.array([1.0]), other)[0] for _ in range(12)]
    inside = [float(cubes.data[0, 19:21, 52:56, 52:56].mean()) for cubes in found]
    assert {round(value / 20) for value in inside} == {0, 1}  # gone, or taken for a part of the galaxy
