"""What a galaxy's two mirrors say of it: where they lie, and how far it is from being its own image.

A disc is symmetric under two mirrors (minor axis; major axis together with velocity). What is odd under them in the
network frame is noise, a frame that lies off the disc, and light that is not the same on both sides.
"""

from dataclasses import dataclass

import torch

__all__ = ["ODD_SHARE", "Oddness", "mirror_mean", "odd_templates", "oddness", "valid_in_mirrors"]

ODD_SHARE = 0.75
"""Of the noise's variance, in the odd part of a frame: the mirror average takes a quarter with it."""

_TEMPLATES = 4  # of a frame that is off: along the major axis, along the minor one, in velocity, turned


@dataclass
class Oddness:
    """The odd part of a frame, taken apart by least squares.

    Attributes
    ----------
    step, error : Tensor (batch, 4)
        One Gauss-Newton step of the frame against its mirror average: the shifts along the major axis, minor axis and
        velocity (in half-sizes of the frame) and the rotation [rad] that bring the frame onto its mirrors, and their
        formal errors.
    free_step, free_error : Tensor (batch, 4)
        The same where light may be lopsided, along either axis.
    lopsided, lopsided_error : Tensor (batch, 2)
        How much brighter one side is, at the frame's half-size, along the major and the minor axis.
    noise : Tensor (batch,)
        rms of the frame's odd part, where it is faint.
    rest : Tensor like the frame
        The odd part that the step leaves.
    """

    step: torch.Tensor
    error: torch.Tensor
    free_step: torch.Tensor
    free_error: torch.Tensor
    lopsided: torch.Tensor
    lopsided_error: torch.Tensor
    noise: torch.Tensor
    rest: torch.Tensor


def mirror_mean(frame, seen):
    """Mean of the frame and its images under both mirrors; that of the major axis also turns velocity round.

    Channels that are not ``seen`` (batch, channel), where the frame is 0, are what their mirrors are.
    """
    half = 0.5 * (frame + frame.flip(2))
    return (half + half.flip(1, 3)) / (seen + seen.flip(1)).clamp(min=1)[:, :, None, None]


def oddness(frame, mean, weight, seen):
    """The `Oddness` of frames (batch, channel, minor, major).

    Least squares of the odd part on the derivatives of the mirror average, and on what makes one side of it brighter.

    Parameters
    ----------
    frame, mean : Tensor (batch, channel, minor, major)
        And its `mirror_mean`.
    weight : Tensor (batch, minor, major)
    seen : Tensor (batch, channel)
        1, and 0 where a channel has no data.
    """
    # Noise in the templates would shrink the step (by half at S/N 10): they are smoothed, and kept to the emission.
    smooth = _over_neighbours(mean, torch.add) / 27
    dark = (smooth.clamp(max=0) ** 2).sum((1, 2, 3)) / (smooth < 0).sum((1, 2, 3)).clamp(min=1)
    least = torch.maximum(2.5 * torch.sqrt(dark), 0.02 * smooth.amax((1, 2, 3)))
    emission = (smooth > least[:, None, None, None]).to(frame.dtype)
    emission = _over_neighbours(emission, torch.maximum)
    odd = frame - mean
    # Derivatives roll around the edges, where there is nothing; the minor axis blank, the step is not to be trusted.
    valid = valid_in_mirrors(weight, seen)
    odd = odd * valid
    faint = mean.abs() < mean.amax((1, 2, 3), keepdim=True) * 0.1
    faint = faint & valid
    variance = (odd**2 * faint).sum((1, 2, 3)) / faint.sum((1, 2, 3)).clamp(min=1)
    noise = torch.sqrt(variance / ODD_SHARE).clamp(min=1e-4)
    templates = (odd_templates(smooth) * (valid * emission)[:, None]).flatten(2)
    normal = templates @ templates.transpose(1, 2)
    right = (templates @ odd.flatten(1)[:, :, None])[..., 0]
    step, error = _solved(normal[:, :_TEMPLATES, :_TEMPLATES], right[:, :_TEMPLATES], noise)
    free, free_error = _solved(normal, right, noise)
    rest = odd - (step[:, None] @ templates[:, :_TEMPLATES])[:, 0].view_as(odd)
    return Oddness(
        step, error, free[:, :_TEMPLATES], free_error[:, :_TEMPLATES], free[:, _TEMPLATES:],
        free_error[:, _TEMPLATES:], noise, rest,
    )  # fmt: skip


def odd_templates(even):
    """What a frame that is its own mirror (batch, channel, minor, major) changes by: (batch, 6, channel, minor, major).

    As it moves along the major axis, the minor axis and in velocity (in half-sizes of the frame) and turns [rad], and
    as one side of it grows brighter, along the major and the minor axis.
    """
    channels, minor, major = even.shape[1:]
    d_v, d_w, d_u = (
        0.25 * n * (even.roll(-1, axis) - even.roll(1, axis)) for n, axis in ((channels, 1), (minor, 2), (major, 3))
    )
    at = (torch.arange(major, dtype=even.dtype, device=even.device) + 0.5) / (0.5 * major) - 1
    # The position angle grows from the minor axis' negative side: u = xi sin + eta cos, w = xi cos - eta sin.
    return torch.stack([-d_u, -d_w, -d_v, d_u * at[:, None] - d_w * at, even * at, even * at[:, None]], 1)


def valid_in_mirrors(weight, seen):
    """Which voxels (batch, channel, minor, major) have data, and their images under both mirrors."""
    pixels = (weight > 0.5) & (weight.flip(1) > 0.5) & (weight.flip(2) > 0.5)
    channels = (seen > 0.5) & (seen.flip(1) > 0.5)
    return pixels[:, None] & channels[:, :, None, None]


def _solved(normal, right, noise):
    """Solutions (batch, n) of normal equations under a slight ridge, and their errors."""
    diagonal = torch.diagonal(normal, dim1=1, dim2=2)
    if normal.shape[1] > _TEMPLATES:  # the light's templates have another scale than derivatives
        ridge = 1e-3 * diagonal + 1e-9
    else:
        ridge = (1e-3 * diagonal.mean(-1) + 1e-9)[:, None].expand_as(diagonal)
    normal = normal + torch.diag_embed(ridge)
    covariance = torch.linalg.inv(normal)
    error = torch.sqrt(torch.diagonal(covariance, dim1=1, dim2=2).clamp(min=1e-16)) * noise[:, None]
    return torch.linalg.solve(normal, right), error


def _over_neighbours(cube, operation):
    """Reduce each voxel with its 26 neighbours, an axis at a time: several times faster than torch's 3-D pooling."""
    for axis in (1, 2, 3):
        cube = operation(operation(cube, cube.roll(1, axis)), cube.roll(-1, axis))
    return cube
