"""The decoder against formulas: light, line profiles, channels and velocity conventions."""

import math
from dataclasses import replace

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.constants import c
from discs import DISC, cube, decoder, forms, grid, moments, offsets, total_spectrum, vector
from scipy.special import erf

from kinematics_nn.decoder import Quadrature, beam_covariance

DOPPLER = {"radio": u.doppler_radio, "optical": u.doppler_optical, "relativistic": u.doppler_relativistic}
ONE_CHANNEL = {"shape": (1, 96, 96), "channel_width": 4000.0}


def gaussian_line(edges, centre, sigma):
    """Share of a Gaussian line in each channel."""
    return 0.5 * np.diff(erf((edges - centre) / (np.sqrt(2) * sigma)))


def double_horn(edges, speed, sigma):
    """Share in each channel of a ring seen at ``speed`` v sin i: the arcsine law, blurred by the dispersion."""
    azimuth = (np.arange(20_000) + 0.5) / 20_000 * np.pi
    return np.mean([gaussian_line(edges, v, sigma) for v in speed * np.cos(azimuth)], axis=0)


@pytest.mark.parametrize("lsf", [0.0, 12.0])
@pytest.mark.parametrize("dispersion", [0.5, 2.1, 3.0, 9.0, 25.0])
def test_a_face_on_disc_has_one_gaussian_line_everywhere(lsf, dispersion):
    on = grid()
    data = cube(on, inclination=0.0, vsys=23.0, velocity_dispersion=dispersion, options={"lsf": lsf}) * 10.0
    light = data.sum(0)
    # J at 23 km/s in the radio convention
    expected = gaussian_line(on.edges.numpy(), 23.0, np.hypot(dispersion * (1 - 23.0 / 299792.458), lsf))
    # Lines are drawn with a cubic spline on bins of at most 1 / 1.8 sigma: within 7e-4 of their peak, and light is
    # kept. The floor under the width, 1e-3 channels in quadrature, is 1e-4 of the narrowest.
    np.testing.assert_allclose(data, light * expected[:, None, None], rtol=0, atol=7e-4 * light.max() * expected.max())


@pytest.mark.parametrize("thickness", [0.0, 0.3, 1.5])
@pytest.mark.parametrize("inclination", [0.0, 20.0, 45.0, 60.0, 75.0, 85.0, 88.0, 90.0])
def test_the_flux_is_the_same_at_every_inclination_and_thickness(inclination, thickness):
    on = replace(grid(**ONE_CHANNEL), brightness_per_flux=18.1)
    found = total_spectrum(on, sub_pixels=None, inclination=inclination, thickness=thickness, pa=33.0, north=0.3).sum()
    # The field cuts the disc and holds all but 1.8e-4 of its light.
    assert found == pytest.approx(DISC["flux"], rel=2e-3)


@pytest.mark.parametrize("beam", [(4.0, 4.0, 0.0), (6.0, 3.5, 0.0), (6.0, 3.5, 35.0), (6.0, 3.5, 200.0)])
@pytest.mark.parametrize("integrate_pixels", [False, True])
def test_a_gaussian_disc_through_a_beam_is_a_gaussian(beam, integrate_pixels):
    on = grid((1, 48, 48), channel_width=4000.0, beam=beam)
    of, options = forms(light="gaussian"), {"integrate_pixels": integrate_pixels}
    disc = {"inclination": 50.0, "pa": 70.0, "east": 2.3, "north": -1.2, "r_sigma": 1.5}
    found = cube(on, of, sub_pixels=65, options=options, **disc)[0] * 4000.0
    xi, eta, _ = offsets(on)
    away = np.stack([xi - 2.3, eta + 1.2], -1)

    def elliptical(major, minor, angle):
        along = np.array([np.sin(np.radians(angle)), np.cos(np.radians(angle))])
        across = np.array([along[1], -along[0]])
        return major**2 * np.outer(along, along) + minor**2 * np.outer(across, across)

    fwhm = np.sqrt(8 * np.log(2))
    covariance = elliptical(1.5, 1.5 * np.cos(np.radians(50.0)), 70.0)
    covariance = covariance + elliptical(beam[0] / fwhm, beam[1] / fwhm, beam[2])
    covariance = covariance + (np.eye(2) / 12 if integrate_pixels else 0)
    square = np.einsum("yxi,ij,yxj->yx", away, np.linalg.inv(covariance), away)
    expected = DISC["flux"] * np.exp(-0.5 * square) / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))
    # A pixel is undone, or done, to its second moment: the fourth leaves 3e-4 of the peak under beams of 3.5 pixels,
    # and 6 x 6 sub-pixels as much again. Sampled and integrated pixels are 2 % apart.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * expected.max())


@pytest.mark.parametrize("beam", [(5.0, 5.0, 0.0), (8.0, 4.0, 90.0), (8.0, 4.0, 20.0), (8.0, 4.0, 125.0)])
def test_a_point_source_is_the_beam(beam):
    on = replace(grid((1, 64, 64), channel_width=4000.0, beam=beam), brightness_per_flux=beam[0] * beam[1] * 1.1330900)
    # 0.7 of a pixel is what 9 x 9 sub-pixels still resolve; what it adds to the second moments is known.
    size = 0.7
    found = cube(on, sub_pixels=145, depths=1, inclination=0.0, r_scale=size, east=0.5, north=0.5)[0]
    xi, eta, _ = offsets(on)
    total, centre, covariance = moments(found, xi, eta)
    sigma_major, sigma_minor = (side / np.sqrt(8 * np.log(2)) for side in beam[:2])
    along = np.array([np.sin(np.radians(beam[2])), np.cos(np.radians(beam[2]))])
    across = np.array([along[1], -along[0]])
    # An exponential disc has a variance of 3 r_scale^2 along each axis.
    assert along @ covariance @ along == pytest.approx(sigma_major**2 + 3 * size**2, rel=3e-3)
    assert across @ covariance @ across == pytest.approx(sigma_minor**2 + 3 * size**2, rel=3e-3)
    assert along @ covariance @ across == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(centre, 0.5, atol=5e-3)
    # Summed over pixels, Jy/beam is the flux times the pixels in a beam.
    assert total * 4000.0 == pytest.approx(DISC["flux"] * on.brightness_per_flux, rel=1e-3)
    # The peak of a source much smaller than the beam is its flux: to first order lower by its share of the variance.
    blurred = np.sqrt((1 + 3 * size**2 / sigma_major**2) * (1 + 3 * size**2 / sigma_minor**2))
    assert found.max() * 4000.0 == pytest.approx(DISC["flux"] / blurred, rel=0.05)


def test_the_covariance_of_a_beam_on_rotated_unequal_pixels():
    beam = torch.tensor([6.0, 3.0, 40.0], dtype=torch.float64)
    turn = np.radians(25.0)
    matrix = np.array([[-0.8 * np.cos(turn), 1.3 * np.sin(turn)], [0.8 * np.sin(turn), 1.3 * np.cos(turn)]])
    found = beam_covariance(beam, torch.as_tensor(matrix)).numpy()
    # Back on the sky it is the beam: its axes have the variances of the FWHM, along and across the position angle.
    sky = matrix @ found @ matrix.T
    along = np.array([np.sin(np.radians(40.0)), np.cos(np.radians(40.0))])
    np.testing.assert_allclose(sky @ along, (6.0**2 / (8 * np.log(2))) * along, rtol=1e-12)
    assert np.linalg.det(sky) == pytest.approx((6.0 * 3.0 / (8 * np.log(2))) ** 2, rel=1e-12)


@pytest.mark.parametrize("inclination", [45.0, 60.0, 80.0])
def test_a_thin_ring_has_the_double_horn_of_the_arcsine_law(inclination):
    on, of = grid((40, 40, 40)), forms("flat", "ring")
    ring = {"r_ring": 10.0, "width": 0.5, "vmax": 150.0, "velocity_dispersion": 2.0}
    found = total_spectrum(on, of, sub_pixels=65, depths=8, inclination=inclination, **ring)
    expected = DISC["flux"] * double_horn(on.edges.numpy(), 150.0 * np.sin(np.radians(inclination)), 2.0)
    # A ring half a pixel wide, foreshortened to 0.1 pixel at 80 degrees, is at the edge of what 6 x 6 sub-pixels see.
    np.testing.assert_allclose(found, expected, rtol=0, atol=(1e-3 if inclination < 70 else 1e-2) * expected.max())


def test_an_edge_on_ring_has_the_double_horn_of_the_arcsine_law():
    on, of = grid((40, 40, 40)), forms("flat", "ring")
    ring = {"r_ring": 10.0, "width": 1.5, "thickness": 0.5, "vmax": 150.0, "velocity_dispersion": 8.0}
    found = total_spectrum(on, of, sub_pixels=65, depths=8, inclination=90.0, **ring)
    expected = DISC["flux"] * double_horn(on.edges.numpy(), 150.0, 8.0)
    # The line of sight meets the ring twice, far from where a disc's light would be.
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02 * expected.max())


def test_light_out_of_band_leaves_the_cube():
    wide = cube(grid((60, 32, 32)), vsys=10.0, pa=20.0)
    narrow = cube(grid((16, 32, 32)), vsys=10.0, pa=20.0)
    assert narrow.sum() < 0.7 * wide.sum(), "there must be light to lose"
    # The same channels, whatever else the band holds; clamping would fill the first and the last.
    np.testing.assert_allclose(narrow, wide[22:38], rtol=0, atol=1e-9 * wide.max())


def test_a_line_beyond_the_band_leaves_nothing():
    # Light beyond the band is gathered where 1e-8 of a line reaches it.
    assert abs(cube(vsys=3000.0)).max() < 1e-7 * cube().max()


def test_channels_of_any_width_hold_the_average_over_them():
    on = grid((80, 32, 32), channel_width=5.0)
    fine = cube(on, vsys=-12.0)
    chosen = np.array([0, 1, 3, 8, 20, 21, 40, 44, 57, 79, 80])
    coarse = cube(replace(on, edges=on.edges[chosen]), vsys=-12.0)
    widths = np.diff(chosen)
    expected = np.add.reduceat(fine, chosen[:-1], axis=0) / widths[:, None, None]
    # Integrals over channels add up; only the floor under the line's width, 1e-3 of the least channel, could differ.
    np.testing.assert_allclose(coarse, expected, rtol=0, atol=1e-9 * fine.max())


@pytest.mark.parametrize("convention", list(DOPPLER))
def test_velocities_compose_as_redshifts_do(convention):
    systemic, speed, sigma = 30_000.0, 200.0, 15.0
    on = grid((80, 40, 40))
    on = replace(on, edges=on.edges + systemic, convention=convention)
    ring = {"r_ring": 10.0, "width": 1.0, "vmax": speed, "inclination": 60.0, "velocity_dispersion": sigma}
    spectrum = total_spectrum(on, forms("flat", "ring"), sub_pixels=29, vsys=systemic, **ring)
    velocity = 0.5 * (on.edges[1:] + on.edges[:-1]).numpy()
    mean = (spectrum * velocity).sum() / spectrum.sum()
    variance = (spectrum * (velocity - mean) ** 2).sum() / spectrum.sum() - 10.0**2 / 12

    # 1 + z = (1 + z_sys) (1 + v / c), through astropy's Doppler conversions and a rest frequency that cancels.
    rest = 230.538 * u.GHz
    inward = (systemic * u.km / u.s).to(u.GHz, DOPPLER[convention](rest))
    along = speed * np.sin(np.radians(60.0)) * np.cos((np.arange(720) + 0.5) / 720 * np.pi)
    spread = sigma * np.array([-np.sqrt(3), 0.0, np.sqrt(3)])  # three-point Gauss-Hermite rule
    weight = np.array([1, 4, 1]) / 6 * np.ones((720, 1)) / 720
    seen = inward / (1 + (along[:, None] + spread) * u.km / u.s / c)
    exact = seen.to_value(u.km / u.s, DOPPLER[convention](rest))
    exact_mean = (weight * exact).sum()
    # J is a first-order factor: v^2 / c is 0.05 km/s here. A factor forgotten is 1 % (relativistic) or 10 % in width.
    assert mean == pytest.approx(exact_mean, abs=0.1)
    assert np.sqrt(variance) == pytest.approx(np.sqrt((weight * (exact - exact_mean) ** 2).sum()), rel=2e-3)


def test_an_unknown_convention_is_refused():
    with pytest.raises(ValueError, match="'optical', 'radio' and 'relativistic'"):
        cube(replace(grid(), convention="barycentric"))


def test_parameters_of_another_shape_and_options_out_of_range_are_refused():
    disc = decoder()
    with pytest.raises(ValueError, match=r"shape \(1, 10\): they are \(batch, 11\), in the order inclination, pa"):
        disc(vector(disc.names)[:, :-1])
    for options in ({"lsf": -1.0}, {"lsf": "boxcar"}, {"faint": 0.0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}="):
            decoder(**options)


def test_every_point_of_the_quadrature_has_its_depth():
    rule = Quadrature(13, 5)
    y, x = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    depth, weight = (a.numpy() for a in rule.depth())
    depth = depth[..., rule.turn(x.flatten(), y.flatten())]
    assert depth.shape == (5, 13, 256)
    np.testing.assert_allclose(weight, 0.2)
    # Depths follow exp(-|t|) / 2: quantiles of the pool, whose ranks are even to one part in 65 in each pixel.
    expected = 0.5 * np.where(depth < 0, np.exp(depth), 2 - np.exp(-depth))
    np.testing.assert_allclose(np.sort(expected.ravel()), (np.arange(depth.size) + 0.5) / depth.size, atol=0.005)


def test_the_turns_of_a_large_field_are_as_many_as_those_of_a_small_one_and_taken_alike():
    rule = Quadrature(13, 8)
    y, x = torch.meshgrid(torch.arange(512), torch.arange(512), indexing="ij")
    taken = np.bincount(rule.turn(x.flatten(), y.flatten()).numpy())
    assert len(taken) == rule.depth()[0].shape[2]
    # 64 pixels each; chance would scatter by 8.
    assert taken.std() < 4


@pytest.mark.parametrize("depths", [1, 2, 4, 8])
def test_depths_that_do_not_turn_are_a_gauss_rule(depths):
    depth, weight = (a.numpy().ravel() for a in Quadrature(5, depths, turned=False).depth())
    # The even moments of exp(-|t|) / 2 are factorials; n points on either side are exact to the order 2 n - 1.
    for order in range(0, max(depths, 1), 2):
        assert (weight * depth**order).sum() == pytest.approx(math.factorial(order), rel=1e-10)
        assert (weight * depth ** (order + 1)).sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("sub_pixels", [1, 5, 13, 29, 65, 145])
def test_sub_pixels_are_a_lattice_that_fills_the_pixel(sub_pixels):
    x, y = (offset.numpy() for offset in Quadrature(sub_pixels).offsets())
    assert len(x) == sub_pixels
    np.testing.assert_allclose([x.mean(), y.mean(), (x * y).mean()], 0, atol=1e-12)
    # The pixel's variance, less that of what a point stands for; and no two on one level.
    np.testing.assert_allclose([x.var(), y.var()], (1 - 1 / sub_pixels**2) / 12, rtol=1e-9)
    for levels in (x, y):
        np.testing.assert_allclose(np.diff(np.sort(levels)), 1 / sub_pixels, rtol=1e-9)


@pytest.mark.parametrize(("sub_pixels", "depths", "turned"), [(9, 4, True), (13, 3, False)])
def test_a_rule_that_is_none_is_refused(sub_pixels, depths, turned):
    with pytest.raises(ValueError, match="one"):
        Quadrature(sub_pixels, depths, turned)
