"""What real discs have and smooth ones lack: clumps, spiral arms, lopsided light, warps, a neighbour in the field."""

import math

import numpy as np
import torch
from torch.nn.functional import interpolate

__all__ = ["AWAY", "clumps", "disc_plane", "light_map", "neighbour", "warped"]

AWAY = (0.3, 0.5)
"""How far off a neighbour is [field]."""
_LEAST_COSINE = 0.15  # of the inclination: nearer to edge-on, what a thin disc's plane says of a pixel is lost


def light_map(ranges, rng, generator, parameters, grid, r50):
    """Maps that the light of the profiles is multiplied by.

    Parameters
    ----------
    ranges : Ranges
    rng : numpy.random.Generator
    generator : torch.Generator
    parameters : Tensor (batch, n_parameters)
        Whose first four are inclination, position angle [deg], east and north.
    grid : Grid
        Of the map, with its padding.
    r50 : Tensor (batch,)
        Half-light radius.

    Returns
    -------
    Tensor (batch, y, x)
        Its mean over a ring is one, but for chance.
    """
    light = clumps(ranges, rng, generator, len(parameters), grid.xi.shape)
    armed, uneven = (_some(rng, share, len(parameters)) for share in (ranges.arm_share, ranges.lopsided_share))
    if armed.any() or uneven.any():
        radius, azimuth = disc_plane(parameters, grid)
        radius = radius / r50[:, None, None]
        light = light * _arms(rng, armed * rng.uniform(*ranges.arms, len(parameters)), radius, azimuth)
        light = light * _lopsided(rng, uneven * rng.uniform(*ranges.lopsided, len(parameters)), radius, azimuth)
    return light


def clumps(ranges, rng, generator, batch, shape):
    """Log-normal maps (batch, y, x) of mean one, correlated over 2 to 16 pixels; without clumps, ones."""
    rms = np.where(_some(rng, ranges.clump_share, batch), log_uniform(rng, ranges.clumps, batch), 0.0)
    coarse = int(max(shape) / log_uniform(rng, (2.0, 16.0), None)) + 2
    field = torch.randn(batch, 1, coarse, coarse, device=generator.device, generator=generator)
    field = interpolate(field, size=shape, mode="bicubic", align_corners=True)[:, 0]
    rms = _column(rms, field)
    return torch.exp(rms * field - 0.5 * rms**2)


def disc_plane(parameters, grid):
    """Radius [as the grid's offsets] and azimuth [rad], from the major axis, of each pixel in the plane of the disc."""
    inclination, pa, east, north = (column[:, None, None] for column in parameters[:, :4].T)
    sin, cos = torch.sin(torch.deg2rad(pa)), torch.cos(torch.deg2rad(pa))
    dx, dy = grid.xi - east, grid.eta - north
    along = dx * sin + dy * cos
    across = (dx * cos - dy * sin) / torch.cos(torch.deg2rad(inclination)).clamp(min=_LEAST_COSINE)
    return torch.hypot(along, across), torch.atan2(across, along)


def _arms(rng, contrast, radius, azimuth):
    """Logarithmic spirals of one to four arms; they fade towards the centre, where they would wind without end."""
    batch = len(radius)
    number = rng.integers(1, 5, batch)
    winding = np.where(rng.random(batch) < 0.5, 1, -1) / np.tan(np.deg2rad(log_uniform(rng, (8.0, 35.0), batch)))
    number, winding, phase, contrast = (
        _column(values, radius) for values in (number, winding, rng.uniform(0, 2 * math.pi, batch), contrast)
    )
    angle = number * (azimuth - winding * torch.log(radius.clamp(min=1e-3))) - phase
    return 1 + contrast * radius / (radius + 0.3) * torch.cos(angle)


def _lopsided(rng, strength, radius, azimuth):
    """More light on one side: an m = 1 wave that grows to its strength at two half-light radii."""
    phase = _column(rng.uniform(0, 2 * math.pi, len(radius)), radius)
    return 1 + _column(strength, radius) * (radius / 2).clamp(max=1) * torch.cos(azimuth - phase)


def warped(ranges, rng, parameters, grid, r50):
    """The outer discs of a warped batch, and where they begin.

    Returns
    -------
    outer : Tensor (batch, n_parameters)
        With other inclinations and position angles.
    inner_light, outer_light : Tensor (batch, y, x)
        Factors of the light of either disc, one in all for a disc that is flat.
    """
    batch = len(parameters)
    tilt, turn = (torch.as_tensor(rng.normal(0, s, batch)).to(parameters) for s in ranges.warp)
    outer = parameters.clone()
    outer[:, 0] = (outer[:, 0] + tilt).clamp(0, 90)
    outer[:, 1] = outer[:, 1] + turn
    begin = _column(rng.uniform(1.2, 2.5, batch), r50) * r50[:, None, None]
    shares = [
        torch.sigmoid((disc_plane(disc, grid)[0] - begin) / (0.15 * r50[:, None, None])) for disc in (parameters, outer)
    ]
    return outer, 1 - shares[0], shares[1]


def neighbour(ranges, rng, clean):
    """Cubes (batch, channel, y, x) of another disc of the batch, off to a side and in velocity, and fainter."""
    ny, nx = clean.shape[2:]
    angle, away = rng.uniform(0, 2 * math.pi), rng.uniform(*AWAY)
    shift = int(rng.integers(-10, 11)), int(ny * away * math.sin(angle)), int(nx * away * math.cos(angle))
    other = clean.roll(1, 0).roll(shift, (1, 2, 3))
    peaks = clean.amax((1, 2, 3), keepdim=True) / other.amax((1, 2, 3), keepdim=True).clamp(min=1e-30)
    return other * peaks * _column(log_uniform(rng, ranges.neighbour, len(clean)), clean)[..., None]


def log_uniform(rng, limits, size):
    """Draws between limits, uniform in the logarithm."""
    return np.exp(rng.uniform(np.log(limits[0]), np.log(limits[1]), size))


def _some(rng, share, batch):
    return rng.random(batch) < share


def _column(values, like):
    return torch.as_tensor(np.asarray(values), dtype=like.dtype, device=like.device)[:, None, None]
