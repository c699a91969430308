"""Special functions whose derivatives torch lacks. Imported by `ops` only once a tensor is seen."""

from __future__ import annotations

import torch

from .ops import slope_by_shape

__all__ = ["gamma_median", "gammainc", "k0e", "k1e"]


def k0e(x):
    """exp(x) K0(x), differentiable to any order."""
    return _K0e.apply(x)


def k1e(x):
    """exp(x) K1(x), differentiable to any order."""
    return _K1e.apply(x)


def gammainc(a, x):
    """Regularised lower incomplete gamma function P(a, x), once differentiable in both arguments."""
    return _GammaInc.apply(*torch.broadcast_tensors(a, x))


def gamma_median(a):
    """The x at which P(a, x) = 1/2, once differentiable, for a >= 0.4."""
    return _GammaMedian.apply(a)


class _Elementwise(torch.autograd.Function):
    """A function of elements, known by its partial derivatives; serves backward, forward mode and `vmap`."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs, output)
        ctx.save_for_forward(*inputs, output)

    @classmethod
    def _backward(cls, ctx, gradient):
        *inputs, output = ctx.saved_tensors
        partials = cls.partials(inputs, output, ctx.needs_input_grad)
        return tuple(None if partial is None else gradient * partial for partial in partials)

    @classmethod
    def _jvp(cls, ctx, tangents):
        *inputs, output = ctx.saved_tensors
        wanted = [tangent is not None for tangent in tangents]
        partials = cls.partials(inputs, output, wanted)
        return sum(
            tangent * partial for tangent, partial in zip(tangents, partials, strict=True) if tangent is not None
        )


class _K0e(_Elementwise):
    @staticmethod
    def forward(x):
        return torch.special.scaled_modified_bessel_k0(x)

    @staticmethod
    def partials(inputs, output, wanted):
        (x,) = inputs
        return (k0e(x) - k1e(x),)  # DLMF 10.29.3

    @staticmethod
    def backward(ctx, gradient):
        return _K0e._backward(ctx, gradient)

    @staticmethod
    def jvp(ctx, *tangents):
        return _K0e._jvp(ctx, tangents)


class _K1e(_Elementwise):
    @staticmethod
    def forward(x):
        return torch.special.scaled_modified_bessel_k1(x)

    @staticmethod
    def partials(inputs, output, wanted):
        (x,) = inputs
        return (k1e(x) - k0e(x) - k1e(x) / x,)  # DLMF 10.29.2

    @staticmethod
    def backward(ctx, gradient):
        return _K1e._backward(ctx, gradient)

    @staticmethod
    def jvp(ctx, *tangents):
        return _K1e._jvp(ctx, tangents)


def _density(a, x):
    """dP/dx, the density of the gamma distribution; x = 0 gives its limit for a > 1."""
    safe = torch.where(x > 0, x, torch.ones_like(x))
    density = torch.exp((a - 1) * torch.log(safe) - safe - torch.lgamma(a))
    return torch.where(x > 0, density, torch.zeros_like(density))


def _regularised(a, x):
    """P(a, x). In float64 torch's own is wrong by 2e-9 near x = a above a = 20; up to a = 60 it is mended here.

    There it follows from a smaller a by the recurrence P(a + 1, x) = P(a, x) - x**a exp(-x) / Gamma(a + 1)
    (DLMF 8.8.5), which loses no digits where P is not small.
    """
    value = torch.special.gammainc(a, x)
    if a.dtype != torch.float64:
        return value
    above = torch.ceil(a - 20).clamp(0, 40)
    low = a - above
    term = torch.exp(low * torch.log(x.clamp(min=1e-300)) - x - torch.lgamma(low + 1))
    mended = torch.special.gammainc(low, x)
    for k in range(40):
        mended = mended - torch.where(k < above, term, 0.0)
        term = term * x / (low + (k + 1))
    return torch.where((a > 20) & (a <= 60) & ((x - a).abs() < 0.31 * a), mended, value)


def _by_shape(a, x):
    coarse = a.dtype != torch.float64
    regularised = torch.special.gammainc if coarse else _regularised
    return slope_by_shape(regularised, a.double(), x.double(), coarse).to(a.dtype)


class _GammaInc(_Elementwise):
    @staticmethod
    def forward(a, x):
        return _regularised(a, x)

    @staticmethod
    def partials(inputs, output, wanted):
        a, x = inputs
        return (_by_shape(a, x) if wanted[0] else None, _density(a, x) if wanted[1] else None)

    @staticmethod
    def backward(ctx, gradient):
        return _GammaInc._backward(ctx, gradient)

    @staticmethod
    def jvp(ctx, *tangents):
        return _GammaInc._jvp(ctx, tangents)


class _GammaMedian(_Elementwise):
    @staticmethod
    def forward(a):
        a64 = a.double()
        # Ciotti & Bertin (1999, A&A 352, 447) eq. 18 with a = 2n starts within 2 % for a >= 0.4; Newton doubles the
        # digits at each step, so that six are more than double precision needs
        x = torch.clamp(a64 - 1 / 3 + 8 / (405 * a64) + 184 / (25515 * a64**2), min=0.1 * a64)
        for _ in range(6):
            x = torch.clamp(x - (torch.special.gammainc(a64, x) - 0.5) / _density(a64, x), min=0.1 * x)
        return x.to(a.dtype)

    @staticmethod
    def partials(inputs, output, wanted):
        (a,) = inputs
        return (-_by_shape(a, output) / _density(a, output),)  # P(a, x(a)) is constant

    @staticmethod
    def backward(ctx, gradient):
        return _GammaMedian._backward(ctx, gradient)

    @staticmethod
    def jvp(ctx, *tangents):
        return _GammaMedian._jvp(ctx, tangents)
