"""Mixtures along bent ridges, on densities that are known."""

import math

import pytest
import torch

from kinematics_nn.inference.importance import Component, Mixture, WeightedDraws, adapted, effective_number
from kinematics_nn.inference.ridges import along_ridges
from kinematics_nn.inference.surrogate import Thinned

D = 8
THICKNESS = 0.05


def bent(x):
    """A normalised density (n,): a sheet, thin in two directions, bent along the first; normal in the others."""
    log = -0.5 * (x**2).sum(1) - 0.5 * D * math.log(2 * math.pi)
    for k, top in ((1, x[:, 0] ** 2), (2, torch.sin(2 * x[:, 0]))):
        log = log + 0.5 * x[:, k] ** 2 - 0.5 * ((x[:, k] - top) / THICKNESS) ** 2 - math.log(THICKNESS)
    return log


def exact(n, generator):
    """Draws of it."""
    x = torch.randn(n, D, dtype=torch.float64, generator=generator)
    x[:, 1] = x[:, 0] ** 2 + THICKNESS * x[:, 1]
    x[:, 2] = torch.sin(2 * x[:, 0]) + THICKNESS * x[:, 2]
    return WeightedDraws(x, bent(x), torch.zeros(n).double())


def efficiency(components, generator):
    mixture = Mixture(components)
    x = mixture.draw(10_000, generator)
    return effective_number(bent(x) - mixture.log_prob(x)) / len(x)


def test_components_are_as_thin_as_the_ridge():
    generator = torch.Generator().manual_seed(0)
    draws = exact(3000, generator)
    # Five components over two bends: each is many times as thick as the sheet, in two directions.
    assert efficiency(adapted(draws), generator) < 0.02
    # Two hundred are as thin, over the lengths on which it is straight: 0.2 to 0.4, and 0.09 where a draw is heavy.
    assert efficiency(along_ridges(bent, draws, generator), generator) > 0.05


def test_centres_are_on_the_ridge_though_draws_are_off_it():
    generator = torch.Generator().manual_seed(1)
    draws = exact(3000, generator)
    # Up and down across the sheet alone, by a step that a centre may move.
    draws.x[:, 1] += 1.5 * THICKNESS * torch.sign(draws.x[:, 4])
    components = along_ridges(bent, WeightedDraws(draws.x, bent(draws.x), draws.log_weight), generator)
    found = torch.stack([component.mean for component in components])
    away = torch.stack([found[:, 1] - found[:, 0] ** 2, found[:, 2] - torch.sin(2 * found[:, 0])]) / THICKNESS
    # A draw is one off, these ones more; a normal in d variates has its top at none.
    assert float(away.abs().median()) < 0.4


def test_a_proposal_finds_the_whole_of_a_ridge_from_a_part_of_it():
    """From a mixture at one end, a standard deviation from the middle."""
    generator = torch.Generator().manual_seed(2)
    end = Mixture([Component(torch.eye(D).double()[0], torch.eye(D).double(), 1.0, 5.0)])
    thinned = Thinned(end, bent)
    assert efficiency(end.components, generator) < 0.01
    thinned.draw(200, generator)
    assert thinned.population.n_effective > 500
    # What is found late is found in part: 0.03 to 0.1 of it is missing over seeds, and the far ends with that.
    value, error = thinned.population.log_evidence
    assert value == pytest.approx(0, abs=4 * error + 0.2)
    assert float(thinned.population.weights @ thinned.population.x[:, 0]) == pytest.approx(0, abs=0.3)


def test_few_effective_draws_do_not_make_components_small():
    """As far off as this, nearly all weight is one draw's."""
    generator = torch.Generator().manual_seed(3)
    off = Mixture([Component(3 * torch.eye(D).double()[0], torch.eye(D).double(), 1.0, 5.0)])
    x = off.draw(6000, generator)
    draws = WeightedDraws(x, bent(x), bent(x) - off.log_prob(x))
    assert draws.n_effective < 5
    components = along_ridges(bent, draws, generator)
    # In the directions that are not bent the density has a standard deviation of one.
    widths = torch.stack([torch.diagonal(component.scale)[3:] for component in components]).sqrt()
    assert float(widths.median()) == pytest.approx(1, abs=0.4)


def test_a_centre_moves_no_farther_than_the_curvature_there_is_known():
    """On the flanks of a roof Newton steps lead far beyond its other eaves, and would be refused whole."""

    def roof(x):
        return -20 * torch.sqrt(1 + x[:, 0] ** 2) - 0.5 * (x[:, 1:] ** 2).sum(1)

    generator = torch.Generator().manual_seed(4)
    x = torch.randn(500, D, dtype=torch.float64, generator=generator)
    x[:, 0] = torch.sign(x[:, 0]) * (3 + 0.3 * x[:, 0].abs())
    components = along_ridges(roof, WeightedDraws(x, roof(x), torch.zeros(500).double()), generator)
    means = torch.stack([component.mean for component in components])
    # Two standard deviations of the curvature are 2.5 there; all draws begin at 3 and more.
    assert float(means[:, 0].abs().median()) < 1.5


def test_draws_at_an_edge_are_no_centres():
    """There the differences of slopes would be between something and nothing."""
    generator = torch.Generator().manual_seed(5)
    draws = exact(500, generator)
    draws.x[::2, 3] = 1e-5

    def half(x):
        return torch.where(x[:, 3] > 0, bent(x), -math.inf)

    known = WeightedDraws(draws.x, half(draws.x), half(draws.x) - bent(draws.x))
    components = along_ridges(half, known, generator)
    # Two thirds of the draws that have weight are at the edge.
    assert 20 < len(components) < 120
    widths = torch.stack([component.scale[3, 3] for component in components]).sqrt()
    assert float(widths.min()) > 0.2
