"""Mocks over the whole range: half of other forms, KinMS through elliptical beams, cubes kept on disk."""

import numpy as np
import pytest

from kinematics_nn.decoder import Forms, render_on
from kinematics_nn.errors import KinematicsError
from kinematics_nn.forms import get_form
from kinematics_nn.inference import mock_files
from kinematics_nn.inference.mock import draw_mock, mock_grid, observe_mock
from kinematics_nn.inference.mock_files import kept_cube
from kinematics_nn.inference.varied import CURVES, LIGHTS, WIDE, render_varied, vary_mock
from kinematics_nn.observation.correlation import beam_covariance, known_correlation

FORMS = Forms(
    get_form("arctan", "rotation_curve"),
    get_form("exponential", "surface_brightness"),
    get_form("constant", "velocity_dispersion"),
)


@pytest.fixture(scope="module")
def mocks():
    return [vary_mock(np.random.default_rng([4, k]), FORMS) for k in range(200)]


def test_half_are_of_other_forms(mocks):
    plain = [mock.how == "arctan exponential" for mock in mocks]
    assert np.mean(plain) == pytest.approx(0.5, abs=0.11)  # three binomial errors
    curves, lights = zip(*(mock.how.split() for mock in mocks), strict=True)
    assert set(curves) == {"arctan", *CURVES}
    assert set(lights) == {"exponential", *LIGHTS}


def test_size_speed_and_line_are_those_said(mocks):
    for mock in mocks:
        forms, truth = mock.forms, mock.truth
        light, curve = (
            [mock.values[name] for name in forms.slots[slot]] for slot in ("surface_brightness", "rotation_curve")
        )
        # Rings take their half-light radius from a table.
        assert float(forms.surface_brightness.half_light_radius(*light)) == pytest.approx(truth["r50"], rel=1e-3)
        speed = float(forms.rotation_curve.evaluate(1.31 * truth["r50"], *curve))
        assert speed == pytest.approx(truth["v22"], rel=1e-3)
        assert truth["w50"] < mock.channel * mock.shape[0]
        assert WIDE.beams[0] <= truth["beams"] <= WIDE.beams[1]
        assert mock.shape[1] <= WIDE.pixels


def test_other_galaxies_are_drawn_as_before():
    """Runs go on where they stopped only if a seed's galaxies stay the same ones."""
    truth = draw_mock(np.random.default_rng([5, 0]), FORMS).truth
    again = draw_mock(np.random.default_rng([5, 0]), FORMS, "own").truth
    assert truth == again
    assert 2 <= truth["beams"] <= 30


@pytest.mark.parametrize("how", ["arctan exponential", "other"])
def test_kinms_sees_the_same_galaxy(mocks, how):
    pytest.importorskip("kinms")
    (mock,) = [
        mock
        for mock in mocks
        if (mock.how == "arctan exponential") == (how == "arctan exponential")
        and 3 < mock.beam[1] < 0.8 * mock.beam[0]
        and 3 < mock.truth["beams"] < 8
        and mock.shape[0] < 70
    ][:1]
    covariance = beam_covariance(np.array(mock.beam), np.diag([-1.0, 1.0]))
    correlation = known_correlation("wide", "white", covariance, mock.shape[0])
    bright = type(mock)(**{**vars(mock), "truth": mock.truth | {"snr": 60.0}})
    clean, kept = render_varied(bright, np.random.default_rng(2), correlation, covariance)
    own = render_on(mock_grid(mock), mock.forms, mock.values).numpy()
    assert 0 < kept <= 1
    # Clouds leave 0.3 of the noise, 0.5 % of the peak, 4 sigma at the worst voxel; a mirrored beam or a pixel: 10 %.
    assert abs(clean - own).max() < 0.04 * own.max()
    assert clean.sum() == pytest.approx(own.sum(), rel=0.005)


def test_cubes_are_read_as_they_were_made(tmp_path, monkeypatch):
    pytest.importorskip("kinms")
    small = [vary_mock(np.random.default_rng([4, k]), FORMS) for k in range(12)]
    mock = min(small, key=lambda mock: np.prod(mock.shape) + 1e4 * mock.truth["snr"])
    path = tmp_path / "cubes" / "0.fits"
    made, rms = kept_cube(path, mock, np.random.default_rng(3), FORMS, "varied")
    plain, plain_rms = observe_mock(mock, np.random.default_rng(3), FORMS, "varied")
    monkeypatch.setattr(mock_files, "observe_mock", None)  # not called again
    read, read_rms = kept_cube(path, mock, np.random.default_rng(3), FORMS, "varied")
    assert rms == plain_rms == read_rms
    for cube in (plain, read):
        np.testing.assert_array_equal(cube.unitless_filled_data[:], made.unitless_filled_data[:])
        assert cube.unit == made.unit
        for name in ("major", "minor", "pa"):
            assert getattr(cube.beam, name).to_value("deg") == pytest.approx(getattr(made.beam, name).to_value("deg"))
        for axis, made_axis in zip(cube.world[:], made.world[:], strict=True):
            np.testing.assert_allclose(axis.to_value(made_axis.unit), made_axis.value, rtol=1e-9, atol=1e-6)
    other = vary_mock(np.random.default_rng([4, 99]), FORMS)
    with pytest.raises(KinematicsError, match="--keep"):
        kept_cube(path, other, np.random.default_rng(3), FORMS, "varied")
