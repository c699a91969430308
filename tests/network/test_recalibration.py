"""Recalibration: too wide or too narrow draws are put right, and what they tie together stays tied."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from kinematics_nn.network.frame import FACTS
from kinematics_nn.network.recalibration import NODES, TABLES, measure_ranks, recalibrated, table_at
from kinematics_nn.network.targets import TARGETS


def normal(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def table_of(ranks):
    table = torch.quantile(ranks, torch.linspace(0, 1, NODES, dtype=ranks.dtype), dim=0).repeat(len(TARGETS), 1)
    table[:, 0], table[:, -1] = 0, 1
    return table


def test_right_ranks_change_nothing():
    draws = normal(2000, len(TARGETS))
    same = torch.linspace(0, 1, NODES, dtype=torch.float64).repeat(len(TARGETS), 1)
    torch.testing.assert_close(recalibrated(draws, same), draws, rtol=0, atol=1e-9)


@pytest.mark.parametrize("spread", [0.7, 1.3], ids=["draws too wide", "draws too narrow"])
def test_widths_are_put_right(spread):
    truths = spread * normal(20_000, seed=2)
    table = table_of(torch.special.ndtr(truths))
    mended = recalibrated(normal(20_000, len(TARGETS)), table)
    # 20,000 truths and as many draws give quantiles to 0.013 each: 0.08 is four of both, over 25 columns.
    for nominal in (0.16, 0.5, 0.84):
        expected = spread * float(torch.special.ndtri(torch.tensor(nominal)))
        np.testing.assert_allclose(torch.quantile(mended, nominal, dim=0), expected, atol=0.08)


def test_a_bias_is_taken_away():
    table = table_of(torch.special.ndtr(normal(20_000, seed=2) + 0.5))
    mended = recalibrated(normal(20_000, len(TARGETS)), table)
    np.testing.assert_allclose(mended.median(0).values, 0.5, atol=0.04)


def test_the_order_of_draws_stays():
    draws = normal(500, len(TARGETS))
    mended = recalibrated(draws, table_of(torch.special.ndtr(0.7 * normal(2000, seed=2))))
    assert torch.equal(mended.argsort(0), draws.argsort(0))


def test_tables_lie_between_those_of_fainter_and_brighter_galaxies():
    ranks = torch.arange(TABLES, dtype=torch.float64)[:, None, None].expand(TABLES, len(TARGETS), NODES)
    facts = torch.zeros(5, len(FACTS), dtype=torch.float64)
    facts[:, FACTS.index("snr")] = torch.tensor([0.0, 1.0, 1.5, 2.5, 9.0])
    found = table_at(ranks, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64), facts)
    # The ends' beyond them.
    assert_close(found[:, 0, 0], torch.tensor([0.0, 0.0, 0.5, 1.5, 2.0], dtype=torch.float64))
    assert found.shape == (5, len(TARGETS), NODES)


def test_a_galaxy_that_is_not_finite_has_a_table_all_the_same():
    facts = torch.full((1, len(FACTS)), torch.nan)
    ranks = torch.linspace(0, 1, NODES).repeat(TABLES, len(TARGETS), 1)
    assert torch.isfinite(table_at(ranks, torch.arange(TABLES).float(), facts)).all()


def test_faint_galaxies_and_bright_ones_are_measured_apart():
    """Draws that are twice too wide for faint galaxies alone."""
    n = 3000
    facts = torch.zeros(n, len(FACTS))
    facts[:, FACTS.index("snr")] = torch.linspace(0, 1, n)
    width = torch.where(torch.arange(n) < n // TABLES, 2.0, 1.0)

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one = torch.nn.Parameter(torch.ones(1))

        def trunk(self, image, facts):
            return width[(facts[:, FACTS.index("snr")] * (n - 1)).round().long()]

        def sample(self, trunk, draws, generator):
            return trunk[:, None, None] * torch.randn(len(trunk), draws, len(TARGETS), generator=generator)

    data = {"image": torch.zeros(n, 1), "facts": facts, "targets": normal(n, len(TARGETS)).float()}
    ranks, snr = measure_ranks(Encoder(), data, torch.zeros(len(TARGETS)))
    assert_close(snr, torch.tensor([1 / 6, 1 / 2, 5 / 6]), rtol=0, atol=1e-3)
    high = ranks[:, :, (NODES - 1) * 3 // 4].mean(1)
    # The upper quartile of truths is at that of their own normal deviate.
    expected = torch.special.ndtr(torch.special.ndtri(torch.tensor(0.75)) / torch.tensor([2.0, 1.0, 1.0]))
    assert_close(high, expected, rtol=0, atol=0.01)
