"""Lines far narrower than a channel."""

import pytest
import torch

from kinematics_nn.decoder.narrow import narrow_spectra, narrow_spectra_slopes
from kinematics_nn.decoder.profile import channel_spectra, channel_spectra_slopes

EDGES = torch.cumsum(torch.tensor([-31.0, 5.0, 5.5, 6.0, 5.0, 7.0, 5.0, 9.0, 5.0], dtype=torch.float64), 0)


def points(seed=3, k=40, rows=7):
    """Speeds within the band, at its very edges and far beyond, and weights."""
    generator = torch.Generator().manual_seed(seed)
    speed = 60 * torch.rand(k, rows, dtype=torch.float64, generator=generator) - 38
    speed[:9, 0] = EDGES
    speed[0, 1:3] = torch.tensor([-900.0, 900.0])
    return speed, torch.rand(k, rows, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("sigma", [1.0, 0.3, 0.005])
def test_is_the_error_function_of_every_edge(sigma):
    speed, weight = points()
    sigma = torch.tensor([sigma], dtype=torch.float64)
    exact = channel_spectra(speed, sigma.expand_as(speed), weight, EDGES)
    # At five sigma from an edge 3e-7 of the light is beyond it; of some forty points a pixel, over channels of 5 km/s.
    torch.testing.assert_close(narrow_spectra(speed, sigma, weight, EDGES), exact, rtol=0, atol=40 * 3e-7 / 5)


def test_slopes_are_those_of_the_error_function():
    speed, weight = points(k=12)
    sigma = torch.tensor([0.8], dtype=torch.float64)
    generator = torch.Generator().manual_seed(5)
    slopes = tuple(torch.randn(4, *speed.shape, dtype=torch.float64, generator=generator) for _ in range(3))
    exact = channel_spectra_slopes(speed, sigma.expand_as(speed), weight, slopes, EDGES)
    found = narrow_spectra_slopes(speed, sigma, weight, slopes, EDGES)
    # Six sigma and more from the edges that are left out, where the Gaussian is 1e-8.
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-6)


def test_is_differentiable():
    speed, weight = (some[10:14, 3:5].clone().requires_grad_() for some in points())
    sigma = torch.tensor([0.9], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *args: narrow_spectra(*args, EDGES), (speed, sigma, weight))
