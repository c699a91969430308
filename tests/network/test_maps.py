"""Pseudo-cubes: their moments are the maps, blanks stay blank, and what turns the map turns the frame."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.wcs import WCS
from framed import DISC, make_cubes

from kinematics_nn.errors import KinematicsError
from kinematics_nn.network.frame import FACTS, make_frame
from kinematics_nn.network.maps import BRIGHTNESS, prepare_maps, pseudo_cubes, pseudo_observation
from kinematics_nn.observation.maps import MomentMaps
from kinematics_nn.results.maps import moments


@pytest.fixture(scope="module")
def field():
    """Moments 1 and 0 (1, y, x) of a bright disc, blank where it is faint, and its cubes."""
    cubes = make_cubes(snr=1000.0, shape=(40, 48, 48))
    light = cubes.data.clamp(min=0) * (cubes.data > 5)
    step = torch.diff(cubes.edges)[:, :, None, None]
    velocity = 0.5 * (cubes.edges[:, 1:] + cubes.edges[:, :-1])[:, :, None, None]
    moment0 = (light * step).sum(1)
    moment1 = torch.where(moment0 > 0, (light * step * velocity).sum(1) / moment0, torch.nan)
    return moment1, moment0, cubes


def pseudo(moment1, moment0, cubes):
    return pseudo_cubes(moment1, moment0, cubes.matrix, cubes.origin, cubes.beam)


def moments_of(cubes):
    step = torch.diff(cubes.edges)[:, :, None, None]
    velocity = 0.5 * (cubes.edges[:, 1:] + cubes.edges[:, :-1])[:, :, None, None]
    moment0 = (cubes.data * step).sum(1)
    return moment0, (cubes.data * step * velocity).sum(1) / moment0


@pytest.mark.parametrize("with_light", [True, False])
def test_its_moments_are_the_maps(field, with_light):
    moment1, moment0, cubes = field
    made, scale = pseudo(moment1, moment0 if with_light else None, cubes)
    valid = torch.isfinite(moment1)
    assert torch.equal(made.weight > 0, valid)
    light, velocity = moments_of(made)
    # Of 5 km/s a channel, single precision leaves 1e-3.
    torch.testing.assert_close(velocity[valid], moment1[valid], atol=2e-3, rtol=0)
    wanted = moment0[valid] if with_light else torch.ones(int(valid.sum()))
    torch.testing.assert_close(light[valid] / scale, wanted, rtol=1e-4, atol=0)
    assert float(made.data.sum(1)[valid].mean()) == pytest.approx(BRIGHTNESS, rel=1e-4)
    assert int((made.data > 0).sum(1).max()) == 2, "a line of no width: two channels"


def test_what_is_blank_has_neither_light_nor_weight(field):
    moment1, moment0, cubes = (part.clone() if torch.is_tensor(part) else part for part in field)
    y, x = (int(i) for i in np.argwhere(torch.isfinite(moment1[0]).numpy())[100])
    moment1[0, y, x] = 48_000.0  # a blunder of the line finder
    moment0[0, y, x + 1] = -0.1
    made, _ = pseudo(moment1, moment0, cubes)
    blank = made.weight == 0
    assert blank[0, y, x]
    assert blank[0, y, x + 1]
    assert torch.equal(made.data.sum(1) > 0, ~blank)
    untouched = pseudo(field[0], field[1], cubes)[0]
    assert float(made.edges[0, -1]) == pytest.approx(float(untouched.edges[0, -1]), abs=1.0), "no wider for it"


def test_velocities_reversed_are_the_cube_reversed(field):
    moment1, moment0, cubes = field
    one, other = (pseudo(field, moment0, cubes)[0] for field in (moment1, -moment1))
    torch.testing.assert_close(other.edges, -one.edges.flip(1), atol=1e-3, rtol=0)
    # A share of a channel differs by the rounding of velocities over it.
    torch.testing.assert_close(other.data, one.data.flip(1), atol=2e-2, rtol=1e-3)


@pytest.mark.parametrize("with_light", [True, False])
def test_the_frame_finds_the_disc_and_turns_with_it(field, with_light):
    moment1, moment0, cubes = field
    moment0 = moment0 if with_light else torch.where(moment0 > 0, 1.0, 0.0)
    frame = make_frame(pseudo(moment1, moment0, cubes)[0])
    # The beam is not along the axes: it turns both velocities and light by some degrees.
    assert float(torch.rad2deg(frame.pa)) == pytest.approx(DISC["pa"], abs=4)
    assert float(frame.east) == pytest.approx(DISC["east"], abs=0.2)
    assert float(frame.north) == pytest.approx(DISC["north"], abs=0.2)
    assert float(frame.vsys) == pytest.approx(DISC["vsys"], abs=2)
    # x runs west: a quarter turn of the array, y to x, takes north to west.
    turned = replace(cubes, beam=cubes.beam - torch.tensor([0.0, 0.0, 90.0]))
    other = make_frame(pseudo(*(torch.rot90(plane, 1, (1, 2)) for plane in (moment1, moment0)), turned)[0])
    assert float(torch.rad2deg(frame.pa - other.pa)) % 360 == pytest.approx(90, abs=1e-2)
    bounded = [k for k, name in enumerate(FACTS) if not name.startswith("shift")]  # these are rounding, enlarged
    torch.testing.assert_close(other.facts[:, bounded], frame.facts[:, bounded], atol=2e-2, rtol=0)
    torch.testing.assert_close(other.image, frame.image, atol=2e-2, rtol=0)


def make_maps(n=48, pixel=1.0, *, light=True, radius=16.0):
    """Solid-body rotation, 3 km/s an arcsec, PA 0, about 7000 km/s, in a round patch of the sky."""
    y, x = np.mgrid[:n, :n] - (n - 1) / 2
    inside = np.hypot(x, y) * pixel < radius
    return MomentMaps(
        moment1=np.where(inside, 7000 + 3 * pixel * y, np.nan),
        moment0=np.where(inside, 2e-20 * (1 + x / n), np.nan) if light else None,
        xi=-x * pixel,
        eta=y * pixel,
        beam=np.array([4.0, 3.0, 20.0]),
        header={
            "convention": "optical", "frame": "BARYCENT", "shape": (n, n), "crop": ((0, n), (0, n)), "unit": "K",
            "celestial": WCS(naxis=2).to_header(relax=True).tostring(),
        },
    )  # fmt: skip


@pytest.mark.parametrize("light", [True, False])
@pytest.mark.parametrize(("n", "pixel", "bins"), [(48, 1.0, 1), (200, 0.2, 4), (203, 0.2, 4)])
def test_large_maps_are_binned(n, pixel, bins, light):
    maps = make_maps(n, pixel, light=light)
    cubes, unit = prepare_maps(maps)
    assert cubes.data.shape[2] == -(-n // bins)
    valid = np.isfinite(maps.moment1)
    moment0, moment1 = moments_of(cubes)
    y, x = torch.meshgrid(*(torch.arange(k).float() for k in cubes.weight.shape[1:]), indexing="ij")
    north = cubes.origin[0, 1] + cubes.matrix[0, 1, 0] * x + cubes.matrix[0, 1, 1] * y
    seen = cubes.weight[0] > 0
    inner = seen & (torch.hypot(north, cubes.origin[0, 0] + cubes.matrix[0, 0, 0] * x) < 14)  # whole blocks
    torch.testing.assert_close(moment1[0][inner], 7000 + 3 * north[inner], atol=0.02, rtol=0)
    area = float(torch.linalg.det(cubes.matrix[0]).abs())
    total = np.where(valid, maps.moment0 if light else 1.0, 0).sum() * pixel**2
    # Blocks of which less than half is valid are left out.
    assert float(moment0[0][seen].sum()) * unit * area == pytest.approx(total, rel=0.04 if bins > 1 else 1e-4)
    assert float(cubes.beam[0, 0]) == pytest.approx(4.0, rel=0.02)


def test_few_pixels_are_refused():
    with pytest.raises(KinematicsError, match="pixels left after binning"):
        prepare_maps(make_maps(radius=2.5))


def test_as_an_observation():
    maps = make_maps()
    observation = pseudo_observation(maps)
    moment0, moment1 = moments(observation.data.astype(float), observation.emission, observation.edges)
    valid = np.isfinite(maps.moment1)
    np.testing.assert_allclose(moment1[valid], maps.moment1[valid], atol=2e-3)
    np.testing.assert_allclose(moment0[valid], maps.moment0[valid], rtol=1e-4)
    assert not observation.valid[:, ~valid].any()
    spectral = WCS(fits.Header.fromstring(observation.header["wcs"])).spectral
    np.testing.assert_allclose(spectral.pixel_to_world_values(np.arange(40)) / 1e3, observation.velocity, rtol=1e-6)
