"""Gradients: right, present for every parameter, and finite at every edge of the parameters' range."""

import itertools

import pytest
import torch
from discs import decoder, forms, grid, vector

SMALL = {"shape": (8, 12, 12), "channel_width": 50.0}
FORMS = [("arctan", "exponential", "constant"), ("tanh", "sersic", "exponential"), ("nfw", "ring", "linear")]


def small_decoder(of=None, dtype=torch.float64, **options):
    return decoder(grid(**SMALL, dtype=dtype), of, **options)


def generic(disc, **changed):
    """A disc on no symmetric point, its parameters those of its forms; radii fit the small field."""
    radii = {"r_scale": 2.0, "r_turn": 1.0, "r_eff": 2.5, "r_ring": 3.0, "r_s": 4.0, "r_dispersion": 6.0, "width": 1.2}
    radii["velocity_dispersion"] = 13.0  # at 0.2 channels, 10 km/s here, lines go over to another way of drawing them
    wanted = {"east": 0.31, "north": -0.47, "vsys": 7.0, "thickness": 0.4, **radii}
    defaults = {}
    for form, names in ((getattr(disc.forms, slot), names) for slot, names in disc.forms.slots.items()):
        defaults |= dict(zip(names, (p.default for p in form.parameters), strict=True))
    values = defaults | {name: value for name, value in wanted.items() if name in disc.names} | changed
    return vector(disc.names, **{"velocity_dispersion": 20.0} | values)


@pytest.mark.parametrize("names", FORMS, ids="-".join)
def test_gradients_are_those_of_finite_differences_through_every_parameter(names):
    disc = small_decoder(forms(*names))
    at = generic(disc)
    weight = torch.as_tensor(torch.linspace(-1, 2, 8, dtype=torch.float64)[None, :, None, None])
    weight = weight * torch.cos(torch.arange(144, dtype=torch.float64).reshape(12, 12))

    def total(p):
        return (disc(p) * weight).sum()

    (gradient,) = torch.autograd.grad(total(at.requires_grad_()), at)
    at = at.detach()
    for k, name in enumerate(disc.names):
        step = torch.zeros_like(at)
        step[0, k] = 1e-4 * max(abs(float(at[0, k])), 0.1)
        with torch.no_grad():
            expected = float((total(at + step) - total(at - step)) / (2 * step[0, k]))
        found = float(gradient[0, k])
        assert abs(found) > 1e-8, f"no gradient through {name}"
        # Second differences of 1e-4 steps are 1e-8; a point that crosses the kink of |z| in a step costs 1e-4.
        assert found == pytest.approx(expected, rel=2e-3, abs=1e-8), name


def test_gradcheck():
    disc = decoder(grid((4, 7, 7), channel_width=100.0))
    at = generic(disc, thickness=0.5).requires_grad_()
    # The kinks of |z| pass between steps of 1e-6.
    assert torch.autograd.gradcheck(disc, (at,), eps=1e-6, atol=1e-6, rtol=1e-3, fast_mode=True)


EDGES = {
    "inclination": (0.0, 60.0, 90.0),
    "thickness": (0.0, 2.0),
    "velocity_dispersion": (0.0, 1e-6, 10.0),
    "r_turn": (1e-3, 2.0),
    "r_scale": (0.02, 2.0, 200.0),  # much smaller than a pixel, much larger than the field
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("beam", [(4.0, 4.0, 0.0), (6.0, 3.0, 30.0)], ids=["round", "turned"])
def test_gradients_are_finite_at_every_edge(dtype, beam):
    # Odd sides: a pixel, and a point of the odd rule in it, lies on the centre, where R = 0.
    disc = decoder(grid((8, 13, 13), channel_width=50.0, beam=beam, dtype=dtype), faint=1e-6)
    edges = itertools.product(*EDGES.values())
    at = torch.cat([vector(disc.names, **dict(zip(EDGES, values, strict=True))) for values in edges])
    at = at.to(dtype).requires_grad_()
    cubes = disc(at)
    assert torch.isfinite(cubes).all()
    (cubes**2).sum().backward()
    bad = (~torch.isfinite(at.grad)).nonzero()
    assert not len(bad), [(dict(zip(disc.names, at[i].tolist(), strict=True)), disc.names[j]) for i, j in bad]


@pytest.mark.parametrize(
    "changed", [{"flux": 0.0}, {"vsys": 5000.0}, {"east": 500.0}, {"vmax": 0.0}, {"r_scale": 1e-3}], ids=str
)
def test_gradients_are_finite_where_there_is_nothing_to_see(changed):
    disc = small_decoder(faint=1e-6)
    at = generic(disc, **changed).requires_grad_()
    cubes = disc(at)
    assert torch.isfinite(cubes).all()
    cubes.sum().backward()
    assert torch.isfinite(at.grad).all()
