"""What the figures share: colours, sizes, symbols."""

import astropy.units as u

__all__ = ["CURVE", "KM_S", "MODEL", "STYLE", "label", "symbol"]

# Okabe & Ito (2008): told apart by every kind of colour vision.
CURVE, MODEL = "#0072B2", "#D55E00"
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.7,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
}
KM_S = (u.km / u.s).to_string("latex_inline")
_SYMBOLS = {
    "inclination": r"$i$",
    "pa": "PA",
    "vsys": r"$V_\mathrm{sys}$",
    "flux": r"$S\,\Delta v$",
    "v22": r"$V_{2.2}$",
    "v22_sini": r"$V_{2.2}\sin i$",
    "r50": r"$R_{50}$",
    "w50": r"$W_{50}$",
    "velocity_dispersion": r"$\sigma$",
    "vmax": r"$V_\mathrm{max}$",
    "r_turn": r"$R_\mathrm{turn}$",
    "r_scale": r"$R_\mathrm{d}$",
    "thickness": r"$h_z$",
}


def symbol(name):
    """How the figures write a parameter."""
    return _SYMBOLS.get(name, name.replace("_", " "))


def label(name, unit):
    """How an axis of a parameter is labelled."""
    return f"{symbol(name)} [{unit.to_string('latex_inline')}]" if unit.to_string() else symbol(name)
