"""The refined posterior: the network's answer polished on the cube, and weighed by what the exact likelihood says."""

import math

import numpy as np
import torch

from .cores import an_item_a_core, in_parallel
from .derived import derived
from .free_curve import N_NODES, free_curve
from .importance import Component, flattened, sample
from .light import SCATTERS
from .misfit import misfit, widened
from .modes import find_modes
from .nested import nested_sample
from .refinement import laplace
from .space import PA_UNIT
from .surrogate import Thinned, least_models
from .two_phase import TwoPhaseDraws, least_draws, two_phase

__all__ = ["is_short", "refined_posterior"]

_ROWS = 2000  # of which columns are derived at a time


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
    # Their light is that of the patches, and not moved.
    values = target.values(target.space.parameters(draws.x), *drawn, generator)
    moved = dict(zip(target.space.names, target.space.parameters(x).T.numpy(), strict=True))
    del moved["flux"]
    values |= moved
    flux, log_r50 = (float(weights.numpy() @ of) for of in (values["flux"], np.log(values["r50"])))
    _widen_flux(values, flux, report["misfit"])
    values["r50"] = np.exp(log_r50 + report["misfit"] * (np.log(values["r50"]) - log_r50))
    further = _derived(forms, values, bend)
    values |= further
    chosen = _equally(weights, n_samples, generator).numpy()
    samples = {name: of[chosen] for name, of in (values | {"bend": bend.numpy()}).items()}
    weighted = values | {"weight": draws.weights.numpy()}
    del weighted["flux_of_disc"]
    best |= {name: float(values[0]) for name, values in _derived(forms, best).items()}
    report |= {
        "light_scatter": float(np.median(samples.pop("light_scatter"))),
        "curve_scatter": float(np.median(scatter.numpy()[chosen])),
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


def _proposal(target, modes, x):
    """Laplace posteriors of the modes for several scatters of the light, wider ones, and the network's own."""
    args = target.likelihood, target.space, target.patches
    found = [one for mode in modes for one in laplace(*args, SCATTERS[::3], mode.x, target.flux_prior)]
    heights = torch.tensor([one.log_posterior + 0.5 * float(torch.logdet(one.covariance)) for one in found]).double()
    # The quadratic may misjudge a height by some: none of those near the highest is left without draws.
    shares = torch.softmax(0.7 * (heights - heights.max()), 0)
    d = x.shape[1]
    floor = 1e-6 * torch.eye(d, dtype=torch.float64)
    kept = [(one, float(share)) for one, share in zip(found, shares, strict=True) if share > 0.02]
    components = [Component(one.x, one.covariance + floor, 0.7 * share, 7.0) for one, share in kept]
    components += [Component(one.x, 3 * one.covariance + floor, 0.2 * share, 4.0) for one, share in kept]
    return [*components, Component(x.median(0).values, torch.cov(x.T) + 1e-4 * torch.eye(d).double(), 0.1, 5.0)]
