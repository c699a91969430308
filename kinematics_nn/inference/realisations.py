"""The network's posterior of one galaxy: trunk once, head anew for every realisation, then the forms."""

from dataclasses import fields, replace

import numpy as np
import torch

from ..decoder.geometry import axis_scale
from ..errors import KinematicsError
from ..network.dropout import realisations
from ..network.frame import Frame, make_frame
from ..network.prepare import prepare
from ..network.recalibration import recalibrated
from ..network.targets import possible
from ..network.weights import DEFAULT, load_encoder
from .derived import derived
from .projection import project

__all__ = ["network_draws", "network_samples"]


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
    """
    encoder = load_encoder(weights, str(device))
    cubes, unit = prepare(observation) if cubes is None else cubes
    with torch.no_grad():
        frame = make_frame(cubes)
        trunk = encoder.trunk(frame.image.to(device), frame.facts.to(device))
        with realisations(encoder, seed, device) as generator:
            targets = recalibrated(encoder.sample(trunk, n_samples, generator)[0], encoder.ranks).cpu()
    targets = targets[possible(targets)]
    if len(targets) < 0.5 * n_samples:
        raise KinematicsError(
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
        Column name to (n_samples,) float64 array, in arcsec, km/s and degrees, as `KinematicFit` takes them.
    """
    targets, frame = network_draws(observation, n_samples, seed=seed, device=device, weights=weights, cubes=cubes)
    beam = float(np.sqrt(observation.beam[0] * observation.beam[1]))
    with torch.no_grad():
        disc, curve, light = project(targets, frame, forms, beam)
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
    samples |= derived(forms, samples, disc.r50, dispersion)
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
