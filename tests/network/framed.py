"""Cubes for the frame's tests: discs of the decoder with noise, and what a test turns, moves, scales or mirrors."""

from dataclasses import replace

import torch

from kinematics_nn.decoder import DiscDecoder, Forms, Quadrature, regular_grid
from kinematics_nn.forms import get_form
from kinematics_nn.network.frame import FACTS, Cubes
from kinematics_nn.training.morphology import disc_plane

FORMS = Forms(
    get_form("arctan", "rotation_curve"),
    get_form("exponential", "surface_brightness"),
    get_form("constant", "velocity_dispersion"),
)
DISC = {
    "inclination": 60.0, "pa": 40.0, "east": 1.0, "north": -2.0, "vsys": 12.0, "flux": 10.0, "thickness": 0.5,
    "velocity_dispersion": 12.0, "vmax": 150.0, "r_turn": 1.5, "r_scale": 3.5,
}  # fmt: skip


def make_cubes(*discs, snr=40.0, seed=1, shape=(36, 48, 48), beam=(5.0, 4.0, 25.0), lopsided=None):
    """`Cubes` of discs (each a dict of what differs from `DISC`) with white noise; pixels of 1 arcsec.

    ``lopsided`` is how much brighter a disc is at two half-light radii, and at which angle from its major axis [rad].
    """
    grid = regular_grid(shape, 1.0, 14.0, beam)
    decoder = DiscDecoder(grid, FORMS, Quadrature(13, 3))
    vectors = [[(DISC | disc)[name] for name in decoder.names] for disc in discs or ({},)]
    parameters, n, light = torch.tensor(vectors), len(vectors), None
    if lopsided is not None:
        radius, azimuth = disc_plane(parameters, decoder.field)
        radius, azimuth = (of.reshape(n, *decoder.field.shape) for of in (radius, azimuth))
        light = 1 + lopsided[0] * (radius / (2 * 1.678 * DISC["r_scale"])) * torch.cos(azimuth - lopsided[1])
    with torch.no_grad():
        clean = decoder.beam(decoder.sky(parameters, light.clamp(min=0))) if lopsided else decoder(parameters)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    data = clean / clean.amax((1, 2, 3), keepdim=True) * snr + noise
    return Cubes(
        data=data,
        weight=torch.ones(n, *shape[1:]),
        seen=torch.ones(n, shape[0]),
        matrix=grid.pixel_matrix.expand(n, 2, 2),
        origin=torch.stack([grid.xi[0, 0], grid.eta[0, 0]]).expand(n, 2),
        edges=grid.edges.expand(n, -1),
        beam=grid.beam.expand(n, 3),
    )


def on_the_sky(cubes, linear=((1.0, 0.0), (0.0, 1.0)), move=(0.0, 0.0), beam=None):
    """The same voxels elsewhere: offsets through a linear map, then moved; ``beam`` in the place of the old one."""
    linear = torch.tensor(linear)
    return replace(
        cubes,
        matrix=linear @ cubes.matrix,
        origin=cubes.origin @ linear.T + torch.tensor(move),
        beam=cubes.beam if beam is None else beam,
    )


def mirrored_sky(cubes):
    """East and west swapped."""
    turned = cubes.beam * torch.tensor([1.0, 1.0, -1.0])
    return on_the_sky(cubes, ((-1.0, 0.0), (0.0, 1.0)), beam=turned)


def reversed_velocity(cubes):
    """What recedes approaches."""
    return replace(cubes, data=cubes.data.flip(1), seen=cubes.seen.flip(1), edges=-cubes.edges.flip(1))


def fact(frame, name):
    """One fact of every galaxy."""
    return frame.facts[:, FACTS.index(name)]
