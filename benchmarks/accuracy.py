"""
One table of accuracy and coverage on the galaxies of `kinms_galaxies`, for any of the methods.

``python benchmarks/accuracy.py FOLDER --method network moments least_squares`` prints, for each parameter, the median
and the 90th percentile of the absolute error (relative where the table says %), the bias (the median of the signed
error), and, for methods that give samples, how often central intervals of 50, 68 and 95 % hold the truth. The error of
a median is half the distance between the order statistics that enclose it with 68 % probability; that of a coverage is
binomial. The point estimate of a method with samples is their median.
"""

import argparse
import time
import warnings
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.table import QTable
from baselines import fit_least_squares, moment_guess, moment_maps
from kinms_galaxies import UNITS, make_galaxies, read_cube
from scipy.stats import binom

__all__ = ["METHODS", "measure", "score"]

LEVELS = (50, 68, 95)
# name -> is the error relative to the truth?
PARAMETERS = {
    "inclination": False, "pa": False, "x": False, "y": False, "vsys": False, "v22_sini": True, "v22": True,
    "vmax": True, "r_turn": True, "r_scale": True, "velocity_dispersion": True, "thickness": False, "flux": True,
}  # fmt: skip


def network(cube, truth, seed, method="network"):
    """`kinematics_nn.fit` as a user calls it: nothing of the truth goes in."""
    import kinematics_nn

    return _samples(kinematics_nn.fit(cube, method=method, seed=seed))


def maps(cube, truth, seed, with_light=True):
    """`kinematics_nn.fit_maps` of the cube's moments."""
    import kinematics_nn

    moment0, moment1 = moment_maps(cube)
    return _samples(kinematics_nn.fit_maps(moment1, moment0 if with_light else None, seed=seed))


def velocity_field(cube, truth, seed):
    """The same of moment 1 alone: what it says of the light is its prior."""
    return maps(cube, truth, seed, with_light=False)


def _samples(fit):
    samples = {}
    for name in PARAMETERS:
        # Without moment 0 the flux is in arcsec2.
        if name in fit.samples.colnames and fit.samples[name].unit.is_equivalent(UNITS[name]):
            samples[name] = u.Quantity(fit.samples[name]).to_value(UNITS[name])
    return samples


def refined(cube, truth, seed):
    return network(cube, truth, seed, method="refined")


def moments(cube, truth, seed):
    return moment_guess(cube)


def least_squares(cube, truth, seed):
    return fit_least_squares(cube, truth["rms"].to_value(u.Jy / u.beam))


METHODS = {
    "network": network, "refined": refined, "maps": maps, "velocity_field": velocity_field, "moments": moments,
    "least_squares": least_squares,
}  # fmt: skip


def errors(name, values, truth):
    """Values less the truth: the position angle wrapped to +-180 deg, relative where `PARAMETERS` says so."""
    difference = np.asarray(values) - truth
    if name == "pa":
        return (difference + 180) % 360 - 180
    return difference / truth if PARAMETERS[name] else difference


def measure(method, paths, truths):
    """
    Run a method over the galaxies.

    Returns
    -------
    rows : list of dict
        One a galaxy that was fitted: for each parameter the signed error `name`, and `name_rank`, the share of samples
        below the truth, for methods that have samples.
    failures : list of (path, Exception)
    seconds : ndarray
        The wall time of each fit.
    """
    rows, failures, seconds = [], [], []
    for number, (path, truth) in enumerate(zip(paths, truths, strict=True)):
        cube = read_cube(path)
        start = time.perf_counter()
        try:
            fit = METHODS[method](cube, truth, number)
        except (ValueError, RuntimeError, ArithmeticError) as error:  # a galaxy refused or failed is a row of its own
            failures.append((path, error))
            continue
        seconds.append(time.perf_counter() - start)
        row = {"file": path.name}
        for name in PARAMETERS:
            if name not in fit:
                continue
            off = errors(name, fit[name], truth[name].to_value(UNITS[name]))
            row[name] = float(np.median(off))
            if off.ndim:
                # Among equal samples (a scale height may be exactly 0) the rank nearest to the middle: intervals are
                # closed, and hold a truth that is one of their ends.
                row[f"{name}_rank"] = float(np.clip(0.5, (off < 0).mean(), (off <= 0).mean()))
        rows.append(row)
    return rows, failures, np.array(seconds)


def median_error(values):
    """The 1-sigma error of a median, from order statistics: (n,) -> float."""
    ordered = np.sort(values)
    low, high = binom.interval(0.6827, len(ordered), 0.5)
    return (ordered[min(int(high), len(ordered) - 1)] - ordered[int(low)]) / 2


def score(rows):
    """The table of a method: a row a parameter."""
    table = []
    for name, relative in PARAMETERS.items():
        signed = np.array([row[name] for row in rows if name in row])
        if not signed.size:
            continue
        factor, unit = (100, "%") if relative else (1, str(UNITS[name]))
        size = factor * abs(signed)
        line = {
            "parameter": name,
            "unit": unit,
            "n": len(size),
            "median": f"{np.median(size):.2f}±{median_error(size):.2f}",
            "p90": f"{np.percentile(size, 90):.2f}",
            "bias": f"{factor * np.median(signed):+.2f}",
        }
        ranks = np.array([row[f"{name}_rank"] for row in rows if f"{name}_rank" in row])
        for level in LEVELS:
            if ranks.size:
                held = (abs(ranks - 0.5) < level / 200).mean()
                spread = np.sqrt(level / 100 * (1 - level / 100) / len(ranks))
                line[f"{level} %"] = f"{100 * held:.0f}±{100 * spread:.0f}"
            else:
                line[f"{level} %"] = "-"
        table.append(line)
    return QTable(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="made by kinms_galaxies.py, or filled now")
    parser.add_argument("--method", nargs="+", choices=METHODS, default=["network", "moments", "least_squares"])
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1, help="of the set")
    parser.add_argument("--snr", type=float, nargs=2, default=(0, np.inf), help="peak of the galaxies that are taken")
    parser.add_argument("--output", type=Path, help="folder for one table of errors and ranks a method (ECSV)")
    options = parser.parse_args()
    # What is said of single galaxies (low S/N, unresolved) is for their user; the table counts what came of it.
    warnings.simplefilter("ignore")
    paths, truths = make_galaxies(options.n, options.seed, options.folder)
    taken = [options.snr[0] <= float(truth["snr"]) <= options.snr[1] for truth in truths]
    paths, truths = [path for path, its in zip(paths, taken, strict=True) if its], truths[taken]
    for method in options.method:
        rows, failures, seconds = measure(method, paths, truths)
        print(f"\n{method}: {len(rows)} of {len(paths)} galaxies", end="")
        if len(rows):
            print(f", {np.median(seconds):.2f} s each (median wall time; 95 %: {np.percentile(seconds, 95):.2f} s)\n")
            print("\n".join(score(rows).pformat(max_lines=-1, max_width=-1, align=["<", "<", *[">"] * 7])))
        for path, error in failures:
            print(f"{path.name}: {type(error).__name__}: {error}")
        if options.output:
            options.output.mkdir(parents=True, exist_ok=True)
            QTable(rows).write(options.output / f"{method}.ecsv", overwrite=True)


if __name__ == "__main__":
    main()
