"""The Jacobian: the derivatives of the forward, by another way, at every disc and option."""

import itertools

import pytest
import torch
from discs import forms, grid, vector

from kinematics_nn.decoder import DiscDecoder

FORMS = [("arctan", "exponential", "constant"), ("tanh", "sersic", "exponential"), ("nfw", "ring", "linear")]
RADII = {"r_scale": 2.0, "r_turn": 1.0, "r_eff": 2.5, "r_ring": 3.0, "r_s": 4.0, "r_dispersion": 6.0, "width": 1.2}


def points(decoder):
    """Parameters (3, n): a thin disc, a thick one, one nearly edge-on; on no symmetric point."""
    defaults = {}
    for slot, names in decoder.forms.slots.items():
        defaults |= dict(zip(names, (p.default for p in getattr(decoder.forms, slot).parameters), strict=True))
    common = defaults | {name: value for name, value in RADII.items() if name in decoder.names}
    common |= {"velocity_dispersion": 20.0, "east": 0.31, "north": -0.47, "vsys": 7.0}
    discs = [{"thickness": 0.0}, {"thickness": 0.4}, {"thickness": 0.2, "inclination": 87.0, "pa": 200.0}]
    return torch.cat([vector(decoder.names, **common | changed) for changed in discs])


def forward_by_parameter(decoder, parameters):
    """Derivatives (batch, n_parameters, channel, y, x) one parameter at a time, by reverse mode through the forward."""
    at = parameters.clone().requires_grad_()
    cubes = decoder(at)
    flat = cubes.flatten(1)
    columns = []
    for voxel in range(flat.shape[1]):
        (gradient,) = torch.autograd.grad(flat[:, voxel].sum(), at, retain_graph=True)
        columns.append(gradient)
    return cubes.detach(), torch.stack(columns, -1).unflatten(-1, cubes.shape[1:])


@pytest.mark.parametrize("names", FORMS, ids="-".join)
def test_the_jacobian_is_that_of_reverse_mode(names):
    decoder = DiscDecoder(grid((4, 7, 6), channel_width=100.0), forms(*names))
    at = points(decoder)
    cubes, expected = forward_by_parameter(decoder, at)
    found_cubes, found = decoder.jacobian(at)
    assert found.shape == (3, len(decoder.names), 4, 7, 6)
    # float64, the same points in the same order or not.
    torch.testing.assert_close(found_cubes, cubes, rtol=1e-9, atol=1e-12)
    for k, name in enumerate(decoder.names):
        scale = float(expected[:, k].abs().max())
        assert scale > 0, f"nothing depends on {name}"
        torch.testing.assert_close(found[:, k], expected[:, k], rtol=1e-7, atol=1e-8 * scale, msg=name)


@pytest.mark.parametrize(
    "changed",
    [{"velocity_dispersion": 5.0}, {"vsys": 170.0}, {"flux": 0.0}, {"east": 6.0}, {"east": 500.0}, {"thickness": 1.5}],
    ids=str,
)
def test_so_it_is_for_thin_lines_at_the_ends_of_band_and_field_and_where_nothing_is_seen(changed):
    # Lines of a twentieth of a channel go by error functions, point by point; points beyond the bins gather at their
    # end; a disc that the field cuts is not multiplied to its flux.
    decoder = DiscDecoder(grid((4, 7, 6), channel_width=100.0), forms())
    at = points(decoder)[1:2]
    for name, value in changed.items():
        at[0, decoder.names.index(name)] = value
    cubes, expected = forward_by_parameter(decoder, at)
    found_cubes, found = decoder.jacobian(at)
    torch.testing.assert_close(found_cubes, cubes, rtol=1e-9, atol=1e-12)
    for k, name in enumerate(decoder.names):
        scale = float(expected[:, k].abs().max())
        torch.testing.assert_close(found[:, k], expected[:, k], rtol=1e-7, atol=1e-8 * scale + 1e-15, msg=name)


def test_memory_is_bounded_by_the_points_at_a_time():
    # Few points at a time, many parts: the same sums.
    on = grid((8, 16, 16), channel_width=50.0)
    whole, parts = DiscDecoder(on, forms()), DiscDecoder(on, forms(), points=2000)
    at = points(whole)
    for a, b in zip(parts.jacobian(at), whole.jacobian(at), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12 * float(b.abs().max()))


OPTIONS = {
    "sampled": {},
    "integrated": {"integrate_pixels": True},
    "gaussian": {"lsf": 30.0},
    "hanning": {"lsf": "hanning"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("beam", [(4.0, 4.0, 0.0), (6.0, 3.5, 35.0)], ids=["round", "turned"])
def test_the_jacobian_is_that_of_finite_differences(options, beam):
    decoder = DiscDecoder(grid((8, 16, 16), channel_width=50.0, beam=beam), forms(), **options)
    at = points(decoder)[1:2]
    cube, found = decoder.jacobian(at)
    with torch.no_grad():
        torch.testing.assert_close(cube, decoder(at), rtol=1e-9, atol=1e-12)
        for k, name in enumerate(decoder.names):
            step = torch.zeros_like(at)
            step[0, k] = 1e-5 * max(abs(float(at[0, k])), 1.0)
            expected = (decoder(at + step) - decoder(at - step)) / (2 * step[0, k])
            # Second differences are 1e-10; points that cross the kink of |z| or a row of pixels in a step cost 1e-4.
            apart = float((found[:, k] - expected).norm() / expected.norm())
            assert apart < 1e-3, (name, apart)


def test_the_jacobian_keeps_no_graph_and_single_precision_is_enough():
    single = DiscDecoder(grid((8, 16, 16), channel_width=50.0, dtype=torch.float32), forms())
    double = DiscDecoder(grid((8, 16, 16), channel_width=50.0), forms())
    at = points(double)
    cube, jacobian = single.jacobian(at.float())
    assert cube.dtype == jacobian.dtype == torch.float32
    assert not jacobian.requires_grad
    _, exact = double.jacobian(at)
    # A derivative loses digits more than the cube: those by the inclination of a disc on edge, where light is steepest
    # in it, three; 1e-3 of its own largest value.
    error = (jacobian - exact).abs().amax((0, 2, 3, 4)) / exact.abs().amax((0, 2, 3, 4))
    assert float(error.max()) < 1e-3, dict(zip(double.names, error.tolist(), strict=True))


EDGES = {
    "inclination": (0.0, 90.0),
    "thickness": (0.0, 2.0),
    "velocity_dispersion": (0.0, 10.0),
    "r_turn": (1e-3, 2.0),
    "r_scale": (0.02, 200.0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_jacobian_is_finite_at_every_edge(dtype):
    # Odd sides: a pixel, and so a point of an odd rule, lies on the centre.
    decoder = DiscDecoder(grid((8, 13, 13), channel_width=50.0, dtype=dtype), forms())
    edges = itertools.product(*EDGES.values())
    at = torch.cat([vector(decoder.names, **dict(zip(EDGES, values, strict=True))) for values in edges]).to(dtype)
    cubes, jacobian = decoder.jacobian(at)
    assert torch.isfinite(cubes).all()
    bad = (~torch.isfinite(jacobian)).flatten(2).any(2).nonzero()
    assert not len(bad), [(dict(zip(decoder.names, at[i].tolist(), strict=True)), decoder.names[j]) for i, j in bad]
