"""From an observation to what the frame takes: binned, in units of its noise, and no better than the simulations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.optimize import curve_fit
from scipy.special import ndtr

from kinematics_nn.network.prepare import prepare
from kinematics_nn.observation import Observation
from kinematics_nn.observation.correlation import known_correlation

PIXEL, CHANNEL = 2.0, 5.0


def make_observation(shape=(40, 60, 60), *, rms=0.5, peak=10.0, size=8.0, beam=4.0, seed=1, noise=True, turn=0.3):
    """A Gaussian blob without rotation on a turned grid; sizes in pixels, noise correlated over the beam."""
    nc, ny, nx = shape
    c, y, x = np.ogrid[:nc, :ny, :nx]
    light = np.exp(-0.5 * (((x - nx / 2) / size) ** 2 + ((y - ny / 2) / size) ** 2))
    clean = peak * light * np.exp(-0.5 * ((c - nc / 2) / 3.0) ** 2)
    grain = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), (0, beam / 2.355, beam / 2.355))
    data = clean + (rms * grain / grain.std() if noise else 0)
    sin, cos = np.sin(turn), np.cos(turn)
    right, up = -(x[0] - 10.0) * PIXEL, (y[0] - 20.0) * PIXEL
    return Observation(
        data=data.astype(np.float32),
        valid=np.ones(shape, bool),
        emission=clean > 3 * rms,
        rms=np.full(shape, rms, np.float32),
        edges=1000.0 + CHANNEL * np.arange(nc + 1),
        xi=cos * right + sin * up,
        eta=cos * up - sin * right,
        beam=np.array([beam * PIXEL, beam * PIXEL, 0.0]),
        correlation=known_correlation("wide", "white", (beam / 2.355) ** 2 * np.eye(2), nc),
        header={},
    )


def total(cubes, unit):
    """Flux of a cube: brightness times the areas and the widths of its voxels."""
    area = float(torch.linalg.det(cubes.matrix[0]).abs())
    return float((cubes.data[0].sum((1, 2)) * torch.diff(cubes.edges[0])).sum()) * unit * area


def test_a_small_cube_goes_in_as_it_is():
    observation = make_observation()
    cubes, unit = prepare(observation)
    np.testing.assert_allclose(cubes.data[0] * unit, observation.data, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(cubes.edges[0], observation.edges, rtol=1e-6)
    np.testing.assert_allclose(cubes.origin[0], [observation.xi[0, 0], observation.eta[0, 0]], rtol=1e-5)
    _assert_offsets(cubes, observation, 1)
    assert torch.equal(cubes.weight, torch.ones_like(cubes.weight))


@pytest.mark.parametrize("shape", [(80, 200, 200), (81, 203, 201)], ids=["whole blocks", "blocks cut off"])
def test_a_large_cube_is_binned(shape):
    observation = make_observation(shape, size=30.0, beam=4.0)
    cubes, unit = prepare(observation)
    bins = round(float(torch.linalg.det(cubes.matrix[0]).abs().sqrt()) / PIXEL)
    assert bins > 1
    spans = [np.flatnonzero(observation.emission.any(tuple({0, 1, 2} - {axis}))) // bins for axis in (1, 2)]
    emission = [np.ptp(span) + 1 for span in spans]
    # Across the emission no more pixels than the simulations hold, and one where a block straddles its edge.
    assert max(emission) <= 49
    _assert_offsets(cubes, observation, bins)
    assert float(cubes.edges[0, 0]) == pytest.approx(observation.edges[0])
    assert float(cubes.edges[0, -1]) == pytest.approx(observation.edges[-1])
    assert cubes.edges.shape[1] == cubes.data.shape[1] + 1
    assert (torch.diff(cubes.edges[0]) > 0).all()
    flux = float(observation.data.sum()) * PIXEL**2 * CHANNEL
    assert total(cubes, unit) == pytest.approx(flux, rel=0.01)  # blocks cut off hold none of it


def _assert_offsets(cubes, observation, bins):
    """The middle of a block lies where the mean of its pixels does."""
    y, x = 3, 5
    block = np.s_[y * bins : (y + 1) * bins, x * bins : (x + 1) * bins]
    wanted = [observation.xi[block].mean(), observation.eta[block].mean()]
    found = cubes.origin[0] + cubes.matrix[0] @ torch.tensor([float(x), float(y)])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3 * PIXEL)


def test_wide_lines_are_binned_in_velocity():
    observation = make_observation((160, 40, 40))
    c = np.arange(160)[:, None, None]
    wide = np.broadcast_to(np.abs(c - 80) < 60, observation.data.shape).copy()
    cubes, unit = prepare(replace(observation, emission=wide & observation.emission.any(0)))
    assert cubes.data.shape[1] <= 160 / 4
    assert total(cubes, unit) == pytest.approx(float(observation.data.sum()) * PIXEL**2 * CHANNEL, rel=0.01)


@pytest.mark.parametrize("integrated", [True, False])
def test_the_beam_is_what_a_point_source_looks_like(integrated):
    """Binned, as the field is large, of pixels that hold the light of all of them or that at the centre."""
    observation = make_observation((20, 120, 120), size=20.0, beam=4.0, turn=0.0, noise=False)
    sigma, at = 4.0 / 2.3548, np.arange(120) - 60.0
    edges = ndtr((at[:, None] + [-0.5, 0.5]) / sigma)
    row = np.diff(edges)[:, 0] if integrated else np.exp(-0.5 * (at / sigma) ** 2)
    data = np.broadcast_to(100 * np.outer(row, row) / row.max() ** 2, observation.shape).astype(np.float32)
    star = replace(observation, data=data, header={"integrate_pixels": integrated})
    cubes, unit = prepare(star)
    image = cubes.data[0].double().mean(0).numpy() * unit
    step = float(torch.linalg.det(cubes.matrix[0]).abs()) ** 0.5
    assert step >= 2 * PIXEL
    y, x = step * np.indices(image.shape).reshape(2, -1)

    def star_of(_, peak, x0, y0, width):
        return peak * np.exp(-4 * np.log(2) * ((x - x0) ** 2 + (y - y0) ** 2) / width**2)

    start = (100, 60 * PIXEL, 60 * PIXEL, 5 * PIXEL)
    (_, _, _, width), _ = curve_fit(star_of, x, image.ravel(), start)
    # A pixel's own part is 1.4 % of the width; blocks as wide as the beam are no Gaussians, by less than that.
    assert float(cubes.beam[0, 0]) == pytest.approx(abs(width), rel=0.005)


def test_finely_sampled_beams_are_binned():
    cubes, _ = prepare(make_observation((20, 100, 100), size=15.0, beam=20.0))
    pixel = float(torch.linalg.det(cubes.matrix[0]).abs().sqrt())
    assert 20 * PIXEL / pixel < 2 * 9


@pytest.mark.parametrize(("shape", "size"), [((40, 60, 60), 8.0), ((80, 200, 200), 30.0)], ids=["as is", "binned"])
def test_the_unit_is_the_noise(shape, size):
    observation = make_observation(shape, size=size)
    cubes, unit = prepare(observation)
    ny, nx = cubes.weight.shape[1:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, ny), torch.linspace(-1, 1, nx), indexing="ij")
    noise = cubes.data[0][:, torch.hypot(x, y) > 0.8]  # the blob is in the middle
    # The wings of the blob below the detection and the few independent samples: measured to a few per cent.
    assert float(noise.quantile(0.84) - noise.quantile(0.16)) / 2 == pytest.approx(1, abs=0.12)
    if size == 8.0:
        assert unit == pytest.approx(0.5, rel=0.1)
    else:
        assert unit < 0.5, "averages are less noisy"


def test_noise_a_tenth_as_large_is_a_tenth_of_the_unit():
    loud, quiet = (prepare(make_observation(rms=rms, peak=20 * rms))[1] for rms in (0.5, 0.05))
    assert quiet == pytest.approx(loud / 10, rel=1e-3)


def test_a_cube_without_noise_gets_some_and_always_the_same():
    observation = make_observation(noise=False)
    (first, unit), (second, _) = prepare(observation), prepare(observation)
    assert torch.equal(first.data, second.data)
    # As good as the best of the simulations: a peak of a hundred times the noise.
    assert float(first.data.max()) == pytest.approx(100, rel=0.1)
    noise = first.data[0, :4] * unit
    assert float(noise.std()) == pytest.approx(unit, rel=0.25)
    assert not torch.equal(prepare(observation, seed=1)[0].data, first.data)


def test_a_noisy_cube_gets_no_more():
    observation = make_observation()
    assert torch.equal(prepare(observation, seed=0)[0].data, prepare(observation, seed=1)[0].data)


def test_pixels_that_are_blank_in_most_channels_count_whole():
    """As those of a cube from which all but the emission was cut do."""
    observation = make_observation()
    cubes, _ = prepare(replace(observation, valid=observation.emission))
    shown = torch.as_tensor(observation.emission.any(0))
    assert torch.equal(cubes.weight[0], shown.float())


def test_the_unit_is_the_noise_where_the_galaxy_is():
    y, x = np.mgrid[-1:1:60j, -1:1:60j]
    rising = np.exp(1.5 * (x**2 + y**2)).astype(np.float32)  # of a primary beam, that the noise was divided by
    plain = make_observation()
    noise = make_observation(peak=0.0).data * (rising - 1)
    _, unit = prepare(replace(plain, data=plain.data + noise, rms=plain.rms * rising))
    typical = np.median((plain.rms * rising)[plain.emission])
    # Some hundred independent samples; that of the whole field is 1.6 times as high.
    assert unit == pytest.approx(typical, rel=0.1)


def test_blank_channels_are_told_from_empty_ones():
    """And so are those that are added where a line has come to its end."""
    observation = make_observation(shape=(30, 60, 60))
    valid = observation.valid.copy()
    valid[3:5] = False
    cubes, _ = prepare(replace(observation, valid=valid, data=observation.data * valid))
    seen = cubes.seen[0]
    assert int((seen == 0).sum()) == 2
    assert (cubes.data[0, seen == 0] == 0).all()
    assert len(seen) == cubes.data.shape[1] == 40


def test_behind_blank_channels_nothing_is_known():
    """A line has come to its end where a channel has data and no emission, and not where it has none."""
    observation = make_observation(shape=(30, 60, 60))
    valid = observation.valid.copy()
    valid[-12:] = False  # in the midst of the line
    emission = observation.emission & valid
    cubes, _ = prepare(replace(observation, valid=valid, emission=emission, data=observation.data * valid))
    assert cubes.data.shape[1] == 40
    assert cubes.seen[0].tolist() == [1.0] * 28 + [0.0] * 12


def test_blanks_and_noisy_borders_travel_as_weight():
    observation = make_observation()
    valid, rms = observation.valid.copy(), observation.rms.copy()
    valid[:, :, :6] = False
    rms[:, :, 50:] *= 4
    data = np.where(valid, observation.data, np.float32(0))
    cubes, _ = prepare(replace(observation, valid=valid, rms=rms, data=data))
    assert (cubes.weight[0, :, :6] == 0).all()
    assert (cubes.data[0, :, :, :6] == 0).all()
    np.testing.assert_allclose(cubes.weight[0, :, 6:50], 1)
    np.testing.assert_allclose(cubes.weight[0, :, 50:], 0.25)
