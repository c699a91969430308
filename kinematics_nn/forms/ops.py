"""The one place that knows numpy and torch: functions of elements, dispatched on what they are given.

A form is written once with these, and then takes numpy arrays and torch tensors alike. torch is never imported here:
whoever passes a tensor has imported it already.
"""

from __future__ import annotations

import sys

import numpy as np
from scipy import special

__all__ = [
    "abs",
    "arcsinh",
    "arctan",
    "clip",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "expm1",
    "gamma_median",
    "gammainc",
    "gammainc_derivatives",
    "gammaln",
    "i0e",
    "i1e",
    "is_tensor",
    "k0e",
    "k1e",
    "log",
    "log10",
    "log1p",
    "logaddexp",
    "maximum",
    "minimum",
    "piecewise",
    "polynomial",
    "power",
    "sin",
    "sinh",
    "sqrt",
    "tanh",
    "tensors",
    "where",
]


def is_tensor(*values):
    """Whether any of the values is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and any(isinstance(value, torch.Tensor) for value in values)


def _weak(value, *arguments):
    """A plain number for plain numbers: numpy would hand out a float64 that turns float32 arrays into float64."""
    return float(value) if all(type(argument) in (float, int) for argument in arguments) else value


def _unary(name, of_numpy, of_torch):
    """A function of one argument; `of_torch` is the name of a function in torch (with dots)."""

    def function(x):
        if not is_tensor(x):
            return float(of_numpy(x)) if type(x) in (float, int) else of_numpy(x)
        found = sys.modules["torch"]
        for part in of_torch.split("."):
            found = getattr(found, part)
        return found(x)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"``{name}`` of each element of an array or a tensor."
    return function


abs = _unary("abs", np.abs, "abs")
sin = _unary("sin", np.sin, "sin")
cos = _unary("cos", np.cos, "cos")
sinh = _unary("sinh", np.sinh, "sinh")
cosh = _unary("cosh", np.cosh, "cosh")
arcsinh = _unary("arcsinh", np.arcsinh, "arcsinh")
arctan = _unary("arctan", np.arctan, "arctan")
tanh = _unary("tanh", np.tanh, "tanh")
exp = _unary("exp", np.exp, "exp")
expm1 = _unary("expm1", np.expm1, "expm1")
log = _unary("log", np.log, "log")
log10 = _unary("log10", np.log10, "log10")
log1p = _unary("log1p", np.log1p, "log1p")
sqrt = _unary("sqrt", np.sqrt, "sqrt")
erf = _unary("erf", special.erf, "special.erf")
erfc = _unary("erfc", special.erfc, "special.erfc")
gammaln = _unary("gammaln", special.gammaln, "lgamma")
i0e = _unary("i0e", special.i0e, "special.i0e")
i1e = _unary("i1e", special.i1e, "special.i1e")


def _special():
    from . import _torch_special

    return _torch_special


def k0e(x):
    """exp(x) K0(x), the scaled modified Bessel function of the second kind (torch's own has no gradient)."""
    return _special().k0e(x) if is_tensor(x) else _weak(special.k0e(x), x)


def k1e(x):
    """exp(x) K1(x), the scaled modified Bessel function of the second kind (torch's own has no gradient)."""
    return _special().k1e(x) if is_tensor(x) else _weak(special.k1e(x), x)


def gammainc(a, x):
    """Regularised lower incomplete gamma function P(a, x) (torch's own has no gradient in `a`)."""
    if is_tensor(a, x):
        return _special().gammainc(*tensors(a, x))
    # scipy computes in float64 where one of the two is a plain number
    return _weak(special.gammainc(a, x).astype(np.result_type(a, x, 0.0), copy=False), a, x)


def slope_by_shape(regularised, a, x, coarse=False):
    """dP/da by differences: no one series serves all a and x, and torch and scipy have none.

    `regularised` is the library's own P, and all is in float64. Of five points, the absolute error is about 1e-11; the
    three of a `coarse` one, twice as fast, leave 1e-7 sqrt(a), which float32 does not tell from 0.
    """
    h = 1e-3 * a
    near = regularised(a + h, x) - regularised(a - h, x)
    if coarse:
        return near / (2 * h)
    return (8 * near - (regularised(a + 2 * h, x) - regularised(a - 2 * h, x))) / (12 * h)


def gammainc_derivatives(a, x):
    """dP/da and dP/dx of `gammainc`, for numpy alone: what forms write their `derivatives` with."""
    a, x = np.asarray(a, dtype=float), np.asarray(x, dtype=float)
    by_x = np.exp(special.xlogy(a - 1, x) - x - special.gammaln(a))
    return slope_by_shape(special.gammainc, a, x), by_x


def gamma_median(a):
    """The x at which P(a, x) = 1/2, for a >= 0.4; a Sérsic profile's b is that of a = 2n."""
    return _special().gamma_median(a) if is_tensor(a) else _weak(special.gammaincinv(a, 0.5), a)


def tensors(*values):
    """All values as tensors of the dtype and device of the first that is one."""
    torch = sys.modules["torch"]
    like = next(value for value in values if isinstance(value, torch.Tensor))
    return tuple(torch.as_tensor(value, dtype=like.dtype, device=like.device) for value in values)


def maximum(x, y):
    """The larger of each pair; either may be a plain number."""
    return sys.modules["torch"].maximum(*tensors(x, y)) if is_tensor(x, y) else np.maximum(x, y)


def minimum(x, y):
    """The smaller of each pair; either may be a plain number."""
    return sys.modules["torch"].minimum(*tensors(x, y)) if is_tensor(x, y) else np.minimum(x, y)


def clip(x, lo=None, hi=None):
    """`x` held between two plain numbers; the gradient is 0 where it is held."""
    if is_tensor(x):
        return sys.modules["torch"].clamp(x, lo, hi)
    # np.clip takes four times as long, and makes a float64 of a plain number
    above, below = (max, min) if type(x) in (float, int) else (np.maximum, np.minimum)
    x = x if lo is None else above(x, lo)
    return x if hi is None else below(x, hi)


def logaddexp(x, y):
    """log(exp(x) + exp(y)) without overflow; either may be a plain number."""
    return sys.modules["torch"].logaddexp(*tensors(x, y)) if is_tensor(x, y) else np.logaddexp(x, y)


def where(condition, x, y):
    """`x` where the condition holds, else `y`. Both are computed: keep both finite, or gradients are NaN."""
    return sys.modules["torch"].where(condition, x, y) if is_tensor(condition, x, y) else np.where(condition, x, y)


def piecewise(x, edge, below, above, edge64=None):
    """``below(x)`` where x < edge, else ``above(x)``: two formulas of one function, each good on its side.

    numpy computes each where it holds. torch computes both everywhere, of an `x` held on either side of the edge, so
    that gradients stay finite. With `edge64`, float64 has an edge of its own: a difference that loses digits towards 0
    serves it further in, and is faster than a series.
    """
    tensor = is_tensor(x)
    x = x if tensor else np.asarray(x)
    if edge64 is not None and x.dtype.itemsize == 8:
        edge = edge64
    inside = x < edge
    if tensor:
        return where(inside, below(clip(x, None, edge)), above(clip(x, edge)))
    if not inside.any():
        return above(x)
    value = np.empty_like(x)
    value[inside], value[~inside] = below(x[inside]), above(x[~inside])
    return value[()]


def power(x, exponent, floor=1e-8):
    """x**exponent for x >= 0, with `x` held above `floor` so that gradients stay finite at 0 for any exponent."""
    return exp(exponent * log(clip(x, floor)))


def polynomial(x, coefficients):
    """c0 + c1 x + c2 x**2 + ... by Horner's rule, of two coefficients or more."""
    *lower, value = coefficients
    for coefficient in reversed(lower):
        value = value * x + coefficient
    return value
