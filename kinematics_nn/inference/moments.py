"""A disc from the moments of all of a crop's emission: a start that no network has chosen."""

import numpy as np

__all__ = ["moment_disc", "overlooked"]

_FWHM = np.sqrt(8 * np.log(2))
_LEAST_RATIO = 0.1  # of variances: below it, noise and beam leave nothing of the minor axis
_FACE_ON = 0.9  # and above it nothing of an inclination
_OVERLOOKED = 0.3  # of the emission's rms extent and width, that a disc's centre and velocity may be off its means


def moment_disc(observation, forms, typical):
    """Parameters of a disc with the centre, speeds and size of the emission.

    Centre and systemic velocity are means, weighted by the light; the position angle is that of the gradient of speed;
    size and inclination follow from the second moments on the sky, the beam's taken off, and the speed from that of the
    line. All else, and what shape the profiles have, is as in a ``typical`` disc.

    Parameters
    ----------
    observation : Observation
    forms : Forms
    typical : dict of str to float
        Parameters, and r50.

    Returns
    -------
    dict of str to float
        Parameters; the flux is the typical one.
    """
    (east, north, vsys), extent, spread, gradient = _moments(observation)
    angle = np.arctan2(*gradient)
    axes = np.array([[np.sin(angle), np.cos(angle)], [np.cos(angle), -np.sin(angle)]])
    covariance = axes @ extent @ axes.T - _beam(observation, axes)
    area = abs(np.linalg.det(observation.pixel_matrix))
    # What the beam hides is taken to be a quarter of it wide.
    major = max(covariance[0, 0], area, (0.25 * observation.beam[1] / _FWHM) ** 2)
    ratio = np.clip(covariance[1, 1] / major, _LEAST_RATIO, _FACE_ON)
    inclination = np.arccos(np.sqrt(ratio))
    # An exponential disc has <x^2> = 3 r_scale^2 along its major axis and r50 = 1.678 r_scale.
    stretch = 1.678 * np.sqrt(major / 3) / typical["r50"]
    dispersion = float(forms.velocity_dispersion.evaluate(typical["r50"], *_own(forms, typical, "velocity_dispersion")))
    # In a ring of one speed the mean square along the line of sight is half of its square.
    speed = np.sqrt(2 * max(spread - dispersion**2, 0.1 * spread)) / np.sin(inclination)
    now = float(forms.rotation_curve.evaluate(1.31 * typical["r50"], *_own(forms, typical, "rotation_curve")))
    disc = dict(typical)
    for slot, faster in (("rotation_curve", speed / max(now, 1e-3)), ("surface_brightness", 1.0)):
        for parameter, name in zip(getattr(forms, slot).parameters, forms.slots[slot], strict=True):
            power = parameter.powers or (0, 0)
            disc[name] = typical[name] * faster ** power[0] * stretch ** power[1]
    moved = {"inclination": np.degrees(inclination), "pa": np.degrees(angle) % 360, "vsys": vsys}
    moved |= {"east": east, "north": north, "thickness": typical["thickness"] * stretch}
    return {name: float(value) for name, value in (disc | moved).items()}


def overlooked(observation, disc):
    """Whether a disc leaves out much of the emission: its centre or velocity is far from the means of that.

    A network that takes one horn of a line for all of it leaves draws, none of which is near the galaxy.
    """
    (east, north, vsys), extent, spread, _ = _moments(observation)
    away = np.hypot(disc["east"] - east, disc["north"] - north) / np.sqrt(np.trace(extent))
    return max(away, abs(disc["vsys"] - vsys) / np.sqrt(spread)) > _OVERLOOKED


def _moments(observation):
    """Of the emission: the means (east, north, velocity), the covariance on the sky, that of velocity, and of both."""
    light = np.where(observation.emission, observation.data, 0).clip(min=0).astype(np.float64)
    velocity = 0.5 * (observation.edges[1:] + observation.edges[:-1])
    spectrum, image = light.sum((1, 2)), light.sum(0)
    total = spectrum.sum()
    vsys = spectrum @ velocity / total
    east, north = ((image * offset).sum() / total for offset in (observation.xi, observation.eta))
    at = np.stack([observation.xi - east, observation.eta - north])
    extent = np.tensordot(image * at, at, ((1, 2), (1, 2))) / total
    gradient = (np.tensordot(velocity - vsys, light, 1) * at).sum((1, 2)) / total
    channel = np.diff(observation.edges).mean()
    return (east, north, vsys), extent, spectrum @ (velocity - vsys) ** 2 / total + channel**2 / 12, gradient


def _own(forms, values, slot):
    return [values[name] for name in forms.slots[slot]]


def _beam(observation, axes):
    """Covariance [arcsec2] of the beam along axes (2, 2)."""
    major, minor, angle = observation.beam
    angle = np.deg2rad(angle)
    own = np.array([[np.sin(angle), np.cos(angle)], [np.cos(angle), -np.sin(angle)]])
    turned = axes @ own.T
    return turned @ np.diag([(major / _FWHM) ** 2, (minor / _FWHM) ** 2]) @ turned.T
