"""The conditional density: normalised, and sampled from as it says."""

import math

import pytest
import torch
from scipy.stats import kstest, spearmanr
from scipy.stats import t as student_t
from torch.testing import assert_close

from kinematics_nn.network.density import ConditionalDensity

CONTEXT = 4


def make_density(features, seed=0, strength=0.3, freedom=None):
    """A density far from where training starts, in float64, and a context."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        density = ConditionalDensity(features, CONTEXT, hidden=16, freedom=freedom).double()
        with torch.no_grad():
            for parameter in density.parameters():
                parameter.add_(strength * torch.randn_like(parameter))
        return density, torch.randn(1, CONTEXT, dtype=torch.float64)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module", params=[None, 5.0], ids=["normal", "heavy tails"])
def plane(request):
    """A density of two features on a plane of points: density, context, points, densities there, cell area."""
    density, context = make_density(2, freedom=request.param)
    axis = torch.linspace(-40, 40, 1601, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        p = torch.exp(density.log_prob(points, context.expand(len(points), -1)))
    return density, context, points, p, float(axis[1] - axis[0]) ** 2


def test_integrates_to_one(plane):
    _, _, _, p, area = plane
    # Cells of 0.05, well below the widths; the plane ends where nothing is left.
    assert float(p.sum() * area) == pytest.approx(1, abs=2e-3)


def test_is_no_gaussian(plane):
    """Else the tests here would be of the affine map alone."""
    _, _, points, p, area = plane
    mean = (p[:, None] * points).sum(0) * area
    away = points - mean
    covariance = (away.T * p) @ away * area
    gaussian = torch.distributions.MultivariateNormal(mean, covariance).log_prob(points).exp()
    assert 0.5 * float((p - gaussian).abs().sum() * area) > 0.05


def test_samples_follow_the_density(plane):
    density, context, points, p, area = plane
    n = 40_000
    with torch.no_grad():
        draws = density.sample(context.expand(n, -1), generator())
    for axis in (0, 1):
        grid, index = points[:, axis].unique(return_inverse=True)
        marginal = torch.zeros_like(grid).index_add(0, index, p) * area
        cumulative = marginal.cumsum(0) - 0.5 * marginal  # up to the middle of the cell
        found = torch.searchsorted(draws[:, axis].sort().values, grid) / n
        # Kolmogorov-Smirnov: 1.95 / sqrt(n) is passed by 1 in 1000; plus what a cell of the plane holds.
        assert (found - cumulative).abs().max() < 1.95 / math.sqrt(n) + 0.01
    # And jointly: the mean of log p over the samples is minus the entropy.
    with torch.no_grad():
        log_p = density.log_prob(draws, context.expand(n, -1))
    entropy = -float((p * torch.log(p.clamp(min=1e-300))).sum() * area)
    assert float(-log_p.mean()) == pytest.approx(entropy, abs=4 * float(log_p.std()) / math.sqrt(n) + 5e-3)


@pytest.mark.parametrize("features", [3, 25])
def test_log_prob_counts_the_volume_that_a_draw_maps_to(features):
    density, context = make_density(features, seed=2, strength=0.1)
    with torch.no_grad():
        x = density.sample(context, generator(5))
        z = torch.randn(1, features, dtype=torch.float64, generator=generator(5))  # the draw it was made from

        def whitened(point):
            """The map from x to noise, put together from the parts of the public one."""
            out = _noise_of(density, point[None], context)
            return out[0]

        jacobian = _differences(whitened, x[0])
        assert_close(whitened(x[0]), z[0], rtol=1e-6, atol=1e-8)
        wanted = -0.5 * (z**2).sum() - 0.5 * features * math.log(2 * math.pi) + torch.linalg.slogdet(jacobian)[1]
        assert float(density.log_prob(x, context)) == pytest.approx(float(wanted), abs=1e-5)


def _noise_of(density, x, context):
    mean, _, matrix = density._triangle(context)
    z = (matrix @ (x - mean)[..., None])[..., 0]
    for coupling in density.couplings:
        z = coupling(context)(z)
    return z


def _differences(function, x, step=1e-5):
    units = torch.eye(len(x), dtype=x.dtype)
    columns = [(function(x + step * unit) - function(x - step * unit)) / (2 * step) for unit in units]
    return torch.stack(columns, 1)


def test_starts_as_about_a_standard_normal():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        density = ConditionalDensity(25, CONTEXT)
    with torch.no_grad():
        draws = density.sample(torch.zeros(4000, CONTEXT), generator())
    # What the couplings are drawn with moves it a little.
    assert draws.std(0).sub(1).abs().max() < 0.5
    assert draws.mean(0).abs().max() < 0.5


def test_a_gradient_reaches_every_parameter():
    density, context = make_density(5)
    x = torch.randn(7, 5, dtype=torch.float64, generator=generator())
    density.log_prob(x, context.expand(7, -1)).sum().backward()
    for name, parameter in density.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_noise_of_five_degrees_of_freedom_is_that_of_student():
    density, _ = make_density(2, freedom=5.0)
    noise = density._noise(torch.empty(50_000, 2), generator())
    for column in noise.T.numpy():
        assert kstest(column, student_t(5).cdf).pvalue > 1e-3
    # The two are drawn apart: of heavy tails, ranks say so.
    assert abs(spearmanr(*abs(noise.T.numpy())).statistic) < 4 / math.sqrt(len(noise))
    at = torch.tensor([-3.0, 0.0, 0.5, 20.0])
    assert_close(density._log_noise(at), torch.as_tensor(student_t(5).logpdf(at.numpy())).float())


def test_samples_are_a_function_of_the_generator():
    density, context = make_density(3)
    rows = context.expand(10, -1)
    first, again, other = (density.sample(rows, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
