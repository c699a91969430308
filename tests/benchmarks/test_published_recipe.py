"""The rebuilt recipe: its decoder against closed forms, what its maps are, and one run of a few steps."""

import math
from functools import partial

import kinms_galaxies
import numpy as np
import published_recipe as recipe
import pytest
import torch


def disc(inclination, r_scale, r_turn, speed):
    return torch.tensor([[inclination, r_scale, r_turn, speed]])


def test_its_disc_has_the_moments_of_an_exponential():
    # Of a thin exponential disc: 3 r_scale^2 along the major axis, cos^2 i of that along the minor. The field ends at
    # 12 scale lengths, 0.1 %; one point a pixel sums a cusp, 1 % on the minor axis, with 1.3 pixels to a scale length.
    light, _ = recipe.decode(disc(60.0, 2.6, 2.0, 100.0))
    squared = (torch.arange(64) - 31.5) ** 2
    major = (light.sum(2) @ squared / light.sum()).item()
    minor = (light.sum(1) @ squared / light.sum()).item()
    assert major == pytest.approx(3 * 2.6**2, rel=0.01)
    assert minor / major == pytest.approx(math.cos(math.radians(60)) ** 2, rel=0.02)


def test_its_velocities_are_the_arctan_along_the_major_axis_and_zero_along_the_minor():
    _, velocity = recipe.decode(disc(50.0, 6.0, 4.0, 200.0))
    # A point on row k lies at (k - 31.5, 0.5): off the axis by half a pixel, whose radius and angle are those below.
    along, across = 10.5, 0.5 / math.cos(math.radians(50))
    radius = math.hypot(along, across)
    expected = 200 / 500 * 2 / math.pi * math.atan(radius / 4) * along / radius
    assert velocity[0, 42, 32].item() == pytest.approx(expected, rel=1e-5)
    assert velocity[0, 21, 32].item() == pytest.approx(-expected, rel=1e-5)  # the approaching side
    assert (velocity[0, 31] + velocity[0, 32]).abs().max() < 1e-6


def test_the_beam_of_the_training_maps_is_as_wide_as_that_of_the_test():
    light, _ = recipe.decode(disc(20.0, 2.6, 2.0, 100.0))
    smeared, _ = recipe.decode(disc(20.0, 2.6, 2.0, 100.0), recipe.beam_matrix())
    squared = (torch.arange(64) - 31.5) ** 2
    before, after = ((map.sum(2) @ squared / map.sum()).item() for map in (light, smeared))
    blur = kinms_galaxies.BEAM**2 / (8 * math.log(2))
    assert after - before == pytest.approx(blur, rel=0.01)  # the field's edge loses 0.1 %


def test_the_loss_is_zero_for_maps_of_the_parameters_that_are_encoded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = recipe.Recipe().eval()
    maps, _ = recipe.draw_maps(2, np.random.default_rng(0))
    seen = maps[:, 0] > 0
    with torch.no_grad():
        found = network(maps)
        decoded = torch.stack(recipe.decode(found), 1) * seen[:, None]
        assert recipe.loss(found, decoded) == 0
        assert recipe.loss(found, maps) > 1e-4  # what an untrained network encodes is not what was drawn


def test_without_a_beam_the_objective_is_unbiased_and_with_one_its_discs_are_longer_and_rounder():
    sharp, truth, loss = recipe.best_fit(8, steps=20)
    assert loss < 1e-6  # it starts from the truths, and those are the best
    assert torch.allclose(sharp, truth, rtol=0.02)
    smeared, truth, loss = recipe.best_fit(8, smear=recipe.beam_matrix(), steps=60)
    assert loss > 1e-5
    assert (smeared[:, 1] > 1.05 * truth[:, 1]).all()  # a beam of 4 pixels on scale lengths of 3 to 10
    assert (smeared[:, 0] - truth[:, 0]).median() < -1


def test_the_script_trains_fits_and_prints(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(kinms_galaxies, "render", partial(kinms_galaxies.render, n_clouds=100_000))  # to save seconds
    paths, truths = kinms_galaxies.make_galaxies(1, 1, tmp_path)
    maps, pa, _ = recipe.observed_maps(kinms_galaxies.read_cube(paths[0]))
    # Turned, the receding side is up; 5 deg is ten times the error of the guess.
    upper, lower = maps[0, 1, 32:].sum(), maps[0, 1, :32].sum()
    assert upper > 0 > lower
    assert abs((pa - truths["pa"][0].value + 180) % 360 - 180) < 5

    few = ["--n", "1", "--steps", "2", "--held-out", "8", "--realisations", "50"]
    recipe.main([str(tmp_path), *few, "--output", str(tmp_path / "rows.ecsv")])
    printed = capsys.readouterr().out
    assert "1 of 1 galaxies" in printed
    assert "held-out loss" in printed
    assert "v22_sini" in printed
