"""From moment maps to `Cubes`: a velocity field as the cube of a line so narrow that it has a velocity and no width.

Each valid pixel's light goes to the two channels next to its velocity, in shares that keep its mean: moments 0 and 1 of
such a pseudo-cube are the maps. The network frame, the facts and the encoder then serve maps as they serve cubes, with
weights of their own.
"""

from dataclasses import replace

import numpy as np
import torch
from astropy.io import fits

from ..errors import KinematicsError
from ..observation.correlation import beam_covariance, known_correlation
from ..observation.grid import pixel_matrix
from ..observation.observation import Observation
from ..observation.reading import check_memory
from .frame import Cubes
from .prepare import BEAM, PIXELS, block_fwhm2, block_sum

__all__ = ["BRIGHTNESS", "LEAST_PIXELS", "prepare_maps", "pseudo_cubes", "pseudo_observation"]

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
    seen = torch.ones_like(data[:, :, 0, 0])
    cubes = Cubes(
        data=data, weight=weight, seen=seen, matrix=matrix, origin=origin, edges=edges, beam=beam, dark=True
    )  # fmt: skip
    return cubes, scale


def prepare_maps(maps):
    """Bin moment maps to what the network resolves, and make their pseudo-cube.

    Parameters
    ----------
    maps : `~kinematics_nn.observation.maps.MomentMaps`

    Returns
    -------
    cubes : Cubes
        A batch of one.
    unit : float
        One of ``cubes.data`` in the maps' unit of brightness.
    """
    valid = np.isfinite(maps.moment1)
    extents = [np.ptp(np.flatnonzero(valid.any(axis))) + 1 for axis in (0, 1)]
    matrix = pixel_matrix(maps.xi, maps.eta)
    beam_pixels = np.sqrt(maps.beam[0] * maps.beam[1] / abs(np.linalg.det(matrix)))
    bins = max(1, -(-max(extents) // PIXELS), int(beam_pixels // BEAM))
    light = np.where(valid, 1.0 if maps.moment0 is None else maps.moment0, 0.0)
    # About the median: sums of large velocities would lose digits.
    middle = float(np.median(maps.moment1[valid]))
    momentum = light * np.where(valid, maps.moment1 - middle, 0.0)
    count, light, momentum = (block_sum(a.astype(np.float64), (bins, bins)) for a in (valid, light, momentum))
    kept = count >= 0.5 * bins**2
    moment1 = np.where(kept, momentum / np.where(kept, light, 1), np.nan)
    moment0 = None if maps.moment0 is None else np.where(kept, light / bins**2, np.nan)
    inner = (bins - 1) / 2
    origin = np.array([maps.xi[0, 0], maps.eta[0, 0]]) + matrix @ [inner, inner]
    beam = [*np.sqrt(maps.beam[:2] ** 2 + block_fwhm2(bins, matrix)), maps.beam[2]]
    tensors = [None if a is None else _tensor(a) for a in (moment1, moment0, matrix * bins, origin, beam)]
    cubes, scale = pseudo_cubes(*tensors)
    pixels = int(cubes.weight.sum())
    if pixels < LEAST_PIXELS:
        raise KinematicsError(
            f"{pixels} pixels left after binning by {bins}, which the beam and the extent ask for",
            f"{LEAST_PIXELS} at least",
            "fit_maps without the pixels far from the galaxy, or with a smaller beam=",
        )
    return replace(cubes, edges=cubes.edges + middle), float(1 / scale[0])


def pseudo_observation(maps):
    """The pseudo-cube of moment maps as an `~kinematics_nn.observation.Observation`, for what a fit is drawn on.

    It has no noise: ``rms`` is the faintest light of a valid pixel in a channel, a number to draw by.

    Parameters
    ----------
    maps : `~kinematics_nn.observation.maps.MomentMaps`
    """
    check_memory(_CHANNELS * maps.moment1.size, "fit_maps of maps cut to the galaxy")
    middle = float(np.nanmedian(maps.moment1))
    matrix = pixel_matrix(maps.xi, maps.eta)
    tensors = [None if a is None else _tensor(a) for a in (maps.moment1 - middle, maps.moment0, matrix, [0.0, 0.0])]
    cubes, scale = pseudo_cubes(*tensors, _tensor(maps.beam))
    data = (cubes.data[0] / scale[0]).numpy()
    edges = cubes.edges[0].double().numpy() + middle
    used = cubes.weight[0].numpy() > 0
    step = float(np.diff(edges).mean())
    header = fits.Header.fromstring(maps.header["celestial"])
    ctype = {"radio": "VRAD", "optical": "VOPT", "relativistic": "VELO"}[maps.header["convention"]]
    header.update(
        {
            "WCSAXES": 3, "CTYPE3": ctype, "CUNIT3": "m/s", "CRPIX3": 1.0, "CRVAL3": 1e3 * (edges[0] + 0.5 * step),
            "CDELT3": 1e3 * step,
        }
    )  # fmt: skip
    if maps.header["frame"]:
        header["SPECSYS"] = maps.header["frame"]
    own = {key: value for key, value in maps.header.items() if key != "celestial"}
    least = float(data[data > 0].min()) if used.any() else 1.0
    return Observation(
        data=data,
        valid=np.repeat(used[None], _CHANNELS, axis=0),
        emission=data > 0,
        rms=np.full(data.shape, least, dtype=np.float32),
        edges=edges,
        xi=maps.xi,
        eta=maps.eta,
        beam=maps.beam,
        correlation=known_correlation("white", "white", beam_covariance(maps.beam, matrix), _CHANNELS),
        header=own
        | {
            "wcs": header.tostring(),
            "shape": (_CHANNELS, *maps.header["shape"]),
            "crop": ((0, _CHANNELS), *maps.header["crop"]),
            "descending": False,
            "edges": tuple(float(edge) for edge in edges),
            "n_sources": 1,
            "noise": {},
        },
    )


def _tensor(array):
    return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32)[None]
