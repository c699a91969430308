"""
A galaxy of four masses, taken apart again from its cube: what comes back, what stays as wide as its prior, what wins.

``python benchmarks/forms_decomposition.py`` simulates a bulge, a disc, a black hole too light to be seen and an NFW
halo, fits the cube by the exact likelihood with the right masses and with too few, and prints the table of evidences
and, for the whole set, each parameter's truth, median, 68 % interval and the width of its posterior over that of its
prior (both in the logarithm): near 1, the data say nothing of it.

``--decide`` prints, without a fit, what can be decided: by how much chi-squared of the galaxy without noise grows, at
the noise that it has, when a mass is left out and what is left makes up for it as best it can. That is what a perfect
fit loses in the mean, whatever samples the posterior.
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

__all__ = ["SETS", "TRUTH", "chi2_without", "fit_masses", "galaxy", "recovery"]

# A disc of stars about as heavy as it may be, gas that reaches five of its scale lengths, a bulge that peaks outside
# half a beam. The black hole has 4 km/s half a beam from the centre, and counts by its square.
TRUTH = {
    "bulge_vmax": 150.0, "bulge_r_bulge": 3.0, "disc_vmax": 170.0, "disc_r_disc": 5.0, "black_hole_gm": 30.0,
    "halo_vmax": 130.0, "halo_r_s": 25.0,
}  # fmt: skip


DISC = {"inclination": 55.0, "pa": 40.0, "velocity_dispersion": 10.0, "r_scale": 6.5}


class BlackHole(Kepler):
    """A point mass with the prior of what is known of black holes without the cube.

    At 10 Mpc these are 1e4 to 1e7 solar masses; the heaviest has 24 km/s half a beam from the
    centre, which adds 1 % to the speed there.
    """

    name = "black_hole"
    parameters = (replace(Kepler.parameters[0], prior=LogUniform(1.0, 1000.0)),)


SETS = {
    "disc + halo": {"disc": FreemanDisc, "halo": NFW},
    "bulge + halo": {"bulge": HernquistBulge, "halo": NFW},
    "bulge + disc": {"bulge": HernquistBulge, "disc": FreemanDisc},
    "bulge + disc + halo": {"bulge": HernquistBulge, "disc": FreemanDisc, "halo": NFW},
    "all four": {"bulge": HernquistBulge, "disc": FreemanDisc, "black_hole": BlackHole, "halo": NFW},
}


def galaxy(snr=50.0, seed=1):
    """The cube: 1.2 arcsec pixels, 20 km/s channels, a beam of 3.6 arcsec; its peak is `snr` times the noise."""
    curve = QuadratureSum(
        bulge=HernquistBulge(TRUTH["bulge_vmax"] * u.km / u.s, TRUTH["bulge_r_bulge"] * u.arcsec),
        disc=FreemanDisc(TRUTH["disc_vmax"] * u.km / u.s, TRUTH["disc_r_disc"] * u.arcsec),
        black_hole=Kepler(TRUTH["black_hole_gm"] * u.km**2 * u.arcsec / u.s**2),
        halo=NFW(TRUTH["halo_vmax"] * u.km / u.s, TRUTH["halo_r_s"] * u.arcsec),
    )
    options = {
        "shape": (24, 36, 36), "pixel_scale": 1.2 * u.arcsec, "channel_width": 20 * u.km / u.s, "beam": 3.6 * u.arcsec,
        "inclination": DISC["inclination"] * u.deg, "pa": DISC["pa"] * u.deg, "rotation_curve": curve,
        "surface_brightness": Exponential(r_scale=DISC["r_scale"] * u.arcsec),
        "velocity_dispersion": DISC["velocity_dispersion"] * u.km / u.s,
    }  # fmt: skip
    peak = kinematics_nn.simulate(**options).unmasked_data[:].max()
    return kinematics_nn.simulate(**options, rms=peak / snr, seed=seed)


def fit_masses(cube, masses, n_samples=4000, seed=1):
    """The refined fit of one of `SETS`; the disc's scale length is that of its light, and held.

    Twice as many effective draws as by default: the ridge has two ends.
    """
    curve = QuadratureSum(**SETS[masses])
    fixed = {"disc_r_disc": TRUTH["disc_r_disc"]} if "disc" in SETS[masses] else {}
    options = {"fixed": fixed, "n_samples": n_samples, "min_ess": 1000, "seed": seed}
    return kinematics_nn.fit(cube, rotation_curve=curve, method="refined", **options)


def chi2_without(cube):
    """For each of `SETS`: chi-squared that it leaves of the galaxy without noise, at the noise of the cube."""
    import torch

    from kinematics_nn.decoder import Forms
    from kinematics_nn.forms import get_form
    from kinematics_nn.inference.light import Patches
    from kinematics_nn.inference.likelihood import CubeLikelihood
    from kinematics_nn.inference.modes import observation_space
    from kinematics_nn.inference.target import Target

    observation = cube.kinematics.observe()
    centre = cube.wcs.celestial.pixel_to_world((cube.shape[2] - 1) / 2, (cube.shape[1] - 1) / 2)
    ra, dec = observation.header["reference"]
    values = TRUTH | DISC | {
        "vsys": 0.0, "flux": 1.0, "thickness": 0.0,
        "east": (centre.ra.deg - ra) * 3600 * np.cos(np.radians(dec)), "north": (centre.dec.deg - dec) * 3600,
    }  # fmt: skip

    def likelihood(masses):
        sort = {"rotation_curve": get_form(QuadratureSum(**SETS[masses]), "rotation_curve")}
        sort |= {slot: get_form(name, slot) for slot, name in (
            ("surface_brightness", "exponential"), ("velocity_dispersion", "constant"))}  # fmt: skip
        return CubeLikelihood(observation, Forms(**sort))

    def vector(names, values):
        return torch.tensor([[values[name] for name in names]], dtype=torch.float64)

    whole = likelihood("all four")
    model = whole.white(vector(whole.names, values))[0]
    flux = float(model @ whole.data) / float(model @ model)
    found = {}
    for masses in SETS:
        one = likelihood(masses)
        one.data = flux * model
        fixed = {"disc_r_disc": TRUTH["disc_r_disc"]} if "disc" in SETS[masses] else {}
        space = observation_space(observation, one.decoder.forms, DISC["pa"], DISC["r_scale"], fixed)
        # What is left takes over from what is not there: nearer or farther.
        bulge, halo = TRUTH["bulge_r_bulge"], TRUTH["halo_r_s"]
        starts = [
            values | {"thickness": 0.1, "halo_r_s": size * halo, "bulge_r_bulge": other * bulge}
            for size, other in ((1, 1), (0.5, 0.7), (0.3, 1.5), (0.2, 3.0))
        ]
        starts = torch.cat([space.variates(vector(one.names, start)) for start in starts])
        target = Target(one, space, Patches.none(one), torch.zeros(1), (0.0, 10 * flux))
        target(starts[:1])
        best = one.white(space.parameters(target.modes(starts)[0].x[None]))[0].double()
        data = one.data.double()
        found[masses] = float(data @ data - (data @ best) ** 2 / (best @ best))
    return found


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
    parser.add_argument("--fit-seed", type=int, default=1, help="of the draws")
    parser.add_argument("--decide", action="store_true", help="print what can be decided, and fit nothing")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    cube = galaxy(seed=options.seed)
    if options.decide:
        for masses, chi2 in chi2_without(cube).items():
            print(f"{masses:20s} {chi2:8.1f}")
        return
    fits = {masses: fit_masses(cube, masses, seed=options.fit_seed) for masses in options.masses}
    if len(fits) > 1:
        table = rank_fits(fits.values())
        table["log_evidence"].format = table["log_bayes_factor"].format = ".1f"
        table["log_evidence_error"].format = ".2f"
        columns = ["rotation_curve", "log_evidence", "log_evidence_error", "log_bayes_factor", "flags"]
        table[columns].pprint_all()
    for masses, fit in fits.items():
        efficiency = fit.meta["sample_efficiency"]
        print(f"\n{masses}: {fit.meta['n_effective']:.0f} effective draws, {efficiency:.2f} a likelihood")
        for name, (truth, (low, p16, median, p84, high), width) in recovery(fit).items():
            held = "68" if p16 <= truth <= p84 else "95" if low <= truth <= high else "--"
            print(f"  {name:16s} {truth:8.1f} {median:8.1f} {p16:8.1f} {p84:8.1f}  {held}  {width:.2f} of the prior")


if __name__ == "__main__":
    main()
