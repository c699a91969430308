"""The width of the integrated line, against closed forms and against a disc of test particles."""

import math

import numpy as np
import pytest
import torch

from kinematics_nn.inference.derived import _RINGS
from kinematics_nn.inference.line_width import line_width

FWHM = 2 * math.sqrt(2 * math.log(2))
RADII = np.geomspace(0.1, 4.0, 12) * 5.0
ALL = _RINGS * 5.0


def tensors(*arrays):
    return [torch.as_tensor(np.asarray(array, dtype=float))[None] for array in arrays]


def width(speed, light, inclination, dispersion, radii=RADII):
    speed, light, radii = tensors(np.full(np.shape(radii), speed), light, radii)
    return float(line_width(speed, light, radii, *(torch.tensor([float(v)]) for v in (inclination, dispersion))))


def test_face_on_it_is_the_dispersion():
    found = width(150.0, np.exp(-RADII / 5), 0.0, 12.0)
    # 64 speeds over four dispersions, with straight lines between them.
    assert found == pytest.approx(FWHM * 12.0, rel=0.01)


def test_one_narrow_ring_has_two_horns():
    """Of an arcsine law broadened a little, w50 is twice the projected speed and about a dispersion more."""
    light = np.where(np.arange(12) == 6, 1.0, 0.0)
    found = width(200.0, light, math.radians(60), 12.0)
    assert 2 * 200 * math.sin(math.radians(60)) < found < 2 * 200 * math.sin(math.radians(60)) + 2 * FWHM / 2 * 12.0


@pytest.mark.parametrize(
    ("inclination", "dispersion", "r_turn"), [(70.0, 10.0, 2.0), (30.0, 10.0, 2.0), (60.0, 40.0, 8.0), (85.0, 6.0, 0.3)]
)
def test_is_that_of_test_particles(inclination, dispersion, r_turn):
    rng = np.random.default_rng(1)
    scale, n = 5.0, 2_000_000
    radius = rng.gamma(2.0, scale / 1.678, n)  # an exponential disc of r50 = 5
    radius = radius[(radius > 0.5) & (radius < 20)]  # the light that the rings hold
    speed = 180 * 2 / np.pi * np.arctan(radius / r_turn)
    angle = rng.uniform(0, 2 * np.pi, radius.size)
    v = speed * np.cos(angle) * np.sin(np.radians(inclination)) + rng.normal(0, dispersion, radius.size)
    counts, edges = np.histogram(v, 150, range=(-260, 260))
    counts = 0.5 * (counts + counts[::-1])
    above = np.flatnonzero(counts >= 0.5 * counts.max())
    centres = 0.5 * (edges[1:] + edges[:-1])
    last = above[-1]
    share = (counts[last] - 0.5 * counts.max()) / (counts[last] - counts[last + 1])
    wanted = 2 * (centres[last] + share * (edges[1] - edges[0]))

    curve = 180 * 2 / np.pi * np.arctan(RADII / r_turn)
    found = width(curve, np.exp(-1.678 * RADII / scale), math.radians(inclination), dispersion)
    # Twelve rings and 32 waves; the peak of a histogram is the highest of noisy ones.
    assert found == pytest.approx(wanted, rel=0.04)


@pytest.mark.parametrize("light", ["exponential", "wide ring", "narrow ring"])
@pytest.mark.parametrize("curve", ["flat", "rising", "slope"])
def test_is_that_of_test_particles_of_all_the_light(curve, light):
    """Particles to the end of the light, and a curve that rises beyond it, where the rings go on."""
    rng, n = np.random.default_rng(2), 2_000_000
    if light == "exponential":
        radius = rng.gamma(2.0, 5.0 / 1.678, n)
        profile = np.exp(-1.678 * ALL / 5)
    else:
        centre, spread = {"wide ring": (5.0, 1.2), "narrow ring": (5.0, 0.5)}[light]
        radius = abs(centre + spread * rng.standard_normal(2 * n))
        radius = radius[rng.random(2 * n) < radius / radius.max()]
        profile = np.exp(-0.5 * ((ALL - centre) / spread) ** 2)
    speed = {"flat": lambda r: 200 + 0 * r, "rising": lambda r: 127 * np.arctan(r / 4), "slope": lambda r: 20 * r}[
        curve
    ]
    v = speed(radius) * np.cos(rng.uniform(0, np.pi, radius.size)) * np.sin(1.05) + rng.normal(0, 10, radius.size)
    counts, edges = np.histogram(np.concatenate([v, -v]), 400, range=(-500, 500))
    counts = np.convolve(counts, np.ones(5) / 5, "same")
    wanted = 2 * (0.5 * (edges[1:] + edges[:-1]))[counts >= 0.5 * counts.max()][-1]
    # Twenty rings, 32 waves, half of a bin of the histogram: 4 % in rings of light that turn rigidly.
    assert width(speed(ALL), profile, 1.05, 10.0, ALL) == pytest.approx(wanted, rel=0.045)


def test_scales_with_velocity_and_is_each_draws_own():
    light = np.exp(-RADII / 5)
    curve = 150 * np.tanh(RADII / 3)
    one, two = width(curve, light, 1.0, 10.0), width(3 * curve, light, 1.0, 30.0)
    assert two == pytest.approx(3 * one, rel=1e-4)
    speed, light, radii = (a.expand(2, -1) for a in tensors(curve, light, RADII))
    both = line_width(speed * torch.tensor([[1.0], [3.0]]), light, radii, torch.ones(2), torch.tensor([10.0, 30.0]))
    np.testing.assert_allclose(both, [one, two], rtol=1e-4)


def test_a_line_far_narrower_than_the_rotation_stays_finite():
    found = width(200 * np.tanh(RADII / 3), np.exp(-RADII / 5), 1.4, 0.01)
    assert 0 < found < 2.3 * 200


def test_speeds_may_be_negative_at_some_radii():
    """A curve of the signed sum of squares; the line is even in velocity, so that the sign is of no matter."""
    light = np.exp(-RADII / 5)
    curve = 100 * np.tanh(RADII / 3)
    against = np.where(RADII < 1.5, -curve, curve)
    assert width(against, light, 1.0, 10.0) == pytest.approx(width(curve, light, 1.0, 10.0), rel=1e-3)
