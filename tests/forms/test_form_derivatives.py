"""The derivatives of every form, which astropy's fitters use, against central differences."""

import numpy as np
import pytest

from kinematics_nn.forms import list_forms

# moment0 is made of cubics, whose joints no difference may straddle: test_moment0_light.py
FORMS = [k.form for k in list_forms() if k.provider.startswith("kinematics_nn ") and k.name != "moment0"]
# both sides of every series, and of every place where a curve is held; none on it
RADIUS = np.concatenate([[0.0], np.geomspace(1.3e-5, 2e3, 47)])


def differences(form, values, i):
    """A five-point difference by one parameter, in float64."""
    h = 1e-3 * max(abs(values[i]), 0.1)

    def at(k):
        return form.evaluate(RADIUS, *(value + k * h * (j == i) for j, value in enumerate(values)))

    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.kind}-{form.name}")
@pytest.mark.parametrize("factor", [0.6, 1.0, 1.7])
def test_derivatives(form, factor):
    values = [
        np.clip(known.default * factor, known.bounds[0] + 0.1 * abs(known.default), 0.95 * known.bounds[1])
        for known in form.parameters
    ]
    columns = form.derivatives(RADIUS, *values)
    assert len(columns) == len(values)
    for i, column in enumerate(columns):
        wanted = differences(form, values, i)
        column = np.broadcast_to(column, RADIUS.shape)
        assert np.all(np.isfinite(column))
        # the difference's own error is 1e-12 of the fifth derivative and 1e-12 of rounding; where a curve bends
        # (Courteau's cut, a truncation) the fifth derivative is large
        np.testing.assert_allclose(column, wanted, rtol=2e-6, atol=2e-8 * np.abs(wanted).max())


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.kind}-{form.name}")
def test_every_form_has_derivatives_and_takes_a_number(form):
    values = list(form.defaults().values())
    single = form.derivatives(3.0, *values)
    many = form.derivatives(np.array([3.0, 7.0]), *values)
    for one, two in zip(single, many, strict=True):
        assert float(one) == pytest.approx(float(np.broadcast_to(two, 2)[0]), rel=1e-12)
