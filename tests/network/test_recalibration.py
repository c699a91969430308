"""Recalibration: too wide or too narrow draws are put right, and what they tie together stays tied."""

import numpy as np
import pytest
import torch

from kinematics_nn.network.recalibration import NODES, recalibrated
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
