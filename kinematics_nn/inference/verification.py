"""Verification: whether the error bars of one galaxy are right, in noise as it was measured and behind its own mask."""

import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import torch
from astropy.table import QTable

from ..decoder import render
from ..errors import KinematicsError
from ..methods import posterior
from ..observation.source import check_line, choose, detect
from ..options import fresh_seed
from ..results.tables import parameter_columns
from .coverage import LEVELS, rank_row, score
from .derived import derived

__all__ = ["mock_observation", "verify"]

_LEAST = 5  # mocks of which coverage can be told at all


def verify(fit, n=50, seed=None, progress=None):
    """Coverage of a fit's intervals, for galaxies like its own.

    Draws of the posterior are rendered, get noise of the correlation and the rms that were measured in the cube, and
    its blanks; they are fitted with the same forms, method and options. Where the data decide, intervals hold the draws
    as often as they say; of a parameter that the prior decides, they hold them more often, as its draws have the
    posterior's spread and not the prior's. Noise that was measured wrongly, or given, is the mocks' too.

    Parameters
    ----------
    fit : `~kinematics_nn.results.KinematicFit`
        Of `kinematics_nn.fit`.
    n : int, optional
        Mock galaxies.
    seed : int, optional
    progress : callable, optional
        Called with a line on every mock.

    Returns
    -------
    `~astropy.table.QTable`
        A row a parameter: ``parameter``, ``n``, ``in_50``, ``in_50_error`` and so on, ``p_value`` (of uniform ranks),
        ``bias`` (median error in its sigma) and ``scatter`` (of the errors in their sigma). ``meta`` has the seed,
        and what of the mocks was not fitted and why.

    Raises
    ------
    KinematicsError
        The fit does not remember its options, or too few mocks can be fitted.
    """
    if fit.options is None:
        raise KinematicsError("a fit that was put together by hand", "one of kinematics_nn.fit", "fit(cube).verify()")
    if n < _LEAST:
        raise KinematicsError(f"n={n}", f"{_LEAST} mock galaxies or more", "fit.verify(n=50)")
    seed = fresh_seed(seed)
    columns = parameter_columns(fit.forms, fit.observation.header["flux_unit"], sky=False)
    names = [name for name in columns if name not in fit.options["fixed"]]
    samples = {name: np.asarray(fit.samples[name].value) for name in columns}
    # A mock is smooth: of a galaxy whose patches of light hold much, it has the flux of the disc alone.
    samples["flux"] = samples["flux"] * fit.meta.get("disc_share", 1.0)
    rows, reasons = [], Counter()
    for k in range(n):
        rng = np.random.default_rng([seed, k])
        index = rng.integers(len(samples["vsys"]))
        truth = {name: float(values[index]) for name, values in samples.items()}
        # And its curve is of the form.
        tensors = {name: torch.tensor([value], dtype=torch.float64) for name, value in truth.items()}
        truth |= {name: float(value) for name, value in derived(fit.forms, tensors).items()}
        try:
            with warnings.catch_warnings():
                # What is said of a mock is not for the user of the galaxy.
                warnings.simplefilter("ignore")
                mock = mock_observation(fit.observation, fit.forms, truth, rng)
                found, *_ = posterior(mock, fit.forms, seed=int(rng.integers(2**31)), **fit.options)
        except (KinematicsError, RuntimeError, ArithmeticError) as error:
            reasons[type(error).__name__] += 1
            said = f"not fitted ({type(error).__name__})"
        else:
            rows.append(rank_row(found, {name: truth[name] for name in names}, rng))
            said = "fitted"
        if progress is not None:
            progress(f"mock {k + 1} of {n}: {said}")
    if len(rows) < _LEAST:
        raise KinematicsError(
            f"{len(rows)} of {n} mock galaxies could be fitted ({dict(reasons)})", "a galaxy well above the noise", None
        )
    table = QTable([_line(name, rows) for name in names])
    for name in table.colnames:
        if table[name].dtype.kind == "f":
            table[name].info.format = ".3g"
    table.meta = {"seed": seed, "n": n, "n_fitted": len(rows), "reasons": dict(reasons), "levels": list(LEVELS)}
    return table


def mock_observation(observation, forms, parameters, rng):
    """An observation of another disc, in the noise and behind the mask of this one.

    Parameters
    ----------
    observation : `~kinematics_nn.observation.Observation`
    forms : `~kinematics_nn.decoder.Forms`
    parameters : dict of str to float
        Of the disc, in arcsec, km/s and deg.
    rng : `~numpy.random.Generator`

    Returns
    -------
    `~kinematics_nn.observation.Observation`
        Its emission is found anew, as it is in a cube.

    Raises
    ------
    KinematicsError
        No emission is found.
    """
    noise = observation.correlation.draw(observation.shape, rng) * observation.rms
    data = render(observation, forms, parameters, full=False) + noise
    data = np.where(observation.valid, data, np.float32(0)).astype(np.float32)
    major, minor, _ = observation.beam
    scales = np.linalg.norm(observation.pixel_matrix, axis=0)[::-1]
    labels, rms, _, _ = detect(data, observation.valid, tuple(np.sqrt(major * minor) / scales), observation.rms)
    emission, n_sources = choose(labels, data, observation.valid, rms)
    check_line(emission, data)
    return replace(observation, data=data, emission=emission, header=observation.header | {"n_sources": n_sources})


def _line(name, rows):
    true, middle, sigma, ranks = (
        np.array([row[f"{name}_{part}"] for row in rows]) for part in ("true", "p50", "sigma", "rank")
    )
    off = np.divide(middle - true, sigma, out=np.full(len(true), np.nan), where=sigma > 0)
    return {"parameter": name, **score(ranks, off)}
