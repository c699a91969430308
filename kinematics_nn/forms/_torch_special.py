"""Special functions whose derivatives torch lacks. Imported by `ops` only once a tensor is seen."""

from __future__ import annotations

import torch

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


def _by_shape(a, x):
    """dP/da by a five-point difference in float64 (error about 1e-11: the series has no one form for all a and x)."""
    a64, x64 = a.double(), x.double()
    h = 1e-3 * a64
    p = torch.special.gammainc
    slope = 8 * (p(a64 + h, x64) - p(a64 - h, x64)) - (p(a64 + 2 * h, x64) - p(a64 - 2 * h, x64))
    return (slope / (12 * h)).to(a.dtype)


class _GammaInc(_Elementwise):
    @staticmethod
    def forward(a, x):
        return torch.special.gammainc(a, x)

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
