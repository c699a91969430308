"""`posterior`: the methods of a fit, behind one call."""

import numpy as np

from .options import held_values, own_priors

__all__ = ["posterior", "with_priors"]

_DRAWS = 1000  # of the network, that a refinement starts from


def posterior(
    observation,
    forms,
    *,
    method,
    n_samples,
    seed,
    device,
    weights,
    priors,
    fixed,
    min_ess,
    fallback=None,
    progress=None,
    distance=None,
):
    """The posterior of an observation, with the options of `fit`.

    Parameters
    ----------
    observation : `~kinematics_nn.observation.Observation`
    forms : `~kinematics_nn.decoder.Forms`
    method, n_samples, seed, device, weights, priors, fixed, min_ess, fallback, distance
        As `fit` takes them.
    progress : callable, optional

    Returns
    -------
    samples : dict of str to (n_samples,) array
    best : dict of str to float
        The one that stands for all.
    report : dict
        How well it was sampled: ``n_effective``, ``sample_efficiency`` and, refined, more.
    weighted : dict of str to (n,) array, or None
        The draws behind the samples, with their ``weight`` of sum one.
    """
    road, flux_unit = (_refined if method == "refined" else _network), observation.header["flux_unit"]
    return road(
        observation,
        forms,
        n_samples=n_samples,
        seed=seed,
        device=device,
        weights=weights,
        priors=own_priors(priors, forms, flux_unit, distance),
        fixed=held_values(fixed, forms, flux_unit, distance),
        min_ess=min_ess,
        fallback=fallback,
        progress=progress,
    )


def _network(observation, forms, *, n_samples, seed, device, weights, priors, **_):
    """The network alone: samples, the one that stands for all, and what to report."""
    from .inference.realisations import network_samples
    from .results.samples import nearest_median

    samples = network_samples(observation, forms, n_samples, seed=seed, device=device, weights=weights)
    samples, effective = with_priors(samples, priors, forms, observation, seed)
    report = {"n_effective": effective, "sample_efficiency": effective / n_samples}
    return samples, nearest_median(samples), report, None


def _refined(observation, forms, *, n_samples, seed, device, weights, priors, fixed, min_ess, fallback, progress):
    """The network's answer, refined: samples, the highest of them, what to report, and the draws with their weights."""
    from .inference.realisations import network_samples
    from .inference.refined import refined_posterior

    draws = network_samples(observation, forms, _DRAWS, seed=seed, device=device, weights=weights)
    samples, weighted, report, best = refined_posterior(
        observation,
        forms,
        draws,
        n_samples=n_samples,
        min_ess=min_ess,
        seed=seed,
        fixed=fixed,
        priors=priors,
        fallback=fallback,
        progress=progress,
    )
    return samples, best, report, weighted


def with_priors(samples, priors, forms, observation, seed):
    """Samples resampled to the user's priors, and their effective number."""
    from .inference.diagnosis import form_priors
    from .inference.priors import prior_weights

    n = len(samples["vsys"])
    if not priors:
        return samples, float(n)
    weight = prior_weights(samples, priors, form_priors(observation, forms, samples))
    index = np.random.default_rng(seed).choice(n, n, p=weight)
    return {name: values[index] for name, values in samples.items()}, float(1 / np.sum(weight**2))
