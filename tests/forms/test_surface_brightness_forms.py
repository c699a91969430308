"""Surface brightness: total light and half-light radii against scipy's quadrature, and dispersions."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, optimize

from kinematics_nn.forms import FormParameter, LogUniform, SurfaceBrightness, dispersion, list_forms, ops
from kinematics_nn.forms import surface_brightness as sb

CASES = [
    (sb.Exponential, {"r_scale": 8.0}),
    (sb.Sersic, {"r_eff": 8.0, "n": 0.3}),
    (sb.Sersic, {"r_eff": 8.0, "n": 1.0}),
    (sb.Sersic, {"r_eff": 8.0, "n": 4.0}),
    (sb.Gaussian, {"r_sigma": 3.0}),
    (sb.Ring, {"r_ring": 8.0, "width": 2.0}),
    (sb.Ring, {"r_ring": 8.0, "width": 0.01}),
    (sb.Ring, {"r_ring": 1.0, "width": 5.0}),
    (sb.ExponentialHole, {"r_scale": 8.0, "r_hole": 4.0}),
    (sb.ExponentialHole, {"r_scale": 2.0, "r_hole": 40.0}),
    (sb.DoubleExponential, {"r_scale": 3.0, "r_outer": 30.0, "outer_share": 0.3}),
    (sb.TruncatedExponential, {"r_scale": 8.0, "r_trunc": 10.0}),
    (sb.TruncatedExponential, {"r_scale": 80.0, "r_trunc": 10.0}),
]


class Exponential(SurfaceBrightness):
    """An exponential disc without its closed forms, as a user would write it."""

    name = "plain"
    parameters = (FormParameter("r_scale", "arcsec", 8.0, (1e-3, 1e5), LogUniform(0.1, 50.0), "scale length"),)

    @staticmethod
    def evaluate(radius, r_scale):
        return ops.exp(-radius / r_scale)


def light_within(form, parameters, radius):
    edges = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 17)]) * radius
    parts = [
        integrate.quad(
            lambda r: 2 * np.pi * r * form.evaluate(r, **parameters), a, b, epsabs=0, epsrel=1e-11, limit=200
        )[0]
        for a, b in pairwise(edges)
    ]
    return sum(parts)


def test_every_form_is_among_the_cases():
    elsewhere = {"moment0", "rings"}  # profiles made of pieces: test_moment0_light.py, test_rings.py
    forms = {k.form for k in list_forms() if k.kind == "surface_brightness" and k.name not in elsewhere}
    assert forms == {form for form, _ in CASES}


@pytest.mark.parametrize(("form", "parameters"), [*CASES, (Exponential, {"r_scale": 8.0})])
def test_total_and_half_light_radius(form, parameters):
    size = form.half_light_radius(**parameters)
    total = light_within(form, parameters, 1e4 if parameters.get("n") == 4 else 200 * size)
    # a Sérsic profile of n = 4 has 1e-8 of its light outside 1e4 arcsec; the truncation is sampled to 3e-10
    assert form.total(**parameters) == pytest.approx(total, rel=1e-7)
    half = optimize.brentq(lambda r: light_within(form, parameters, r) / total - 0.5, 0.3 * size, 3 * size, rtol=1e-10)
    assert size == pytest.approx(half, rel=1e-6)  # the cubic within a step of the logarithm of radius


@pytest.mark.parametrize(("form", "parameters"), [*CASES, (Exponential, {"r_scale": 8.0})])
def test_integrals_are_batched_and_differentiable(form, parameters):
    values = [
        torch.tensor([[value, 1.2 * value]], dtype=torch.float64, requires_grad=True) for value in parameters.values()
    ]
    for integral in (form.total, form.half_light_radius):
        found = integral(*values)
        assert found.shape == (1, 2)
        single = integral(**parameters)
        assert found[0, 0].item() == pytest.approx(single, rel=1e-12)
        # both are sums of a thousand terms: differences of 1e-6 carry about 1e-9 of noise
        assert torch.autograd.gradcheck(integral, values, atol=1e-5, rtol=1e-4)


def test_half_light_radius_keeps_float32():
    assert sb.Ring.half_light_radius(torch.tensor([8.0]), torch.tensor([2.0])).dtype == torch.float32
    assert sb.Ring.half_light_radius(np.float32([8.0]), np.float32([2.0])).dtype == np.float32


def test_sersic_is_exponential_and_gaussian():
    radius = np.linspace(0, 40, 30)
    for n, form, per_r50 in (
        (1.0, sb.Exponential, 1 / 1.678346990016661),
        (0.5, sb.Gaussian, 1 / np.sqrt(2 * np.log(2))),
    ):
        found = sb.Sersic.evaluate(radius, 8.0, n)
        wanted = form.evaluate(radius, 8.0 * per_r50)
        # the profile is held inside 1e-8 r_eff: 2e-8 of the central value
        np.testing.assert_allclose(found / found[0], wanted / wanted[0], rtol=1e-6)
    assert sb.Sersic.evaluate(8.0, 8.0, 2.5) == 1


def test_shapes_at_their_reference():
    assert sb.Ring.evaluate(8.0, 8.0, 2.0) == 1
    assert sb.ExponentialHole.evaluate(0.0, 8.0, 4.0) == 0
    assert sb.TruncatedExponential.evaluate(10.0, 8.0, 10.0) == pytest.approx(0.5 * np.exp(-10 / 8), rel=1e-14)


def test_double_exponential_shares_its_light():
    inner, outer = sb.Exponential.total(3.0), sb.Exponential.total(30.0)
    at_centre = sb.DoubleExponential.evaluate(0.0, 3.0, 30.0, 0.3)
    assert at_centre * inner == pytest.approx(0.7 * inner + 0.3 * inner * inner / outer, rel=1e-14)


def test_a_form_without_a_length_must_say_how_large_it_is():
    class Shapeless(Exponential):
        parameters = (FormParameter("n", "", 1.0, (0.1, 2.0), LogUniform(0.1, 2.0), "index"),)

    with pytest.raises(TypeError, match="radial_scale"):
        Shapeless.total(1.0)


def test_dispersions():
    radius = np.array([0.0, 10.0, 20.0])
    np.testing.assert_array_equal(dispersion.Constant.evaluate(radius, 10.0), 10.0)
    np.testing.assert_allclose(
        dispersion.ExponentialDispersion.evaluate(radius, 10.0, 10.0), [10, 10 / np.e, 10 / np.e**2], rtol=1e-15
    )
    np.testing.assert_allclose(dispersion.LinearDispersion.evaluate(radius, 10.0, -0.7), [10, 3, 0], rtol=1e-15)
