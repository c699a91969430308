"""Objectives: what is odd under a disc's mirrors flips, and the density of the truth is what is maximised."""

import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from kinematics_nn.network.encoder import KinematicEncoder
from kinematics_nn.network.frame import FACTS, make_frame
from kinematics_nn.network.targets import TARGETS, encode_targets
from kinematics_nn.training.objectives import mirrored, simulated_posterior, target_floor
from kinematics_nn.training.simulations import Ranges, Simulator


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def in_mirror(cubes, disc, sky, velocity):
    """A galaxy as it would have been simulated with east and west, or approach and recession, swapped."""
    if sky:
        flip = torch.tensor([-1.0, 1.0])
        cubes = replace(
            cubes,
            matrix=flip[:, None] * cubes.matrix,
            origin=flip * cubes.origin,
            beam=cubes.beam * torch.tensor([1.0, 1.0, -1.0]),
        )
        disc = replace(disc, east=-disc.east, pa=-disc.pa)
    if velocity:
        cubes = replace(cubes, data=cubes.data.flip(1), edges=-cubes.edges.flip(1))
        disc = replace(disc, vsys=-disc.vsys, pa=disc.pa + math.pi)
    return cubes, disc


@pytest.fixture(scope="module")
def galaxies():
    ranges = Ranges(snr=(25.0, 60.0), r50=10.0, crop_share=0.0, v22_sini=(2.0, 6.0))
    with torch.no_grad():
        cubes, disc = Simulator(12, ranges)(6)
    # A beam along the sky's axes is odd under its mirrors too, but at an angle it is by more.
    return replace(cubes, beam=cubes.beam + torch.tensor([0.0, 0.0, 30.0])), disc


def seen(cubes, disc):
    frame = make_frame(cubes)
    return frame.image, frame.facts, encode_targets(disc, frame)


# Minor axis: the sky; major axis together with velocity: both (turning velocity alone turns the disc by 180 degrees).
@pytest.mark.parametrize(
    ("mirrors", "sky", "velocity"),
    [({"minor"}, True, False), ({"major"}, True, True), ({"minor", "major"}, False, True)],
    ids=["minor", "major", "both"],
)
def test_a_mirrored_galaxy_is_the_galaxy_in_a_mirror(galaxies, mirrors, sky, velocity, monkeypatch):
    image, facts, targets = seen(*galaxies)
    wanted_image, wanted_facts, wanted_targets = seen(*in_mirror(*galaxies, sky, velocity))
    answers = iter([0.0 if mirror in mirrors else 1.0 for mirror in ("minor", "major")])
    monkeypatch.setattr(torch, "rand", lambda n, **_: torch.full((n,), next(answers)))
    found_facts, found_targets = mirrored(facts, targets)
    # float32 through the frame; the steps are divided by 0.02 and their errors may be as small as 1e-3.
    assert_close(wanted_image, image, rtol=0, atol=0.03)
    # The descent of the fitted disc has not come to its end, and goes by the rounding: by a tenth of an error or so.
    of_fit = torch.tensor([name.startswith("fit_") for name in FACTS])
    assert ((found_facts - wanted_facts).abs() < torch.where(of_fit, 0.1, 0.02)).all()
    assert_close(found_targets, wanted_targets, rtol=0, atol=0.02)
    assert (found_targets - targets).abs().max() > 0.2, "something odd was there to flip"
    assert (found_facts - facts).abs().max() > 0.2


def test_mirrors_are_drawn_half_of_the_time():
    facts, targets = torch.ones(4000, len(FACTS)), torch.ones(4000, len(TARGETS))
    facts_out, targets_out = mirrored(facts, targets, generator())
    u, w, pa = (targets_out[:, TARGETS.index(name)] for name in ("u", "w", "pa"))
    assert_close(pa, u * w)
    for odd in (u, w, u * w):
        assert float(odd.mean()) == pytest.approx(0, abs=4 / 4000**0.5)
    assert torch.equal(facts, torch.ones_like(facts)), "what was given stays as it was"
    assert torch.equal(facts_out[:, FACTS.index("snr")], facts[:, 0])


def test_the_odd_bands_swap_with_the_major_mirror():
    facts, targets = torch.zeros(50, len(FACTS)), torch.ones(50, len(TARGETS))
    facts[:, FACTS.index("band_low")] = 1
    found, flipped = mirrored(facts, targets, generator())
    major = flipped[:, TARGETS.index("u")] < 0
    assert torch.equal(found[:, FACTS.index("band_high")] == 1, major)
    assert torch.equal(found[:, FACTS.index("band_low")] == 1, ~major)


@pytest.fixture
def encoder():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return KinematicEncoder((8, 8, 8, 8), bottleneck=16, context=16, couplings=2).eval()


def test_the_loss_is_minus_the_log_density_of_the_truth(encoder, frames):
    with torch.no_grad():
        loss = simulated_posterior(encoder, frames, generator())
        _, targets = mirrored(frames["facts"], frames["targets"], generator())
        mean = targets.mean(0)
        encoder.density.affine.bias[: len(TARGETS)] = mean
        better = simulated_posterior(encoder, frames, generator())
    assert better < loss - 5, "a density nearer to the truths has a smaller loss"
    # Nearly a standard normal about that mean at the start: the loss is that normal's, but for the couplings' bends.
    normal = torch.distributions.Normal(mean, 1)
    assert float(better) == pytest.approx(float(-normal.log_prob(frames["targets"]).sum(1).mean()), rel=0.4)


def test_a_floor_for_every_target():
    floor = target_floor()
    assert floor.shape == (len(TARGETS),)
    assert (floor > 0).all()
