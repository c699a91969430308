"""Simulated moment maps: those that surveys make of simulated cubes, as the pseudo-cubes that the network takes."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from ..network.maps import LEAST_PIXELS, pseudo_cubes
from .simulations import Simulator

__all__ = ["MapRanges", "MapSimulator", "moment_maps"]

_LEAST_STEP = 0.02  # channel of the pseudo-cube in channels of the cube: the range of velocities is half a channel


@dataclass(frozen=True)
class MapRanges:
    """How maps are made of cubes; each pair is (low, high), uniform.

    Attributes
    ----------
    smoothing : FWHM of the kernel of the mask, in beams.
    channels_share : share of the batches whose mask is smoothed over three channels, too.
    threshold : of the mask, in the noise of the smoothed cube.
    grown_share : share of the masks that are grown by a voxel on all sides.
    pruned_share : share of the masks that keep their largest island alone.
    cut_share, cut : share of the maps whose pixels of a low moment 0 are blanked, and the limit, in its noise.
    uniform_share : share of the maps that come without moment 0.
    """

    smoothing: tuple = (0.7, 2.0)
    channels_share: float = 0.5
    threshold: tuple = (2.5, 5.0)
    grown_share: float = 0.4
    pruned_share: float = 0.7
    cut_share: float = 0.5
    cut: tuple = (2.0, 6.0)
    uniform_share: float = 0.4


class MapSimulator:
    """Draws batches of moment maps with their truths: a `~kinematics_nn.training.simulations.Simulator` of maps.

    Parameters
    ----------
    seed, ranges, shape, device
        As that one takes them.
    maps : MapRanges, optional
    """

    def __init__(self, seed, ranges=None, shape=(40, 64), device="cpu", maps=None):
        self.galaxies = Simulator(seed, ranges, shape, device)
        self.rng = self.galaxies.rng.spawn(1)[0]
        self.maps = maps or MapRanges()

    def __call__(self, batch):
        """A batch: (`~kinematics_nn.network.frame.Cubes`, `~kinematics_nn.network.targets.Disc`).

        The flux of the disc counts in the pseudo-cube's brightness: of maps without moment 0, in the mean of the one
        that they lack. It is not a number where too few pixels, or no differences in velocity, are left for a fit.
        """
        cubes, disc = self.galaxies(batch)
        moment0, moment1 = moment_maps(cubes, self.rng, self.maps)
        uniform = self.rng.random() < self.maps.uniform_share
        # A velocity is not kept where a survey's moment 0 is not positive, whether that map is at hand or not.
        moment1 = torch.where(moment0 > 0, moment1, torch.nan)
        pseudo, scale = pseudo_cubes(moment1, None if uniform else moment0, cubes.matrix, cubes.origin, cubes.beam)
        pixels = pseudo.weight.sum((1, 2))
        if uniform:
            scale = scale / (moment0.nan_to_num() * pseudo.weight).sum((1, 2)) * pixels
        # Nor is a map of which every velocity is that of the same channel a velocity field.
        step, channel = (torch.diff(edges, dim=1).mean(1) for edges in (pseudo.edges, cubes.edges))
        usable = (pixels >= LEAST_PIXELS) & (step > _LEAST_STEP * channel)
        flux = torch.where(usable, disc.flux * scale, torch.nan)
        return pseudo, replace(disc, flux=flux)


def moment_maps(cubes, rng, ranges=None):
    """Moments 0 and 1 of cubes over the mask of a smoothed cube, as surveys make them.

    Parameters
    ----------
    cubes : `~kinematics_nn.network.frame.Cubes`
        Brightness over the noise.
    rng : `~numpy.random.Generator`
        Of how the mask is made, for all of the batch alike.
    ranges : MapRanges, optional

    Returns
    -------
    moment0, moment1 : Tensor (batch, y, x)
        [data unit km/s] and [km/s]; not a number where the mask holds nothing, and moment 1 where moment 0 is not
        positive.
    """
    r = ranges or MapRanges()
    mask = _mask(cubes, rng, r)
    step = torch.diff(cubes.edges, dim=1)
    velocity = 0.5 * (cubes.edges[:, 1:] + cubes.edges[:, :-1])
    light = cubes.data * mask * step[:, :, None, None]
    moment0 = light.sum(1)
    moment1 = (light * velocity[:, :, None, None]).sum(1)
    lit = mask.any(1)
    if rng.random() < r.cut_share:
        noise = torch.sqrt((mask * step[:, :, None, None] ** 2).sum(1))
        lit = lit & (moment0 > rng.uniform(*r.cut) * noise)
    moment0 = torch.where(lit, moment0, torch.nan)
    return moment0, torch.where(moment0 > 0, moment1 / moment0, torch.nan)


def _mask(cubes, rng, r):
    """Voxels (batch, channel, y, x) that stand out of the smoothed cube."""
    data = cubes.data
    smooth = _smoothed(data, rng.uniform(*r.smoothing) * cubes.beam, cubes.matrix)
    if rng.random() < r.channels_share:
        smooth[:, 1:-1] = (smooth[:, :-2] + smooth[:, 1:-1] + smooth[:, 2:]) / 3
    negative = smooth.clamp(max=0)
    noise = torch.sqrt((negative**2).sum((1, 2, 3)) / (negative < 0).sum((1, 2, 3)).clamp(min=1))
    mask = smooth > (rng.uniform(*r.threshold) * noise)[:, None, None, None]
    pruned, grown = rng.random() < r.pruned_share, rng.random() < r.grown_share
    if pruned:
        mask = torch.stack([torch.as_tensor(_largest(one.cpu().numpy())) for one in mask]).to(data.device)
    if grown:
        for axis in (1, 2, 3):
            mask = mask | mask.roll(1, axis) | mask.roll(-1, axis)
    return mask & (cubes.weight > 0)[:, None]


def _smoothed(data, beam, matrix):
    """Cubes convolved with round Gaussians of the geometric mean of ``beam``'s two FWHM."""
    sigma = torch.sqrt(beam[:, 0] * beam[:, 1] / torch.linalg.det(matrix).abs()) / 2.3548
    for n, axis in ((data.shape[2], "y"), (data.shape[3], "x")):
        i = torch.arange(n, dtype=data.dtype, device=data.device)
        kernel = torch.exp(-0.5 * ((i[:, None] - i) / sigma[:, None, None]) ** 2)
        kernel = (kernel / kernel.sum(-1, keepdim=True))[:, None]
        data = kernel @ data if axis == "y" else data @ kernel.transpose(-1, -2)
    return data


def _largest(mask):
    """The largest island of a mask (channel, y, x); touching at corners is touching."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count < 2:
        return mask
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
