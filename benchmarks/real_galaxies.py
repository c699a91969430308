"""Fits of the real galaxies of `kinematics_nn.datasets`, beside what the literature says.

``python benchmarks/real_galaxies.py [FOLDER]`` prints one table, and writes each galaxy's figures to the folder.
``--method refined`` fits them with the exact likelihood, minutes for the large ones; ``--galaxy`` chooses among them.
"""

import argparse
import warnings
from pathlib import Path

import astropy.units as u
from astropy.table import Table
from astropy.utils.exceptions import AstropyWarning
from spectral_cube import SpectralCube

import kinematics_nn
from kinematics_nn import datasets

KM_S = u.km / u.s

GALAXIES = {
    # name: (arguments of fit, channels used, literature)
    "ngc2903": ({}, None, "i 67, PA 203, Vsys 556 (TiRiFiC, PHANGS, SPARC)"),
    "eso121-g6": ({}, None, "i > 70, PA 42, Vsys 1190 (TiRiFiC)"),
    "ngc6946": ({}, (5, 400), "i 36, PA 243 (SPARC, PHANGS); Galactic HI below 5 km/s cut off"),
    "ngc2403": ({"beam": 90 * u.arcsec}, None, "i 62, PA 124, Vsys 133 (SPARC, 3DBarolo)"),
    "ngc4324": ({}, None, "i 64, PA 240, Vsys 1662 (velocity field); a ring"),
    "kinms": ({}, None, "i 45, PA 270, Vsys 10 (truth)"),
    "ngc3256": ({}, None, "a merger: not a disc"),
}


def read(name, channels=None):
    """A cube by name, its first Stokes plane, between two velocities [km/s] where given."""
    cube = SpectralCube.read(datasets.fetch(name))
    cube = cube if hasattr(cube, "spectral_axis") else cube.I
    if channels is None:
        return cube
    return cube.with_spectral_unit(KM_S).spectral_slab(*(channels * KM_S))


def interval(row, name, digits=1):
    """Median with the 16th and 84th percentiles."""
    low, median, high = (row[f"{name}_{part}"].value for part in ("p16", "p50", "p84"))
    return f"{median:.{digits}f} -{median - low:.{digits}f} +{high - median:.{digits}f}"


def main(folder=None, method="network", galaxies=tuple(GALAXIES), light="exponential"):
    """Print the table."""
    warnings.simplefilter("ignore", AstropyWarning)
    rows = []
    for name in galaxies:
        arguments, channels, literature = GALAXIES[name]
        fit = read(name, channels).kinematics.fit(method=method, seed=1, surface_brightness=light, **arguments)
        row = fit.summary[0]
        columns = [interval(row, column) for column in ("inclination", "pa", "vsys", "v22", "flux")]
        quality = f"{row['reduced_chi2']:.2f}", f"{fit.meta.get('misfit', 1):.1f}"
        rows.append([name, *columns, *quality, " ".join(fit.flags), literature])
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            fit.plot().savefig(Path(folder) / f"{name}.png", dpi=80)
            fit.corner().savefig(Path(folder) / f"{name}_corner.png", dpi=60)
    names = [
        "galaxy",
        "i [deg]",
        "PA [deg]",
        "vsys [km/s]",
        "v22 [km/s]",
        "flux [Jy km/s]",
        "chi2",
        "misfit",
        "flags",
        "literature",
    ]
    Table(rows=rows, names=names).pprint_all()
    print(f"weights {kinematics_nn.network.weights.weights_info()['sha256'][:12]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="for pictures of every galaxy")
    parser.add_argument("--method", choices=("network", "refined"), default="network")
    parser.add_argument("--galaxy", nargs="+", choices=GALAXIES, default=list(GALAXIES))
    parser.add_argument("--light", default="exponential", help="surface brightness that is fitted")
    args = parser.parse_args()
    main(args.folder, args.method, args.galaxy, args.light)
