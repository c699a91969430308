"""Derivatives of a cube by the parameters of its disc: those of the decoder's own arithmetic, all at once.

The forms are differentiated by torch, at the points, by what they take themselves; the geometry is by hand. The light
and the speed of a point depend on the parameters through some twenty numbers of the galaxy (`galaxies.coefficients`),
so their derivatives are a few fields over the points times a small matrix; and they are gathered as the light is.
"""

import torch

from .galaxies import coefficient_slopes, line_width
from .geometry import vertical_law_slopes
from .lit import LitBox
from .points import form_parameters

__all__ = ["jacobian"]

_MEMORY = 8  # times that of a point without derivatives


@torch.no_grad()
def jacobian(decoder, parameters):
    """Cubes and derivatives of a `DiscDecoder`; see `DiscDecoder.jacobian`."""
    n, (ny, nx) = parameters.shape[1], decoder.beam.field
    found = parameters.new_empty(len(parameters), 1 + n, len(decoder.grid.edges) - 1, ny, nx)
    for one, cubes in zip(parameters.detach(), found, strict=True):
        _of_galaxy(decoder, one[None], cubes)
    return found[:, 0], found[:, 1:]


def _of_galaxy(decoder, parameters, cubes):
    """The cube of a galaxy (1, n_parameters) and its derivatives, into ``cubes`` (1 + n_parameters, channel, y, x)."""
    ((*_, parts),) = decoder.plan(parameters, decoder.points // _MEMORY)
    rules, spacing = decoder.rules(parts)
    convention, channels = decoder.grid.convention, decoder.channels
    table, slopes = coefficient_slopes(decoder.forms, parameters, spacing, convention, channels.least_sigma)
    lines = channels.lines(table["sigma"][0]) if "sigma" in table else None
    in_bins = lines is not None and lines.in_bins(0)
    by_sigma = slopes.pop("sigma")[0] if in_bins else torch.zeros_like(parameters[0])
    # Flux is none of them, nor what moves nothing: the thickness of a disc that has none.
    moving = torch.stack(list(slopes.values())).abs().amax((0, 1)).nonzero()[:, 0]
    slopes = {name: of[:, moving] for name, of in slopes.items()}
    pixel = torch.cat([part.pixel for part in parts])
    spectra = cubes.new_empty(1 + len(moving) + in_bins, cubes.shape[1], len(pixel) + 1)
    spectra[..., -1] = 0  # that of pixels that are dark
    light, by_light = spectra.new_empty(len(pixel)), spectra.new_empty(len(moving), len(pixel))
    first = 0
    for part in parts:
        of = rules[part.rule]
        c, d = ({name: value[of] for name, value in values.items()} for values in (table, slopes))
        points = _Points(decoder.forms, c, d, decoder.points_of(part.rule).place(c, part.pixel))
        by_weight, by_speed = points.by_weight(), points.by_speed()
        rows = slice(first, first + len(part.pixel))
        its, first = spectra[..., rows], rows.stop
        torch.sum(points.brightness, 0, out=light[rows])
        torch.sum(by_weight, 1, out=by_light[:, rows])
        if in_bins:
            lines.slopes(c, points.speed, points.brightness, by_weight, by_speed, its)
        else:
            sigma, by_width = points.width(channels.least_sigma)
            speed = torch.addcmul(c["vsys"], c["speed"], points.speed)
            own = (by_weight, by_speed, by_width)
            if lines is None:
                its.copy_(channels.exact_slopes(speed, sigma, points.brightness, own))
            else:
                its.copy_(channels.narrow_slopes(speed, c["sigma"], points.brightness, own))
    # One at a time from here on, in memory that is there already.
    lit = LitBox(decoder.field, pixel, [(len(part.pixel), part.rule.sub_pixels) for part in parts])
    sky = cubes.new_empty(cubes.shape[1], *lit.shape)

    def see(spectra, out):
        return decoder.beam(lit.sky(spectra, sky), lit.corner, out[None])[0]

    light, by_light = lit.light(light), lit.light(by_light)
    found = light * decoder.field.area
    free = bool(found == 0 or decoder.field.border[pixel].any())
    norm = decoder.grid.brightness_per_flux / (1 if free else float(found))
    flux = 1 + decoder.names.index("flux")
    share = float(parameters[0, flux - 1]) * norm
    cube = see(spectra[0], cubes[0])
    torch.mul(cube, norm, out=cubes[flux])
    cube.mul_(share)
    for k, at in enumerate((1 + moving).tolist()):
        see(spectra[1 + k], cubes[at]).mul_(share)
        if not free:
            cubes[at].add_(cube, alpha=-float(by_light[k] / light))
    still = set(range(1, len(cubes))) - {flux, *(1 + moving).tolist()}
    cubes[sorted(still)] = 0
    if in_bins:
        by_width = see(spectra[-1], torch.empty_like(cube))
        for at in by_sigma.nonzero()[:, 0].tolist():
            cubes[1 + at].add_(by_width, alpha=share * float(by_sigma[at]))


class _Points:
    """Points (k, row) of one galaxy of coefficients ``c`` with derivatives ``d`` (parameter,), and theirs."""

    def __init__(self, forms, c, d, placed):
        self.forms, self.c, self.d, self.placed = forms, c, d, placed
        self.inverse = 1 / placed.radius
        self.cosine = placed.u * self.inverse
        light, by_radius, self._by_light = _slopes(forms.surface_brightness, placed.radius, form_parameters(c, "light"))
        away = torch.zeros(()) if placed.depth is None else placed.depth.abs()
        law, by_height, by_step = vertical_law_slopes(placed.z.abs(), float(c["step"]), away)
        scale = placed.share * c["weight"]
        self._light, self._column = light, law * scale
        self._brightness = light * self._column
        self._by_radius = by_radius * self._column
        scaled = light * scale
        self._by_z, self._by_step = scaled * by_height * placed.z.sign(), (scaled, by_step)
        curve = form_parameters(c, "curve")
        self._curve, self._curve_by_radius, self._by_curve = _slopes(forms.rotation_curve, placed.radius, curve)
        self._speed = self._curve * self.cosine

    @property
    def brightness(self):
        """Light for a flux of one."""
        return self._brightness.flatten(0, 1)

    @property
    def speed(self):
        """Along the line of sight, over that of the coefficients."""
        return self._speed.flatten(0, 1)

    def by_weight(self):
        """Derivatives (parameter, k, row) of the light."""
        c, d, at = self.c, self.d, self.placed
        by_u, by_y = self._by_radius * self.cosine, self._by_radius * (at.y * self.inverse)
        terms = self._chain(by_u, by_y, by_y * c["y_w"] + self._by_z * c["z_w"])
        terms += [
            (d["weight"] / c["weight"], self._brightness, 1.0),
            (d["step"], *self._by_step),
            (d["z_w"], self._by_z, at.w),
        ]
        if at.depth is not None:
            terms.append((d["z_t"], self._by_z, at.depth))
        by = form_parameters(d, "light")
        terms += [(slope, self._column, by_own) for slope, by_own in zip(by, self._by_light, strict=True)]
        return self._sum(terms)

    def by_speed(self):
        """Derivatives (parameter, k, row) of the speed [km/s], times the light."""
        c, d, at = self.c, self.d, self.placed
        light, rate, sine = self._brightness, self._curve * self.inverse, at.y * self.inverse
        by_u = light * (self._curve_by_radius * self.cosine**2 + rate * (1 - self.cosine**2))
        by_y = light * (self.cosine * sine * (self._curve_by_radius - rate))
        terms = self._chain(by_u, by_y, by_y * c["y_w"], c["speed"])
        terms += [(d["vsys"], light, 1.0), (d["speed"], light, self._speed)]
        lit = light * self.cosine
        by = form_parameters(d, "curve")
        terms += [(c["speed"] * slope, lit, by_own) for slope, by_own in zip(by, self._by_curve, strict=True)]
        return self._sum(terms)

    def width(self, least):
        """Width of the line at points (k, row), and its derivatives (parameter, k, row) times the light."""
        c, d, at = self.c, self.d, self.placed
        if "sigma" in c:
            return c["sigma"].expand_as(self.speed), self._sum([(d["sigma"], self._brightness, 1.0)])
        form, own = self.forms.velocity_dispersion, form_parameters(c, "dispersion")
        intrinsic, by_radius, by_own = _slopes(form, at.radius, own)
        sigma = line_width(c["to_axis"] * intrinsic, least)
        rate = self._brightness * (c["to_axis"] * intrinsic / sigma)
        by_radius = rate * by_radius
        by_y = by_radius * (at.y * self.inverse)
        terms = self._chain(by_radius * self.cosine, by_y, by_y * c["y_w"], c["to_axis"])
        terms.append((d["to_axis"], rate, intrinsic))
        by = form_parameters(d, "dispersion")
        terms += [(c["to_axis"] * slope, rate, by_own) for slope, by_own in zip(by, by_own, strict=True)]
        return sigma.flatten(0, 1), self._sum(terms)

    def _chain(self, by_u, by_y, by_w, factor=1.0):
        """Terms of the derivatives by the place of a point, of what changes by u, y and w (at the same depth) so."""
        c, d, at = self.c, self.d, self.placed
        turn = c["cos"] * d["sin"] - c["sin"] * d["cos"]
        terms = [
            (-(c["sin"] * d["east"] + c["cos"] * d["north"]), by_u, 1.0),
            (-(c["cos"] * d["east"] - c["sin"] * d["north"]), by_w, 1.0),
            (turn, by_u, at.w),
            (-turn, by_w, at.u),
            (d["y_w"], by_y, at.w),
        ]
        if at.depth is not None:
            terms.append((d["y_t"], by_y, at.depth))
        return [(factor * slope, a, b) for slope, a, b in terms]

    def _sum(self, terms):
        """Sum of slope (parameter,) times a field over the points, itself a product: (parameter, k, row)."""
        fields = self._brightness.new_empty(len(terms), *self._brightness.shape)
        for field, (_, a, b) in zip(fields, terms, strict=True):
            torch.mul(a, b, out=field)
        matrix = torch.stack([slope for slope, _, _ in terms], 1)
        return (matrix @ fields.flatten(1)).view(len(matrix), *self.brightness.shape)


def _slopes(form, radius, parameters):
    """A form's values at radii, and their derivatives there by radius and by each parameter.

    The parameters stay single numbers, so that what a form does with them alone is done once. A second sweep, back
    through the first, then takes the sum over the radii apart.
    """
    with torch.enable_grad():
        radius, *parameters = (value.detach().requires_grad_() for value in (radius, *parameters))
        value = form.evaluate(radius, *parameters).expand_as(radius)
        one = torch.ones_like(value).requires_grad_()
        sums = torch.autograd.grad(
            value, (radius, *parameters), one, create_graph=True, allow_unused=True, materialize_grads=True
        )
        by_own = [
            torch.autograd.grad(total.sum(), one, retain_graph=True, allow_unused=True, materialize_grads=True)[0]
            for total in sums[1:]
        ]
    return value.detach(), sums[0].detach(), by_own
