"""Gas, stars and dark halo of three galaxies, from their rotation curves in SPARC, by astropy's fitters.

Run as ``python sparc_decomposition.py FOLDER [FIGURE]``; the folder holds ``NGC2403_rotmod.dat`` and others of the mass
models of Lelli, McGaugh & Schombert (2016, AJ 152, 157).
"""

# ruff: noqa: T201 - a script: its output is what it prints

import sys
from pathlib import Path

import numpy as np
from astropy import constants
from astropy import units as u
from astropy.modeling.fitting import TRFLSQFitter
from astropy.table import QTable

from kinematics_nn.forms import NFW, PseudoIsothermal, QuadratureSum, Tabulated

GALAXIES = ("NGC2403", "NGC3198", "DDO154")
KM_S = u.km / u.s
HUBBLE = 70 * KM_S / u.Mpc
UPSILON = 0.5  # of a disc at 3.6 micron, in solar units: McGaugh, Lelli & Schombert (2016, PRL 117, 201101)

HALOES = {
    "NFW": NFW(vmax=100 * KM_S, r_s=10 * u.kpc),
    "pseudo-isothermal": PseudoIsothermal(vmax=100 * KM_S, r_core=2 * u.kpc),
}


def read_curve(path):
    """A rotation curve and what gas and stars contribute to it, stars for one solar mass a solar luminosity."""
    columns = np.loadtxt(path).T[:5]
    units = (u.kpc, KM_S, KM_S, KM_S, KM_S)
    names = ("radius", "speed", "error", "gas", "disc")
    return QTable(dict(zip(names, (c * unit for c, unit in zip(columns, units, strict=True)), strict=True)))


def mass_model(curve, halo, free_upsilon=False):
    """What is there, as one model: the measured gas, the light of the disc times its mass-to-light ratio, a halo."""
    gas = Tabulated(curve["radius"], curve["gas"])
    gas.upsilon.fixed = True  # its mass is measured
    disc = Tabulated(curve["radius"], curve["disc"], upsilon=UPSILON)
    disc.upsilon.fixed = not free_upsilon
    disc.upsilon.bounds = (0.1, 1.5)
    return QuadratureSum(gas=gas, disc=disc, halo=halo)


def decompose(curve, halo, free_upsilon=False):
    """The model fitted to the curve, and its chi-squared over the degrees of freedom."""
    weights = 1 / curve["error"].value
    fitter = TRFLSQFitter(calc_uncertainties=True)
    model = fitter(mass_model(curve, halo, free_upsilon), curve["radius"], curve["speed"], weights=weights)
    misses = weights * (curve["speed"] - model(curve["radius"])).to_value(KM_S)
    return model, float(misses @ misses) / (len(curve) - len(model.stds.stds))


def virial(model):
    """Mass within the radius of 200 times the critical density, the speed there, and the radius over the halo's own."""
    form = dict(model.form.components)["halo"]
    speed, scale = (getattr(model, f"halo_{name}").quantity for name in form.names())
    in_kpc = form.gm(HUBBLE.to_value(KM_S / u.kpc), speed.to_value(KM_S), scale.to_value(u.kpc))
    mass = (in_kpc * u.kpc * KM_S**2 / constants.G).to(u.Msun)
    radius = np.cbrt(constants.G * mass / (100 * HUBBLE**2)).to(u.kpc)
    return mass, (10 * HUBBLE * radius).to(KM_S), (radius / scale).to_value(u.one)


def expected_concentration(mass):
    """What simulations without baryons have: Dutton & Macciò (2014, MNRAS 441, 3359), eq. 8, of 0.11 dex scatter."""
    return 10 ** (0.905 - 0.101 * np.log10(mass.to_value(1e12 * u.Msun) * HUBBLE.to_value(100 * KM_S / u.Mpc)))


def central_density(model):
    """Of a pseudo-isothermal halo: vmax squared is 4 pi G rho0 r_core squared."""
    square = (model.halo_vmax.quantity / model.halo_r_core.quantity) ** 2
    return (square / (4 * np.pi * constants.G)).to(u.Msun / u.pc**3)


def table(curves):
    """One row a galaxy and halo: the halo's parameters with their errors, and what follows from them."""
    rows = []
    for name, curve in curves.items():
        for kind, halo in HALOES.items():
            model, reduced_chi2 = decompose(curve, halo)
            free, free_chi2 = decompose(curve, halo, free_upsilon=True)
            speed, scale = (n for n in model.param_names if n.startswith("halo_"))
            mass, v200, ratio = virial(model)
            rows.append(
                {
                    "galaxy": name,
                    "halo": kind,
                    "speed": getattr(model, speed).quantity,
                    "speed_std": model.stds[speed] * KM_S,
                    "scale": getattr(model, scale).quantity,
                    "scale_std": model.stds[scale] * u.kpc,
                    "chi2": reduced_chi2,
                    "v200": v200,
                    "log_m200": np.log10(mass.to_value(u.Msun)),
                    "c200": ratio if kind == "NFW" else np.nan,
                    "c_expected": expected_concentration(mass) if kind == "NFW" else np.nan,
                    "rho0": np.nan * u.Msun / u.pc**3 if kind == "NFW" else central_density(model),
                    "free_upsilon": free.disc_upsilon.value,
                    "free_upsilon_std": free.stds["disc_upsilon"],
                    "free_chi2": free_chi2,
                }
            )
    return QTable(rows)


def draw(curves):
    """Each galaxy with each halo: what is observed, what is fitted, and what it is made of."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(curves), figsize=(10, 6), sharex="col", sharey="col", layout="constrained")
    styles = {"gas": ("tab:green", ":"), "disc": ("tab:orange", "--"), "halo": ("tab:gray", "-.")}
    for column, (name, curve) in zip(axes.T, curves.items(), strict=True):
        radius = np.linspace(0, curve["radius"][-1].to_value(u.kpc), 200)
        for ax, (kind, halo) in zip(column, HALOES.items(), strict=True):
            model, reduced_chi2 = decompose(curve, halo)
            observed = [curve[key].value for key in ("radius", "speed", "error")]
            ax.errorbar(*observed, fmt="k.", markersize=3, elinewidth=0.8, label="observed")
            ax.plot(radius, model(radius * u.kpc).value, "tab:red", label="sum")
            for part, speed in model.form.component_speeds(radius, *model.parameters).items():
                color, line = styles[part]
                ax.plot(radius, speed, color=color, linestyle=line, label=part)
            ax.set_title(f"{name}, {kind} ($\\chi^2_\\nu$ = {reduced_chi2:.1f})", fontsize="medium")
        column[-1].set_xlabel("radius [kpc]")
    for ax in axes[:, 0]:
        ax.set_ylabel("speed [km/s]")
    axes[0, 0].legend(fontsize="small", ncols=2)
    return figure


def main(folder, figure=None):
    """Print the table, and save the figure where one is named."""
    curves = {name: read_curve(Path(folder) / f"{name}_rotmod.dat") for name in GALAXIES}
    found = table(curves)
    for name in found.colnames[2:]:
        found[name].info.format = ".4f" if name == "rho0" else ".2f"
    print("\n".join(found.pformat(max_lines=-1, max_width=-1)))
    if figure is not None:
        draw(curves).savefig(figure, dpi=120)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
