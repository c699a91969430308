"""Priors of the user's on draws that were made under the default ones: weights, and draws resampled by them."""

from collections.abc import Mapping
from dataclasses import dataclass

import astropy.units as u
import numpy as np

from ..errors import KinematicsError
from ..quantities import inside_number

__all__ = ["UserPrior", "prior_weights", "user_priors"]


@dataclass(frozen=True)
class UserPrior:
    """The log density of one parameter, in inside units, that the user put in the place of the default.

    ``normal`` is its (mean, standard deviation) where it is a normal one, ``moments`` the same of any that has them.
    Outside ``support`` it is zero.
    """

    name: str
    log_density: object
    normal: tuple | None = None
    moments: tuple | None = None
    support: tuple = (-np.inf, np.inf)

    @classmethod
    def of(cls, name, given, unit, distance=None):
        """From (mean, standard deviation), bounds as a dict(low=, high=), or a frozen scipy.stats distribution."""
        kinds = "(mean, positive standard deviation), dict(low=, high=) or a frozen scipy.stats distribution"
        wrong = KinematicsError(f"priors[{name!r}] = {given!r}", kinds, f"priors={{{name!r}: (mean, std)}}")

        def number(value):
            try:
                return inside_number(value, unit, distance)
            except u.UnitConversionError as error:
                found = u.Quantity(value).unit
                of_length = found.physical_type == "length" and unit == u.arcsec
                raise KinematicsError(
                    f"priors[{name!r}] in {found}",
                    f"a unit of {unit}" + ", or a distance" * of_length,
                    "fit(distance=10 * u.Mpc)" if of_length else f"priors={{{name!r}: ...}} again",
                ) from error
            except (TypeError, ValueError) as error:
                raise wrong from error

        if hasattr(given, "logpdf"):
            moments = float(given.mean()), float(given.std())
            known = np.isfinite(moments).all() and moments[1] > 0
            return cls(name, given.logpdf, None, moments if known else None, tuple(map(float, given.support())))
        if isinstance(given, Mapping):
            unknown = ", ".join(repr(key) for key in given if key not in ("low", "high"))
            if unknown:
                raise KinematicsError(
                    f"priors[{name!r}] with the bounds {unknown}",
                    "low, high or both",
                    f"priors={{{name!r}: dict(low=, high=)}}",
                )
            low, high = number(given.get("low", -np.inf)), number(given.get("high", np.inf))
            if not low < high:
                raise KinematicsError(
                    f"priors[{name!r}] from {low:g} to {high:g} {unit}".rstrip(),
                    "a lower bound below the upper one",
                    f"priors={{{name!r}: dict(low=, high=)}}, or fit(fixed=...) for one value",
                )
            closed = np.isfinite([low, high]).all()
            level = -np.log(high - low) if closed else 0.0
            moments = ((low + high) / 2, (high - low) / np.sqrt(12)) if closed else None
            return cls(name, lambda x: np.where((x >= low) & (x <= high), level, -np.inf), None, moments, (low, high))
        try:
            mean, std = given
        except (TypeError, ValueError) as error:
            raise wrong from error
        mean, std = number(mean), number(std)
        if not (np.isfinite(mean) and std > 0):
            raise wrong
        normal = mean, std
        return cls(name, lambda x: -0.5 * ((x - mean) / std) ** 2 - np.log(std * np.sqrt(2 * np.pi)), normal, normal)


def user_priors(priors, units, distance=None):
    """The user's priors as a list of `UserPrior`; ``units`` maps the names that may have one to their units.

    At a ``distance``, what has the unit arcsec may be given as a length.
    """
    for name in priors:
        if name not in units:
            raise KinematicsError(f"a prior on {name!r}", f"one of {', '.join(units)}", "priors={name: ...}")
    return [UserPrior.of(name, given, units[name], distance) for name, given in priors.items()]


def _default_log_density(name, values, form_priors):
    if name == "inclination":
        return np.log(np.sin(np.deg2rad(np.clip(values, 0.1, 90))))
    if name in ("pa", "east", "north", "vsys"):
        return np.zeros_like(values)
    if name in form_priors:
        default = form_priors[name]
        return default.log_prob(np.clip(values, default.lo, default.hi))
    if name == "thickness":  # log-uniform with a share at 0: the network knows it down to a hundredth of its size
        return -np.log(values + 0.01 * np.median(values) + 1e-12)
    return -np.log(np.clip(values, 1e-12, None))


def prior_weights(samples, priors, form_priors=None):
    """Weights (n,), of sum one, that turn draws under the default priors into draws under the user's.

    The default is isotropic in inclination, uniform in angle, position and velocity, that of its form for a form's
    parameter, and log-uniform for what else is positive.

    Parameters
    ----------
    samples : dict
        Name to (n,) array, in inside units.
    priors : list of UserPrior
    form_priors : dict, optional
        Name to the default `~kinematics_nn.forms.Prior` of a form's parameter, absolute.

    Raises
    ------
    KinematicsError
        No draw is left.
    """
    log_weight = np.zeros(len(next(iter(samples.values()))))
    for prior in priors:
        values = samples[prior.name]
        # An angle is the same one turn on, and its draws may lie on any branch.
        turns = (-720, -360, 0, 360, 720) if prior.name == "pa" else (0,)
        log_weight += np.logaddexp.reduce([prior.log_density(values + turn) for turn in turns])
        log_weight -= _default_log_density(prior.name, values, form_priors or {})
    if not np.isfinite(log_weight).any():
        names = ", ".join(prior.name for prior in priors)
        raise KinematicsError(
            f"the priors on {names} exclude every realisation", "priors that overlap the data", "fit() without them"
        )
    weight = np.exp(log_weight - log_weight.max())
    return weight / weight.sum()
