"""Discs for the decoder's tests: one set of parameters, and what a test changes of it."""

import numpy as np
import torch

from kinematics_nn.decoder import DiscDecoder, Forms, Quadrature, regular_grid
from kinematics_nn.forms import get_form

DISC = {
    "inclination": 60.0, "pa": 30.0, "east": 0.0, "north": 0.0, "vsys": 0.0, "flux": 10.0, "thickness": 0.0,
    "velocity_dispersion": 10.0, "vmax": 150.0, "r_turn": 2.0, "r_scale": 5.0,
}  # fmt: skip


def forms(curve="arctan", light="exponential", dispersion="constant"):
    """The three forms by name."""
    return Forms(
        get_form(curve, "rotation_curve"),
        get_form(light, "surface_brightness"),
        get_form(dispersion, "velocity_dispersion"),
    )


def grid(shape=(40, 48, 48), pixel_scale=1.0, channel_width=10.0, beam=(4.0, 4.0, 0.0), dtype=torch.float64):
    """A plain grid in float64: north up, east left."""
    return regular_grid(shape, pixel_scale, channel_width, beam, dtype=dtype)


def vector(names, **changed):
    """The parameters (1, n) of `DISC` with some of them changed, in the order of ``names``."""
    unknown = set(changed) - set(names)
    assert not unknown, f"no parameters of this disc: {unknown}"
    return torch.tensor([[(DISC | changed)[name] for name in names]], dtype=torch.float64)


def decoder(on=None, of=None, sub_pixels=13, depths=4, **options):
    """A decoder of the default forms on the default grid; every pixel is rendered, however faint.

    ``sub_pixels=None`` leaves the points to the decoder.
    """
    options = {"faint": 1e-12} | options
    rule = None if sub_pixels is None else Quadrature(sub_pixels, depths)
    return DiscDecoder(on or grid(), of or forms(), rule, **options)


def cube(on=None, of=None, sub_pixels=13, depths=4, options=None, **changed):
    """The cube (channel, y, x) as an array."""
    disc = decoder(on, of, sub_pixels, depths, **(options or {}))
    with torch.no_grad():
        return disc(vector(disc.names, **changed).to(disc.grid.xi.dtype))[0].numpy()


def total_spectrum(on=None, of=None, sub_pixels=13, depths=4, options=None, **changed):
    """Flux per channel (channel,) over the padded sky, before the beam."""
    disc = decoder(on, of, sub_pixels, depths, **(options or {}))
    with torch.no_grad():
        sky = disc.sky(vector(disc.names, **changed).to(disc.grid.xi.dtype))[0]
    area = float(torch.linalg.det(disc.grid.pixel_matrix).abs())
    return (sky.sum((1, 2)) * torch.diff(disc.grid.edges)).numpy() * area / disc.grid.brightness_per_flux


def offsets(on):
    """East, north (y, x) and the edges (channel + 1,) as arrays."""
    return on.xi.numpy(), on.eta.numpy(), on.edges.numpy()


def moments(image, x, y):
    """Sum, centre (2,) and covariance (2, 2) of an image over two coordinates."""
    total = image.sum()
    centre = np.array([(image * a).sum() for a in (x, y)]) / total
    away = [x - centre[0], y - centre[1]]
    return total, centre, np.array([[(image * a * b).sum() for a in away] for b in away]) / total
