"""The network's posterior: trunk once a galaxy, head anew for every realisation, then the forms; of one or of many."""

from dataclasses import fields, replace

import numpy as np
import torch

from ..decoder.geometry import axis_scale
from ..errors import KinematicsError
from ..network.dropout import realisations
from ..network.frame import Frame, make_frame
from ..network.prepare import prepare
from ..network.recalibration import recalibrated, table_at
from ..network.targets import possible
from ..network.weights import DEFAULT, load_encoder
from .derived import derived, derived_of_curves
from .projection import NEAREST, project
from .space import observation_scales

__all__ = ["encoder_draws", "form_samples", "network_batch", "network_draws", "network_samples"]


def encoder_draws(encoder, image, facts, n_samples, seed):
    """Recalibrated draws (galaxy, n_samples, target) from the encoder, on its device.

    Parameters
    ----------
    encoder : KinematicEncoder
    image, facts : Tensor (galaxy, ...)
        Of frames, on the encoder's device.
    n_samples : int
        Draws a galaxy, each with dropout masks of its own.
    seed : int or sequence of int
        One a galaxy: each has the draws that it has alone, whatever the batch. A single one: all are drawn at once,
        which is faster by far on a GPU, and what a galaxy gets hangs on its place in the batch.
    """
    device = facts.device
    with torch.no_grad():
        trunk = encoder.trunk(image.float(), facts)
        if np.ndim(seed) == 0:
            with realisations(encoder, int(seed), device) as generator:
                draws = encoder.sample(trunk, n_samples, generator)
        else:
            parts = []
            for row, own in zip(trunk, seed, strict=True):
                with realisations(encoder, int(own), device) as generator:
                    parts.append(encoder.sample(row[None], n_samples, generator))
            draws = torch.cat(parts)
        n, _, targets = draws.shape
        tables = table_at(encoder.ranks, encoder.ranks_snr, facts)
        flat = recalibrated(draws.transpose(0, 1).flatten(1), tables.flatten(0, 1))
    return flat.unflatten(1, (n, targets)).transpose(0, 1)


def network_batch(observations, n_samples, *, seed, device="cpu", weights=DEFAULT, cubes=None):
    """Monte-Carlo-dropout realisations of the network for many observations at once.

    Parameters
    ----------
    observations : sequence of Observation
        Of any sizes.
    n_samples : int
    seed : int or sequence of int
        As `encoder_draws` takes it.
    device, weights : optional
    cubes : sequence, optional
        As `network_draws` takes it, one an observation.

    Returns
    -------
    list
        For each observation what `network_draws` returns, or, in its place, the `KinematicsError` that it raises.
    """
    encoder = load_encoder(weights, str(device))
    given = map(prepare, observations) if cubes is None else cubes
    with torch.no_grad():
        frames = [(make_frame(one, facts=encoder.settings["facts"]), unit) for one, unit in given]
    image, facts = (torch.cat([getattr(frame, k) for frame, _ in frames]).to(device) for k in ("image", "facts"))
    draws = encoder_draws(encoder, image, facts, n_samples, seed).cpu()
    return [_outcome(targets, frame, unit) for targets, (frame, unit) in zip(draws, frames, strict=True)]


def network_draws(observation, n_samples, *, seed, device="cpu", weights=DEFAULT, cubes=None):
    """Monte-Carlo-dropout realisations of the network for an observation.

    Every realisation is one draw from the density under dropout masks of its own, so that the draws are from the
    integral over weights, P(k|x,D) = int P(k|x,w) q(w) dw (Dawson et al. 2021, MNRAS 503, 574, eq. 3).

    ``cubes``, where given, is what the network takes and its unit, in place of what
    `~kinematics_nn.network.prepare.prepare` makes of the observation.

    Returns
    -------
    targets : Tensor (n_samples, target)
        Relative to the frame.
    frame : Frame
        With scalar attributes; ``flux`` in the cube's unit times km/s arcsec2.

    Raises
    ------
    KinematicsError
        Most realisations are of no possible disc.
    """
    given = None if cubes is None else [cubes]
    (found,) = network_batch([observation], n_samples, seed=[seed], device=device, weights=weights, cubes=given)
    if isinstance(found, KinematicsError):
        raise found
    return found


def _outcome(targets, frame, unit):
    """Draws that are possible, as many as there were, and the frame of one galaxy; or why there are none."""
    n_samples = len(targets)
    targets = targets[possible(targets)]
    if len(targets) < 0.5 * n_samples:
        return KinematicsError(
            f"{len(targets)} of {n_samples} realisations are of possible discs: nothing like what the network knows",
            "the emission of one disc",
            "fit(region=...), and cube.kinematics.observe() to see what was taken as emission",
        )
    # The few impossible ones are replaced by the first of the others, which are independent draws.
    targets = targets[torch.arange(n_samples) % len(targets)]
    frame = Frame(**{field.name: getattr(frame, field.name)[0] for field in fields(Frame)})
    return targets, replace(frame, flux=frame.flux * unit)


def network_samples(observation, forms, n_samples, *, seed, device="cpu", weights=DEFAULT, cubes=None):
    """Samples of the parameters of ``forms`` from the network alone; ``cubes`` as `network_draws` takes it.

    Returns
    -------
    dict
        As of `form_samples`.
    """
    n_draws = NEAREST * n_samples
    targets, frame = network_draws(observation, n_draws, seed=seed, device=device, weights=weights, cubes=cubes)
    return form_samples(observation, forms, targets, frame, n_samples)


def form_samples(observation, forms, targets, frame, n_samples=None):
    """Samples of the parameters of ``forms``, of what `network_draws` found of an observation.

    For the ``n_samples`` draws that are nearest to what the forms can make, by default one of `NEAREST`.

    Returns
    -------
    dict
        Column name to (n_samples,) float64 array, in arcsec, km/s and degrees, as `KinematicFit` takes them.
    """
    with torch.no_grad():
        scales = observation_scales(observation)
        n_samples = len(targets) // NEAREST if n_samples is None else n_samples
        disc, curve, light, possible_forms = project(targets, frame, forms, scales, n_samples)
    # The network measured on the cube's axis; speeds are the galaxy's own.
    scale = axis_scale(disc.vsys, observation.header["convention"])
    dispersion = disc.dispersion / scale
    for parameter in forms.rotation_curve.parameters:
        curve[parameter.name] = curve[parameter.name] / scale ** float(parameter.powers[0])
    shape = _dispersion_parameters(forms.velocity_dispersion, dispersion, disc.r50)
    values = {"rotation_curve": curve, "surface_brightness": light, "velocity_dispersion": shape}
    named = {
        column: value
        for slot, columns in forms.slots.items()
        for column, value in zip(columns, values[slot].values(), strict=True)
    }
    samples = {
        "inclination": torch.rad2deg(disc.inclination),
        "pa": torch.rad2deg(disc.pa),
        "east": disc.east,
        "north": disc.north,
        "vsys": disc.vsys,
        "flux": disc.flux / observation.header["brightness_per_flux"],
        "thickness": disc.thickness,
        **named,
    }
    if possible_forms:
        samples |= derived(forms, samples, disc.r50, dispersion)
    else:
        samples |= derived_of_curves(disc, dispersion, scale)
    return {name: value.double().numpy() for name, value in samples.items()}


def _dispersion_parameters(form, dispersion, r50):
    """A dispersion form's parameters that give the network's one dispersion at the half-light radius.

    The network knows a single dispersion; the shape of a form with more parameters keeps its defaults.
    """
    values = {}
    for parameter in form.parameters:
        at = torch.full_like(dispersion, parameter.default)
        values[parameter.name] = at / 8.0 * r50 if parameter.unit == "arcsec" else at
    level = form.evaluate(r50, *values.values())
    return {
        p.name: values[p.name] * dispersion / level if p.powers[0] == 1 else values[p.name] for p in form.parameters
    }
