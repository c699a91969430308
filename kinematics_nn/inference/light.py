"""The light as it is: patches over the disc, free to be brighter or fainter than the profile, marginalised."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from ..decoder import BeamOperator, beam_covariance
from ..decoder.geometry import sky_to_axes
from .cores import in_parallel
from .half_light import growth

__all__ = [
    "HALF_LIGHT",
    "SCATTERS",
    "Patches",
    "least_flux",
    "log_marginal",
    "marginal",
    "over_scatters",
    "render_patches",
    "with_patches",
]

SCATTERS = np.geomspace(0.001, 1.5, 22)
"""Values of ``light_scatter``, rms of the light about its profile on the scale of a beam, log-uniform a priori."""

HALF_LIGHT = np.geomspace(0.25, 4, 12)
"""Radii within which patches of light are counted, over the half-light radius of the disc that they are about."""

_SPACING = 0.75  # beams between patches
_MOST = 256  # patches at most: beyond them they are larger and farther apart
_AT_ONCE = 32  # patches that are rendered and made white at a time
_FAINTEST = 0.02  # of the brightest pixel of the disc, as the telescope sees it: fainter parts have no patches


@dataclass(frozen=True)
class Patches:
    """The whitened response of the cube to patches of light, in the directions in which they are independent.

    Attributes
    ----------
    basis : Tensor (value, k)
        Orthogonal columns, float32.
    power : Tensor (k,)
        Their squared norms, float64.
    data : Tensor (k,)
        Products of the data with them, float64.
    light : Tensor (k, 1 + radius)
        Flux that each of them adds to the galaxy, and to what is within each of the ``radii``, float64.
    radii : Tensor (radius,)
        In the plane of the disc [arcsec].
    flux : float
        Of the disc that they were rendered with.
    """

    basis: torch.Tensor
    power: torch.Tensor
    data: torch.Tensor
    light: torch.Tensor
    radii: torch.Tensor
    flux: float

    def variances(self, scatters):
        """Of the amplitudes given the data (m, k), for values of f (m,)."""
        f2 = (scatters**2).double()[:, None]
        return f2 / (1 + f2 * self.power)

    @classmethod
    def none(cls, likelihood):
        """No patches: the light is the profile."""
        empty = likelihood.data.new_zeros(len(likelihood.data), 0)
        none = empty[0].double()
        return cls(empty, none, none, none.new_zeros(0, 1), none, 0.0)


def render_patches(likelihood, parameters):
    r"""Patches over a disc.

    The light of a disc is :math:`\Sigma(R) (1 + \sum_k a_k B_k)`, with B_k round patches of the beam's width on a
    grid of three quarters of it, before the beam, the same in every channel. What is the disc itself is taken out of
    them: that is the flux's. Else patches of much scatter, all brighter by the same, would be this disc, and leave
    any other at no flux to wander through its priors.

    Parameters
    ----------
    likelihood : CubeLikelihood
    parameters : Tensor (n_parameters,)
        Of the disc, with its flux.

    Returns
    -------
    Patches
    """
    decoder, pad = likelihood.decoder, likelihood.decoder.pad
    with torch.no_grad():
        sky = decoder.sky(parameters[None].to(decoder.grid.xi.dtype))[0]  # (channel, y, x)
        matrix = decoder.grid.pixel_matrix.double()
        whole = BeamOperator(beam_covariance(decoder.grid.beam.double(), matrix), decoder.grid.xi.shape, pad)
        seen = whole(sky.sum(0)[None, None])[0, 0]
        bright = seen > _FAINTEST * seen.max()
        area = float(torch.linalg.det(matrix).abs())
        beam = math.sqrt(float(decoder.grid.beam[0] * decoder.grid.beam[1]))
        # Few enough patches to cover what is bright.
        width = max(beam, 2 * math.sqrt(area), math.sqrt(float(bright.sum()) * area / _MOST) / _SPACING)
        inverse = torch.linalg.inv(matrix)
        (ny, nx), (height, length) = bright.shape, sky.shape[1:]
        y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(length).double(), indexing="ij")
        # Centres on a square grid on the sky, those over what is bright.
        side = math.ceil(math.hypot(ny, nx) * math.sqrt(area) / (_SPACING * width)) + 2
        k = torch.arange(-side, side + 1).double() * _SPACING * width
        at = inverse @ torch.stack([k.repeat_interleave(len(k)), k.repeat(len(k))])
        at = at + torch.tensor([[(nx - 1) / 2], [(ny - 1) / 2]]).double()
        at = at[:, (at[0] > -0.5) & (at[0] < nx - 0.5) & (at[1] > -0.5) & (at[1] < ny - 0.5)]
        at = at[:, bright[at[1].round().long(), at[0].round().long()]] + pad
        ny, nx = height, length
        sigma = width / 2.3548
        reach_x, reach_y = (math.ceil(3 * sigma * float(torch.linalg.norm(inverse[axis]))) for axis in (0, 1))

        # Flux that each pixel holds, in all and within radii
        steps = torch.diff(decoder.grid.edges).to(sky.dtype)
        image = torch.tensordot(steps, sky, 1) * (area / decoder.grid.brightness_per_flux)
        radii, share, within = _within(decoder, parameters, image)
        image = torch.cat([image[None], image * within])

        def seen_white(centres):
            columns, light = [], []
            for cx, cy in centres.tolist():
                x0, x1 = max(0, round(cx) - reach_x), min(nx, round(cx) + reach_x + 1)
                y0, y1 = max(0, round(cy) - reach_y), min(ny, round(cy) + reach_y + 1)
                offset = torch.stack([x[y0:y1, x0:x1] - cx, y[y0:y1, x0:x1] - cy])
                east, north = (matrix @ offset.flatten(1)).unflatten(1, offset.shape[1:])
                patch = torch.exp(-0.5 * (east**2 + north**2) / sigma**2).to(sky.dtype)
                columns.append(decoder.beam((sky[:, y0:y1, x0:x1] * patch)[None], (y0, x0))[0])
                light.append((image[:, y0:y1, x0:x1] * patch).sum((1, 2)))
            return likelihood.whitener(torch.stack(columns)), torch.stack(light)

        if not at.shape[1]:
            return Patches.none(likelihood)
        parts = in_parallel(seen_white, at.T.split(_AT_ONCE))
        response, light = (torch.cat(part) for part in zip(*parts, strict=True))  # (k, value), (k,)
        flux = float(parameters[likelihood.names.index("flux")])
        disc, data = likelihood.white(parameters[None])[0], likelihood.data
        own = response @ disc / (disc @ disc)
        response.addr_(own, disc, alpha=-1)
        light = light.double() - own.double()[:, None] * flux * share
        gram = torch.zeros(len(response), len(response), dtype=torch.float64)
        along = torch.zeros(len(response), dtype=torch.float64)
        # In float64, and never all of it at once.
        for some, its in zip(response.split(16384, dim=1), data.split(16384), strict=True):
            some = some.double()
            gram += some @ some.T
            along += some @ its.double()
        power, directions = torch.linalg.eigh(gram)
        keep = power > 1e-6 * power.max()
        power, directions = power[keep], directions[:, keep]
        basis = (directions.T.float() @ response).T.contiguous()
        return Patches(basis, power, directions.T @ along, directions.T @ light, radii, abs(flux))


def _within(decoder, parameters, image):
    """Radii [arcsec] about a disc's half-light one, and what of pixels is within them.

    In the plane of the disc and on the sky they hold the same share of the disc: ellipses as large as it takes.

    Parameters
    ----------
    decoder : DiscDecoder
    parameters : Tensor (n_parameters,)
    image : Tensor (y, x)
        Flux of the disc in the pixels of the padded field.

    Returns
    -------
    radii : Tensor (radius,)
    share : Tensor (1 + radius,)
        Of the disc's flux, in all and within the radii.
    within : Tensor (radius, y, x)
        Part of each pixel.
    """
    forms, field = decoder.forms, decoder.field
    values = forms.values(parameters[None].double())
    light = values["surface_brightness"]
    r50 = forms.surface_brightness.half_light_radius(*light)
    radii = float(r50) * torch.as_tensor(HALF_LIGHT)
    share = torch.cat([torch.ones(1, dtype=torch.float64), growth(forms.surface_brightness, light, radii)[0]])
    inclination, pa = (torch.deg2rad(values[name]) for name in ("inclination", "pa"))
    u, w = sky_to_axes(field.xi - values["east"], field.eta - values["north"], pa)
    # A disc on edge is as wide as it is thick, and no narrower than a pixel.
    ratio = torch.sqrt(torch.cos(inclination) ** 2 + (2 * values["thickness"] ** 2 + field.side**2 / 4) / r50**2)
    radius = torch.hypot(u, w / ratio.clamp(max=1))
    # Pixels are filled from the centre outwards; what the field does not hold is beyond all of it.
    order = radius.argsort()
    pixels = image.flatten()[order].double() / values["flux"]
    before = torch.cumsum(pixels, 0) - pixels
    within = torch.zeros(len(radii), len(order), dtype=image.dtype)
    within[:, order] = ((share[1:, None] - before) / pixels.clamp(min=1e-12)).clamp(0, 1).to(image.dtype)
    return radii, share, within.view(-1, *field.shape)


def marginal(likelihood, patches, white, flux_prior, scatters):
    r"""Log likelihood with the flux and the patches integrated out.

    The data are :math:`F m + Q a + n` with a flux F and amplitudes :math:`a \sim N(0, f^2)`, both normal; Q was
    rendered with a disc near the mode, its flux included. Patches belong to the disc: their scatter about a disc of
    flux F is f times that flux over F, and beyond the largest of `SCATTERS` there is none. Without that limit patches
    would be a model of the galaxy without any disc, and in faint galaxies the better one.

    Parameters
    ----------
    likelihood : CubeLikelihood
    patches : Patches
    white : Tensor (n, value)
        Whitened models of unit flux.
    flux_prior : (float, float)
        Mean and standard deviation of the flux.
    scatters : Tensor (m,)
        Values of f.

    Returns
    -------
    log_likelihood : Tensor (n, m)
        float64.
    flux : Tensor (n, m, 3 + radius)
        Mean and standard deviation of the flux's posterior, which is normal and cut off at `least_flux`; and what
        patches take of the galaxy's flux, and of that within their ``radii``, for a unit of the disc's own. For the
        rest of what they do see `with_patches`.
    """
    square, along = _squares(white, likelihood.data.double())
    products = square, along, (white @ patches.basis).double()
    return log_marginal(likelihood, patches, products, flux_prior, scatters)


def log_marginal(likelihood, patches, products, flux_prior, scatters, with_light=True):
    """What `marginal` returns, of models' products: with themselves (n,), the data (n,) and the patches (n, k).

    Without light there is the log likelihood alone.
    """
    square, along, projected = products
    mean, spread = flux_prior
    data = likelihood.data.double()
    f2, shrink = (scatters**2).double()[:, None], patches.variances(scatters)
    a = square[:, None] - projected**2 @ shrink.T + 1 / spread**2
    b = along[:, None] - (projected * patches.data) @ shrink.T + mean / spread**2
    d = (data**2).sum() - shrink @ patches.data**2 + (mean / spread) ** 2
    log = -0.5 * (d - b**2 / a) - 0.5 * torch.log(a * spread**2) - 0.5 * torch.log1p(f2 * patches.power).sum(1)
    flux, error = b / a, a.rsqrt()
    log = log + torch.special.log_ndtr((flux - least_flux(patches, scatters)) / error)
    log = likelihood._constant + log
    if not with_light:
        return (log,)
    by_light = torch.einsum("mk,kr->kmr", shrink, patches.light)
    taken = (projected.float() @ by_light.flatten(1).float()).double()
    return log, torch.cat([flux[..., None], error[..., None], taken.unflatten(1, by_light.shape[1:])], -1)


def with_patches(patches, scatters):
    r"""What patches of light make of the galaxy's flux, and of that within radii: normal variates for each own flux F.

    Of the amplitudes a given F and the data, :math:`a_k \sim N(s_k Q_k \cdot (d - F m), s_k)` with
    :math:`s_k = f^2 / (1 + f^2 |Q_k|^2)`, the galaxy's flux is :math:`F + \sum_k q_k a_k`, q the patches' own.

    Parameters
    ----------
    patches : Patches
    scatters : Tensor (m,)
        Values of f.

    Returns
    -------
    added : Tensor (m, 1 + radius)
        [unit of the flux]. The galaxy's flux has the mean ``(1 - taken) * F + added``, with what is taken from
        `marginal`, :math:`\sum_k q_k s_k Q_k \cdot m`, and that within a radius the same with the disc's own share
        for one.
    root : Tensor (m, 1 + radius, 1 + radius)
        Of the covariance about these means, lower triangular.
    """
    shrink = patches.variances(scatters)
    added = (shrink * patches.data) @ patches.light
    size = (shrink @ patches.light**2).amax(1).sqrt()
    if not (size > 0).all():
        return added, added.new_zeros(*added.shape, added.shape[1])
    # In any unit, and of fewer patches than radii
    scaled = patches.light / size[:, None, None]
    covariance = torch.einsum("mk,mkr,mks->mrs", shrink, scaled, scaled)
    root = torch.linalg.cholesky(covariance + 1e-9 * torch.eye(covariance.shape[1], dtype=covariance.dtype))
    return added, root * size[:, None, None]


def over_scatters(log):
    """Log likelihood (n,) with the scatter of the light integrated out, from one (n, m) for each of m as likely."""
    return torch.logsumexp(log, 1) - math.log(log.shape[1])


def least_flux(patches, scatters):
    """The flux (m,) that a disc has at least, with patches of light of these scatters about it."""
    return patches.flux * scatters.double() / SCATTERS[-1]


def _squares(white, data):
    """Squares of models (n, value) and their products with the data, in float64."""
    square, along = [], []
    for one in white:
        one = one.double()
        square.append(one @ one)
        along.append(one @ data)
    return torch.stack(square), torch.stack(along)
