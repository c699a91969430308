"""What a disc must do when it is turned, moved, mirrored, made brighter or made many."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from discs import cube, decoder, grid, vector

# The points of the quadrature are others in every pixel, so a disc moved over the pixels is summed anew: what two sums
# of 9 x 4 points may differ by, after the beam, in units of the peak.
SUMMED_ANEW = 4e-3
# A thick disc is summed over depths too: the worst voxel at its cusp, by the finer rule (by 9 x 4 points it is 4 %).
FINE, SUMMED_ANEW_THICK = {"sub_pixels": 65, "depths": 8}, 1.5e-2


def apart(a, b):
    """Largest difference in units of the peak."""
    return float(abs(a - b).max() / abs(a).max())


@pytest.mark.parametrize("thickness", [0.0, 1.0])
@pytest.mark.parametrize("angle", [37.0, 90.0, 200.0])
def test_turning_disc_beam_and_pixels_changes_nothing(angle, thickness):
    on = grid((20, 32, 32), channel_width=20.0, beam=(5.0, 3.0, 15.0))
    sin, cos = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    # Turned from north to east by the angle, as position angles are counted.
    turned = replace(
        on,
        xi=cos * on.xi + sin * on.eta,
        eta=cos * on.eta - sin * on.xi,
        beam=on.beam + torch.tensor([0.0, 0.0, angle], dtype=torch.float64),
    )
    a = cube(on, east=2.0, north=-1.0, thickness=thickness)
    away = {"east": cos * 2.0 - sin * 1.0, "north": -cos * 1.0 - sin * 2.0}
    b = cube(turned, pa=30.0 + angle, thickness=thickness, **away)
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * a.max())


@pytest.mark.parametrize("pa", [0.0, 40.0])
def test_a_quarter_turn_turns_the_picture(pa):
    on = grid((20, 33, 33), channel_width=20.0)
    a, b = (cube(on, pa=angle) for angle in (pa, pa + 90))
    # North to east is counter-clockwise with east on the left; the first row is the southernmost.
    turned = np.rot90(a, -1, axes=(1, 2))
    assert apart(turned, b) < SUMMED_ANEW
    assert apart(np.rot90(a, 1, axes=(1, 2)), b) > 0.1, "the other sense must not do"


@pytest.mark.parametrize("thickness", [0.0, 1.0])
def test_half_a_turn_swaps_approaching_and_receding(thickness):
    on = grid()
    rule, tolerance = ({}, SUMMED_ANEW) if thickness == 0 else (FINE, SUMMED_ANEW_THICK)
    a, b = (cube(on, pa=angle, thickness=thickness, **rule) for angle in (30.0, 210.0))
    assert apart(a, b[::-1]) < tolerance
    assert apart(a, b) > 0.1, "a disc that rotates is no symmetric thing"


def test_a_mirror_in_the_north_mirrors_the_position_angle():
    on = grid()
    a, b = cube(on, pa=30.0, east=3.0), cube(on, pa=-30.0, east=-3.0)
    assert apart(a, b[:, :, ::-1]) < SUMMED_ANEW


def test_the_receding_side_lies_along_the_position_angle():
    on = grid()
    data = cube(on, pa=65.0, r_scale=2.5)  # small, so that the field cuts nothing off
    red, blue = data[20:].sum(0), data[:20].sum(0)
    east, north = (float(((red - blue) * a.numpy()).sum()) for a in (on.xi, on.eta))
    # The dipole of the velocity field lies along the major axis by symmetry.
    assert np.degrees(np.arctan2(east, north)) == pytest.approx(65.0, abs=0.2)


def test_flux_scales():
    np.testing.assert_allclose(cube(flux=37.0), 3.7 * cube(flux=10.0), rtol=1e-9, atol=1e-15)


def test_a_channel_further_is_a_channel_further():
    a, b = cube(vsys=-20.0), cube(vsys=10.0)
    # J changes with vsys: by 1e-4 in 30 km/s, of velocities ten channels wide at most.
    np.testing.assert_allclose(b[3:], a[:-3], rtol=0, atol=1e-3 * a.max())


@pytest.mark.parametrize(("inclination", "thickness"), [(60.0, 0.0), (75.0, 1.0)])
def test_pixels_further_are_pixels_further(inclination, thickness):
    rule, tolerance = ({}, SUMMED_ANEW) if thickness == 0 else (FINE, SUMMED_ANEW_THICK)
    disc = {"inclination": inclination, "thickness": thickness, **rule}
    a, b = cube(**disc), cube(east=-4.0, north=3.0, **disc)  # x runs west
    assert apart(a[:, :-3, :-4], b[:, 3:, 4:]) < tolerance


def test_a_batch_is_its_galaxies_one_by_one():
    disc = decoder(grid((20, 24, 24), channel_width=20.0), faint=1e-6)
    many = torch.cat(
        [
            vector(disc.names),
            vector(disc.names, inclination=85.0, thickness=0.7, flux=3.0, r_scale=2.0),
            vector(disc.names, inclination=5.0, pa=300.0, east=-4.0, vsys=30.0, r_scale=9.0),
        ]
    )
    together = disc(many)
    assert together.shape == (3, 20, 24, 24)
    alone = torch.cat([disc(one[None]) for one in many])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("changed", [{}, {"inclination": 90.0, "thickness": 0.5}, {"inclination": 0.0}])
def test_single_precision_is_enough(changed):
    on = grid()
    single = grid(dtype=torch.float32)
    a, b = cube(on, **changed), cube(single, options={"faint": 1e-6}, **changed)
    assert b.dtype == np.float32
    # float32 has 1e-7; differences of error functions near 1 and sums of a hundred points lose one or two digits.
    assert abs(a - b).max() < 1e-5 * a.max()


def test_what_is_faint_may_be_left_out():
    on = grid()
    whole, bright = (cube(on, options={"faint": faint}) for faint in (1e-12, 1e-6))
    assert abs(whole - bright).max() < 1e-5 * whole.max()
