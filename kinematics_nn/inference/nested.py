"""Nested sampling by dynesty: slow, and independent of what was found before."""

import math
import warnings

import numpy as np
import torch

from ..errors import KinematicsError
from .importance import WeightedDraws

__all__ = ["nested_sample", "need_dynesty"]


def need_dynesty():
    """The package dynesty, or what to do where it is not installed."""
    try:
        import dynesty
    except ImportError as error:
        raise KinematicsError(
            "dynesty is not installed", "that package", 'pip install "kinematics_nn[nested]"'
        ) from error
    return dynesty


def nested_sample(log_target, mean, std, *, seed, n_live=400, dlogz=0.1):
    """Draws of a posterior by nested sampling (Speagle 2020, MNRAS 493, 3132).

    Live points start from independent normals and climb in the ratio of the posterior to those, which leaves posterior
    and evidence what they are (Chen, Feroz & Hobson 2022, Bayesian Anal. 18, 3): wide ones cost more, and narrow ones
    miss what lies beyond them.

    Parameters
    ----------
    log_target : callable
        Log posterior (n,), unnormalised, of variates (n, d).
    mean, std : array_like, shape (d,)
        Of the normals; 0 and 1 are the prior itself.
    seed : int
    n_live : int, optional
        Live points; the error of the evidence goes as their inverse root.
    dlogz : float, optional
        What may be missing of the log evidence.

    Returns
    -------
    draws : WeightedDraws
    order : ndarray of int (n,)
        The number of the call, from 0, that each of them was the argument of.
    log_evidence, error : float
    """
    dynesty = need_dynesty()
    mean, std = (np.asarray(values, dtype=np.float64) for values in (mean, std))
    calls = 0
    norm = float(np.log(std).sum()) + 0.5 * len(mean) * math.log(2 * math.pi)

    def transform(share):
        # An edge of the unit cube would be infinite.
        share = torch.as_tensor(share).clamp(1e-12, 1 - 1e-12)
        return mean + std * torch.special.ndtri(share).numpy()

    def ratio(x):
        nonlocal calls
        value = float(log_target(torch.as_tensor(x)[None]))
        calls += 1
        value += 0.5 * float((((x - mean) / std) ** 2).sum()) + norm
        return (value if math.isfinite(value) else -1e300), np.int64(calls - 1)

    with warnings.catch_warnings():
        # Of bounds that fit badly, which cost time alone.
        warnings.simplefilter("ignore", UserWarning)
        sampler = dynesty.NestedSampler(
            ratio, transform, len(mean), nlive=n_live, rstate=np.random.default_rng(seed), blob=True
        )
        sampler.run_nested(dlogz=dlogz, print_progress=False)
    found = sampler.results
    x = torch.as_tensor(found.samples)
    log_weight = torch.as_tensor(found.logwt)
    away = (((x - torch.as_tensor(mean)) / torch.as_tensor(std)) ** 2).sum(1)
    log_target_there = torch.as_tensor(found.logl) - 0.5 * away - norm
    draws = WeightedDraws(x, log_target_there, log_weight + math.log(len(x)))
    return draws, np.asarray(found.blob).astype(int).ravel(), float(found.logz[-1]), float(found.logzerr[-1])
