"""The width of the integrated line, from a disc's curves."""

import math

import torch

__all__ = ["line_width"]

_WAVES, _SPEEDS = 32, 64
_NARROWEST = 1.2 / _WAVES  # dispersion over the half-width of the band, below which the series would ring
_FAINT = 0.03  # share of the light that is left out, in the outermost rings


def line_width(speed, light, radii, inclination, dispersion):
    r"""Full width at half of the maximum of the line integrated over the sky, w50 [km/s].

    The speeds of a ring follow an arcsine law, whose Fourier transform is :math:`J_0(k V \sin i)`; the line is the sum
    of the rings' transforms times the Gaussian's, turned back by a cosine series.

    Parameters
    ----------
    speed : Tensor (draw, ring)
        Rotation speed at ``radii`` [km/s].
    light : Tensor (draw, ring)
        Face-on surface brightness at ``radii``, any unit.
    radii : Tensor (draw, ring)
        Ascending [arcsec].
    inclination : Tensor (draw,)
        [rad].
    dispersion : Tensor (draw,)
        [km/s].

    Returns
    -------
    Tensor (draw,)
    """
    dtype = speed.dtype
    speed, light, radii = speed.float(), light.float(), radii.float()
    projected = speed * torch.sin(inclination).float()[:, None]
    sigma = dispersion.float()
    weight = light * radii * torch.gradient(radii, dim=1)[0]
    # The band ends where the galaxy does: a curve that still rises beyond would make it too wide to resolve the line.
    beyond = weight.flip(1).cumsum(1).flip(1) < _FAINT * weight.sum(1, keepdim=True)
    projected, weight = projected.masked_fill(beyond, 0.0), weight.masked_fill(beyond, 0.0)
    top = projected.abs().amax(1) + 4 * sigma
    sigma = torch.maximum(sigma, _NARROWEST * top)
    k = math.pi * torch.arange(_WAVES)
    rings = (torch.special.bessel_j0(projected[:, :, None] / top[:, None, None] * k) * weight[:, :, None]).sum(1)
    waves = rings * torch.exp(-0.5 * ((sigma / top)[:, None] * k) ** 2)
    waves[:, 0] *= 0.5
    v = torch.linspace(0, 1, _SPEEDS)
    line = waves @ torch.cos(k[:, None] * v)
    half = 0.5 * line.amax(1, keepdim=True)
    last = _SPEEDS - 1 - (line.flip(1) >= half).to(torch.int64).argmax(1, keepdim=True)
    after = (last + 1).clamp(max=_SPEEDS - 1)
    a, b = line.gather(1, last), line.gather(1, after)
    share = ((a - half) / (a - b).clamp(min=1e-30)).clamp(0, 1)
    return (2 * top * ((last + share) / (_SPEEDS - 1))[:, 0]).to(dtype)
