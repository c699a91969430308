"""Mock galaxies that break their model: they keep what is held against the fit, and differ where they say."""

import numpy as np
import pytest
import torch

from kinematics_nn.decoder import DiscDecoder, Forms
from kinematics_nn.decoder.geometry import sky_to_axes
from kinematics_nn.forms import get_form
from kinematics_nn.inference.broken import BREAKS, CLUMPS, break_mock
from kinematics_nn.inference.mock import Mock, mock_grid, observe_mock

FORMS = Forms(
    get_form("arctan", "rotation_curve"),
    get_form("exponential", "surface_brightness"),
    get_form("constant", "velocity_dispersion"),
)


@pytest.fixture(scope="module")
def mocks():
    found = {}
    for k in range(150):
        mock = break_mock(np.random.default_rng([3, k]), FORMS)
        if mock.truth["beams"] > 8 and mock.shape[1] < 120 and mock.truth["inclination"] < 60:
            found.setdefault(mock.how, mock)
    assert set(found) == set(BREAKS)
    return found


def seen(mock):
    """The galaxy nearly free of noise, and the smooth disc of the form fitted that has its size and speed."""
    bright = {**vars(mock), "truth": mock.truth | {"snr": 1e5}}
    cube, _ = observe_mock(type(mock)(**bright), np.random.default_rng(1), FORMS, "broken")
    return cube.unitless_filled_data[:]


@pytest.mark.parametrize("how", ["clumpy", "lopsided"])
def test_of_uneven_light_the_size_is_its_own(mocks, how):
    """Of the pixels as they are before the beam, summed in ellipses, the radius that holds half."""
    mock = mocks[how]
    decoder = DiscDecoder(mock_grid(mock), mock.forms)
    parameters = torch.tensor([[mock.values[name] for name in mock.forms.parameter_names]], dtype=torch.float32)
    with torch.no_grad():
        image = decoder.sky(parameters)[0].sum(0) * torch.as_tensor(mock.light, dtype=torch.float32)
    truth = {name: torch.tensor(mock.truth[name]) for name in ("pa", "inclination")}
    x, y = decoder.field.xi - mock.truth["east"], decoder.field.eta - mock.truth["north"]
    u, w = sky_to_axes(x, y, torch.deg2rad(truth["pa"]))
    radius = torch.hypot(u, w / torch.cos(torch.deg2rad(truth["inclination"])))
    inside = image.flatten()[radius < mock.truth["r50"]].sum() / image.sum()
    # Whole pixels, some hundred of them, and what the field cuts off
    assert float(inside) == pytest.approx(0.5, abs=0.03)
    light = [mock.values[name] for name in mock.forms.slots["surface_brightness"]]
    of_profile = float(mock.forms.surface_brightness.half_light_radius(*light))
    assert mock.truth["r50"] != pytest.approx(of_profile, rel=1e-4)
    assert mock.truth["r50"] == pytest.approx(of_profile, rel=0.3)


@pytest.mark.parametrize("how", ["holed", "nfw", "declining"])
def test_size_and_speed_are_kept(mocks, how):
    mock = mocks[how]
    forms, values = mock.forms, mock.values
    r50 = mock.truth["r50"]
    light = [values[name] for name in forms.slots["surface_brightness"]]
    curve = [values[name] for name in forms.slots["rotation_curve"]]
    assert float(forms.surface_brightness.half_light_radius(*light)) == pytest.approx(r50, rel=1e-4)
    v22 = float(forms.rotation_curve.evaluate(1.31 * r50, *curve))
    assert v22 == pytest.approx(mock.truth["v22"], rel=1e-4)
    assert mock.truth["v22_sini"] == pytest.approx(v22 * np.sin(np.radians(mock.truth["inclination"])), rel=1e-4)


def test_curves_and_light_are_others(mocks):
    assert mocks["nfw"].forms.rotation_curve.name == "nfw"
    assert mocks["holed"].forms.surface_brightness.name == "exponential_hole"
    curve, values, r50 = (
        mocks["declining"].forms.rotation_curve,
        mocks["declining"].values,
        mocks["declining"].truth["r50"],
    )
    speed = curve.evaluate(np.array([1.5, 3.0]) * r50, *(values[name] for name in curve.names()))
    assert speed[1] < speed[0]


@pytest.mark.parametrize("how", ["clumpy", "lopsided"])
def test_light_is_uneven_as_said(mocks, how):
    mock = mocks[how]
    image = seen(mock).sum(0)
    smooth = Mock(**{name: getattr(mock, name) for name in Mock.__dataclass_fields__} | {
        "truth": mock.values | mock.truth | {"snr": 1e5}
    })  # fmt: skip
    plain = observe_mock(smooth, np.random.default_rng(1), FORMS)[0].unitless_filled_data[:].sum(0)
    # Light is moved, not added: the flux stays. What the clip of the field cuts off is a percent.
    assert image.sum() == pytest.approx(plain.sum(), rel=0.02)
    bright = plain > 0.05 * plain.max()
    ratio = image[bright] / plain[bright]
    if how == "clumpy":
        # The beam smooths clumps of 0.7 of its FWHM (1.65 sigma) to 0.85 of their rms; few of them leave a third.
        assert np.log(ratio).std() == pytest.approx(0.85 * CLUMPS, rel=0.4)
    else:
        assert 0.1 < ratio.max() - 1 < 0.35
        assert 0.1 < 1 - ratio.min() < 0.35


def test_a_draw_is_repeated(mocks):
    first, again = (break_mock(np.random.default_rng(7), FORMS) for _ in range(2))
    assert first.truth == again.truth
    assert first.how == again.how
