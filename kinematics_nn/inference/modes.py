"""The posterior of a disc as a function, and its modes: where the network says, and where a disc turned round is."""

import math
from dataclasses import replace

import numpy as np
import torch

from ..decoder import Fineness
from ..errors import KinematicsError
from .cores import an_item_a_core
from .light import SCATTERS, Patches, render_patches
from .likelihood import CubeLikelihood
from .moments import moment_disc, overlooked
from .quality import suit
from .space import PA_UNIT, ParameterSpace, observation_scales
from .target import Target

__all__ = ["find_modes", "observation_space"]

_ROUGH = Fineness(across=1.75, least=1, turned=5)
"""In which modes are looked for: within an error or so of where they are."""

_STARTS = 40  # draws of the network of which the best are polished
_SCATTERS = torch.as_tensor(SCATTERS)
_SAME_FLUX = 0.03  # of a disc and of that which its patches of light were rendered with
_MOST_MODES = 3  # that are followed from the smooth disc to the patchy one
_TWIN = 20.0  # in log posterior: as far below the mode as another, and a disc turned round, is still followed


def observation_space(observation, forms, pa, r_scale, fixed=None, priors=()):
    """The `ParameterSpace` of an observation: its default priors.

    The centre and the systemic velocity are normal about the middle of the crop, with a quarter of its extent.
    """
    xi, eta, edges = observation.xi, observation.eta, observation.edges
    centre = float(xi.mean()), float(eta.mean()), float(0.5 * (edges[0] + edges[-1]))
    spread = float(np.ptp(xi) / 4), float(np.ptp(eta) / 4), float((edges[-1] - edges[0]) / 4)
    scales = observation_scales(observation) | {"r_scale": r_scale}
    return ParameterSpace(forms, centre, spread, pa, scales, fixed, priors)


@an_item_a_core()
def find_modes(observation, forms, draws, *, fixed=None, priors=(), progress=None):
    """The posterior of a disc as a function, and its modes.

    Parameters
    ----------
    observation, forms, draws, fixed, priors, progress
        As `~kinematics_nn.inference.refined.refined_posterior` takes them.

    Returns
    -------
    target : Target
        The log posterior of variates.
    modes : list of Mode
    x : Tensor (n, free)
        Variates of the network's draws.
    """
    say = progress or (lambda text: None)
    likelihood = CubeLikelihood(observation, forms)
    vectors = torch.stack([torch.as_tensor(draws[name], dtype=torch.float64) for name in forms.parameter_names], 1)
    middle = float(np.median(draws["pa"]))
    if set(forms.parameter_names) <= {"flux", *(fixed or {})}:
        raise KinematicsError("every parameter held but the flux", "one that is free", "fit() with fewer fixed=")
    space = observation_space(observation, forms, middle, float(np.median(draws["r50"])) / 1.678, fixed, priors)
    flux_prior = _flux_prior(_detected_flux(observation), space.fixed, priors)
    x = space.variates(vectors)
    say("starting from the network")
    smooth = Target(likelihood, space, Patches.none(likelihood), torch.zeros(1), flux_prior)
    likelihood.decoder.fineness = _ROUGH
    tried = space.inside(torch.cat([x.median(0).values[None], x[: _STARTS - 1]]))
    values = smooth(tried)
    first = tried[values.argmax()]
    starts = [first, _another(tried, values, first, x)]
    typical = {name: float(np.median(values)) for name, values in draws.items()}
    if overlooked(observation, typical):
        disc = moment_disc(observation, forms, typical)
        vector = torch.tensor([[disc[name] for name in forms.parameter_names]], dtype=torch.float64)
        starts.append(space.inside(space.variates(vector))[0])
    modes = smooth.modes(torch.stack(starts))
    modes, x = _counted_from(space, *_with_twin(smooth, modes, x))
    say("patches of light")
    for _ in range(2):
        target = Target(
            likelihood, space, render_patches(likelihood, _with_flux(space, modes[0])), _SCATTERS, flux_prior
        )
        before = modes[0].x
        target(before[None])
        modes = target.modes(torch.stack([mode.x for mode in modes[:_MOST_MODES]]))
        # With the light free, what is so far below has no draw.
        modes = [mode for mode in modes if mode.log_posterior > modes[0].log_posterior - _TWIN]
        moved = modes[0].x - before
        distance = float(moved @ torch.linalg.solve(modes[0].covariance, moved))
        # The flux sets what scatter the patches have, and a tenth of it moves an evidence by half a unit.
        brighter = abs(modes[0].flux - target.patches.flux) / abs(modes[0].flux) if len(target.patches.power) else 0.0
        if distance < 1.0 and brighter < _SAME_FLUX:
            break
    finer, *_ = suit(likelihood, _with_flux(space, _thicker(space, modes[0])))
    target.measure(finer, modes[0].x)
    target.forget()
    target.calls += smooth.calls
    return target, modes, x


def _detected_flux(observation):
    """Flux of the detected emission, whatever the forms: evidences of several count on one prior."""
    area = abs(np.linalg.det(observation.pixel_matrix))
    spectrum = np.where(observation.emission, observation.data, 0).sum((1, 2), dtype=np.float64)
    flux = float(spectrum @ np.diff(observation.edges)) * area / observation.header["brightness_per_flux"]
    if flux == 0:
        raise KinematicsError("no emission detected", "a line", "fit(mask=...) of where it is")
    return flux


def _flux_prior(typical, fixed, priors):
    """Mean and standard deviation of the flux's normal prior: by default about 0, ten times what was detected."""
    if "flux" in fixed:
        if not fixed["flux"] > 0:
            raise KinematicsError(f"a flux held at {fixed['flux']}", "a positive one", 'fit(fixed={"flux": 10})')
        return fixed["flux"], 1e-6 * abs(fixed["flux"])
    given = [prior for prior in priors if prior.name == "flux"]
    if given and given[0].normal is None:
        raise KinematicsError(
            "a prior on the flux that is not normal", "(mean, standard deviation)", 'fit(priors={"flux": (10, 2)})'
        )
    return given[0].normal if given else (0.0, 10 * abs(typical))


def _another(tried, values, first, x):
    """A second start, the best of those that are far from the first among the network's draws."""
    spread = x.std(0).clamp(min=1e-3)
    away = ((tried - first) / spread).norm(dim=1)
    far = away > away.median()
    return tried[torch.where(far, values, -math.inf).argmax()]


def _with_twin(target, modes, x):
    """Modes, draws (n, free), and where the position angle is to be counted from, in variates.

    Where dispersion hides the rotation, a disc that turns the other way round is nearly as good; a network that has
    decided for one of the two starts nothing from the other. The angle's turn ends far from both of them.
    """
    free = target.space.free
    if "pa" not in free:
        return modes, x, 0.0
    k, turn, best = free.index("pa"), 360 / PA_UNIT, modes[0]
    flipped = best.x.clone()
    flipped[k] += turn / 2
    here, there = target(torch.stack([best.x, flipped]))
    if there > here - _TWIN:
        twin = target.modes(flipped[None])[0]
        away = torch.remainder(twin.x[k] - best.x[k] + turn / 2, turn) - turn / 2
        if abs(float(away)) > turn / 4 and twin.log_posterior > best.log_posterior - _TWIN:
            return [best, twin, *modes[1:]], x, float(best.x[k]) + turn / 4
    return modes, x, float(best.x[k])


def _counted_from(space, modes, x, middle):
    """Modes and draws (n, free) with the position angle counted from ``middle``: its turn ends far from there."""
    if "pa" not in space.free:
        return modes, x
    k, turn = space.free.index("pa"), 360 / PA_UNIT

    def moved(at):
        at = at.clone()
        at[..., k] = torch.remainder(at[..., k] - middle + turn / 2, turn) - turn / 2
        return at

    space.pa += PA_UNIT * middle
    return [replace(mode, x=moved(mode.x)) for mode in modes], moved(x)


def _thicker(space, mode):
    """A mode with the disc thicker by one error, all else following: of the posterior's discs one hard to sum."""
    if "thickness" not in space.free:
        return mode
    along = mode.covariance[:, space.free.index("thickness")]
    return replace(mode, x=mode.x + along / along[space.free.index("thickness")].sqrt())


def _with_flux(space, mode):
    parameters = space.parameters(mode.x[None])[0].clone()
    parameters[space.names.index("flux")] = mode.flux
    return parameters
