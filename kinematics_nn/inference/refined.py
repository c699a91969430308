"""The refined posterior: the network's answer polished on the cube, and weighed by what the exact likelihood says."""

import math
from dataclasses import replace

import numpy as np
import torch

from ..decoder import Fineness
from ..errors import KinematicsError
from .cores import an_item_a_core, in_parallel
from .derived import derived
from .free_curve import N_NODES, free_curve
from .importance import Component, flattened, sample
from .light import SCATTERS, Patches, render_patches
from .likelihood import CubeLikelihood
from .misfit import misfit, widened
from .moments import moment_disc, overlooked
from .nested import nested_sample
from .quality import suit
from .refinement import laplace
from .space import PA_UNIT, ParameterSpace, observation_scales
from .surrogate import Thinned, least_models
from .target import Target
from .two_phase import TwoPhaseDraws, least_draws, two_phase

__all__ = ["find_modes", "is_short", "observation_space", "refined_posterior"]

_ROUGH = Fineness(across=1.75, least=1, turned=5)
"""In which modes are looked for: within an error or so of where they are."""

_STARTS = 40  # draws of the network of which the best are polished
_SCATTERS = torch.as_tensor(SCATTERS)
_SAME_FLUX = 0.03  # of a disc and of that which its patches of light were rendered with
_ROWS = 2000  # of which columns are derived at a time
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
def refined_posterior(
    observation,
    forms,
    draws,
    *,
    n_samples,
    min_ess,
    seed,
    fixed=None,
    priors=(),
    fallback=None,
    progress=None,
    curve_is_free=True,
):
    """Posterior of the parameters of a disc by importance sampling about its modes.

    Parameters
    ----------
    observation : Observation
    forms : Forms
    draws : dict
        Samples of the network alone, as `network_samples` gives them.
    n_samples : int
        Equally weighted rows to return.
    min_ess : float
        Effective draws to reach.
    seed : int
    fixed : dict, optional
        Parameters held.
    priors : list of UserPrior, optional
        In the place of the default ones.
    fallback : {"dynesty"}, optional
        What samples the posterior again, from the prior, where importance sampling falls short.
    progress : callable, optional
        Called with a word on every step.
    curve_is_free : bool, optional
        Whether speeds may depart from their form (`free_curve`), or samples are those of `Target`, to be compared with
        another sampler's.

    Returns
    -------
    samples : dict
        Name of a parameter, or of a column of `derived`, to (n_samples,) array; and ``bend`` (n_samples, node), the
        departures of the speeds from their form.
    weighted : dict
        The draws behind them: the same to (n,) arrays, and their ``weight``, of sum one.
    report : dict
        misfit (what errors are widened by), curve_scatter (rms of the speeds about their form), disc_share (of the
        flux, what the profile has without its patches), sampler (two-phase, importance, or dynesty), n_effective,
        sample_efficiency, pareto_k, log_evidence and its error, weight_power (of the weights of ``samples``, below one
        where too few draws had all of it), light_scatter, n_patches, flux_prior, n_modes, summation_correction (what a
        finer sum over the disc adds to the evidence, which has it), likelihood calls.
    best : dict
        The draw of highest posterior.
    """
    say = progress or (lambda text: None)
    generator = torch.Generator().manual_seed(seed)
    target, modes, x = find_modes(observation, forms, draws, fixed=fixed, priors=priors, progress=progress)
    say("weighing draws")
    before = target.calls
    target.keep_models = True
    # A few more than a surrogate and a regression need at least.
    first = max(120, math.ceil(1.2 * least_models(target.space.smooth(x[:1]).shape[1])))
    few = max(110, math.ceil(1.2 * least_draws(x.shape[1])))
    steer = _steered(target, min_ess)
    draws = sample(target, _proposal(target, modes, x), min_ess, generator=generator, steer=steer, first=first, few=few)
    target.keep_models, target.kept_models = False, []
    report = {
        "sampler": "two-phase" if isinstance(draws, TwoPhaseDraws) else "importance",
        "n_effective": draws.n_effective,
        "sample_efficiency": draws.n_effective / (target.calls - before),
        "pareto_k": draws.pareto_k,
    }
    report["log_evidence"], report["log_evidence_error"] = draws.log_evidence
    order = torch.arange(len(draws.x))
    if fallback and is_short(report, min_ess):
        say(f"{fallback}, as importance sampling falls short: this takes minutes")
        draws, order, report = _nested(target, seed)
    # All draws are off by this or nearly so: it moves no weight.
    report["log_evidence"] += target.finer
    weights = draws.weights
    if isinstance(draws, TwoPhaseDraws):
        (best, at), drawn = target.best(draws.best), (draws.logs, draws.flux)
        report["weight_power"] = 1.0
    else:
        best, at = target.best(int(order[draws.log_target.argmax()]))
        drawn = target.recorded(order)[1:]
        flat, report["weight_power"] = flattened(draws)
        weights = flat.weights
    x, bend, scatter, report["misfit"] = _freed(target, best, at, draws.x, weights, curve_is_free, generator)
    drawn = target.space.parameters(draws.x), *drawn  # their light is that of the patches, and not moved
    values = target.values(*drawn, generator)
    values |= dict(zip(target.space.names, target.space.parameters(x).T.numpy(), strict=True)) | {
        "flux": values["flux"]
    }
    flux, log_r50 = (float(weights.numpy() @ of) for of in (values["flux"], np.log(values["r50"])))
    _widen_flux(values, flux, report["misfit"])
    values["r50"] = np.exp(log_r50 + report["misfit"] * (np.log(values["r50"]) - log_r50))
    further = _derived(forms, values, bend)
    weighted = values | further | {"weight": draws.weights.numpy()}
    del weighted["flux_of_disc"]
    chosen = _equally(weights, n_samples, generator)
    samples = target.values(*(of[chosen] for of in drawn), generator, with_size=False)
    _widen_flux(samples, flux, report["misfit"])
    samples |= {name: values[name][chosen.numpy()] for name in target.space.names if name != "flux"}
    # The flux, drawn anew, is nothing that they follow from.
    samples |= {name: values[chosen.numpy()] for name, values in further.items()} | {"bend": bend[chosen].numpy()}
    best |= {name: float(values[0]) for name, values in _derived(forms, best).items()}
    report |= {
        "light_scatter": float(np.median(samples.pop("light_scatter"))),
        "curve_scatter": float(scatter[chosen].median()),
        "disc_share": float(np.median(samples.pop("flux_of_disc")) / np.median(samples["flux"])),
        "n_patches": len(target.patches.power),
        "flux_prior": list(target.flux_prior),
        "n_modes": len(modes),
        "summation_correction": target.finer,
        "n_calls": target.calls,
        "n_values": len(target.likelihood.data),
        "grid_step": target.likelihood.whitener.step,
    }
    return samples, weighted, report, best


@an_item_a_core()
def find_modes(observation, forms, draws, *, fixed=None, priors=(), progress=None):
    """The posterior of a disc as a function, and its modes.

    Parameters
    ----------
    observation, forms, draws, fixed, priors, progress
        As `refined_posterior` takes them.

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


def _steered(target, min_ess):
    """What steers `importance.sample`: a surrogate of the target ends it in two phases, or thins proposals."""

    def steer(mixture, draws, n, last):
        end = two_phase(last, draws, n, min_ess) if isinstance(last, Thinned) else None
        if end is not None:
            return mixture, end
        surrogate = target.surrogate(draws.x, draws.weights)
        return mixture if surrogate is None else Thinned(mixture, surrogate, 4 * min_ess), None

    return steer


def _freed(target, best, at, x, weights, curve_is_free, generator):
    """Draws (n, free), widened by the misfit and moved by a free curve; its departures and scatters, and the misfit."""
    if not curve_is_free:
        none = torch.zeros(len(x), N_NODES, dtype=torch.float64), torch.zeros(len(x), dtype=torch.float64)
        found = misfit(target, best)
        return x if found == 1 else widened(target.space, x, weights, found), *none, found
    curve = free_curve(target, best, at)
    found = misfit(target, best, curve.change)
    if found > 1:
        x = widened(target.space, x, weights, found)
        curve = free_curve(target, best, at, found)
    return *curve.moved(target.space, x, generator), found


def is_short(report, min_ess):
    """Whether a posterior was sampled too poorly to be trusted: ``report`` is that of `refined_posterior`."""
    weights_fail = report["sampler"] != "dynesty" and (
        report["sample_efficiency"] < 0.01 or not report["pareto_k"] <= 0.7
    )
    return weights_fail or report["n_effective"] < min_ess


def _widen_flux(values, mean, factor):
    """Make the scatter of fluxes about their mean, all of it, so many times as wide; none becomes negative."""
    values["flux"] = np.maximum(mean + factor * (values["flux"] - mean), 1e-3 * abs(mean))


def _nested(target, seed):
    """Draws by dynesty, the numbers of the calls that they are from, and what to report."""
    target.forget()
    before = target.calls
    width = [1.0 if name != "pa" else 360 / PA_UNIT / math.sqrt(12) for name in target.space.free]
    draws, order, evidence, error = nested_sample(target, [0.0] * len(width), width, seed=seed)
    report = {
        "sampler": "dynesty",
        "n_effective": draws.n_effective,
        "sample_efficiency": draws.n_effective / (target.calls - before),
        "log_evidence": evidence,
        "log_evidence_error": error,
    }
    return draws, torch.as_tensor(order), report


def _derived(forms, values, bend=None):
    """What follows from parameters, and ``r50`` where it is given, numbers or (n,) arrays: a dict of (n,) arrays."""
    tensors = {name: torch.as_tensor(np.atleast_1d(value)) for name, value in values.items()}
    parts = [
        dict(zip(tensors, part, strict=True)) for part in zip(*(v.split(_ROWS) for v in tensors.values()), strict=True)
    ]
    bends = [None] * len(parts) if bend is None else bend.split(_ROWS)
    found = in_parallel(
        lambda part: derived(forms, part[0], r50=part[0].get("r50"), bend=part[1]),
        list(zip(parts, bends, strict=True)),
    )
    return {name: torch.cat([part[name] for part in found]).numpy() for name in found[0]}


def _equally(weights, n, generator):
    """Which draws (n,) stand for weighted ones, each as often as its weight says to within one, in random order."""
    at = (torch.arange(n) + torch.rand(1, generator=generator)).double() / n
    index = torch.searchsorted(torch.cumsum(weights, 0), at).clamp(max=len(weights) - 1)
    return index[torch.randperm(n, generator=generator)]


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


def _proposal(target, modes, x):
    """Laplace posteriors of the modes for several scatters of the light, wider ones, and the network's own."""
    args = target.likelihood, target.space, target.patches
    found = [one for mode in modes for one in laplace(*args, _SCATTERS[::3], mode.x, target.flux_prior)]
    heights = torch.tensor([one.log_posterior + 0.5 * float(torch.logdet(one.covariance)) for one in found]).double()
    # The quadratic may misjudge a height by some: none of those near the highest is left without draws.
    shares = torch.softmax(0.7 * (heights - heights.max()), 0)
    d = x.shape[1]
    floor = 1e-6 * torch.eye(d, dtype=torch.float64)
    kept = [(one, float(share)) for one, share in zip(found, shares, strict=True) if share > 0.02]
    components = [Component(one.x, one.covariance + floor, 0.7 * share, 7.0) for one, share in kept]
    components += [Component(one.x, 3 * one.covariance + floor, 0.2 * share, 4.0) for one, share in kept]
    return [*components, Component(x.median(0).values, torch.cov(x.T) + 1e-4 * torch.eye(d).double(), 0.1, 5.0)]
