"""Options of a fit as the user gives them: read into inside units, or refused."""

from collections.abc import Mapping
from numbers import Integral, Real

import numpy as np
from astropy import log
from astropy import units as u

from .centre import offset_of
from .errors import KinematicsError
from .quantities import inside_number

__all__ = [
    "by_name",
    "check_options",
    "check_priors",
    "check_weights",
    "distance_text",
    "fresh_seed",
    "held_values",
    "line_spread",
    "own_priors",
    "progress_function",
    "torch_device",
]

_METHODS = ("refined", "network")


def check_options(method, n_samples, min_ess, fallback, held, priors, lsf):
    """Refuse what can be refused before anything is read; `held` and `priors` are names of parameters."""
    if method not in _METHODS:
        raise KinematicsError(f"method={method!r}", f"one of {_METHODS}", 'fit(method="refined")')
    if not isinstance(n_samples, Real) or not 100 <= n_samples <= 500_000 or int(n_samples) != n_samples:
        raise KinematicsError(f"n_samples={n_samples!r}", "a whole number from 100 to 500,000", "fit(n_samples=10_000)")
    if not isinstance(min_ess, Real) or not 50 <= min_ess <= 100_000:
        raise KinematicsError(f"min_ess={min_ess!r}", "a number from 50 to 100,000", "fit(min_ess=500)")
    if method == "network" and held:
        raise KinematicsError(
            f"{', '.join(held)} held fixed with method='network'",
            "a method that can hold parameters",
            f'fit(method="refined"), or priors={{{offset_of(next(iter(held)))!r}: (value, small standard deviation)}}',
        )
    if method == "network" and lsf is not None:
        raise KinematicsError("lsf= with method='network'", "a method that knows of it", 'fit(method="refined")')
    _check_fallback(fallback, method)
    both = sorted(set(held) & set(priors))
    if both:
        raise KinematicsError(f"{', '.join(both)} both held and with a prior", "one of the two", "fit(fixed=...)")


def check_priors(method, priors, forms):
    """Refuse priors on what follows from several parameters, where the posterior is one of parameters."""
    from .results.tables import parameter_columns

    derived = set(parameter_columns(forms, "", sky=False)) - set(forms.parameter_names)
    further = [name for name in priors if name in derived]
    if method == "refined" and further:
        raise KinematicsError(
            f"a prior on {', '.join(further)} with method='refined'",
            f"one on a parameter: {', '.join(forms.parameter_names)}",
            'fit(method="network"), which weighs its realisations by it',
        )


def _check_fallback(fallback, method):
    if fallback is None:
        return
    if fallback != "dynesty" or method == "network":
        raise KinematicsError(
            f"fallback={fallback!r} with method={method!r}",
            'fallback="dynesty" with method="refined", or none',
            'fit(method="refined", fallback="dynesty")',
        )
    from .inference.nested import need_dynesty

    need_dynesty()


def check_weights(info, forms, input="cubes"):
    """Refuse weights of another input, or of other forms alone: what they say of these is the wrong prior's."""
    trained = info.get("input", "cubes")
    if trained != input:
        call = {"cubes": "fit(cube)", "maps": "fit_maps(moment1)"}
        raise KinematicsError(
            f"weights {info['name']!r}, trained on {trained}", f"weights trained on {input}", call[trained]
        )
    for slot, name in info.get("forms", {}).items():
        found = getattr(forms, slot).name
        if found != name:
            raise KinematicsError(
                f"{slot}={found!r} with weights {info['name']!r}, trained on {name!r} alone",
                "weights of that form, or of all",
                f'fit({slot}={name!r}, weights={info["name"]!r}), or fit({slot}={found!r}, weights="default")',
            )


def by_name(argument, given):
    """What is given by parameter, as a dict of its own."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise KinematicsError(f"{argument}={given!r}", "a dict by parameter", f'fit({argument}={{"inclination": ...}})')
    return dict(given)


def held_values(fixed, forms, flux_unit, distance=None):
    """Parameters held, in inside units; radii may be lengths where a distance is known."""
    from .inference.space import LIMITS
    from .results.tables import form_columns, parameter_columns

    columns = parameter_columns(forms, flux_unit, sky=False)
    limits = LIMITS | {name: parameter.bounds for name, (_, parameter) in form_columns(forms).items()}
    held = {}
    for name, value in fixed.items():
        if name not in forms.parameter_names:
            raise KinematicsError(
                f"fixed={{{name!r}: ...}}",
                f"one of {', '.join(forms.parameter_names)}, ra and dec, x and y",
                "fit(fixed=...)",
            )
        unit = u.Unit(columns[name][0])
        given = f"fixed={{{name!r}: {value!r}}}"
        try:
            held[name] = inside_number(value, unit, distance)
        except (u.UnitConversionError, TypeError, ValueError) as error:
            needed, remedy = _of_angle(value, unit, distance)
            raise KinematicsError(given, needed, remedy) from error
        low, high = limits.get(name, (-np.inf, np.inf))
        if not (np.isfinite(held[name]) and low <= held[name] <= high):
            ends = f"from {low:g} to {high:g}" if np.isfinite(high) else f"from {low:g} up"
            needed = (
                "a finite value" if np.isinf([low, high]).all() else f"a value {ends}, in {unit}".removesuffix(", in ")
            )
            raise KinematicsError(given, needed, "fit(fixed=...)")
    return held


def _of_angle(value, unit, distance):
    """What is needed where a unit does not fit, and what to call: a length for an angle wants a distance."""
    of_length = getattr(getattr(value, "unit", None), "physical_type", None) == "length"
    if of_length and unit == u.arcsec and distance is None:
        return f"one value in {unit}, or a distance", "fit(distance=10 * u.Mpc)"
    return f"one value in {unit}", "fit(fixed=...)"


def line_spread(lsf):
    """A line-spread function as the decoder takes it."""
    if lsf is None or (isinstance(lsf, str) and lsf == "hanning"):
        return 0.0 if lsf is None else lsf
    try:
        width = float(u.Quantity(lsf).to_value(u.km / u.s))
    except (u.UnitConversionError, TypeError, ValueError) as error:
        raise KinematicsError(f"lsf={lsf!r}", 'a speed, or "hanning"', "fit(lsf=2 * u.km / u.s)") from error
    if not width >= 0:
        raise KinematicsError(f"lsf={lsf!r}", "a width of 0 or more", "fit(lsf=2 * u.km / u.s)")
    return width


def progress_function(progress):
    """What is called with every step's name, or none."""
    if callable(progress):
        return progress
    return log.info if progress else None


def distance_text(distance, caller="fit"):
    """A distance as text that a table's metadata can hold."""
    if distance is None:
        return None
    try:
        found = u.Quantity(distance).to(u.Mpc)
    except (u.UnitConversionError, TypeError) as error:
        raise KinematicsError(f"distance={distance!r}", "a length", f"{caller}(distance=10 * u.Mpc)") from error
    if not (found.isscalar and np.isfinite(found) and found > 0):
        raise KinematicsError(f"distance={distance!r}", "a positive length", f"{caller}(distance=10 * u.Mpc)")
    return found.to_string()


def fresh_seed(seed):
    """The seed that is given, or a new one."""
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if not isinstance(seed, Integral) or not 0 <= seed < 2**63:
        raise KinematicsError(f"seed={seed!r}", "a whole number from 0 to 2**63 - 1", "fit(seed=1)")
    return int(seed)


def torch_device(device):
    """The name of a device that torch has: the one that is given, or a GPU if there is one."""
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise KinematicsError(f"device={device!r}: {error}", "a device torch has here", 'fit(device="cpu")') from error
    return str(device)


def own_priors(priors, forms, flux_unit, distance=None):
    """The user's priors, read in the units of the columns; radii may be lengths where a distance is known."""
    from .inference.priors import user_priors
    from .results.tables import parameter_columns

    columns = parameter_columns(forms, flux_unit, sky=False)
    return user_priors(priors, {name: u.Unit(unit) for name, (unit, _) in columns.items()}, distance)
