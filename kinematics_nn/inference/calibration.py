"""Calibration: whether posteriors are right, over many galaxies with truths from the fit's own prior."""

import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack

from ..errors import KinematicsError
from ..results.files import read_table, whole_file, write_table
from ..results.tables import decode_flags, encode_flags, parameter_columns
from .broken import break_mock
from .coverage import coverage_table, error_table, rank_row
from .diagnosis import beams_across
from .mock import GALAXIES, draw_mock, observe_mock
from .mock_files import kept_cube
from .troubled import trouble_mock
from .varied import vary_mock

__all__ = ["BINNED_BY", "CHUNK", "calibrate", "read_rows", "report", "write_report"]

CHUNK = 10
"""Galaxies in a part file."""

BINNED_BY = {"inclination": "deg", "snr": "", "beams": ""}
"""What fits report and coverage is binned by, and its unit: never the truth, by which right posteriors look wrong."""


def calibrate(
    folder,
    *,
    galaxies="own",
    method="refined",
    n=1000,
    seed=1,
    shard=(0, 1),
    forms=None,
    options=None,
    keep=None,
    progress=None,
):
    """Fit mock galaxies, or a shard of them, and leave a part file for every ten.

    A galaxy follows from ``seed`` and its number alone, whatever the shards. What is complete is not done again.

    Parameters
    ----------
    folder : path
        Of one run; parts are in ``parts/``.
    galaxies : {"own", "kinms", "broken", "varied", "troubled"}
        Whose code renders them; the broken ones are our own, and not what they are fitted with; the varied ones are
        KinMS's, over all that the network is to serve, and half of them of other forms; the troubled ones are such with
        uneven light, warps and flawed cubes, as often as the network's training has them.
    method : {"refined", "network"}
    n : int
        Galaxies of the run, all shards together. A later run may have more.
    seed : int
    shard : (int, int)
        Which, from 0, of how many.
    forms : dict, optional
        Slot to form, of the galaxies and of the fits; arctan, exponential and constant by default. Varied galaxies are
        drawn about the default ones whatever these are, and troubled ones too.
    options : dict, optional
        More arguments of `kinematics_nn.fit`.
    keep : path, optional
        Folder of the cubes: those that are there are fitted, and the others rendered and kept there. KinMS takes
        seconds for a cube, the network a part of one.
    progress : callable, optional
        Called with a line on every part.

    Raises
    ------
    KinematicsError
        The folder holds another run, or truths would not be drawn from the priors of the fits.
    """
    import kinematics_nn

    from ..network.weights import weights_info

    if galaxies not in GALAXIES:
        raise KinematicsError(f"galaxies={galaxies!r}", f"one of {GALAXIES}", 'calibrate(galaxies="own")')
    if not 0 <= shard[0] < shard[1]:
        raise KinematicsError(f"shard {shard[0] + 1}/{shard[1]}", "i/N with i from 1 to N", "--shard 1/4")
    if n < 1:
        raise KinematicsError(f"n={n}", "galaxies, 1 or more", "--n 1000")
    forms, options = _forms(forms), dict(options or {})
    for name in ("fixed", "priors", "thickness"):
        if options.get(name) is not None:
            raise KinematicsError(
                f"a calibration with {name}=", "the default priors, which truths are drawn with", "fit.verify()"
            )
    run = {
        "galaxies": galaxies, "method": method, "seed": int(seed),
        "forms": {slot: getattr(forms, slot).name for slot in forms.slots},
        "options": {name: repr(value) for name, value in options.items()},
        "weights": weights_info(options.get("weights", "default"))["sha256"][:12],
        "version": kinematics_nn.__version__,
    }  # fmt: skip
    (Path(folder) / "parts").mkdir(parents=True, exist_ok=True)
    done = {path: read_table(path) for path in _parts(folder)}
    _check_run(done, run)
    arguments = {"method": method, **options}
    for path, numbers in _blocks(folder, n)[shard[0] :: shard[1]]:
        # The last part of a run that was shorter holds the first galaxies of its ten.
        there = done.get(path)
        missing = [number for number in numbers if there is None or number not in there["number"]]
        if not missing:
            continue
        rows = [_galaxy(number, galaxies, forms, seed, keep, arguments) for number in missing]
        table = Table(rows)
        if progress is not None:
            fitted = sum(row["status"] == "ok" for row in rows)
            progress(f"{path.name}: {fitted} of {len(rows)} fitted, {np.median(table['seconds']):.1f} s each")
        if there is not None:
            table = vstack([there, table], metadata_conflicts="silent")
        table.meta["run"] = run
        write_table(table, path, overwrite=True)


def read_rows(folder):
    """The galaxies of a run that are done: a Table with a row a galaxy, and in ``meta`` the run.

    Raises
    ------
    KinematicsError
        There are none, or those of several runs.
    """
    paths = _parts(folder)
    if not paths:
        raise KinematicsError(f"no galaxies in {folder}", "those of a run", "kinematics-nn calibrate --out FOLDER")
    tables = {path: read_table(path) for path in paths}
    run = tables[paths[0]].meta["run"]
    _check_run(tables, run)
    rows = vstack(list(tables.values()), metadata_conflicts="silent")
    rows.meta = {"run": run}
    return rows


def report(rows, least=150):
    """Coverage of a run's galaxies.

    Parameters
    ----------
    rows : `~astropy.table.Table`
        As `read_rows` gives them.
    least : int, optional
        Galaxies in a bin, at least.

    Returns
    -------
    `~astropy.table.Table`
        As of `coverage_table`; ``meta`` counts what was drawn, fitted, refused and flagged, and has the lines of
        `~kinematics_nn.inference.coverage.error_table` as ``errors``.
    """
    fitted = rows[rows["status"] == "ok"]
    if not len(fitted):
        raise KinematicsError("no galaxy that was fitted", "some", None)
    parameters = [name.removesuffix("_rank") for name in rows.colnames if name.endswith("_rank")]
    table = coverage_table(fitted, parameters, tuple(BINNED_BY), least)
    reasons = Counter(str(row["message"]).split(":")[0] for row in rows[rows["status"] != "ok"])
    flags = Counter(name for value in fitted["flags"] for name in decode_flags(int(value)))
    table.meta = rows.meta | {
        "n_drawn": len(rows),
        "n_fitted": len(fitted),
        "reasons": dict(reasons.most_common()),
        "flags": dict(flags.most_common()),
        "errors": error_table(fitted),
        "seconds": float(np.median(fitted["seconds"])),
        "efficiency": float(np.median(fitted["sample_efficiency"])),
    }
    return table


def write_report(rows, folder, least=150):
    """Write ``galaxies.ecsv``, ``coverage.ecsv``, ``coverage.inc`` (reStructuredText) and ``coverage.png``.

    Returns
    -------
    list of Path
    """
    import matplotlib.pyplot as plt

    from ..results.calibration import as_rst, plot_calibration

    folder, table = Path(folder), report(rows, least)
    names = ("galaxies.ecsv", "coverage.ecsv", "coverage.inc", "coverage.png")
    paths = [folder / name for name in names]
    write_table(rows, paths[0], overwrite=True)
    write_table(table, paths[1], overwrite=True)
    with whole_file(paths[2], overwrite=True) as partial:
        partial.write_text(as_rst(table))
    figure = plot_calibration(rows, table)
    with whole_file(paths[3], overwrite=True) as partial:
        figure.savefig(partial, dpi=200)
    plt.close(figure)
    return paths


_DRAWS = {
    "broken": break_mock,
    "varied": vary_mock,
    "troubled": trouble_mock,
}  # of a generator and the forms of the fit


def _galaxy(number, galaxies, forms, seed, keep, options):
    """A row: a galaxy drawn, observed, fitted and held against its truth, or why not."""
    import kinematics_nn

    draws = np.random.default_rng([seed, number, 0])
    drawn = _forms(None) if galaxies in ("varied", "troubled") else forms
    mock = _DRAWS[galaxies](draws, drawn) if galaxies in _DRAWS else draw_mock(draws, drawn, galaxies)
    names = [name for name in _names(drawn) if name in mock.truth]
    rng = np.random.default_rng([seed, number, 1])
    row = {"number": number, "noise": mock.noise, "spectral": mock.spectral, "kind": getattr(mock, "how", galaxies)}
    row["channel"] = float(mock.channel)
    row |= {f"{name}_true": float(value) for name, value in mock.truth.items()}
    unknown = dict.fromkeys(("seconds", *BINNED_BY, *_FACTS), np.nan)
    if keep is None:
        cube, rms = observe_mock(mock, rng, drawn, galaxies)
    else:
        cube, rms = kept_cube(Path(keep) / f"{galaxies}-{seed}-{number:06d}.fits", mock, rng, drawn, galaxies)
    rng = np.random.default_rng([seed, number, 2])  # the same whether the cube was rendered or read
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            # What is said of a galaxy is for its user; here it is one of many.
            warnings.simplefilter("ignore")
            slots = {slot: getattr(forms, slot) for slot in forms.slots}
            fit = kinematics_nn.fit(cube, **slots, seed=int(rng.integers(2**31)), **options)
    except Exception as error:  # whatever it is, it is this galaxy's row, and counted
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        status = "refused" if isinstance(error, KinematicsError) else "failed"
        unknown["seconds"] = time.perf_counter() - start
        return row | unknown | {"flags": 0, "status": status, "message": said} | _no_ranks(names)
    seconds = time.perf_counter() - start
    observation = fit.observation
    samples = {name: np.asarray(fit.samples[name].value) for name in names}
    row |= {"seconds": seconds, "inclination": float(np.median(samples["inclination"]))}
    row["snr"] = float((observation.data / observation.rms)[observation.emission].max())
    row["beams"] = float(beams_across(observation, fit.best_values, fit.forms))
    row |= {name: float(fit.meta.get(name, np.nan)) for name in _FACTS}
    row |= {"flags": encode_flags(fit.flags), "status": "ok", "message": "-"}
    return row | rank_row(samples, mock.truth, rng) | {"rms_true": rms}


_FACTS = ("reduced_chi2", "n_effective", "sample_efficiency", "pareto_k", "light_scatter", "curve_scatter", "misfit")


def _names(forms):
    """Columns that are held against truths."""
    return [name for name in parameter_columns(forms, "Jy km/s") if name not in ("ra", "dec", "east", "north")]


def _no_ranks(names):
    return {f"{name}_{part}": np.nan for name in names for part in ("p50", "sigma", "rank")} | {"rms_true": np.nan}


def _parts(folder):
    """Paths of the parts of a run that are there."""
    return sorted((Path(folder) / "parts").glob("[0-9]*.ecsv"))  # and none that is being written


def _blocks(folder, n):
    """Paths of all parts of a run of n galaxies, there or not, and the numbers of their galaxies."""
    return [
        (Path(folder) / "parts" / f"{first:06d}-{first + CHUNK - 1:06d}.ecsv", range(first, min(first + CHUNK, n)))
        for first in range(0, n, CHUNK)
    ]


def _check_run(tables, run):
    """Refuse tables, a dict of path to `~astropy.table.Table`, of another run."""
    for path, table in tables.items():
        found = table.meta.get("run") or {}
        other = [name for name in {**found, **run} if found.get(name) != run.get(name)]
        if other:
            theirs, ours = (", ".join(f"{name}={of.get(name)!r}" for name in other) for of in (found, run))
            raise KinematicsError(f"{path} of another run, with {theirs}", ours, "another folder, --out")


def _forms(given):
    from ..decoder import Forms
    from ..forms import get_form

    names = {"rotation_curve": "arctan", "surface_brightness": "exponential", "velocity_dispersion": "constant"}
    return Forms(**{slot: get_form(name, slot) for slot, name in (names | dict(given or {})).items()})
