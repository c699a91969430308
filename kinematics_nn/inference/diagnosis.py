"""What a fit says about itself: chi-squared with the measured noise, and flags for what is not to be trusted."""

import numpy as np

from ..decoder import render
from .space import LIMITS, in_own_scale, observation_scales

__all__ = ["beams_across", "diagnose", "disc_flags", "form_priors"]

_FAR = 3.0  # standard deviations of a user's normal prior, where the data contradict it
_PILED = 0.08  # of the width of 80 % of the draws: nearer to an end they pile up there


def beams_across(observation, parameters, forms):
    """Diameter of 90 % of the light, 2 R90, over the beam's FWHM along the major axis."""
    light = [parameters[name] for name in forms.slots["surface_brightness"]]
    radii = parameters["r50"] * np.linspace(0, 8, 801)[1:]
    grown = np.cumsum(forms.surface_brightness.evaluate(radii, *light) * radii)
    r90 = radii[np.searchsorted(grown, 0.9 * grown[-1])]
    major, minor, angle = observation.beam
    turn = np.deg2rad(angle - parameters["pa"])
    along = major * minor / np.hypot(minor * np.cos(turn), major * np.sin(turn))
    return 2 * r90 / along


def diagnose(observation, forms, samples, best, priors=(), held=()):
    """Reduced chi-squared and flags.

    Parameters
    ----------
    observation : Observation
    forms : Forms
    samples : dict
        As `KinematicFit` takes them.
    best : dict
        The sample the model is rendered from.
    priors : list of `~kinematics_nn.inference.priors.UserPrior`, optional
        The user's own.
    held : collection of str, optional
        Parameters that are held.

    Returns
    -------
    reduced_chi2 : float
        With the measured noise, over the voxels where the data or the model is detected.
    flags : list of str
        Names of `~kinematics_nn.results.tables.KinematicFlags`.
    """
    model = render(observation, forms, best, full=False)
    seen = observation.valid & (observation.emission | (model > 3 * observation.rms))
    rest = (observation.data[seen] - model[seen]) / observation.rms[seen]
    dof = max(1, rest.size - len(forms.parameter_names))
    reduced = float(np.sum(rest.astype(np.float64) ** 2) / dof)
    snr = float((observation.data / observation.rms)[observation.emission].max())
    channels = np.flatnonzero(observation.emission.any((1, 2)))
    (first, last), n = observation.header["crop"][0], observation.header["shape"][0]
    if observation.header["descending"]:
        first, last = n - last, n - first
    at_edge = first + channels[0] == 0 or first + channels[-1] == n - 1
    flags = {
        "LOW_SNR": snr < 5,
        **disc_flags(observation, forms, samples, best, priors, held),
        "BAND_EDGE": at_edge,
        # The voxels are correlated over the beam and not independent, which makes the bound a generous one.
        "POOR_FIT": reduced > 1 + 5 * np.sqrt(2 / dof * _voxels_a_beam(observation)),
    }
    return reduced, [name for name, raised in flags.items() if raised]


def disc_flags(observation, forms, samples, best, priors=(), held=()):
    """The flags that a disc has whatever it was seen in: dict of name to bool; arguments as `diagnose` takes them."""
    low, high = np.percentile(samples["inclination"], [16, 84])
    return {
        "UNRESOLVED": beams_across(observation, best, forms) < 2,
        "FACE_ON": low < 15,
        "EDGE_ON": high > 82,
        "PRIOR_EDGE": _at_prior_edge(observation, forms, samples, {*held, *(prior.name for prior in priors)})
        or any(_contradicted(prior, samples) for prior in priors),
    }


def _voxels_a_beam(observation):
    pixel = abs(np.linalg.det(observation.pixel_matrix))
    return max(1.0, 1.133 * observation.beam[0] * observation.beam[1] / pixel)


def form_priors(observation, forms, samples):
    """The forms' default priors in inside units: dict of column name to `~kinematics_nn.forms.Prior`.

    Scales of the light that some of them are in are the medians of ``samples``, a dict of (n,) arrays.
    """
    light = [samples[column] for column in forms.slots["surface_brightness"]]
    r50 = forms.surface_brightness.half_light_radius(*light)
    scales = observation_scales(observation) | {"r_scale": np.median(r50) / 1.678}
    found = {}
    for slot, columns in forms.slots.items():
        form = getattr(forms, slot)
        names = dict(zip(form.names(), columns, strict=True))
        for parameter in form.parameters:
            its = scales
            if slot == "surface_brightness" and in_own_scale(form, parameter):
                its = scales | {"r_scale": np.median(samples[names["r_scale"]])}
            found[names[parameter.name]] = parameter.prior.resolve(its)
    return found


def _at_prior_edge(observation, forms, samples, given):
    """Whether a form's parameter piles up at a limit of its prior: a tenth of the draws within a fiftieth of it."""
    for column, prior in form_priors(observation, forms, samples).items():
        if column in given:
            continue
        low, high = prior.ppf(0.02), prior.ppf(0.98)
        if np.mean(samples[column] <= low) > 0.1 or np.mean(samples[column] >= high) > 0.1:
            return True
    return False


def _contradicted(prior, samples):
    """Whether draws pile up at an end of a user's prior, or lie three deviations from the middle of a normal one.

    Of draws that fall off from an end, the tenth that are nearest lie within a twentieth of the width of 80 % of them;
    of even ones, which the prior alone makes, within an eighth. An end where the parameter itself ends is none.
    """
    if prior.name not in samples:
        return False
    values, (low, high) = np.asarray(samples[prior.name]), prior.support
    if prior.name == "pa":  # the same one turn on
        middle = prior.normal[0] if prior.normal is not None else (low + high) / 2
        if not np.isfinite(middle):
            return False
        values = middle + np.remainder(values - middle + 180, 360) - 180
    if prior.normal is not None:
        mean, std = prior.normal
        return bool(abs(np.median(values) - mean) > _FAR * std)
    least, most = LIMITS.get(prior.name, (-np.inf, np.inf))
    first, last = np.percentile(values, [10, 90])
    room = [first - low] * (low > least) + [high - last] * (high < most)
    return any(left < _PILED * (last - first) for left in room)
