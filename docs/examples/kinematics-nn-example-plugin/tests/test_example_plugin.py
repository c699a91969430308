"""The forms keep the contract, have the values of their formulas, and are found by name."""

# ruff: noqa: D103 - the name of a test is its sentence

import numpy as np
import pytest
from kinematics_nn_example_plugin import Floored, Logarithmic

from kinematics_nn.forms import get_form
from kinematics_nn.testing import check_form


@pytest.mark.parametrize("form", [Logarithmic, Floored])
def test_the_contract(form):
    check_form(form)
    assert get_form(form.name, form.kind) is form


def test_values():
    radius = np.array([0.0, 3.0, 3e4])
    assert Logarithmic.evaluate(radius, 200.0, 3.0) == pytest.approx([0, 200 / np.sqrt(2), 200])
    assert Floored.evaluate(radius, 8.0, 20.0, 3.0) == pytest.approx([28, 8 + 20 / np.e, 8])


def test_derivatives():
    radius, step = np.linspace(0, 30, 20), 1e-5
    for i, found in enumerate(Logarithmic.derivatives(radius, 200.0, 3.0)):
        above, below = ([200.0, 3.0] for _ in range(2))
        above[i] += step
        below[i] -= step
        wanted = (Logarithmic.evaluate(radius, *above) - Logarithmic.evaluate(radius, *below)) / (2 * step)
        assert found == pytest.approx(wanted, abs=1e-6)  # central differences
