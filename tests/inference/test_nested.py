"""Nested sampling: evidence and moments of targets that are known, and which call each draw was."""

import math
import sys

import numpy as np
import pytest
import torch

from kinematics_nn.errors import KinematicsError
from kinematics_nn.fitting import fit
from kinematics_nn.inference.nested import nested_sample

pytest.importorskip("dynesty")
MEAN, STD = torch.tensor([1.0, -0.5, 0.3]).double(), torch.tensor([0.3, 0.2, 0.5]).double()


def normal(x):
    """A normal density times e^3."""
    return 3 - 0.5 * (((x - MEAN) / STD) ** 2).sum(1) - float(STD.log().sum()) - 1.5 * math.log(2 * math.pi)


@pytest.mark.parametrize(("mean", "std"), [([0, 0, 0], [1, 1, 1]), ([0.8, -0.3, 0.0], [2, 0.8, 1.5])])
def test_evidence_and_moments_do_not_depend_on_where_it_starts(mean, std):
    asked = []

    def target(x):
        asked.append(x[0].clone())
        return normal(x)

    draws, order, evidence, error = nested_sample(target, mean, std, seed=1, n_live=100)
    assert evidence == pytest.approx(3, abs=4 * error)
    assert draws.log_evidence[0] == pytest.approx(evidence, abs=1e-6)
    assert 0.05 < error < 0.5
    # A hundred live points give a mean to about a tenth of an error, and a width to a tenth.
    found = draws.weights @ draws.x
    assert ((found - MEAN) / STD).abs().max() < 0.3
    width = (draws.weights @ (draws.x - found) ** 2).sqrt()
    np.testing.assert_allclose(width, STD, rtol=0.25)
    assert all(torch.equal(asked[call], x) for call, x in zip(order, draws.x, strict=True))
    torch.testing.assert_close(draws.log_target, normal(draws.x))


def test_what_has_no_density_is_left_out():
    def half(x):
        return torch.where(x[:, 0] > float(MEAN[0]), normal(x), -math.inf)

    draws, _, evidence, error = nested_sample(half, [0, 0, 0], [1, 1, 1], seed=2, n_live=100)
    assert evidence == pytest.approx(3 - math.log(2), abs=4 * error)
    assert draws.x[draws.weights > 1e-12, 0].min() > MEAN[0]


def test_without_dynesty_its_installation_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "dynesty", None)
    with pytest.raises(KinematicsError, match=r"kinematics_nn\[nested\]"):
        fit("nothing.fits", method="refined", fallback="dynesty")


@pytest.mark.parametrize(("method", "fallback"), [("refined", "emcee"), ("network", "dynesty")])
def test_other_fallbacks_are_refused(method, fallback):
    with pytest.raises(KinematicsError, match='fallback="dynesty"'):
        fit("nothing.fits", method=method, fallback=fallback)
