"""What simulated discs have that smooth ones lack: where it lies, how strong it is, and that it biases no light."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from kinematics_nn.decoder import regular_grid
from kinematics_nn.training.morphology import disc_plane, light_map, neighbour, warped
from kinematics_nn.training.simulations import Ranges

NONE = {"clump_share": 0.0, "arm_share": 0.0, "lopsided_share": 0.0}
FIELD = regular_grid((2, 65, 65))


def discs(inclination, pa, n=1):
    return torch.tensor([[inclination, pa, 0.0, 0.0]] * n)


def light(n=6, inclination=0.0, **ranges):
    """Maps, and the radius and azimuth of their pixels, of discs with half-light radii of ten pixels."""
    parameters = discs(inclination, 30.0, n)
    maps = light_map(
        Ranges(**NONE | ranges), np.random.default_rng(1), torch.Generator().manual_seed(1), parameters, FIELD,
        torch.full((n,), 10.0),
    )  # fmt: skip
    return maps, *disc_plane(parameters, FIELD)


def test_the_plane_of_a_disc():
    """A pixel on the major axis is as far as it looks; one on the minor axis 1 / cos i farther."""
    radius, azimuth = disc_plane(discs(60.0, 0.0), FIELD)  # the major axis points north
    assert float(radius[0, 52, 32]) == pytest.approx(20, rel=1e-5)
    assert float(azimuth[0, 52, 32]) == pytest.approx(0, abs=1e-6)
    assert float(radius[0, 32, 12]) == pytest.approx(40, rel=1e-5)


def test_smooth_discs_stay_smooth():
    assert_close(light()[0], torch.ones(6, 65, 65))


@pytest.mark.parametrize(
    "kind", [{"arm_share": 1.0, "arms": (0.6, 0.6)}, {"lopsided_share": 1.0, "lopsided": (0.3, 0.3)}]
)
def test_rings_keep_their_light(kind):
    """Waves around the centre add nothing to a ring, and have the contrast asked for."""
    maps, radius, _ = light(**kind)
    ring = (radius > 20) & (radius < 22)
    for k in range(len(maps)):
        around = maps[k][ring[k]]
        # some 250 pixels of a ring, unevenly spread over the azimuth: waves cancel to a fiftieth
        assert float(around.mean()) == pytest.approx(1, abs=0.03)
        strength = 0.6 * 2.1 / 2.4 if "arm_share" in kind else 0.3
        assert float(around.std() * 2**0.5) == pytest.approx(strength, rel=0.1)


def test_lopsided_light_has_one_side():
    maps, radius, azimuth = light(lopsided_share=1.0, lopsided=(0.3, 0.3))
    ring = (radius > 20) & (radius < 22)
    for k in range(len(maps)):
        one = (maps[k] * torch.exp(1j * azimuth[k]))[ring[k]].mean().abs()
        two = (maps[k] * torch.exp(2j * azimuth[k]))[ring[k]].mean().abs()
        assert float(one) == pytest.approx(0.15, rel=0.1)  # half of the amplitude
        assert float(two) < 0.03


def test_clumps_have_mean_one():
    maps, *_ = light(n=40, clump_share=1.0, clumps=(0.3, 0.3))
    # 40 maps of some tens of independent clumps each: a hundredth
    assert float(maps.mean()) == pytest.approx(1, abs=0.03)
    assert float(maps.log().std()) == pytest.approx(0.3, rel=0.25)  # bicubic interpolation smooths what it fills in


def test_a_warp_turns_the_outer_disc_alone():
    parameters, r50 = discs(50.0, 30.0, 5), torch.full((5,), 8.0)
    outer, inside, outside = warped(Ranges(warp=(5.0, 10.0)), np.random.default_rng(2), parameters, FIELD, r50)
    assert (outer[:, :2] - parameters[:, :2]).abs().amax(0).min() > 1
    assert_close(outer[:, 2:], parameters[:, 2:])
    radius, _ = disc_plane(parameters, FIELD)
    assert (inside[radius < 0.5 * 8] > 0.98).all()
    assert (inside[radius > 3.5 * 8] < 0.02).all()
    radius, _ = disc_plane(outer, FIELD)
    assert (outside[radius < 0.5 * 8] < 0.02).all()
    assert (outside[radius > 3.5 * 8] > 0.98).all()


def test_a_neighbour_is_off_to_a_side_and_fainter():
    clean = torch.zeros(3, 40, 64, 64)
    for k in range(3):
        clean[k, 20, 32, 32] = k + 1.0
    other = neighbour(Ranges(neighbour=(0.2, 0.5)), np.random.default_rng(3), clean)
    for k in range(3):
        peak = float(other[k].max()) / (k + 1)
        assert 0.2 <= peak <= 0.5
        _, y, x = np.unravel_index(int(other[k].argmax()), other[k].shape)
        assert np.hypot(y - 32, x - 32) > 0.25 * 64
