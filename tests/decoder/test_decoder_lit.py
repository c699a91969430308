"""Pixels that were taken at their centres alone are averaged over."""

import pytest
import torch
from discs import decoder, forms, grid, vector

from kinematics_nn.decoder import DiscDecoder, Quadrature
from kinematics_nn.decoder.lit import LitBox


def box(*sub_pixels):
    field = grid((2, 9, 11)).padded(0)
    pixel = torch.arange(9 * 11)
    rows = [9 * 11 // len(sub_pixels)] * len(sub_pixels)
    return LitBox(field, pixel, list(zip(rows, sub_pixels, strict=True))), field


def test_the_average_of_a_parabola_is_exact():
    lit, field = box(1)
    y, x = (at.double() for at in field.rows_and_columns)
    values = 3 + 0.2 * x - 0.1 * y + 0.7 * x**2 - 0.4 * y**2 + 0.3 * x * y
    seen = lit.sky(torch.cat([values, values.new_zeros(1)])[None].to(field.xi.dtype))[0, 0]
    # The average of x^2 over a pixel is x^2 + 1/12.
    expected = (values + (0.7 - 0.4) / 12).view(9, 11)
    torch.testing.assert_close(seen[1:-1, 1:-1].double(), expected[1:-1, 1:-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sub_pixels", [(5,), (5, 13, 65), (5, 1, 65)], ids=str)
def test_pixels_that_were_summed_stay_as_they_are(sub_pixels):
    lit, field = box(*sub_pixels)
    values = torch.rand(3, 9 * 11 + 1, generator=torch.Generator().manual_seed(1)).to(field.xi.dtype)
    torch.testing.assert_close(lit.sky(values)[0].flatten(1), values[:, :-1])
    torch.testing.assert_close(lit.light(values[:, :-1]), values[:, :-1].sum(1))


def test_the_light_is_that_of_the_averages():
    lit, field = box(1, 65, 1)
    values = torch.rand(3, 9 * 11 + 1, generator=torch.Generator().manual_seed(1)).to(field.xi.dtype)
    values[:, -1] = 0
    torch.testing.assert_close(lit.light(values[:, :-1]), lit.sky(values)[0].sum((1, 2)))


@pytest.mark.parametrize("depths", [1, 8])
def test_a_disc_taken_at_centres_is_near_one_that_was_summed(depths):
    on, of = grid((12, 32, 32), channel_width=40.0), {"inclination": 40.0, "velocity_dispersion": 25.0, "r_scale": 4.0}
    of["thickness"] = 0.0 if depths == 1 else 0.6
    rules = [Quadrature(sub_pixels, depths, turned=False) for sub_pixels in (1, 65)]
    once, summed = (DiscDecoder(on, forms(), rule)(vector(decoder().names, **of)) for rule in rules)
    # What is left is of the disc's cusp. Without the average the beam is short of a pixel's variance: 1 % of the peak.
    assert float((once - summed).abs().max() / summed.max()) < 5e-3
