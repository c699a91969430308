"""From an `Observation` to the `Cubes` that the network frame takes: binned to what the network resolves."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from .frame import Cubes

__all__ = ["BEAM", "PIXELS", "block_fwhm2", "block_sum", "prepare"]

PIXELS, _CHANNELS, BEAM = 48, 36, 9
"""Largest extent of the emission in pixels and channels, and of the beam in pixels, that the simulations hold."""

_BAND = 40
"""Channels of the simulations, many of them empty."""

_SNR = 100
"""Largest peak over noise that the simulations hold; a better cube is given noise to come down to it."""


def prepare(observation, seed=0):
    """Bin an observation to at most a few thousand pixels and 36 channels across the emission.

    Returns
    -------
    cubes : Cubes
        A batch of one.
    unit : float
        Noise of a binned voxel: one of ``cubes.data`` in the cube's unit.
    """
    emission = observation.emission
    spans = [np.flatnonzero(emission.any(tuple(a for a in (0, 1, 2) if a != axis))) for axis in (0, 1, 2)]
    extents = [span[-1] - span[0] + 1 for span in spans]
    matrix = observation.pixel_matrix
    beam_pixels = np.sqrt(observation.beam[0] * observation.beam[1] / abs(np.linalg.det(matrix)))
    bins = max(1, -(-max(extents[1:]) // PIXELS), int(beam_pixels // BEAM))
    channels = max(1, -(-extents[0] // _CHANNELS))
    factors = (channels, bins, bins)
    valid = block_sum(observation.valid.astype(np.float32), factors)
    data = block_sum(observation.data * observation.valid, factors) / np.maximum(valid, 1)
    whole = np.prod(factors)
    data[valid < 0.5 * whole] = 0
    source = block_sum(emission.astype(np.float32), factors) > 0
    used = (valid >= 0.5 * whole) & ~source
    typical = float(np.median(observation.rms[emission])) if emission.any() else float(np.median(observation.rms))
    # Over the channels that a pixel has: a cube that is blank but for its emission counts where it is not.
    relative = np.where(observation.valid, typical / observation.rms, 0).sum(0, dtype=np.float32)
    relative /= np.maximum(observation.valid.sum(0), 1)
    weight = block_sum(relative[None], (1, bins, bins))[0] / bins**2
    # The noise where the galaxy is, also where that of the field's edge is higher.
    sample = (data * weight)[used]
    # Averages over correlated noise: measured where there is enough of it, else as if a beam were one sample.
    if sample.size > 500 and np.count_nonzero(sample) > 0.5 * sample.size:
        unit = 1.4826 * float(np.median(np.abs(sample - np.median(sample))))
    else:
        unit = typical / np.sqrt(channels * max(1.0, (bins / max(beam_pixels, 1.0)) ** 2))
    unit = max(unit, 1e-12 * float(np.abs(data).max()))
    peak = float(data[source].max())
    if peak > _SNR * unit:
        rng = np.random.default_rng(seed)
        noise = gaussian_filter(rng.standard_normal(data.shape), (0, *[beam_pixels / bins / 2.355] * 2))
        data = data + np.where(valid > 0, noise * (peak / _SNR / noise.std()), 0)
        unit = float(np.hypot(unit, peak / _SNR))
    edges = np.append(observation.edges[:-1:channels], observation.edges[-1])
    seen = (valid >= 0.5 * whole).any((1, 2)).astype(np.float32)
    data, seen, edges = _pad_band(data, seen, edges, source)
    inner = (bins - 1) / 2
    origin = np.array([observation.xi[0, 0], observation.eta[0, 0]]) + matrix @ [inner, inner]
    block = block_fwhm2(bins, matrix, observation.header.get("integrate_pixels", False))

    def tensor(array):
        return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32)[None]

    cubes = Cubes(
        data=tensor(data / unit),
        weight=tensor(weight).clamp(max=2),
        seen=tensor(seen),
        matrix=tensor(matrix * bins),
        origin=tensor(origin),
        edges=tensor(edges),
        beam=tensor([*np.sqrt(observation.beam[:2] ** 2 + block), observation.beam[2]]),
    )
    return cubes, unit


def _pad_band(data, seen, edges, source):
    """Empty channels on either side of a line that has come to its end, up to the band of the simulations."""
    missing = max(0, _BAND - len(data))
    ended = [bool(seen[end]) and not source[end].any() for end in (0, -1)]
    low, high = (missing // max(1, sum(ended)) * side for side in ended)
    step = np.diff(edges).mean()
    edges = np.concatenate([edges[0] - step * np.arange(low, 0, -1), edges, edges[-1] + step * np.arange(1, high + 1)])
    return np.pad(data, ((low, high), (0, 0), (0, 0))), np.pad(seen, (low, high), constant_values=1), edges


def block_fwhm2(bins, matrix, integrated=True):
    """What averaging over blocks of ``bins`` pixels a side adds to the square of the beam's FWHM [arcsec2].

    It is the second moment of the block, or of the centres of its pixels where those hold no more than the value there.
    The network's simulations hold the value at the centre of theirs: all that smooths is in the beam.
    """
    return 8 * np.log(2) / 12 * (bins**2 - (not integrated)) * abs(np.linalg.det(matrix))


def block_sum(cube, factors):
    """Sum over blocks of ``factors``; the last block of an axis may be cut off by its end."""
    for axis, factor in enumerate(factors):
        if factor > 1:
            cube = np.add.reduceat(cube, np.arange(0, cube.shape[axis], factor), axis=axis)
    return cube
