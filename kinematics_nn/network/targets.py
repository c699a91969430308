"""What the network infers: the quantities every disc has, as numbers without scale relative to the network frame.

No functional form appears here. The rotation curve and the light are given at fixed multiples of the half-light radius;
a form is fitted to them afterwards (`kinematics_nn.inference.projection`).
"""

from dataclasses import dataclass

import torch

__all__ = [
    "LIGHT",
    "LIGHT_FLOOR",
    "MULTIPLES",
    "SPEED",
    "SPEED_FLOOR",
    "TARGETS",
    "Disc",
    "decode_targets",
    "encode_targets",
    "possible",
]

MULTIPLES = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Radii of the curves, in half-light radii."""

_GEOMETRY = ("inclination", "pa", "u", "w", "vsys", "flux", "dispersion", "thickness", "r50")
TARGETS = (*_GEOMETRY, *(f"speed_{m}" for m in MULTIPLES), *(f"light_{m}" for m in MULTIPLES))
"""Names of the targets, in order."""

SPEED = slice(len(_GEOMETRY), len(_GEOMETRY) + len(MULTIPLES))
LIGHT = slice(SPEED.stop, SPEED.stop + len(MULTIPLES))

_THICKNESS_FLOOR = 0.01  # of r50: a thinner disc cannot be told from a thin one
_THIN = 0.0035  # of r50: what the noise on the target of a thin disc reaches at three sigma, and no other disc does
LIGHT_FLOOR = 3e-3  # of flux / (2 pi r50^2): a profile may have a hole
SPEED_FLOOR = 2e-3  # of the frame's half-width


_BOUNDS = {
    "inclination": (-12, 12), "pa": (-4.83, 4.83), "u": (-4.61, 4.61), "w": (-4.61, 4.61), "vsys": (-4.61, 4.61),
    "flux": (-9, 2), "dispersion": (-8, 1), "thickness": (-8, 1), "r50": (-6, 1),
    **{f"speed_{m}": (-7, 3) for m in MULTIPLES}, **{f"light_{m}": (-7, 5) for m in MULTIPLES},
}  # fmt: skip


def possible(targets):
    """Which of targets (..., len(TARGETS)) a disc in its frame can have; the simulations hold nothing beyond.

    The centre lies in the frame, the angle within half a turn, and no logarithm is far beyond those drawn: what the
    tails of a density put there, one draw in thousands, is none of the posterior.
    """
    low, high = (targets.new_tensor(side) for side in zip(*(_BOUNDS[name] for name in TARGETS), strict=True))
    return ((targets >= low) & (targets <= high)).all(-1)


@dataclass
class Disc:
    """A disc without functional form; every attribute a tensor (batch,) or, the curves, (batch, len(MULTIPLES)).

    ``inclination`` and ``pa`` [rad], ``east``, ``north``, ``thickness``, ``r50`` [arcsec], ``vsys``, ``dispersion`` and
    ``speed`` (in the disc's plane) [km/s, on the cube's axis], ``flux``, and ``light``: the face-on brightness over
    flux / (2 pi r50^2).
    """

    inclination: torch.Tensor
    pa: torch.Tensor
    east: torch.Tensor
    north: torch.Tensor
    vsys: torch.Tensor
    flux: torch.Tensor
    dispersion: torch.Tensor
    thickness: torch.Tensor
    r50: torch.Tensor
    speed: torch.Tensor
    light: torch.Tensor


def encode_targets(disc, frame):
    """Targets (batch, len(TARGETS)) of a `Disc` relative to a `~kinematics_nn.network.frame.Frame`."""
    cos = torch.cos(disc.inclination).clamp(1e-4, 1 - 1e-4)
    turn = torch.remainder(disc.pa - frame.pa + torch.pi, 2 * torch.pi) - torch.pi
    dx, dy = (disc.east - frame.east) / frame.extent, (disc.north - frame.north) / frame.extent
    sin_pa, cos_pa = torch.sin(frame.pa), torch.cos(frame.pa)
    geometry = torch.stack(
        [
            torch.logit(cos),
            torch.asinh(turn / 0.05),
            torch.asinh((dx * sin_pa + dy * cos_pa) / 0.02),
            torch.asinh((dx * cos_pa - dy * sin_pa) / 0.02),
            torch.asinh((disc.vsys - frame.vsys) / frame.width / 0.02),
            torch.log(disc.flux / frame.flux),
            torch.log(disc.dispersion / frame.width),
            torch.log(disc.thickness / disc.r50 + _THICKNESS_FLOOR),
            torch.log(disc.r50 / frame.extent),
        ],
        1,
    )
    projected = disc.speed * torch.sin(disc.inclination)[:, None] / frame.width[:, None]
    speed = torch.log(projected.clamp(min=0) + SPEED_FLOOR)
    return torch.cat([geometry, speed, torch.log(disc.light.clamp(min=0) + LIGHT_FLOOR)], 1)


def decode_targets(targets, frame):
    """The `Disc` that targets (..., len(TARGETS)) stand for; the inverse of `encode_targets`.

    The attributes of ``frame`` broadcast against the leading axes of ``targets``.
    """
    t = dict(zip(_GEOMETRY, targets.unbind(-1), strict=False))
    cos = torch.sigmoid(t["inclination"])
    inclination = torch.acos(cos.clamp(0, 1))
    u, w = (0.02 * torch.sinh(t[k]) * frame.extent for k in ("u", "w"))
    sin_pa, cos_pa = torch.sin(frame.pa), torch.cos(frame.pa)
    r50 = torch.exp(t["r50"]) * frame.extent
    projected = (torch.exp(targets[..., SPEED]) - SPEED_FLOOR).clamp(min=0) * _column(frame.width)
    sine = torch.sin(inclination).clamp(min=1e-3)
    thickness = torch.exp(t["thickness"]) - _THICKNESS_FLOOR
    return Disc(
        inclination=inclination,
        pa=frame.pa + 0.05 * torch.sinh(t["pa"]),
        east=frame.east + u * sin_pa + w * cos_pa,
        north=frame.north + u * cos_pa - w * sin_pa,
        vsys=frame.vsys + 0.02 * torch.sinh(t["vsys"]) * frame.width,
        flux=torch.exp(t["flux"]) * frame.flux,
        dispersion=torch.exp(t["dispersion"]) * frame.width,
        thickness=torch.where(thickness > _THIN, thickness, 0.0) * r50,
        r50=r50,
        speed=projected / sine[..., None],
        light=(torch.exp(targets[..., LIGHT]) - LIGHT_FLOOR).clamp(min=0),
    )


def _column(tensor):
    return tensor[..., None] if tensor.ndim else tensor
