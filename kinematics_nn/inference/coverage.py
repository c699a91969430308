"""Whether error bars are right: ranks of truths among samples, and how often intervals hold them."""

import numpy as np
from astropy.table import Table
from scipy.stats import binom, kstest

from ..results.tables import KinematicFlags

__all__ = [
    "FACE_ON",
    "LEVELS",
    "coverage",
    "coverage_table",
    "equal_bins",
    "error_table",
    "rank_row",
    "score",
    "SEEN_WELL",
]

LEVELS = (50, 68, 95)
"""Per cent that intervals are to hold."""

SEEN_WELL = {"snr": 8.0, "beams": 4.0}
"""What a fit reports at least of a galaxy whose error is counted."""

FACE_ON = 30.0
"""Inclination [deg] that a fit reports below which its bias is looked at."""

_ERRORS = {"inclination": "deg", "pa": "deg", "v22_sini": "%", "v22": "%", "r50": "%", "vsys": "channel or line"}


def rank_row(samples, truth, rng):
    """What a galaxy's samples say of its truths.

    The rank is the share of samples below the truth (Cook, Gelman & Rubin 2006, J. Comput. Graph. Stat. 15, 675;
    Talts et al. 2018, arXiv:1804.06788): uniform where posteriors are right. Where samples equal the truth, as the
    scale heights of infinitely thin discs do, it is drawn from between the share below and that not above it, which
    keeps it uniform.

    Parameters
    ----------
    samples : dict of str to (n,) array
    truth : dict of str to float
    rng : `~numpy.random.Generator`

    Returns
    -------
    dict
        For each name in both: ``name_true``, ``name_p50``, ``name_sigma`` (half of the central 68 %) and
        ``name_rank``. Position angles are on the turn that is nearest to the truth.
    """
    row = {}
    for name, value in truth.items():
        if name not in samples:
            continue
        values = np.asarray(samples[name], dtype=float)
        if name == "pa":
            values = value + (values - value + 180) % 360 - 180
        low, middle, high = np.percentile(values, [16, 50, 84])
        row |= {
            f"{name}_true": float(value),
            f"{name}_p50": float(middle),
            f"{name}_sigma": float((high - low) / 2),
            f"{name}_rank": float(np.mean(values < value) + rng.uniform() * np.mean(values == value)),
        }
    return row


def coverage(ranks, level):
    """Share of truths that lie in the central interval of ``level`` per cent, and the binomial error of a right one."""
    right = level / 100
    return float(np.mean(abs(np.asarray(ranks) - 0.5) <= right / 2)), float(np.sqrt(right * (1 - right) / len(ranks)))


def score(ranks, off):
    """What ranks (n,) and errors over their sigma ``off`` (n,) come to.

    Returns
    -------
    dict
        ``n``; for each level ``in_50`` and ``in_50_error`` and so on; ``p_value``, that of a Kolmogorov-Smirnov test of
        uniform ranks; ``bias``, the median of ``off``, and ``scatter``, 1.4826 times the median distance from it, which
        is 1 where errors are as large as they say.
    """
    found = {"n": len(ranks)}
    for level in LEVELS:
        found[f"in_{level}"], found[f"in_{level}_error"] = coverage(ranks, level)
    found["p_value"] = float(kstest(ranks, "uniform").pvalue)
    finite = off[np.isfinite(off)]
    found["bias"] = float(np.median(finite)) if finite.size else np.nan
    found["scatter"] = float(1.4826 * np.median(abs(finite - found["bias"]))) if finite.size else np.nan
    return found


def equal_bins(values, least):
    """Indices of the finite values in bins of equal count, ascending, each of ``least`` or more; at most six bins."""
    finite = np.flatnonzero(np.isfinite(values))
    order = finite[np.argsort(np.asarray(values)[finite], kind="stable")]
    return np.array_split(order, int(np.clip(len(order) // least, 1, 6)))


def coverage_table(rows, parameters, by=(), least=150):
    """Coverage by parameter, of all galaxies and in bins of what their fits report.

    Parameters
    ----------
    rows : `~astropy.table.Table`
        Of `rank_row`, those that were fitted.
    parameters : list of str
    by : tuple of str, optional
        Columns to bin by.
    least : int, optional
        Galaxies in a bin, at least.

    Returns
    -------
    `~astropy.table.Table`
        ``parameter``, ``by`` ("all" or a column), ``low`` and ``high`` (of the bin), and the columns of `score`.
    """
    lines = []
    for column in ("all", *by):
        values = None if column == "all" else np.asarray(rows[column], dtype=float)
        bins = [np.arange(len(rows))] if values is None else equal_bins(values, least)
        for index in bins:
            ends = (np.nan, np.nan) if values is None else (float(values[index[0]]), float(values[index[-1]]))
            for name in parameters:
                true, middle, sigma, ranks = (
                    np.asarray(rows[f"{name}_{part}"], dtype=float)[index] for part in ("true", "p50", "sigma", "rank")
                )
                off = np.divide(middle - true, sigma, out=np.full(len(true), np.nan), where=sigma > 0)
                lines.append({"parameter": name, "by": column, "low": ends[0], "high": ends[1], **score(ranks, off)})
    return Table(lines)


def error_table(rows):
    """Median errors of galaxies that are `SEEN_WELL`, and the bias of those near to face-on.

    Parameters
    ----------
    rows : `~astropy.table.Table`
        Of `rank_row`, those that were fitted, with what the fits report: ``inclination`` [deg], ``snr``, ``beams``; and
        with the width ``channel`` [km/s]. With ``flags``, lines that the band holds are counted apart.

    Returns
    -------
    list of dict
        ``parameter``, ``unit``, ``of`` ("seen well", "seen whole": well and not ``BAND_EDGE``, or "near face-on"),
        ``n``, and of the medians of the galaxies ``median``, the median of the absolute errors, or near face-on that of
        the signed errors over sigma, and its ``error``. The unit of ``vsys`` is the larger of a channel and the true
        line width, w50.
    """
    well = np.logical_and.reduce([np.asarray(rows[name], dtype=float) >= least for name, least in SEEN_WELL.items()])
    near = np.asarray(rows["inclination"], dtype=float) < FACE_ON
    lines = []
    for name, unit in _ERRORS.items():
        if f"{name}_rank" not in rows.colnames or (name == "vsys" and "channel" not in rows.colnames):
            continue
        middle, true, sigma = (np.asarray(rows[f"{name}_{part}"], dtype=float) for part in ("p50", "true", "sigma"))
        scale = 0.01 * true if unit == "%" else 1.0
        if name == "vsys":
            scale = np.maximum(rows["channel"], rows["w50_true"])
        off = abs(middle - true) / scale
        lines.append({"parameter": name, "unit": unit, "of": "seen well", **_median(off[well])})
        if "flags" in rows.colnames and name in ("v22", "v22_sini"):
            cut = np.asarray(rows["flags"], dtype=int) & int(KinematicFlags.BAND_EDGE) > 0
            lines.append({"parameter": name, "unit": unit, "of": "seen whole", **_median(off[well & ~cut])})
        if name == "inclination":
            lines.append(
                {"parameter": name, "unit": "sigma", "of": "near face-on", **_median(((middle - true) / sigma)[near])}
            )
    return lines


def _median(values):
    """A median and its error, half the distance between the order statistics that hold it with 68 % probability."""
    ordered = np.sort(values[np.isfinite(values)])
    if not ordered.size:
        return {"n": 0, "median": np.nan, "error": np.nan}
    low, high = (int(k) for k in binom.interval(0.6827, ordered.size, 0.5))
    error = float(ordered[min(high, ordered.size - 1)] - ordered[low]) / 2
    return {"n": int(ordered.size), "median": float(np.median(ordered)), "error": error}
