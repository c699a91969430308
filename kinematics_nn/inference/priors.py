"""Priors of the user's on draws that were made under the default ones: weights, and draws resampled by them."""

from collections.abc import Mapping
from dataclasses import dataclass

import astropy.units as u
import numpy as np
from scipy import stats

from ..errors import KinematicsError
from ..forms.priors import Normal, Prior, Uniform
from ..quantities import inside_number

__all__ = ["UserPrior", "prior_weights", "user_priors"]

_LEAST_LEFT = 1e-3  # of a prior, between what limits its parameter


def _quantiles(distribution):
    """The quantile function of a `scipy.stats` distribution of the old or the new kind, or None."""
    return getattr(distribution, "ppf", None) or getattr(distribution, "icdf", None)


@dataclass(frozen=True)
class Cut(Prior):
    """A frozen `scipy.stats` distribution, cut off at `lo` and `hi`."""

    distribution: object = None

    @property
    def _ends(self):
        return float(self.distribution.cdf(self.lo)), float(self.distribution.cdf(self.hi))

    def ppf(self, probability):
        """The value below which the share `probability` of the prior lies."""
        below, above = self._ends
        return np.clip(
            _quantiles(self.distribution)(below + (above - below) * np.asarray(probability)), self.lo, self.hi
        )

    def cdf(self, value):
        """The share of the prior below a value."""
        below, above = self._ends
        return (self.distribution.cdf(np.clip(value, self.lo, self.hi)) - below) / (above - below)


@dataclass(frozen=True)
class UserPrior:
    """What the user put in the place of the default prior of one parameter, in inside units.

    Attributes
    ----------
    name : str
    log_density : callable
        Of values.
    normal : (float, float), optional
        Mean and standard deviation of a normal one.
    moments : (float, float), optional
        The same of any that has them.
    support : (float, float)
        Outside of it the density is zero.
    distribution : object, optional
        From `scipy.stats`, frozen.
    """

    name: str
    log_density: object
    normal: tuple | None = None
    moments: tuple | None = None
    support: tuple = (-np.inf, np.inf)
    distribution: object = None

    def __str__(self):
        if self.normal is not None:
            return "normal, {:.9g} and {:.9g}".format(*self.normal)
        if self.distribution is None:
            low, high = (f"{end:.9g}" if np.isfinite(end) else "the default's end" for end in self.support)
            return f"flat, {low} to {high}"
        kind = getattr(getattr(self.distribution, "dist", None), "name", type(self.distribution).__name__)
        quantile = _quantiles(self.distribution)
        if quantile is None:
            return f"{kind}, with the moments {self.moments}"
        values = ", ".join(f"{float(quantile(share)):.9g}" for share in (0.01, 0.25, 0.5, 0.75, 0.99))
        return f"{kind}, with 1, 25, 50, 75, 99 % below {values}"

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

        if isinstance(given, stats.rv_continuous):  # of no parameters yet
            raise wrong
        if hasattr(given, "logpdf"):
            try:
                std = getattr(given, "std", None) or given.standard_deviation
                moments = float(given.mean()), float(std())
                support = tuple(map(float, given.support()))
            except (AttributeError, TypeError, ValueError) as error:  # of several variates, say
                raise wrong from error
            known = np.isfinite(moments).all() and moments[1] > 0
            return cls(name, given.logpdf, None, moments if known else None, support, given)
        if isinstance(given, Mapping):
            unknown = ", ".join(repr(key) for key in given if key not in ("low", "high"))
            if unknown:
                raise KinematicsError(
                    f"priors[{name!r}] with the bounds {unknown}",
                    "low, high or both",
                    f"priors={{{name!r}: dict(low=, high=)}}",
                )
            low, high = number(given.get("low", -np.inf)), number(given.get("high", np.inf))
            if name == "pa" and not high - low <= 360:  # an angle has no end
                raise KinematicsError(
                    f"priors['pa'] = {given!r}", "both bounds, within a turn", 'priors={"pa": dict(low=-90, high=90)}'
                )
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

    def within(self, limits, default):
        """The prior between what limits the parameter.

        Parameters
        ----------
        limits : (float, float)
            Where the parameter means anything.
        default : (float, float)
            Where its default prior ends: so does one of which the user gave the other end.

        Returns
        -------
        `~kinematics_nn.forms.Prior`

        Raises
        ------
        KinematicsError
            Next to nothing of it is left there.
        """
        low, high = limits
        if self.normal is not None:
            left = float(np.diff(stats.norm(*self.normal).cdf(limits))[0])
            made = Normal(*self.normal, lo=low, hi=high)
        elif self.distribution is not None:
            left = float(np.diff(self.distribution.cdf(np.array(limits)))[0])
            made = Cut(low, high, distribution=self.distribution)
        else:
            first, last = self.support
            if np.isinf(first):
                first = default[0] if default[0] < last else low
            if np.isinf(last):
                last = default[1] if default[1] > first else high
            first, last = max(first, low), min(last, high)
            left, made = float(last > first), Uniform(first, last) if last > first else None
        if not left > _LEAST_LEFT:
            raise KinematicsError(
                f"a prior on {self.name} of which {left:.1%} lies between {limits[0]:g} and {limits[1]:g}",
                "one that overlaps what the parameter may be",
                f"priors={{{self.name!r}: ...}} again",
            )
        return made


def user_priors(priors, units, distance=None):
    """The user's priors as a list of `UserPrior`; ``units`` maps the names that may have one to their units.

    At a ``distance``, what has the unit arcsec may be given as a length.
    """
    for name in priors:
        if name not in units:
            raise KinematicsError(f"a prior on {name!r}", f"one of {', '.join(units)}", "priors={name: ...}")
    return [UserPrior.of(name, given, units[name], distance) for name, given in priors.items()]


def _default_log_density(name, samples, form_priors):
    values = samples[name]
    if name == "inclination":
        return np.log(np.sin(np.deg2rad(np.clip(values, 0.1, 90))))
    if name in ("pa", "east", "north", "vsys"):
        return np.zeros_like(values)
    if name in form_priors:
        default = form_priors[name]
        return default.log_prob(np.clip(values, default.lo, default.hi))
    if name == "thickness":  # log-uniform with a share at 0: the network knows it down to a hundredth of r50
        return -np.log(values + 0.01 * samples["r50"] + 1e-12)
    return -np.log(np.clip(values, 1e-12, None))


def prior_weights(samples, priors, form_priors=None):
    """Weights (n,), of sum one, that turn draws under the default priors into draws under the user's.

    The default is isotropic in inclination, uniform in angle, position and velocity, that of its form for a form's
    parameter, and log-uniform for what else is positive.

    Parameters
    ----------
    samples : dict
        Name to (n,) array, in inside units; for a prior on ``thickness``, with ``r50``.
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
        log_weight -= _default_log_density(prior.name, samples, form_priors or {})
    if not np.isfinite(log_weight).any():
        names = ", ".join(prior.name for prior in priors)
        raise KinematicsError(
            f"the priors on {names} exclude every realisation", "priors that overlap the data", "fit() without them"
        )
    weight = np.exp(log_weight - log_weight.max())
    return weight / weight.sum()
