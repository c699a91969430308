"""Small observations of discs, made by the decoder, with noise whose covariance is known."""

import numpy as np
import torch

from kinematics_nn.decoder import Forms, Grid, render_on
from kinematics_nn.forms import get_form
from kinematics_nn.observation import Observation
from kinematics_nn.observation.correlation import beam_covariance, known_correlation

FORMS = Forms(
    get_form("arctan", "rotation_curve"),
    get_form("exponential", "surface_brightness"),
    get_form("constant", "velocity_dispersion"),
)
DISC = {
    "inclination": 55.0, "pa": 40.0, "east": 0.4, "north": -0.7, "vsys": 12.0, "flux": 10.0, "thickness": 0.3,
    "velocity_dispersion": 15.0, "vmax": 140.0, "r_turn": 1.5, "r_scale": 3.0,
}  # fmt: skip
SPREAD = {
    "inclination": 6.0, "pa": 5.0, "east": 0.4, "north": 0.4, "vsys": 6.0, "flux": 1.5, "thickness": 0.2,
    "velocity_dispersion": 4.0, "vmax": 20.0, "r_turn": 0.5, "r_scale": 0.4,
}  # fmt: skip
"""Errors of a network's answer."""
CHANNEL = 30.0  # km/s


def make_observation(
    shape=(12, 20, 20), beam=(3.5, 3.0, 20.0), spatial="wide", spectral="white", snr=10.0, rms=1.0, seed=1, **disc
):
    """An `Observation` of a disc (`DISC`, and what differs from it), of pixels of 1 arcsec.

    ``rms``, of any shape that broadcasts to that of the cube, multiplies the noise.
    """
    n, ny, nx = shape
    y, x = np.mgrid[:ny, :nx]
    beam = np.array(beam)
    matrix = np.diag([-1.0, 1.0])
    empty = Observation(
        data=np.zeros(shape, np.float32),
        valid=np.ones(shape, bool),
        emission=np.zeros(shape, bool),
        rms=np.ones(shape, np.float32),
        edges=CHANNEL * (np.arange(n + 1) - n / 2),
        xi=(nx - 1) / 2 - x.astype(float),
        eta=y - (ny - 1) / 2,
        beam=beam,
        correlation=known_correlation(spatial, spectral, beam_covariance(beam, matrix), n),
        header={"convention": "radio", "brightness_per_flux": 1.133 * beam[0] * beam[1], "descending": False},
    )
    clean = render_on(Grid.from_observation(empty), FORMS, DISC | disc).numpy()
    rms = np.broadcast_to(np.asarray(rms * clean.max() / snr, np.float32), shape)
    noise = empty.correlation.draw(shape, np.random.default_rng(seed))
    return changed(empty, data=clean + rms * noise, rms=rms, emission=clean > 2 * rms)


def changed(observation, **fields):
    """The observation with other fields; what is not valid is 0, as `observe` has it."""
    fields = vars(observation) | fields
    fields["data"] = np.where(fields["valid"], fields["data"], 0).astype(np.float32)
    return Observation(**fields)


def network_like(n=300, seed=5, **moved):
    """Draws such as a network's: about the truth, wide and off it by about an error."""
    rng = np.random.default_rng(seed)
    draws = {}
    for name, spread in SPREAD.items():
        centre = moved.get(name, DISC[name] + 0.7 * spread * rng.standard_normal())
        draws[name] = abs(centre + spread * rng.standard_normal(n))
        if name in ("east", "north", "vsys"):
            draws[name] = centre + spread * rng.standard_normal(n)
    draws["inclination"] = np.clip(draws["inclination"], 1, 89)
    return draws | {"r50": 1.678 * draws["r_scale"]}


def vector(names, **disc):
    """Parameters (1, n) of `DISC`, and what differs from it."""
    return torch.tensor([[(DISC | disc)[name] for name in names]], dtype=torch.float64)


def sky_correlation(observation, whitener):
    """Correlation (pixel, pixel) of the pixels that a `Whitener` uses, from its definition, and their flat index."""
    y, x = (axis.ravel() for axis in np.meshgrid(whitener.rows.numpy(), whitener.columns.numpy(), indexing="ij"))
    used = observation.valid[whitener.channels][:, y, x].all(0)
    y, x = y[used], x[used]
    lags = observation.correlation.spatial
    middle = len(lags) // 2
    dy, dx = y[:, None] - y, x[:, None] - x
    far = np.maximum(abs(dy), abs(dx)) > middle
    sky = np.where(far, 0, lags[np.clip(dy + middle, 0, 2 * middle), np.clip(dx + middle, 0, 2 * middle)])
    return sky, np.ravel_multi_index((y, x), observation.shape[1:])


def dense_covariance(observation, whitener, least_white=0.0):
    """Covariance (voxel, voxel) of the voxels that a `Whitener` uses, channel by channel, and their pixels' index."""
    index = np.flatnonzero(whitener.channels)
    sky, pixels = sky_correlation(observation, whitener)
    spectral = observation.correlation.spectral[abs(index[:, None] - index)]
    spectral = (spectral + least_white * np.eye(len(index))) / (1 + least_white)
    rms = observation.rms[index].reshape(len(index), -1)[:, pixels].astype(float).ravel()
    return np.kron(spectral, sky) * rms * rms[:, None], pixels
