"""Priors of one parameter: tiny, frozen, numpy only.

A scale radius has no sensible prior in arcsec that holds for every galaxy, so a prior may be declared in units of
something only the observation knows (`SCALES`), and is made absolute by :meth:`Prior.resolve` when that is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

__all__ = ["SCALES", "LogUniform", "Normal", "Prior", "Uniform", "scale_factor"]

SCALES = {
    "r_scale": "scale radius of the light, its half-light radius over 1.678 (an exponential disc's own r_scale); "
    "in the light itself, its parameter r_scale, and of a light without one, what the network says",
    "beam": "geometric-mean FWHM of the beam",
    "field": "half the larger side of the field, cut to the emission and two beams around it",
    "1/r_scale": "one over the scale radius of the light, for what is gained per arcsec",
}


def scale_factor(name, scales):
    """What a limit that is relative to ``name`` is multiplied by; ``scales`` holds ``r_scale``, ``beam``, ``field``."""
    if name is None:
        return 1.0
    return 1 / scales[name[2:]] if name.startswith("1/") else scales[name]


@dataclass(frozen=True)
class Prior:
    """A one-dimensional prior between two limits.

    Parameters
    ----------
    lo, hi : float
        Limits, in the parameter's inside unit, or in units of `relative_to`.
    relative_to : str or (str, str), optional
        A name of `SCALES` that multiplies both limits, or one name for each.
    """

    lo: float
    hi: float
    relative_to: str | tuple[str, str] | None = None

    def __post_init__(self):
        for name in self.scales:
            if name is not None and name not in SCALES:
                raise ValueError(f"relative_to={name!r} is no scale of a prior: use one of {', '.join(SCALES)}")
        if self.scales[0] == self.scales[1] and not self.lo < self.hi:
            raise ValueError(f"a prior needs lo < hi, got lo={self.lo}, hi={self.hi}")

    @property
    def scales(self):
        """The scale of each limit, `None` where it is absolute."""
        return self.relative_to if isinstance(self.relative_to, tuple) else (self.relative_to, self.relative_to)

    def resolve(self, scales):
        """The same prior in inside units.

        Parameters
        ----------
        scales : dict of str to float
            The scales of `SCALES` that are known, in arcsec; what is one over them follows.

        Raises
        ------
        KeyError
            If the prior is relative to a scale that is not given.
        """
        try:
            lo, hi = (float(scale_factor(name, scales)) for name in self.scales)
        except KeyError as error:
            missing = error.args[0]
            raise KeyError(
                f"the prior is relative to {missing!r}: give resolve() a dict that holds it, in arcsec"
            ) from None
        return replace(self, lo=self.lo * lo, hi=self.hi * hi, relative_to=None)

    def _absolute(self):
        if self.relative_to is not None:
            raise ValueError(f"the prior is relative to {self.relative_to!r}: call resolve() first")
        return self

    def sample(self, generator, size=None):
        """Draws, from a `numpy.random.Generator`."""
        return self.ppf(generator.uniform(size=size))


@dataclass(frozen=True)
class Uniform(Prior):
    """Flat between `lo` and `hi`."""

    def ppf(self, probability):
        """The value below which the share `probability` of the prior lies."""
        self._absolute()
        return self.lo + (self.hi - self.lo) * np.asarray(probability)

    def log_prob(self, value):
        """Log density, -inf outside the limits."""
        self._absolute()
        value = np.asarray(value, dtype=float)
        return np.where((value >= self.lo) & (value <= self.hi), -np.log(self.hi - self.lo), -np.inf)


@dataclass(frozen=True)
class LogUniform(Prior):
    """Flat in the logarithm between `lo` and `hi`, both positive."""

    def __post_init__(self):
        super().__post_init__()
        if not self.lo > 0:
            raise ValueError(f"a log-uniform prior needs lo > 0, got {self.lo}")

    def ppf(self, probability):
        """The value below which the share `probability` of the prior lies."""
        self._absolute()
        return self.lo * (self.hi / self.lo) ** np.asarray(probability)

    def log_prob(self, value):
        """Log density per unit of the value (not of its logarithm), -inf outside the limits."""
        self._absolute()
        value = np.asarray(value, dtype=float)
        inside = (value >= self.lo) & (value <= self.hi)
        safe = np.where(inside, value, self.lo)
        return np.where(inside, -np.log(safe) - np.log(np.log(self.hi / self.lo)), -np.inf)


@dataclass(frozen=True, init=False)
class Normal(Prior):
    """A Gaussian of a mean and standard deviation, cut off at `lo` and `hi`; all of them scale as `lo` does."""

    mean: float = 0.0
    std: float = 1.0

    def __init__(self, mean, std, lo=-np.inf, hi=np.inf, relative_to=None):
        given = {"lo": lo, "hi": hi, "relative_to": relative_to, "mean": mean, "std": std}
        for name, value in given.items():
            object.__setattr__(self, name, value)
        self.__post_init__()

    def __post_init__(self):
        super().__post_init__()
        if not self.std > 0:
            raise ValueError(f"a normal prior needs std > 0, got {self.std}")

    def resolve(self, scales):
        """The same prior in inside units; see `Prior.resolve`."""
        absolute = super().resolve(scales)
        factor = float(scale_factor(self.scales[0], scales))
        return replace(absolute, mean=self.mean * factor, std=self.std * factor)

    def _truncated(self):
        from scipy.stats import truncnorm

        self._absolute()
        lo, hi = (self.lo - self.mean) / self.std, (self.hi - self.mean) / self.std
        return truncnorm(lo, hi, loc=self.mean, scale=self.std)

    def ppf(self, probability):
        """The value below which the share `probability` of the prior lies."""
        return self._truncated().ppf(probability)

    def log_prob(self, value):
        """Log density, normalised between the limits."""
        return self._truncated().logpdf(value)
