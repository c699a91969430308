"""What the figure shows, as arrays: moment maps and the position-velocity slice."""

import numpy as np
from scipy.ndimage import map_coordinates

from .cubes import offset_to_sky

__all__ = ["emission_extent", "moments", "position_velocity"]


def moments(data, mask, edges):
    """
    Moments 0 and 1 over a mask.

    Parameters
    ----------
    data : (channel, y, x) array
        Brightness.
    mask : (channel, y, x) bool array
        The voxels that count. Give data and model the same one, or the mask alone makes them differ.
    edges : (channel + 1,) array
        Channel edges [km/s].

    Returns
    -------
    moment0 : (y, x) array
        [brightness km/s], NaN where the mask holds nothing.
    moment1 : (y, x) array
        [km/s], NaN too where moment 0 is not positive.
    """
    velocity = 0.5 * (edges[1:] + edges[:-1])[:, None, None]
    light = np.where(mask, data, 0.0) * np.diff(edges)[:, None, None]
    moment0 = np.where(mask.any(axis=0), light.sum(axis=0), np.nan)
    positive = np.where(moment0 > 0, moment0, np.nan)
    return moment0, (light * velocity).sum(axis=0) / positive


def emission_extent(observation, east, north, pa):
    """How far from a centre, along a major axis, the emission reaches [arcsec]."""
    angle = np.deg2rad(pa)
    along = (observation.xi - east) * np.sin(angle) + (observation.eta - north) * np.cos(angle)
    lit = observation.emission.any(axis=0)
    return float(np.abs(along[lit]).max()) if lit.any() else float(np.abs(along).max())


def position_velocity(observation, data, east, north, pa, reach):
    """
    Brightness along the major axis, interpolated linearly between pixels.

    Parameters
    ----------
    observation : `~kinematics_nn.observation.Observation`
        Whose crop ``data`` fills.
    data : (channel, y, x) array
        Brightness.
    east, north : float
        Centre [arcsec].
    pa : float
        Position angle of the receding side [deg]; offsets are positive there.
    reach : float
        Half of the slit's length [arcsec].

    Returns
    -------
    offset : (n,) array
        Along the slit [arcsec], about half a pixel apart.
    slice : (channel, n) array
        NaN outside the crop.
    """
    pixel = np.hypot(np.gradient(observation.xi, axis=1), np.gradient(observation.eta, axis=1)).mean()
    offset = np.linspace(-reach, reach, 2 * int(np.ceil(2 * reach / pixel)) + 1)
    angle = np.deg2rad(pa)
    _, x, y = offset_to_sky(observation, east + offset * np.sin(angle), north + offset * np.cos(angle))
    _, (y0, _), (x0, _) = observation.header["crop"]
    lines = [map_coordinates(channel, [y - y0, x - x0], order=1, cval=np.nan) for channel in data.astype(float)]
    return offset, np.array(lines)
