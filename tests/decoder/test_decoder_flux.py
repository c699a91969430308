"""Light that is kept or leaves, by the decoder's own choice of points: any field, band, beam and shape of pixels."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from discs import DISC, forms, grid, vector

from kinematics_nn.decoder import DiscDecoder

ONE_CHANNEL = 4000.0  # km/s: holds every line


def rectangular(shape, sides, beam, turn=0.0):
    """A grid of pixels of ``sides`` (x, y) [arcsec], turned from north to east by ``turn`` [deg]; one channel."""
    ny, nx = shape
    y, x = np.indices(shape)
    right, up = (x - (nx - 1) / 2) * sides[0], (y - (ny - 1) / 2) * sides[1]
    sin, cos = np.sin(np.radians(turn)), np.cos(np.radians(turn))
    on = grid((1, ny, nx), channel_width=ONE_CHANNEL, beam=beam)
    return replace(on, xi=torch.as_tensor(-right * cos + up * sin), eta=torch.as_tensor(right * sin + up * cos))


def images(on, discs, of=None, **options):
    """The light (galaxy, y, x) of discs, each by what is changed of `DISC`; flux / arcsec^2."""
    decoder = DiscDecoder(on, of or forms(), **options)
    with torch.no_grad():
        cubes = decoder(torch.cat([vector(decoder.names, **changed) for changed in discs]))
    return (cubes * torch.diff(on.edges)[:, None, None]).sum(1).numpy()


def gaussian(on, changed, beam):
    """A face-on Gaussian disc of ``r_sigma`` through a beam: (y, x)."""
    angle, fwhm = np.radians(beam[2]), np.sqrt(8 * np.log(2))
    along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
    covariance = changed["r_sigma"] ** 2 * np.eye(2) + (beam[0] / fwhm) ** 2 * np.outer(along, along)
    covariance = covariance + (beam[1] / fwhm) ** 2 * np.outer(across, across)
    away = np.stack([on.xi.numpy() - changed["east"], on.eta.numpy() - changed["north"]], -1)
    square = np.einsum("yxi,ij,yxj->yx", away, np.linalg.inv(covariance), away)
    return DISC["flux"] * np.exp(-0.5 * square) / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))


@pytest.mark.parametrize("beam", [(4.0, 4.0, 0.0), (6.0, 3.5, 0.0), (6.0, 3.5, 35.0)])
@pytest.mark.parametrize("pixel_scale", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("r_scale", [2.0, 0.5])
def test_the_flux_is_kept_at_every_inclination_thickness_and_angle(beam, pixel_scale, r_scale):
    on = grid((1, *2 * [round(66 / pixel_scale)]), pixel_scale, ONE_CHANNEL, beam)
    inclinations, thicknesses = (0.0, 30.0, 60.0, 75.0, 85.0, 88.0, 90.0), (0.0, 0.2 * r_scale)
    cases = list(itertools.product(inclinations, thicknesses, (0.0, 33.0), (0.0, 0.37)))
    discs = [
        {"inclination": i, "thickness": h, "pa": pa, "north": north, "r_scale": r_scale} for i, h, pa, north in cases
    ]
    found = images(on, discs).sum((1, 2)) * pixel_scale**2 / DISC["flux"]
    # 33 arcsec from the centre an exponential of 2 arcsec has lost 1e-6 of its light, and the beam reaches 8 arcsec.
    wrong = {case: round(float(share), 5) for case, share in zip(cases, found, strict=True) if abs(share - 1) > 1e-3}
    assert not wrong, wrong


@pytest.mark.parametrize("thickness", [0.0, 1.0])
@pytest.mark.parametrize("inclination", [30.0, 60.0, 75.0, 85.0, 88.0, 90.0])
def test_a_field_that_cuts_a_disc_shows_the_same_as_one_that_holds_it(inclination, thickness):
    disc = [{"inclination": inclination, "thickness": thickness, "pa": 33.0, "north": 0.3}]
    held = images(grid((1, 160, 160), channel_width=ONE_CHANNEL), disc)[0, 56:104, 56:104]
    cut = images(grid((1, 48, 48), channel_width=ONE_CHANNEL), disc)[0]
    # A disc that is cut is not multiplied to its flux: thick and near edge-on, where eight depths turn from pixel to
    # pixel, its points have it to 2e-3; thin and on edge, where few points meet it, to 3.3e-3 (over several angles and
    # places); elsewhere to better than 1e-3.
    coarse = inclination > (80 if thickness else 89)
    assert cut.sum() == pytest.approx(held.sum(), rel=4e-3 if coarse else 1e-3)
    # The worst pixel, near the centre of a thick disc on edge.
    assert abs(cut - held).max() < 1e-2 * held.max()


@pytest.mark.parametrize("sides", [(0.5, 2.0), (2.0, 0.5)])
@pytest.mark.parametrize("turn", [0.0, 25.0])
@pytest.mark.parametrize("beam", [(6.0, 6.0, 0.0), (8.0, 6.0, 50.0)])
def test_pixels_four_times_longer_than_wide(sides, turn, beam):
    shape = (24, 96) if sides[1] > sides[0] else (96, 24)
    on = rectangular(shape, sides, beam, turn)
    disc = {"inclination": 0.0, "east": 3.0, "north": -2.0, "r_sigma": 2.5}
    found = images(on, [disc], forms(light="gaussian"))[0]
    expected = gaussian(on, disc, beam)
    # The pixel's shape is undone to its second moment: 1e-3 is left of pixels of 0.8 sigma of the disc.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3 * expected.max())


@pytest.mark.parametrize("sides", [(0.5, 2.0), (1.0, 1.0), (2.0, 0.5)])
@pytest.mark.parametrize("turn", [0.0, 25.0])
@pytest.mark.parametrize("side", range(4))
def test_the_beam_brings_light_in_from_outside_the_field(sides, turn, side):
    beam = (8.0, 8.0, 0.0)
    on = rectangular((round(24 / sides[1]), round(24 / sides[0])), sides, beam, turn)
    angle = np.radians(turn + 90 * side)
    disc = {"inclination": 0.0, "east": 18 * np.sin(angle), "north": 18 * np.cos(angle), "r_sigma": 1.5}
    found = images(on, [disc], forms(light="gaussian"))[0]
    expected = gaussian(on, disc, beam)
    # The centre is 6 arcsec outside the field, 1.8 sigma of the beam: a fifth of the peak falls at its border.
    assert expected.max() > 0.1 * DISC["flux"] / (2 * np.pi * (8.0**2 / (8 * np.log(2)) + 1.5**2))
    # What is farther out than three sigma of the beam may be left out: 1e-2 of the light that is left at the border.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2 * expected.max())


def test_light_outside_the_band_leaves():
    on = grid((40, 32, 32), channel_width=10.0)
    narrow = replace(on, edges=on.edges[12:25])
    disc = {"vsys": 20.0, "inclination": 70.0}
    decoder, cut = (DiscDecoder(g, forms()) for g in (on, narrow))
    with torch.no_grad():
        whole, inside = (d(vector(d.names, **disc))[0].numpy() for d in (decoder, cut))
    assert inside.sum() < 0.6 * whole.sum(), "the band cuts the line"
    # The channels that are left hold what they held: nothing piles up at the edges.
    np.testing.assert_allclose(inside, whole[12:24], rtol=0, atol=1e-6 * whole.max())


def test_a_disc_outside_the_band_is_dark():
    decoder = DiscDecoder(grid((8, 16, 16)), forms())
    with torch.no_grad():
        dark, bright = (decoder(vector(decoder.names, vsys=vsys)) for vsys in (5000.0, 0.0))
    # Light beyond the band is gathered where 1e-8 of a line reaches it.
    assert float(abs(dark).max()) < 1e-7 * float(bright.max())


@pytest.mark.parametrize("velocity_dispersion", [1.0, 10.0])
def test_hanning_smoothed_channels_are_averages_of_neighbours(velocity_dispersion):
    on = grid((20, 24, 24), channel_width=20.0)
    wide = replace(on, edges=torch.cat([on.edges[:1] - 20.0, on.edges, on.edges[-1:] + 20.0]))
    disc = {"vsys": 160.0, "velocity_dispersion": velocity_dispersion}  # light beyond the band's end
    smoothed, plain = DiscDecoder(on, forms(), lsf="hanning"), DiscDecoder(wide, forms())
    with torch.no_grad():
        found, before = (d(vector(d.names, **disc))[0].numpy() for d in (smoothed, plain))
    expected = 0.25 * before[:-2] + 0.5 * before[1:-1] + 0.25 * before[2:]
    # The same sums in float64. A correlator smooths what it receives, so what falls just outside the band comes in.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * expected.max())
    assert expected[-1].max() > 0.01 * expected.max(), "there is light at the band's end"


def test_an_unknown_line_spread_function_is_refused():
    with pytest.raises(ValueError, match="hanning"):
        DiscDecoder(grid(), forms(), lsf="boxcar")
