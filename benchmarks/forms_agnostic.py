"""
Does it matter which form is fitted? KinMS galaxies of a Freeman disc and an NFW halo, fitted as rings and as such.

``python benchmarks/forms_agnostic.py FOLDER --n 100`` makes the galaxies, fits each as ``rotation_curve="rings"`` and
as the sum that it was made with, and prints how far ``v22``, the speed at 1.31 half-light radii, is off, and how often
the central 68 % hold the truth. ``--method refined`` does it with the exact likelihood. A row a galaxy goes to a table
beside the cubes, and a run that was stopped goes on from it.

Light, inclination, S/N, beam and noise are those of `kinms_galaxies`; the speeds are the sum of two masses, of the
formulas of `forms` that are written by hand and not this package's.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import astropy.units as u
import numpy as np
from accuracy import median_error
from astropy.io import fits
from astropy.table import QTable
from forms import freeman, nfw
from kinms_galaxies import UNITS, draw_truth, observe, read_cube

__all__ = ["CURVES", "draw_masses", "make_galaxies", "mass_speed", "report"]

CURVES = {"rings": "rings", "sum": "disc:freeman+halo:nfw"}
QUANTITIES = {"v22": True, "v22_sini": True, "inclination": False}  # name -> is the error relative?
LEAST_INCLINATION = 40.0  # deg; nearer to face-on, v22 is what 1 / sin(i) makes of it
MASSES = {"disc_vmax": u.km / u.s, "disc_r_disc": u.arcsec, "halo_vmax": u.km / u.s, "halo_r_s": u.arcsec}


def mass_speed(truth, radius):
    """The speeds [km/s] of disc and halo at radii [arcsec]."""
    radius = np.maximum(radius, 1e-3)
    disc = freeman(radius, truth["disc_vmax"], truth["disc_r_disc"])
    return np.hypot(disc, nfw(radius, truth["halo_vmax"], truth["halo_r_s"]))


def draw_masses(rng):
    """
    Draw the parameters of one galaxy.

    As `kinms_galaxies.draw_truth`, but for the speeds: v22 log-uniform in 80-250 km/s, of whose square the disc has a
    share uniform in 0.2-0.8; the disc of stars 0.7 to 1.4 times as large as that of the gas, the halo's scale radius 2
    to 10 times, both log-uniform. A draw whose line would leave the band is drawn again.
    """

    def log_uniform(low, high):
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    while True:
        truth = draw_truth(rng)
        size, v22, share = truth["r_scale"], log_uniform(80, 250), rng.uniform(0.2, 0.8)
        truth |= {"disc_r_disc": size * log_uniform(0.7, 1.4), "halo_r_s": size * log_uniform(2, 10)}
        truth["disc_vmax"] = v22 * np.sqrt(share) / freeman(2.2 * size, 1.0, truth["disc_r_disc"])
        truth["halo_vmax"] = v22 * np.sqrt(1 - share) / nfw(2.2 * size, 1.0, truth["halo_r_s"])
        sini = np.sin(np.radians(truth["inclination"]))
        truth |= {"v22": v22, "v22_sini": v22 * sini}
        widest = sini * mass_speed(truth, size * np.linspace(0.1, 5, 50)).max()
        if widest + 2 * truth["velocity_dispersion"] + abs(truth["vsys"]) < 195:
            return truth


def make_galaxies(n, seed, folder):
    """Make ``n`` galaxies in ``folder``, those there already excepted: the paths. Each is a function of its number."""
    units = {name: unit for name, unit in UNITS.items() if name not in ("vmax", "r_turn")} | MASSES
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"masses_{seed}_{number:04d}.fits" for number in range(n)]
    for number, path in enumerate(paths):
        if path.exists():
            continue
        hdu, truth = observe(draw_masses(np.random.default_rng([seed, number])), seed * 100_000 + number, mass_speed)
        table = fits.BinTableHDU(QTable([{name: truth[name] * unit for name, unit in units.items()}]), name="TRUTH")
        part = path.with_suffix(".part")
        fits.HDUList([hdu, table]).writeto(part, overwrite=True)
        part.rename(path)  # a file that is there is whole
    return paths


def fit_galaxy(path, curve, method, seed):
    """One galaxy's row: for each of `QUANTITIES` the error of the median, the interval's half width and the rank."""
    import kinematics_nn

    truth = QTable.read(path, hdu="TRUTH")[0]
    start = time.perf_counter()
    fit = kinematics_nn.fit(read_cube(path), rotation_curve=CURVES[curve], method=method, seed=seed)
    row = {
        "file": path.name,
        "seconds": time.perf_counter() - start,
        "flags": " ".join(fit.flags),
        "n_effective": float(fit.meta["n_effective"]),
        "true_inclination": truth["inclination"].value,
    }
    for name, relative in QUANTITIES.items():
        true = truth[name].value
        off = (u.Quantity(fit.samples[name]).to_value(UNITS[name]) - true) / (true if relative else 1.0)
        row[name] = float(np.median(off))
        row[f"{name}_width"] = float(np.ptp(np.percentile(off, [16, 84])) / 2)
        row[f"{name}_rank"] = float((off < 0).mean())
    return row


def report(rows):
    """The table: a row a quantity, for discs more inclined than `LEAST_INCLINATION` and for all."""
    table = []
    for least in (LEAST_INCLINATION, 0.0):
        some = [row for row in rows if row["true_inclination"] > least]
        for name, relative in QUANTITIES.items():
            factor, unit = (100, "%") if relative else (1, "deg")
            signed, ranks = (np.array([row[key] for row in some]) for key in (name, f"{name}_rank"))
            size, held = factor * abs(signed), (abs(ranks - 0.5) < 0.34).mean()
            table.append(
                {
                    "i >": f"{least:.0f}",
                    "quantity": f"{name} [{unit}]",
                    "n": len(some),
                    "median": f"{np.median(size):.2f}±{median_error(size):.2f}",
                    "p90": f"{np.percentile(size, 90):.2f}",
                    "bias": f"{factor * np.median(signed):+.2f}",
                    "68 %": f"{100 * held:.0f}±{100 * np.sqrt(0.68 * 0.32 / len(some)):.0f}",
                }
            )
    return QTable(table)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the galaxies and the tables of their fits")
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--method", choices=("network", "refined"), default="network")
    parser.add_argument("--curve", nargs="+", choices=CURVES, default=list(CURVES))
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # what is said of single galaxies is for their user
    paths = make_galaxies(options.n, options.seed, options.folder)
    for curve in options.curve:
        record = options.folder / f"{options.method}_{curve}_{options.seed}.jsonl"
        rows = [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []
        done = {row["file"] for row in rows}
        for number, path in enumerate(paths):
            if path.name in done:
                continue
            try:
                row = fit_galaxy(path, curve, options.method, number)
            except (ValueError, RuntimeError, ArithmeticError) as error:  # a galaxy that is refused is a row of its own
                row = {"file": path.name, "error": f"{type(error).__name__}: {error}"}
            rows.append(row)
            with record.open("a") as file:
                file.write(json.dumps(row) + "\n")
        failed = [row for row in rows if "error" in row]
        rows = [row for row in rows if "error" not in row]
        print(f"\n{options.method}, {CURVES[curve]}: {len(rows)} of {len(paths)} galaxies", end="")
        print(f", {np.median([row['seconds'] for row in rows]):.1f} s each (median wall time)\n")
        print("\n".join(report(rows).pformat(max_lines=-1, max_width=-1)))
        for row in failed:
            print(f"{row['file']}: {row['error']}")


if __name__ == "__main__":
    main()
