"""
Errors against the least that the noise allows: the Cramér-Rao bound of each galaxy of `kinms_galaxies`.

``python benchmarks/cramer_rao.py FOLDER --method network refined --n 100`` takes galaxies of a peak of 8 times the
noise or more and inclinations of 30° to 75°. The bound is the inverse of the Fisher matrix at the truth, with the
true covariance of the noise (white noise that the beam has smoothed), every parameter free, flux and thickness too,
and no priors. The model depends on the scale height by its square, which cannot be negative: near 0 the bound of the
height itself means nothing, and it is scored where discs are thick. The other parameters are always those of a free
height: thinner discs have the Fisher matrix at a twentieth of the scale length, where it moves the cube in the same
direction.

Printed by parameter: the median bound; 1.4826 times the median of ``|error| / bound``, which is 1 where errors are as
small as the noise allows, and no less but by priors, as that of a height above 0; ``|error| / width``, which is 1 where
errors are what the posterior says; and reported widths (half of the central 68 %) over the bound, their median and 90th
percentile. Errors are of the samples' median.

``--method step`` is no fit: it is one Gauss-Newton step from the truth, as good an estimate as the noise allows. Its
errors are 1 of the bound where the bound is right, and else tell the luck of the noise that was drawn.

``--method mirror`` and ``--method disc`` are no fits either, but what the network is told: where its frame says that
the galaxy lies, by the step against its mirror average and by that against the disc that is fitted to the average.

A galaxy's fit leaves a small table in ``FOLDER/cramer_rao``, which is read the next time; ``--again`` fits anew.
"""

import argparse
import time
import warnings
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import numpy as np
import torch
from astropy.coordinates import SkyCoord
from astropy.table import QTable, Table
from kinms_galaxies import PIXEL, UNITS, draw_truth, make_galaxy, read_cube

import kinematics_nn
from kinematics_nn.decoder import Forms
from kinematics_nn.errors import KinematicsError
from kinematics_nn.forms import get_form
from kinematics_nn.inference.derived import derived
from kinematics_nn.inference.likelihood import CubeLikelihood
from kinematics_nn.network.frame import FACTS, make_frame
from kinematics_nn.network.prepare import prepare
from kinematics_nn.observation import observe
from kinematics_nn.observation.correlation import beam_covariance, known_correlation

__all__ = ["bounds", "chosen", "fisher", "step", "true_observation"]

FORMS = Forms(
    get_form("arctan", "rotation_curve"),
    get_form("exponential", "surface_brightness"),
    get_form("constant", "velocity_dispersion"),
)
LEAST_SNR, INCLINATIONS = 8.0, (30.0, 75.0)
LEAST_HEIGHT = 0.05  # of r_scale, at which the Fisher matrix of thinner discs is taken
METHODS = ("step", "network", "refined")
ESTIMATES = ("mirror", "disc")  # of the frame
THICK = 0.1  # of r_scale: thinner ones' heights are not scored
SHOWN = (
    "inclination", "pa", "x", "y", "vsys", "flux", "velocity_dispersion", "vmax", "r_turn", "r_scale", "v22",
    "v22_sini", "thickness",
)  # fmt: skip


def fisher(likelihood, parameters):
    """Fisher matrix (n_parameters, n_parameters) of a `CubeLikelihood` at parameters (n_parameters,)."""
    _, slopes = likelihood.white_jacobian(parameters[None])
    slopes = slopes[0].double()
    return (slopes @ slopes.T).numpy()


def inverse(matrix):
    """Of a Fisher matrix, whose parameters differ by their units."""
    scale = np.sqrt(np.diag(matrix))
    return np.linalg.inv(matrix / np.outer(scale, scale)) / np.outer(scale, scale)


def bounds(likelihood, truth):
    """Cramér-Rao bounds: a dict of the standard deviations of the parameters, of x and y, and of v22 and v22_sini.

    Parameters
    ----------
    likelihood : CubeLikelihood
        With the noise's true covariance.
    truth : dict
        Parameter to its value, in the likelihood's units.
    """
    vector = _vector(truth, LEAST_HEIGHT)
    return _named(vector, inverse(fisher(likelihood, vector)), lambda slopes, of: np.sqrt(slopes @ of @ slopes))


def step(likelihood, truth):
    """Errors of the best estimator there is, one Gauss-Newton step from the truth: a dict as that of `bounds`."""
    vector = _vector(truth, LEAST_HEIGHT)
    _, slopes = likelihood.white_jacobian(vector[None])
    rest = (likelihood.data - likelihood.white(_vector(truth)[None])[0]).double()
    moved = inverse(fisher(likelihood, vector)) @ (slopes[0].double() @ rest).numpy()
    return _named(vector, moved, lambda slopes, of: slopes @ of)


def _vector(truth, least_height=0.0):
    at = truth | {"thickness": max(truth["thickness"], least_height * truth["r_scale"])}
    return torch.tensor([at[name] for name in FORMS.parameter_names], dtype=torch.float64)


def _named(vector, of, carried):
    """What ``carried`` makes of something by parameter, for the parameters and for what follows from them."""

    def speeds(vector):
        values = derived(FORMS, dict(zip(FORMS.parameter_names, vector[:, None], strict=True)))
        return torch.cat([values["v22"], values["v22_sini"]])

    slopes = dict(zip(FORMS.parameter_names, np.eye(len(vector)), strict=True))
    slopes |= dict(zip(("v22", "v22_sini"), torch.autograd.functional.jacobian(speeds, vector).numpy(), strict=True))
    slopes |= {"x": -slopes["east"] / PIXEL, "y": slopes["north"] / PIXEL}  # x runs west
    return {name: float(carried(along, of)) for name, along in slopes.items()}


def true_observation(cube, rms):
    """The observation of a KinMS galaxy with the rms and the correlation that its noise was drawn with."""
    observation = observe(cube)
    covariance = beam_covariance(observation.beam, observation.pixel_matrix)
    correlation = known_correlation("wide", "white", covariance, observation.shape[0])
    return replace(observation, rms=np.full_like(observation.rms, rms), correlation=correlation)


def own_truth(row, observation):
    """The truth of a galaxy (a row of `read_galaxies`) as the likelihood counts it: a dict."""
    truth = {name: float(u.Quantity(row[name], unit).to_value(unit)) for name, unit in UNITS.items()}
    reference = SkyCoord(*observation.header["reference"], unit="deg")
    offsets = reference.spherical_offsets_to(SkyCoord(truth["ra"], truth["dec"], unit="deg"))
    return truth | dict(zip(("east", "north"), (offset.to_value(u.arcsec) for offset in offsets), strict=True))


def chosen(n, seed):
    """Numbers of the first ``n`` galaxies that are bright enough and neither face-on nor edge-on."""
    found, number = [], 0
    while len(found) < n:
        truth = draw_truth(np.random.default_rng([seed, number]))
        if truth["snr"] >= LEAST_SNR and INCLINATIONS[0] <= truth["inclination"] <= INCLINATIONS[1]:
            found.append(number)
        number += 1
    return found


def frame_estimates(observation, kind, truth):
    """What the network's frame says of the parameters, by the step of a ``kind``: a dict of value and quoted error."""
    with torch.no_grad():
        frame = make_frame(prepare(observation)[0])
    fact = dict(zip(FACTS, frame.facts[0].tolist(), strict=True))
    east, north, pa, vsys, extent, width = (
        float(getattr(frame, name)) for name in ("east", "north", "pa", "vsys", "extent", "width")
    )
    prefix = "" if kind == "mirror" else "disc_"
    errors = {axis: np.exp(fact[f"{prefix}error_{axis}"]) for axis in ("u", "w", "v", "pa")}
    u_step = w_step = v_step = turn = 0.0  # the frame has taken the last of the mirrors' steps
    if kind == "disc":
        u_step, w_step, v_step, turn = (0.02 * np.sinh(fact[f"disc_{axis}"]) for axis in ("u", "w", "v", "pa"))
    sin, cos = np.sin(pa), np.cos(pa)
    pixels = extent / PIXEL
    east, north = east + extent * (u_step * sin + w_step * cos), north + extent * (u_step * cos - w_step * sin)
    off = (np.degrees(pa + turn) - truth["pa"] + 180) % 360 - 180
    found = {
        "x": (truth["x"] - (east - truth["east"]) / PIXEL, pixels * np.hypot(errors["u"] * sin, errors["w"] * cos)),
        "y": (truth["y"] + (north - truth["north"]) / PIXEL, pixels * np.hypot(errors["u"] * cos, errors["w"] * sin)),
        "pa": (truth["pa"] + off, np.degrees(errors["pa"])),
        "vsys": (vsys + width * v_step, width * errors["v"]),
    }
    if kind == "disc":
        cosine = 1 / (1 + np.exp(-fact["fit_inclination"]))
        slope = np.degrees(cosine * np.sqrt(1 - cosine**2))
        found["inclination"] = np.degrees(np.arccos(cosine)), slope * np.exp(fact["fit_error_inclination"])
    return found


def measure(path, method, seed, min_ess):
    """One galaxy: a table of truths, bounds, medians and widths by parameter, and in ``meta`` what the fit cost."""
    row = QTable.read(path, hdu="TRUTH")[0]
    cube = read_cube(path)
    observation = true_observation(cube, row["rms"].to_value(UNITS["rms"]))
    truth = own_truth(row, observation)
    likelihood = CubeLikelihood(observation, FORMS)
    bound = bounds(likelihood, truth)
    meta = {
        "snr": truth["snr"], "inclination": truth["inclination"], "height": truth["thickness"] / truth["r_scale"],
    }  # fmt: skip
    names = ("parameter", "true", "bound", "median", "width")
    if method == "step":
        error = step(likelihood, truth)
        rows = [(name, truth[name], bound[name], truth[name] + error[name], bound[name]) for name in SHOWN]
        return Table(rows=rows, names=names, meta=meta | {"seconds": 0.0, "flags": ""})
    if method in ESTIMATES:
        found = frame_estimates(observation, method, truth)
        rows = [(name, truth[name], bound[name], *found[name]) for name in SHOWN if name in found]
        return Table(rows=rows, names=names, meta=meta | {"seconds": 0.0, "flags": ""})
    start = time.process_time()
    fit = kinematics_nn.fit(cube, method=method, seed=seed, min_ess=min_ess)
    seconds = time.process_time() - start
    rows = []
    for name in SHOWN:
        values = fit.samples[name].to_value(UNITS[name])
        if name == "pa":
            values = truth["pa"] + (values - truth["pa"] + 180) % 360 - 180
        low, middle, high = np.percentile(values, [16, 50, 84])
        rows.append((name, truth[name], bound[name], middle, 0.5 * (high - low)))
    meta |= {"seconds": seconds, "flags": " ".join(fit.flags), "efficiency": float(fit.meta["sample_efficiency"])}
    return Table(rows=rows, names=names, meta=meta)


def robust(ratio):
    """1.4826 times the median size, and its error for a normal distribution."""
    value = 1.4826 * np.median(np.abs(ratio))
    return value, 1.17 * value / np.sqrt(len(ratio))


def score(tables):
    """The printed table of a method, from those of its galaxies."""
    rows = []
    for name in SHOWN:
        its = [
            row
            for table in tables
            if name != "thickness" or table.meta["height"] > THICK
            for row in table[table["parameter"] == name]
        ]
        if not its:
            continue
        bound, width = (np.array([row[column] for row in its]) for column in ("bound", "width"))
        error = np.array([row["median"] - row["true"] for row in its])
        true = np.array([row["true"] for row in its])
        relative = name not in ("inclination", "pa", "x", "y", "vsys", "thickness")
        size = 100 * np.median(bound / true) if relative else np.median(bound)
        over_bound, over_width = robust(error / bound), robust(error / width)
        rows.append(
            {
                "parameter": name,
                "unit": "%" if relative else str(UNITS[name]),
                "n": len(its),
                "bound": f"{size:.3g}",
                "error / bound": "{:.2f} ± {:.2f}".format(*over_bound),
                "error / width": "{:.2f} ± {:.2f}".format(*over_width),
                "width / bound": f"{np.median(width / bound):.2f}",
                "its 90 %": f"{np.percentile(width / bound, 90):.2f}",
            }
        )
    return Table(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the galaxies are, or will be")
    parser.add_argument("--method", nargs="+", choices=METHODS + ESTIMATES, default=METHODS)
    parser.add_argument("--n", type=int, default=100, help="galaxies that are bright and inclined as asked")
    parser.add_argument("--seed", type=int, default=1, help="of the set")
    parser.add_argument("--min-ess", type=int, default=500)
    parser.add_argument("--again", action="store_true", help="fit those that are fitted, too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    kept = options.folder / "cramer_rao"
    kept.mkdir(parents=True, exist_ok=True)
    for method in options.method:
        tables, failures = [], []
        for number in chosen(options.n, options.seed):
            path = kept / f"{method}_{options.seed}_{number:04d}.ecsv"
            if options.again or not path.exists():
                galaxy = make_galaxy(number, options.seed, options.folder)
                try:
                    measure(galaxy, method, number, options.min_ess).write(path, overwrite=True)
                except (KinematicsError, RuntimeError, ArithmeticError) as error:  # a row of its own
                    failures.append(f"{galaxy.name}: {type(error).__name__}: {error}")
                    continue
            tables.append(Table.read(path))
        flags = [flag for table in tables for flag in table.meta["flags"].split()]
        counts = ", ".join(f"{flags.count(flag)} {flag}" for flag in sorted(set(flags))) or "none"
        seconds = np.median([table.meta["seconds"] for table in tables])
        print(f"\n{method}: {len(tables)} galaxies, {seconds:.1f} s of the processor each (median); flags: {counts}\n")
        print("\n".join(score(tables).pformat(max_lines=-1, max_width=-1)), flush=True)
        print("\n".join(failures))


if __name__ == "__main__":
    main()
