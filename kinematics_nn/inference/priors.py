"""Priors of the user's on draws that were made under the default ones: weights, and draws resampled by them."""

from dataclasses import dataclass

import astropy.units as u
import numpy as np

from ..errors import KinematicsError

__all__ = ["UserPrior", "prior_weights", "user_priors"]


@dataclass(frozen=True)
class UserPrior:
    """The log density of one parameter, in inside units, that the user put in the place of the default."""

    name: str
    log_density: object

    @classmethod
    def of(cls, name, given, unit):
        """From (mean, standard deviation), bounds as a dict(low=, high=), or a frozen scipy.stats distribution."""

        def number(value):
            try:
                return float(u.Quantity(value, None if hasattr(value, "unit") else unit).to_value(unit))
            except u.UnitConversionError as error:
                raise KinematicsError(
                    f"priors[{name!r}] in {u.Quantity(value).unit}",
                    f"a unit of {unit}",
                    f"priors={{{name!r}: ...}} again",
                ) from error

        if hasattr(given, "logpdf"):
            return cls(name, given.logpdf)
        if isinstance(given, dict) and set(given) <= {"low", "high"}:
            low, high = number(given.get("low", -np.inf)), number(given.get("high", np.inf))
            return cls(name, lambda x: np.where((x >= low) & (x <= high), 0.0, -np.inf))
        try:
            mean, std = (number(value) for value in given)
        except TypeError as error:
            raise KinematicsError(
                f"priors[{name!r}] = {given!r}",
                "(mean, standard deviation), dict(low=, high=) or a frozen scipy.stats distribution",
                f"priors={{{name!r}: (mean, std)}}",
            ) from error
        period = 360.0 if name == "pa" else np.inf

        def gaussian(x):
            off = x - mean
            if np.isfinite(period):
                off = (off + 180) % 360 - 180
            return -0.5 * (off / std) ** 2

        return cls(name, gaussian)


def user_priors(priors, units):
    """The user's priors as a list of `UserPrior`; ``units`` maps the names that may have one to their units."""
    for name in priors:
        if name not in units:
            raise KinematicsError(f"a prior on {name!r}", f"one of {', '.join(units)}", "priors={name: ...}")
    return [UserPrior.of(name, given, units[name]) for name, given in priors.items()]


def prior_weights(samples, priors):
    """Weights (n,), of sum one, that turn draws under the default priors into draws under the user's.

    The default is isotropic in inclination, uniform in angles and positions, and log-uniform in what is positive
    (`kinematics-nn info` prints them).

    Raises
    ------
    KinematicsError
        No draw is left.
    """
    log_weight = np.zeros(len(next(iter(samples.values()))))
    for prior in priors:
        values = samples[prior.name]
        log_weight += prior.log_density(values)
        if prior.name == "inclination":
            log_weight -= np.log(np.sin(np.deg2rad(np.clip(values, 0.1, 90))))
        elif prior.name not in ("pa", "east", "north", "vsys"):
            log_weight += np.log(np.clip(values, 1e-12, None))
    if not np.isfinite(log_weight).any():
        names = ", ".join(prior.name for prior in priors)
        raise KinematicsError(
            f"the priors on {names} exclude every realisation", "priors that overlap the data", "fit() without them"
        )
    weight = np.exp(log_weight - log_weight.max())
    return weight / weight.sum()
