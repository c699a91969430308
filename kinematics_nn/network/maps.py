"""From moment maps to `Cubes`: a velocity field as the cube of a line so narrow that it has a velocity and no width.

Each valid pixel's light goes to the two channels next to its velocity, in shares that keep its mean: moments 0 and 1 of
such a pseudo-cube are the maps. The network frame, the facts and the encoder then serve maps as they serve cubes, with
weights of their own.
"""

import torch

from .frame import Cubes

__all__ = ["BRIGHTNESS", "LEAST_PIXELS", "pseudo_cubes"]

LEAST_PIXELS = 30
"""Valid pixels that a map has at least: of fewer, the mirrors leave nothing to be told from."""

BRIGHTNESS = 30.0
"""Mean brightness of a valid pixel, in the channel width. Maps have no noise to count in."""

_CHANNELS = 40
_MARGIN = 0.35  # of the range between the 2nd and 98th percentile, on either side: beyond, a velocity is a blunder
_TAIL = 0.02


def pseudo_cubes(moment1, moment0, matrix, origin, beam):
    """Pseudo-cubes of moment maps.

    Parameters
    ----------
    moment1 : Tensor (batch, y, x)
        [km/s], not finite where blank.
    moment0 : Tensor (batch, y, x) or None
        In any unit times km/s; what is not above 0 is blank. Without it, valid pixels are all as bright, 1.
    matrix, origin, beam : Tensor
        As `Cubes` has them.

    Returns
    -------
    cubes : Cubes
        ``weight`` is 1 in valid pixels. Velocities far outside the range of the others are taken as blank.
    scale : Tensor (batch,)
        What turns the unit of moment 0 over km/s into that of ``cubes.data``.
    """
    valid = torch.isfinite(moment1)
    if moment0 is not None:
        valid = valid & (moment0 > 0)
    blank = moment1.new_tensor(torch.nan)
    tails = torch.tensor([_TAIL, 1 - _TAIL], dtype=moment1.dtype, device=moment1.device)
    low, high = torch.nanquantile(torch.where(valid, moment1, blank).flatten(1), tails, dim=1).nan_to_num()
    span = (high - low).clamp(min=1e-3)
    step = (1 + 2 * _MARGIN) * span / (_CHANNELS - 1)
    first = 0.5 * (low + high) - 0.5 * (_CHANNELS - 1) * step  # centre of the first channel
    at = ((moment1 - first[:, None, None]) / step[:, None, None]).nan_to_num(nan=-1.0)
    valid = valid & (at >= 0) & (at <= _CHANNELS - 1)
    weight = valid.to(moment1.dtype)
    light = weight if moment0 is None else torch.where(valid, moment0, 0.0)
    mean = light.sum((1, 2)) / weight.sum((1, 2)).clamp(min=1)
    scale = BRIGHTNESS * step / mean.clamp(min=torch.finfo(mean.dtype).tiny)
    scaled = light * (scale / step)[:, None, None]
    below = at.clamp(0, _CHANNELS - 1).floor().clamp(max=_CHANNELS - 2)
    share = at - below
    data = moment1.new_zeros(len(moment1), _CHANNELS, *moment1.shape[1:])
    index = below.long()[:, None]
    data.scatter_(1, index, (scaled * (1 - share))[:, None])
    data.scatter_(1, index + 1, (scaled * share)[:, None])
    edges = torch.arange(_CHANNELS + 1, dtype=moment1.dtype, device=moment1.device) - 0.5
    edges = first[:, None] + step[:, None] * edges
    return Cubes(data=data, weight=weight, matrix=matrix, origin=origin, edges=edges, beam=beam), scale
