"""Rotation curves without a mass behind them, against closed forms and limits."""

import numpy as np
import pytest
from scipy import optimize

from kinematics_nn.forms import rotation_curves as rc

RADII = np.geomspace(0.05, 400, 25)


def peak_radius(form, **parameters):
    lo, hi = 0.1, 200.0
    found = optimize.minimize_scalar(lambda r: -form.evaluate(r, **parameters), (lo, 10.0, hi), options={"xtol": 1e-10})
    return found.x, -found.fun


def test_arctan_is_half_its_asymptote_at_the_turnover():
    assert rc.Arctan.evaluate(3.0, 200.0, 3.0) == pytest.approx(100.0, rel=1e-15)
    assert rc.Arctan.evaluate(1e9, 200.0, 3.0) == pytest.approx(200.0, rel=1e-8)


def test_tanh_value_and_asymptote():
    assert rc.Tanh.evaluate(3.0, 200.0, 3.0) == pytest.approx(200 * 0.7615941559557649, rel=1e-15)
    assert rc.Tanh.evaluate(300.0, 200.0, 3.0) == pytest.approx(200.0, rel=1e-15)


def test_polyex_formula():
    wanted = 200 * (1 - np.exp(-RADII / 3)) * (1 + 0.05 * RADII / 3)
    np.testing.assert_allclose(rc.Polyex.evaluate(RADII, 200.0, 3.0, 0.05), wanted, rtol=1e-14)  # expm1 keeps digits


@pytest.mark.parametrize("n", [0.5, 1.0, 3.0])
def test_brandt_peaks_at_its_peak_and_falls_as_kepler(n):
    radius, speed = peak_radius(rc.Brandt, vmax=200.0, r_peak=7.0, n=n)
    assert radius == pytest.approx(7.0, rel=1e-3)  # a maximum is flat: its place is known to the root of the digits
    assert speed == pytest.approx(200.0, rel=1e-12)
    wanted = 200 * RADII / 7 / (1 / 3 + 2 / 3 * (RADII / 7) ** n) ** (1.5 / n)
    np.testing.assert_allclose(rc.Brandt.evaluate(RADII, 200.0, 7.0, n), wanted, rtol=1e-12)
    far = np.array([1e12, 4e12])
    ratio = np.divide(*rc.Brandt.evaluate(far, 200.0, 7.0, n))
    assert ratio == pytest.approx(2.0, rel=1e-5)  # at n = 0.5 the next term is still 1e-6 of the first


@pytest.mark.parametrize(("beta", "gamma"), [(0.0, 1.0), (0.3, 2.0), (-0.4, 0.7), (0.0, 15.0)])
def test_courteau_formula(beta, gamma):
    x = 3.0 / RADII
    wanted = 200 * (1 + x) ** beta / (1 + x**gamma) ** (1 / gamma)
    # the cut at 1e-4 r_turn changes y**-beta by beta / 2 * (1e-4 / y)**2, 7e-6 at the innermost radius
    np.testing.assert_allclose(rc.Courteau.evaluate(RADII, 200.0, 3.0, beta, gamma), wanted, rtol=1e-5)


def test_flat_and_linear():
    np.testing.assert_array_equal(rc.Flat.evaluate(RADII, 200.0), 200.0)
    np.testing.assert_array_equal(rc.Linear.evaluate(RADII, 4.0), 4 * RADII)
