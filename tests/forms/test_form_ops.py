"""The functions that torch lacks derivatives of, and the dispatch between numpy and torch."""

import numpy as np
import pytest
import torch
from scipy import special

from kinematics_nn.forms import ops

# torch 2.13 compiles its own forward-mode formulas by the torch.jit.script that it deprecates
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


@pytest.mark.parametrize("name", ["k0e", "k1e", "i0e", "i1e", "erfc", "gammaln", "log1p", "expm1"])
def test_one_value_under_both(name):
    x = np.geomspace(1e-3, 50, 20)
    np.testing.assert_allclose(
        getattr(ops, name)(torch.tensor(x)).numpy(), getattr(ops, name)(x), rtol=1e-13, atol=1e-16
    )


@pytest.mark.parametrize("name", ["abs", "arcsinh", "cos", "cosh", "erf", "log10", "sin", "sinh"])
def test_a_function_of_numpy_has_torchs_value_and_gradient(name):
    function, x = getattr(ops, name), np.geomspace(1e-3, 10, 12)
    x = x if name == "log10" else np.concatenate([-x, x])
    wanted = getattr(special if name == "erf" else np, name)(x)
    tensor = torch.tensor(x, requires_grad=True)
    np.testing.assert_array_equal(function(x), wanted)
    np.testing.assert_allclose(function(tensor).detach().numpy(), wanted, rtol=1e-14)  # two libraries' last digits
    # steps of 1e-8 near 1e-3, where log10 bends
    assert torch.autograd.gradcheck(function, tensor, eps=1e-8, rtol=1e-4)
    assert type(function(2.0)) is float
    assert function(x.astype(np.float32)).dtype == np.float32


def test_abs_has_a_finite_gradient_at_0():
    x = torch.zeros(1, requires_grad=True)
    ops.abs(x).sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("name", ["k0e", "k1e"])
def test_bessel_k_has_derivatives_of_every_mode_and_order(name):
    x = torch.tensor([1e-3, 0.1, 1.0, 7.0], dtype=torch.float64, requires_grad=True)
    function = getattr(ops, name)
    with torch.random.fork_rng():  # gradgradcheck draws from the global generator
        # at 1e-3 K1 changes by 1e6 per unit: a smaller step than gradcheck's default
        assert torch.autograd.gradcheck(function, x, eps=1e-8, rtol=1e-4, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(function, x[1:].detach().requires_grad_())


def test_gammainc_has_both_derivatives():
    # above a = 20, torch 2.13's own gammainc is wrong by 2e-9 near x = a: no form goes there
    a = torch.tensor([0.6, 2.0, 8.0, 19.0], dtype=torch.float64, requires_grad=True)[:, None]
    x = torch.tensor([0.0, 0.3, 2.0, 15.0, 60.0], dtype=torch.float64)
    np.testing.assert_allclose(
        ops.gammainc(a, x).detach().numpy(), special.gammainc(a.detach().numpy(), x.numpy()), rtol=1e-12
    )
    a = a.detach().requires_grad_()
    inner = x[1:].clone().requires_grad_()
    assert torch.autograd.gradcheck(ops.gammainc, (a, inner), check_forward_ad=True)
    # at x = 0 it has no difference from below; all that is asked is a finite gradient
    gradients = torch.autograd.grad(ops.gammainc(a, torch.zeros_like(a, requires_grad=True)).sum(), a)
    assert torch.isfinite(gradients[0]).all()


def test_gammainc_by_shape_is_exact():
    # P(1, x) = 1 - exp(-x), and dP/da at a = 1 is exp(-x) times the series of x**k/k! (log x - digamma(k + 2)) x
    x = 3.0
    k = np.arange(60)
    wanted = np.sum(np.exp(-x) * x ** (k + 1) / special.gamma(k + 2) * (np.log(x) - special.digamma(k + 2)))
    a = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    ops.gammainc(a, x).backward()
    assert a.grad.item() == pytest.approx(wanted, rel=1e-9)  # the five-point difference


def test_gamma_median():
    a = torch.tensor([0.4, 0.6, 1.0, 2.0, 8.0, 16.0], dtype=torch.float64, requires_grad=True)
    np.testing.assert_allclose(
        ops.gamma_median(a).detach().numpy(), special.gammaincinv(a.detach().numpy(), 0.5), rtol=1e-12
    )
    assert torch.autograd.gradcheck(ops.gamma_median, a, check_forward_ad=True)
    assert ops.gamma_median(1.0) == pytest.approx(np.log(2), rel=1e-14)


def test_plain_numbers_stay_weak():
    assert (np.float32([1.0]) * ops.gamma_median(2.0)).dtype == np.float32
    assert (np.float32([1.0]) * ops.exp(1.0)).dtype == np.float32


def test_mixed_arguments():
    x = torch.tensor([1.0, 3.0])
    assert ops.maximum(x, 2.0).tolist() == [2, 3]
    assert ops.minimum(2.0, x).tolist() == [1, 2]
    np.testing.assert_allclose(ops.logaddexp(x, 0.0).numpy(), np.logaddexp(x.numpy(), 0), rtol=1e-6)  # float32
    assert ops.polynomial(2.0, [1.0, 2.0, 3.0]) == 17


def test_gammainc_above_twenty_is_scipys():
    a = torch.linspace(20.01, 60, 90, dtype=torch.float64)[:, None]
    x = a * torch.linspace(0.5, 1.6, 80, dtype=torch.float64)
    # the recurrence loses two digits where P is 0.01; torch 2.13's own is wrong by 2e-9
    np.testing.assert_allclose(ops.gammainc(a, x).numpy(), special.gammainc(a.numpy(), x.numpy()), rtol=1e-11)


def test_gammainc_by_shape_in_float32_is_that_of_float64():
    slopes = []
    for dtype in (torch.float64, torch.float32):
        a = torch.tensor([[0.8], [3.0], [17.0], [40.0]], dtype=dtype, requires_grad=True)
        x = a.detach() * torch.linspace(0.2, 2.0, 40, dtype=dtype)
        gradient = torch.autograd.functional.jacobian(lambda a, x=x: ops.gammainc(a, x).sum(0), a)[..., 0]
        slopes.append(gradient.double().numpy())
    assert np.abs(slopes[1] - slopes[0]).max() < 1e-5 * np.abs(slopes[0]).max()  # a few units of float32


def test_gammainc_derivatives_of_numpy_are_torchs():
    a = torch.tensor([[0.8], [3.0], [17.0], [40.0]], dtype=torch.float64, requires_grad=True)
    x = (a * torch.linspace(0.2, 2.0, 40, dtype=torch.float64)).detach().requires_grad_()
    by_a, by_x = ops.gammainc_derivatives(a.detach().numpy(), x.detach().numpy())
    wanted = torch.autograd.grad(ops.gammainc(a, x).sum(), [a, x])
    np.testing.assert_allclose(by_a.sum(1, keepdims=True), wanted[0].numpy(), atol=1e-8)  # 40 differences of 1e-11
    np.testing.assert_allclose(by_x, wanted[1].numpy(), rtol=1e-10)


def test_piecewise_takes_each_formula_on_its_side():
    x = np.array([-1.0, 0.5, 2.0, 3.0])

    def root(x):
        return ops.sqrt(x)

    wanted = [2.0, 0.5 + 3, np.sqrt(2), np.sqrt(3)]
    np.testing.assert_allclose(ops.piecewise(x, 1.0, lambda x: x + 3, root), wanted, rtol=1e-15)
    tensor = torch.tensor(x, requires_grad=True)
    found = ops.piecewise(tensor, 1.0, lambda x: x + 3, root)
    np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-15)
    found.sum().backward()
    np.testing.assert_allclose(tensor.grad.numpy(), [1, 1, 0.5 / np.sqrt(2), 0.5 / np.sqrt(3)], rtol=1e-15)
    assert ops.piecewise(4.0, 1.0, lambda x: x + 3, root) == 2.0
    # float64 has its own edge, float32 the wider one
    for dtype, formula in ((np.float64, np.sqrt(0.5)), (np.float32, 3.5)):
        assert ops.piecewise(np.array([0.5], dtype), 1.0, lambda x: x + 3, root, edge64=0.1)[0] == pytest.approx(
            formula
        )


def test_a_plain_number_that_is_held_stays_one():
    assert (np.ones(3, dtype=np.float32) * ops.clip(0.5, 1e-3, 2)).dtype == np.float32
