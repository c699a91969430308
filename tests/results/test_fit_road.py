"""A fit of a simulated cube, made by the whole road: the cubes it gives back are in the frame of the input."""

import pickle

import astropy.units as u
import numpy as np
import pytest

from kinematics_nn import fit, simulate


@pytest.fixture(scope="module")
def cube():
    return simulate(vsys=20 * u.km / u.s, rms=0.5 * u.mJy / u.beam, flux=20 * u.Jy * u.km / u.s, seed=4)


@pytest.fixture(scope="module")
def fitted(cube):
    return fit(cube, method="network", n_samples=500, seed=1, device="cpu")


@pytest.mark.parametrize("flip", [False, True], ids=["ascending", "descending"])
def test_model_and_residual_add_up_to_the_input(cube, flip):
    given = cube[::-1] if flip else cube
    result = fit(given, method="network", n_samples=500, seed=1, device="cpu")
    model, residual = result.model_cube, result.residual_cube
    assert model.shape == given.shape
    assert model.wcs.wcs.compare(given.wcs.wcs, tolerance=1e-9)
    assert (model.unit, model.beam) == (given.unit, given.beam)
    total = (model.filled_data[:] + residual.filled_data[:]).value
    # Each is rounded to float32, to 6e-8 of itself; model and residual are no larger than some times the peak.
    assert total == pytest.approx(given.filled_data[:].value, abs=1e-6 * np.abs(total).max())
    # The model turns the way the data do. How well it fits is the network's affair; with its channels or its sides
    # flipped it overlaps with the data near the centre alone, and loses half of the correlation of any fit.
    data, drawn = given.filled_data[:].value, model.filled_data[:].value
    right, channels, sides = (
        np.corrcoef(data.ravel(), cube.ravel())[0, 1] for cube in (drawn, drawn[::-1], drawn[:, ::-1, ::-1])
    )
    assert right > 2 * max(channels, sides)


def test_survives_pickling(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.model_cube.filled_data[:], fitted.model_cube.filled_data[:])
    for name in fitted.samples.colnames:
        assert np.array_equal(again.samples[name], fitted.samples[name])
