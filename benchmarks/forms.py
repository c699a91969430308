"""How long each form takes: beside a plain numpy function of the same formula, and in a fit to a SPARC curve.

``python benchmarks/forms.py`` prints, for 1000 radii, the ratio of the astropy model's ``evaluate`` to the function
written by hand, and milliseconds of a `TRFLSQFitter` fit to the rotation curves of NGC 2403, NGC 3198 and DDO 154 (the
worst of the three), which are read from the ``curves`` folder of KINEMATICS_NN_DATA.
"""

import os
import time
import warnings
from pathlib import Path

import numpy as np
from astropy.modeling.fitting import TRFLSQFitter
from scipy import special

from kinematics_nn.forms import list_forms
from kinematics_nn.models import model_class


def sersic(r, r_eff, n):
    b = special.gammaincinv(2 * n, 0.5)
    return np.exp(-b * ((r / r_eff) ** (1 / n) - 1))


def freeman(r, vmax, r_disc):
    y = r / (2 * r_disc)
    kernel = special.i0e(y) * special.k0e(y) - special.i1e(y) * special.k1e(y)
    return vmax / 0.43991215 * y * np.sqrt(kernel)


def sersic_bulge(r, v_eff, r_eff, n):
    """Prugniel & Simien (1997), with the exponent of Lima Neto, Gerbal & Márquez (1999)."""
    x, a = r / r_eff, n * (2 + 0.6097 / n - 0.05463 / n**2)
    b = special.gammaincinv(2 * n, 0.5)
    return v_eff * np.sqrt(special.gammainc(a, b * x ** (1 / n)) / (x * special.gammainc(a, b)))


def einasto(r, v_s, r_s, alpha):
    x, a, z = r / r_s, 3 / alpha, 2 / alpha
    return v_s * np.sqrt(special.gammainc(a, z * x**alpha) / (x * special.gammainc(a, z)))


def burkert(r, vmax, r_core):
    x = r / r_core
    return vmax / 0.65597989 * np.sqrt((np.log((1 + x) * np.sqrt(1 + x**2)) - np.arctan(x)) / x)


def nfw(r, vmax, r_s):
    x = r / r_s
    return vmax / 0.46499096 * np.sqrt((np.log(1 + x) - x / (1 + x)) / x)


def double_exponential(r, r_scale, r_outer, share):
    return (1 - share) * np.exp(-r / r_scale) + share * (r_scale / r_outer) ** 2 * np.exp(-r / r_outer)


BY_HAND = {
    ("rotation_curve", "arctan"): lambda r, v, a: v * 2 / np.pi * np.arctan(r / a),
    ("rotation_curve", "tanh"): lambda r, v, a: v * np.tanh(r / a),
    ("rotation_curve", "polyex"): lambda r, v, a, s: v * (1 - np.exp(-r / a)) * (1 + s * r / a),
    ("rotation_curve", "brandt"): lambda r, v, a, n: v * r / a / (1 / 3 + 2 / 3 * (r / a) ** n) ** (1.5 / n),
    ("rotation_curve", "courteau"): lambda r, v, a, b, g: v * (1 + a / r) ** b / (1 + (a / r) ** g) ** (1 / g),
    ("rotation_curve", "flat"): lambda r, v: v * np.ones_like(r),
    ("rotation_curve", "linear"): lambda r, s: s * r,
    ("rotation_curve", "freeman"): freeman,
    ("rotation_curve", "hernquist"): lambda r, v, a: 2 * v * np.sqrt(r / a) / (1 + r / a),
    ("rotation_curve", "sersic_bulge"): sersic_bulge,
    ("rotation_curve", "plummer"): lambda r, v, b: v * np.sqrt(2.5980762 * (r / b) ** 2 / (1 + (r / b) ** 2) ** 1.5),
    ("rotation_curve", "kepler"): lambda r, gm: np.sqrt(gm / r),
    ("rotation_curve", "nfw"): nfw,
    ("rotation_curve", "burkert"): burkert,
    ("rotation_curve", "pseudo_isothermal"): lambda r, v, a: v * np.sqrt(1 - np.arctan(r / a) / (r / a)),
    ("rotation_curve", "einasto"): einasto,
    ("surface_brightness", "exponential"): lambda r, a: np.exp(-r / a),
    ("surface_brightness", "sersic"): sersic,
    ("surface_brightness", "gaussian"): lambda r, s: np.exp(-0.5 * (r / s) ** 2),
    ("surface_brightness", "ring"): lambda r, a, s: np.exp(-0.5 * ((r - a) / s) ** 2),
    ("surface_brightness", "exponential_hole"): lambda r, a, h: np.exp(-r / a) * (1 - np.exp(-0.5 * (r / h) ** 2)),
    ("surface_brightness", "double_exponential"): double_exponential,
    ("surface_brightness", "truncated_exponential"): lambda r, a, t: (
        0.5 * np.exp(-r / a) * special.erfc((r / t - 1) * 7.0710678)
    ),
    ("velocity_dispersion", "constant"): lambda r, s: s * np.ones_like(r),
    ("velocity_dispersion", "exponential"): lambda r, s, a: s * np.exp(-r / a),
    ("velocity_dispersion", "linear"): lambda r, s, g: np.maximum(s + g * r, 0),
}
# numpy has shortcuts for powers of 0, 1 and 2, which these forms' defaults have and no fit meets
OFF_DEFAULT = {
    ("rotation_curve", "brandt"): {"n": 1.3},
    ("rotation_curve", "courteau"): {"beta": 0.1, "gamma": 1.7},
}
GALAXIES = ("NGC2403", "NGC3198", "DDO154")


def fastest(function, *arguments, repeats=300):
    """The least of many times of a call on this thread's processor [s]: what else the machine does only adds."""
    times = []
    for _ in range(repeats):
        began = time.thread_time()
        function(*arguments)
        times.append(time.thread_time() - began)
    return min(times)


def both(form, n=1000):
    """The radii, and two calls: of the model's `evaluate` at them, and of the function by hand."""
    radius = np.linspace(0.3, 60, n)
    values = (form.defaults() | OFF_DEFAULT.get((form.kind, form.name), {})).values()
    amplitude = [1.0] if form.kind == "surface_brightness" else []
    evaluate, by_hand = model_class(form).evaluate, BY_HAND[form.kind, form.name]
    return radius, lambda: evaluate(radius, *values, *amplitude), lambda: by_hand(radius, *values)


def largest_difference(found, wanted):
    """Over the largest value."""
    return np.max(np.abs(found - wanted)) / np.max(np.abs(wanted))


def sparc_curve(name):
    """Radius [kpc], speed and its error [km/s] of a SPARC galaxy."""
    folder = Path(os.environ.get("KINEMATICS_NN_DATA", "../shared/data")) / "curves"
    return np.loadtxt(folder / f"{name}_rotmod.dat", usecols=(0, 1, 2), unpack=True)


def fit_curve(form, radius, speed, error):
    """The form fitted to a curve, from its defaults, scaled to the data."""
    start = model_class(form)()
    for known in form.parameters:
        if known.powers[0] > 0:
            scale = (speed.max() / 200) ** known.powers[0]
            setattr(start, known.name, getattr(start, known.name) * float(scale))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a form that cannot follow the curve ends at a limit
        return TRFLSQFitter()(start, radius, speed, weights=1 / error)


def main():
    """Print the table."""
    curves = [sparc_curve(name) for name in GALAXIES]
    print("form                                  evaluate [us]  by hand [us]  ratio  apart    fit [ms]  chi2/dof")
    for known in list_forms():
        form = known.form
        if (form.kind, form.name) not in BY_HAND:
            continue
        _, evaluate, plain = both(form)
        own, by_hand, apart = fastest(evaluate), fastest(plain), largest_difference(evaluate(), plain())
        line = f"{form.kind + ' ' + form.name:40s} {own * 1e6:10.1f} {by_hand * 1e6:13.1f}"
        line += f" {own / by_hand:6.2f} {apart:7.0e}"
        if form.kind == "rotation_curve":
            times = [fastest(fit_curve, form, *curve, repeats=5) for curve in curves]
            quality = []
            for radius, speed, error in curves:
                left = (speed - fit_curve(form, radius, speed, error)(radius)) / error
                quality.append(f"{np.sum(left**2) / (len(radius) - len(form.parameters)):.1f}")
            line += f" {max(times) * 1e3:10.1f}   {' '.join(quality)}"
        print(line)


if __name__ == "__main__":
    main()
