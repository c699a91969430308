"""What the moment 0 of an observation says of the disc before anything is fitted: where it lies, how far it reaches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["MomentDisc", "moment_disc"]

_FWHM = 2 * np.sqrt(2 * np.log(2))


@dataclass(frozen=True)
class MomentDisc:
    """A thin disc as the second moments of its light have it.

    Attributes
    ----------
    light : ndarray (y, x)
        Moment 0 of the detected emission, none negative [cube's unit times km/s].
    radius : ndarray (y, x)
        Of each pixel in the plane of the disc [arcsec].
    edge : float
        Farthest detected pixel along the major axis [arcsec].
    beam : float
        FWHM of the beam along the major axis [arcsec].
    """

    light: np.ndarray
    radius: np.ndarray
    edge: float
    beam: float


def moment_disc(observation):
    """Centre, major axis and axis ratio from the moments of the detected light, the beam taken off.

    Parameters
    ----------
    observation : `~kinematics_nn.observation.Observation`

    Returns
    -------
    MomentDisc
    """
    widths = np.diff(observation.edges)[:, None, None]
    light = (np.where(observation.emission, observation.data, 0) * widths).sum(0, dtype=float).clip(min=0)
    share = light / light.sum()
    east, north = ((share * offset).sum() for offset in (observation.xi, observation.eta))
    x, y = observation.xi - east, observation.eta - north
    spread = np.array([[(share * a * b).sum() for b in (x, y)] for a in (x, y)])
    major, minor, angle = observation.beam[0] / _FWHM, observation.beam[1] / _FWHM, np.deg2rad(observation.beam[2])
    along = np.array([np.sin(angle), np.cos(angle)])
    beam = major**2 * np.outer(along, along) + minor**2 * (np.eye(2) - np.outer(along, along))
    squares, axes = np.linalg.eigh(spread - beam)
    # Below a tenth, thickness decides and not inclination; a disc smaller than its beam is taken as round.
    ratio = np.sqrt(np.clip(squares[0] / squares[1], 0.01, 1)) if squares[1] > 0 else 1.0
    u, w = (x * axis[0] + y * axis[1] for axis in (axes[:, 1], axes[:, 0]))
    direction = axes[:, 1]
    return MomentDisc(
        light=light,
        radius=np.hypot(u, w / ratio),
        edge=float(np.abs(u[observation.emission.any(0)]).max()),
        beam=float(_FWHM / np.sqrt(direction @ np.linalg.solve(beam, direction))),
    )
