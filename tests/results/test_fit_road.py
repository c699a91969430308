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
    return fit(cube, n_samples=500, seed=1, device="cpu")


@pytest.mark.parametrize("flip", [False, True], ids=["ascending", "descending"])
def test_model_and_residual_add_up_to_the_input(cube, flip):
    given = cube[::-1] if flip else cube
    result = fit(given, n_samples=500, seed=1, device="cpu")
    model, residual = result.model_cube, result.residual_cube
    assert model.shape == given.shape
    assert model.wcs.wcs.compare(given.wcs.wcs, tolerance=1e-9)
    assert (model.unit, model.beam) == (given.unit, given.beam)
    total = (model.filled_data[:] + residual.filled_data[:]).value
    # float32: one part in 1e7 of the peak.
    assert total == pytest.approx(given.filled_data[:].value, abs=1e-6 * np.abs(total).max() * 10)
    # The model turns the way the data do: flipped channels or mirrored sides would correlate with nothing.
    data, drawn = given.filled_data[:].value.ravel(), model.filled_data[:].value.ravel()
    assert np.corrcoef(data, drawn)[0, 1] > 0.5


def test_survives_pickling(fitted):
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.model_cube.filled_data[:], fitted.model_cube.filled_data[:])
    for name in fitted.samples.colnames:
        assert np.array_equal(again.samples[name], fitted.samples[name])
