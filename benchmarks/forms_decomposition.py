"""
A galaxy of four masses, taken apart again from its cube: what comes back, what stays as wide as its prior, what wins.

``python benchmarks/forms_decomposition.py`` simulates a bulge, a disc, a black hole too light to be seen and an NFW
halo, fits the cube by the exact likelihood with the right masses and with too few, and prints the table of evidences
and, for the whole set, each parameter's truth, median, 68 % interval and the width of its posterior over that of its
prior (both in the logarithm): near 1, the data say nothing of it.
"""

import argparse
import warnings
from dataclasses import replace

import astropy.units as u
import numpy as np

import kinematics_nn
from kinematics_nn.comparison import rank_fits
from kinematics_nn.forms import NFW, Exponential, FreemanDisc, HernquistBulge, Kepler, LogUniform, QuadratureSum
from kinematics_nn.inference.diagnosis import form_priors

__all__ = ["SETS", "TRUTH", "fit_masses", "galaxy", "recovery"]

TRUTH = {
    "bulge_vmax": 180.0, "bulge_r_bulge": 1.5, "disc_vmax": 130.0, "disc_r_disc": 5.0, "black_hole_gm": 30.0,
    "halo_vmax": 150.0, "halo_r_s": 20.0,
}  # fmt: skip


class BlackHole(Kepler):
    """A point mass with the prior of what is known of black holes without the cube.

    At 10 Mpc these are 1e4 to 3e6 solar masses; the heaviest has 14 km/s half a beam from the centre, which beside the
    180 of the bulge are 0.3 % of the speed.
    """

    name = "black_hole"
    parameters = (replace(Kepler.parameters[0], prior=LogUniform(1.0, 300.0)),)


SETS = {
    "disc + halo": {"disc": FreemanDisc, "halo": NFW},
    "bulge + halo": {"bulge": HernquistBulge, "halo": NFW},
    "bulge + disc": {"bulge": HernquistBulge, "disc": FreemanDisc},
    "bulge + disc + halo": {"bulge": HernquistBulge, "disc": FreemanDisc, "halo": NFW},
    "all four": {"bulge": HernquistBulge, "disc": FreemanDisc, "black_hole": BlackHole, "halo": NFW},
}


def galaxy(snr=20.0, seed=1):
    """The cube: 1 arcsec pixels, 16 km/s channels, a beam of 3 arcsec; its brightest voxel `snr` times the noise."""
    curve = QuadratureSum(
        bulge=HernquistBulge(TRUTH["bulge_vmax"] * u.km / u.s, TRUTH["bulge_r_bulge"] * u.arcsec),
        disc=FreemanDisc(TRUTH["disc_vmax"] * u.km / u.s, TRUTH["disc_r_disc"] * u.arcsec),
        black_hole=Kepler(TRUTH["black_hole_gm"] * u.km**2 * u.arcsec / u.s**2),
        halo=NFW(TRUTH["halo_vmax"] * u.km / u.s, TRUTH["halo_r_s"] * u.arcsec),
    )
    options = {
        "shape": (32, 40, 40), "pixel_scale": 1 * u.arcsec, "channel_width": 16 * u.km / u.s, "beam": 3 * u.arcsec,
        "inclination": 55 * u.deg, "pa": 40 * u.deg, "rotation_curve": curve,
        "surface_brightness": Exponential(r_scale=5 * u.arcsec), "velocity_dispersion": 10 * u.km / u.s,
    }  # fmt: skip
    peak = kinematics_nn.simulate(**options).unmasked_data[:].max()
    return kinematics_nn.simulate(**options, rms=peak / snr, seed=seed)


def fit_masses(cube, masses, n_samples=4000):
    """The refined fit of one of `SETS`; the disc's scale length is that of its light, and held."""
    curve = QuadratureSum(**SETS[masses])
    fixed = {"disc_r_disc": TRUTH["disc_r_disc"]} if "disc" in SETS[masses] else {}
    return kinematics_nn.fit(cube, rotation_curve=curve, method="refined", fixed=fixed, n_samples=n_samples, seed=1)


def recovery(fit):
    """For each parameter of the curve: the truth, its 2.5, 16, 50, 84, 97.5 % quantiles, and width over the prior's."""
    priors = form_priors(fit.observation, fit.forms, np.asarray(fit.samples["r50"]))
    found = {}
    for name in fit.forms.slots["rotation_curve"]:
        if name == "disc_r_disc":
            continue
        values = np.asarray(fit.samples[name])
        of_prior = np.ptp(np.log(priors[name].ppf([0.16, 0.84])))
        width = np.ptp(np.log(np.percentile(values, [16, 84]))) / of_prior
        found[name] = (TRUTH[name], np.percentile(values, [2.5, 16, 50, 84, 97.5]), float(width))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masses", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seed", type=int, default=1, help="of the noise")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    cube = galaxy(seed=options.seed)
    fits = {masses: fit_masses(cube, masses) for masses in options.masses}
    if len(fits) > 1:
        table = rank_fits(fits.values())
        table["log_evidence"].format = table["log_bayes_factor"].format = ".1f"
        table["log_evidence_error"].format = ".2f"
        columns = ["rotation_curve", "log_evidence", "log_evidence_error", "log_bayes_factor", "flags"]
        table[columns].pprint_all()
    for masses, fit in fits.items():
        efficiency = fit.meta["sample_efficiency"]
        print(f"\n{masses}: {fit.meta['n_effective']:.0f} effective draws, efficiency {100 * efficiency:.0f} %")
        for name, (truth, (low, p16, median, p84, high), width) in recovery(fit).items():
            held = "68" if p16 <= truth <= p84 else "95" if low <= truth <= high else "--"
            print(f"  {name:16s} {truth:8.1f} {median:8.1f} {p16:8.1f} {p84:8.1f}  {held}  {width:.2f} of the prior")


if __name__ == "__main__":
    main()
