"""The first guess of where a galaxy is, that the network frame starts from: moments of what stands out of the noise."""

import torch
from torch.nn.functional import avg_pool2d, avg_pool3d

from ..decoder.weights import significant

__all__ = ["moment_guess"]


def moment_guess(cubes):
    """Where a galaxy is, from moments of its brightest voxels.

    Parameters
    ----------
    cubes : `~kinematics_nn.network.frame.Cubes`

    Returns
    -------
    east, north, vsys, pa, extent, width, axis_ratio : Tensor (batch,)
        Centre [arcsec], systemic velocity [km/s], position angle [rad], rms along the major axis [arcsec] and in
        velocity [km/s], minor over major axis.
    """
    data, matrix = cubes.data, cubes.matrix
    pooled = avg_pool3d(data[:, None], 2, ceil_mode=True)[:, 0]
    pooled, snr = _brightest_scale(pooled, cubes.beam, matrix)
    ny, nx = pooled.shape[2:]
    y = 2 * torch.arange(ny, dtype=data.dtype, device=data.device)[:, None] + 0.5
    x = 2 * torch.arange(nx, dtype=data.dtype, device=data.device) + 0.5
    xi, eta = (
        cubes.origin[:, k, None, None] + matrix[:, k, 0, None, None] * x + matrix[:, k, 1, None, None] * y
        for k in (0, 1)
    )
    centres = 0.5 * (cubes.edges[:, 1:] + cubes.edges[:, :-1])
    v = avg_pool2d(centres[:, None, None], (1, 2), ceil_mode=True)[:, 0, 0]
    peak = snr.amax((1, 2, 3), keepdim=True)
    mask = snr > torch.minimum(peak.new_tensor(4.5), 0.7 * peak)
    step_v = torch.diff(v, dim=-1).abs().mean(-1)
    step_r = 2 * torch.linalg.det(matrix).abs().sqrt()
    for iteration in range(4):
        light = pooled.clamp(min=0) * mask
        light = light / light.sum((1, 2, 3), keepdim=True).clamp(min=1e-12)
        image, spectrum = light.sum(1), light.sum((2, 3))
        east, north = (image * xi).sum((1, 2)), (image * eta).sum((1, 2))
        vsys = (spectrum * v).sum(1)
        dx, dy = xi - east[:, None, None], eta - north[:, None, None]
        dv = v - vsys[:, None]
        xx, yy, xy = ((image * a * b).sum((1, 2)) for a, b in ((dx, dx), (dy, dy), (dx, dy)))
        root = torch.sqrt((0.5 * (xx - yy)) ** 2 + xy**2)
        major, minor = 0.5 * (xx + yy) + root, (0.5 * (xx + yy) - root).clamp(min=0)
        extent = torch.sqrt(major + (0.3 * step_r) ** 2)
        width = torch.sqrt((spectrum * dv**2).sum(1) + (0.3 * step_v) ** 2)
        if iteration < 3:
            near = dx**2 + dy**2 < (3.5 * extent + step_r)[:, None, None] ** 2
            within = dv.abs() < (3.2 * width + step_v)[:, None]
            mask = (snr > 3) & near[:, None] & within[:, :, None, None]
            # A source too faint for its own window keeps its brightest voxels.
            mask = mask | (snr >= peak)
    gradient = (light * dv[:, :, None, None]).sum(1)
    pa = torch.atan2((gradient * dx).sum((1, 2)), (gradient * dy).sum((1, 2)))
    axis_ratio = torch.sqrt((minor + (0.1 * step_r) ** 2) / (major + (0.1 * step_r) ** 2))
    return east, north, vsys, pa, extent, width, axis_ratio


def _brightest_scale(pooled, beam, matrix):
    """Smoothed cube and its signal to noise at the scale (one beam or three) at which the source stands out."""
    pixel = 2 * torch.linalg.det(matrix).abs().sqrt()
    sigma = torch.sqrt(beam[:, 0] * beam[:, 1]) / 2.355 / pixel
    best = None
    for scale in (1, 3):
        smooth = _smooth(pooled, scale * sigma, channels=scale > 1)
        negative = smooth.clamp(max=0)
        noise = torch.sqrt((negative**2).sum((1, 2, 3)) / (negative < 0).sum((1, 2, 3)).clamp(min=1)).clamp(min=1e-6)
        snr = smooth / noise[:, None, None, None]
        if best is None:
            best = smooth, snr
        else:
            better = (snr.amax((1, 2, 3)) > 1.3 * best[1].amax((1, 2, 3)))[:, None, None, None]
            best = torch.where(better, smooth, best[0]), torch.where(better, snr, best[1])
    return best


def _smooth(pooled, sigma, channels):
    """Smooth (batch, channel, y, x) by round Gaussians of ``sigma`` (batch,) pixels, and over three channels."""
    out = pooled
    for n, axis in ((pooled.shape[2], "y"), (pooled.shape[3], "x")):
        i = torch.arange(n, dtype=pooled.dtype, device=pooled.device)
        kernel = significant(torch.exp(-0.5 * ((i[:, None] - i) / sigma[:, None, None].clamp(min=0.2)) ** 2))
        kernel = (kernel / kernel.sum(-1, keepdim=True))[:, None]
        out = kernel @ out if axis == "y" else out @ kernel.transpose(-1, -2)
    if channels:
        out = (out + out.roll(1, 1) + out.roll(-1, 1)) / 3
    return out
