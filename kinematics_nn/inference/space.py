"""The space that posteriors are explored in: every parameter as a standard normal variate under its prior."""

import math
from functools import partial

import numpy as np
import torch
from scipy.special import ndtr

from ..forms.priors import LogUniform, Normal, Uniform, scale_factor
from .priors import Cut

__all__ = [
    "DISC_PRIORS",
    "LIMITS",
    "PA_UNIT",
    "THICKNESS",
    "THIN_SHARE",
    "ParameterSpace",
    "in_own_scale",
    "observation_scales",
]

PA_UNIT = 10.0
"""Degrees that a unit of the position angle's variate stands for: it has no normal prior."""
LIMITS = {"inclination": (0.0, 90.0), "thickness": (0.0, math.inf)}
"""Between which parameters that are no form's mean anything [deg, arcsec]."""
THICKNESS = (0.02, 0.3)
"""Limits of the log-uniform prior of the scale height over the disc's scale, r50 / 1.678."""
THIN_SHARE = 0.25
"""Share of the prior of infinitely thin discs."""
DISC_PRIORS = {
    "inclination": "isotropic, 0 to 90 deg",
    "pa": "Uniform over a turn",
    "east, north": "Normal about the middle of the crop, a quarter of its extent wide",
    "vsys": "Normal about the middle of the crop's channels, a quarter of their range wide",
    "flux": "Normal about 0, ten times the detected flux wide",
    "thickness": f"0 for {THIN_SHARE:.0%}, else LogUniform {THICKNESS[0]:g} to {THICKNESS[1]:g} r50/1.678",
}
"""What the default priors are of what every disc has, in words."""

_EDGE = 1e-9
_FAR = 5.0  # standard deviations of the default prior of centre and vsys, where it is as good as nothing
_CONTRADICTED = 40.0  # of a user's: as far as data that are more certain may be from it
_FEW = 4  # free parameters of a curve that are as good as its speeds


class ParameterSpace:
    r"""Maps variates x to parameters: the prior is standard normal in x, and flat over a turn in position angle.

    A parameter is the quantile function of its prior at :math:`\Phi(x)`. That leaves no limits to run into, and makes
    the prior as Gaussian as a posterior is hoped to be. Radii whose prior counts in the disc's own scale follow it; in
    the light itself that is its parameter ``r_scale``, where it has one. The flux, which is linear, is not in the
    space.

    Parameters
    ----------
    forms : Forms
        Functional forms.
    centre : (float, float, float)
        Means of the normal priors of east and north [arcsec] and vsys [km/s].
    spread : (float, float, float)
        Their standard deviations.
    pa : float
        Where the position angle is counted from [deg].
    scales : dict of str to float
        ``beam``, ``field`` and ``r_scale`` [arcsec], that priors of the light count in.
    fixed : dict of str to float, optional
        Parameters that are held, in inside units.
    priors : list of `~kinematics_nn.inference.priors.UserPrior`, optional
        They take the place of the default ones; that of the flux is none of the space's.
    """

    def __init__(self, forms, centre, spread, pa, scales, fixed=None, priors=()):
        self.forms, self.names = forms, forms.parameter_names
        self.fixed = dict(fixed or {})
        self.centre, self.spread, self.pa, self.scales = centre, spread, pa, scales
        self.free = [name for name in self.names if name != "flux" and name not in self.fixed]
        self.slots = {
            slot: dict(zip(columns, getattr(forms, slot).parameters, strict=True))
            for slot, columns in forms.slots.items()
        }
        given = {prior.name: prior for prior in priors if prior.name in self.free}
        self.pa_prior = given.pop("pa", None)
        self._own = {name: prior.within(*self._limits(name)) for name, prior in given.items()}
        joint = self.forms.rotation_curve.prior_residuals is not None  # of rings, speeds already
        self._curve = set() if joint else set(self.slots["rotation_curve"]) & set(self.free)

    def __len__(self):
        return len(self.free)

    def log_prior(self, x):
        """Log prior density (n,) of variates (n, free), per unit of x."""
        normal = [k for k, name in enumerate(self.free) if name != "pa"]
        log = -0.5 * (x[:, normal] ** 2).sum(1) - 0.5 * len(normal) * math.log(2 * math.pi)
        if "pa" in self.free:
            away = PA_UNIT * x[:, self.free.index("pa")]
            density = math.log(1 / 360) if self.pa_prior is None else self._of_turns(self.pa + away)
            # One turn: an angle counts once.
            log = log + torch.where(away.abs() <= 180, density + math.log(PA_UNIT), -math.inf)
        joint = [slot for slot in self.slots if getattr(self.forms, slot).prior_residuals is not None]
        if joint:
            values = dict(zip(self.names, self.parameters(x).T, strict=True))
            for slot in joint:
                form = getattr(self.forms, slot)
                log = log + form.log_prior(*(values[name] for name in self.slots[slot])) - form.log_prior_norm()
        return log

    def _of_turns(self, pa):
        """Log density (n,) of the user's prior of the position angle (n,) [deg], which is the same one turn on."""
        logs = [_by_numpy(self.pa_prior.log_density, pa + turn, 1e-4) for turn in (-720, -360, 0, 360, 720)]
        return torch.logsumexp(torch.stack(logs), 0)

    def _limits(self, name):
        """Where a parameter means anything, and where its default prior ends, or nearly so."""
        for slot in self.slots.values():
            if name in slot:
                default = slot[name].prior.resolve(self.scales)
                return slot[name].bounds, (default.lo, default.hi)
        if name in LIMITS:
            low, high = LIMITS[name]
            return (low, high), (low, THICKNESS[1] * self.scales["r_scale"] if name == "thickness" else high)
        k = ("east", "north", "vsys").index(name)
        return (-math.inf, math.inf), (self.centre[k] - _FAR * self.spread[k], self.centre[k] + _FAR * self.spread[k])

    def parameters(self, x):
        """Parameters (n, n_parameters) in the decoder's order, of unit flux, from variates (n, free)."""
        variates = dict(zip(self.free, x.T, strict=True))
        values = {"flux": torch.ones(len(x), dtype=x.dtype, device=x.device)}

        def value(name, default):
            if name in self.fixed:
                return torch.full_like(values["flux"], self.fixed[name])
            own = self._own.get(name)
            return default(variates[name]) if own is None else _quantile(own, variates[name], {})

        def of_form(slot, scales):
            # What others count in goes first.
            for name, parameter in sorted(self.slots[slot].items(), key=lambda item: item[1].name != "r_scale"):
                its = scales or self._scales_of_light(values, parameter)
                values[name] = value(name, partial(_quantile, parameter.prior, scales=its))

        of_form("surface_brightness", None)
        scales, r_scale = self._scales_of(values)
        of_form("rotation_curve", scales)
        of_form("velocity_dispersion", scales)
        for name, centre, spread in zip(("east", "north", "vsys"), self.centre, self.spread, strict=True):
            values[name] = value(name, lambda at, centre=centre, spread=spread: centre + spread * at)
        values["pa"] = value("pa", lambda at: self.pa + PA_UNIT * at)
        values["inclination"] = value("inclination", _isotropic)
        values["thickness"] = value("thickness", lambda at: _thickness(_share(at)) * r_scale)
        return torch.stack([values[name] for name in self.names], 1)

    def variates(self, parameters):
        """Variates (n, free) of parameters (n, n_parameters): the inverse of `parameters`, kept within five sigma."""
        values = dict(zip(self.names, parameters.T, strict=True))
        scales, r_scale = self._scales_of(values)
        found = {}
        for slot, columns in self.slots.items():
            for name, parameter in columns.items():
                its = self._scales_of_light(values, parameter) if slot == "surface_brightness" else scales
                found[name] = _probability(parameter.prior, values[name], its)
        for name, centre, spread in zip(("east", "north", "vsys"), self.centre, self.spread, strict=True):
            found[name] = torch.special.ndtr((values[name] - centre) / spread)
        found["inclination"] = 1 - torch.cos(torch.deg2rad(values["inclination"]))
        low, high = THICKNESS
        ratio = values["thickness"] / r_scale
        thick = THIN_SHARE + (1 - THIN_SHARE) * torch.log((ratio / low).clamp(min=1)) / math.log(high / low)
        found["thickness"] = torch.where(ratio < low, THIN_SHARE * (ratio / low).clamp(min=0.5), thick)
        found |= {name: _probability(prior, values[name], {}) for name, prior in self._own.items()}
        x = {name: torch.special.ndtri(share.clamp(_EDGE, 1 - _EDGE)).clamp(-5, 5) for name, share in found.items()}
        away = torch.remainder(values["pa"] - self.pa + 180, 360) - 180
        x["pa"] = away / PA_UNIT
        return torch.stack([x[name] for name in self.free], 1)

    def _scales_of_light(self, values, parameter):
        """What a parameter of the light counts in: its ``r_scale``, where it has one and is another."""
        if not in_own_scale(self.forms.surface_brightness, parameter):
            return self.scales
        (own,) = (name for name, known in self.slots["surface_brightness"].items() if known.name == "r_scale")
        return self.scales | {"r_scale": values[own]}

    def _scales_of(self, values):
        """What priors count in, of galaxies whose light is among ``values``, and its scale (n,)."""
        light = (values[name] for name in self.slots["surface_brightness"])
        r_scale = self.forms.surface_brightness.half_light_radius(*light) / 1.678
        return self.scales | {"r_scale": r_scale}, r_scale

    def reach(self):
        """How far out a variate (free,) may be: six sigma, but half a turn, and farther under a user's normal prior."""
        farthest = {name: _CONTRADICTED for name, prior in self._own.items() if isinstance(prior, Normal)}
        farthest["pa"] = 180 / PA_UNIT
        return torch.tensor([farthest.get(name, 6.0) for name in self.free], dtype=torch.float64)

    def inside(self, x):
        """Variates (n, free), moved to the nearest edge where the user's prior of the position angle is zero."""
        low, high = (-math.inf, math.inf) if self.pa_prior is None else self.pa_prior.support
        if not 0 < high - low < 360:
            return x
        k, middle = self.free.index("pa"), 0.5 * (low + high)
        value = self.pa + PA_UNIT * x[:, k]
        value = middle + torch.remainder(value - middle + 180, 360) - 180
        # Within by what a variate's way there and back may lose.
        margin = 1e-6 * (high - low)
        edge = torch.remainder(value.clamp(low + margin, high - margin) - self.pa + 180, 360) - 180
        x = x.clone()
        x[:, k] = torch.where((value < low) | (value > high), edge / PA_UNIT, x[:, k])
        return x

    def smooth(self, x):
        """What a model is smooth in, of variates (n, free): (n, m), in arcsec and km/s.

        They are the parameters, in which a model is straighter than in variates, but for angles and three more: the
        cosine of the inclination; speeds as they are seen, times its sine, as a nearly face-on disc turns as fast as
        its inclination makes it; and the square of the scale height, which widens what is seen in quadrature. Of a
        curve of many parameters, a sum of masses, speeds are taken at a few radii: the parameters trade with one
        another along ridges that are long and bent, and the speeds hardly change.
        """
        values = dict(zip(self.names, self.parameters(x).T, strict=True))
        inclination = torch.deg2rad(values["inclination"])
        seen = torch.sin(inclination)
        columns = {name: values[name] for name in self.free}
        if "pa" in columns:  # counted in parts of a turn: it goes on where the parameter does
            columns["pa"] = x[:, self.free.index("pa")]
        if "inclination" in columns:
            columns["inclination"] = torch.cos(inclination)
        if "thickness" in columns:
            columns["thickness"] = values["thickness"] ** 2
        if len(self._curve) > _FEW:
            columns = {name: column for name, column in columns.items() if name not in self._curve}
            own = [values[name][:, None] for name in self.slots["rotation_curve"]]
            inner = min(0.25 * self.scales["beam"], 0.3 * self.scales["r_scale"])
            ratio = torch.linspace(0, 1, len(self._curve) + 1, dtype=x.dtype)
            radii = inner * (4 * self.scales["r_scale"] / inner) ** ratio[None]
            columns |= dict(enumerate((seen[:, None] * self.forms.rotation_curve.evaluate(radii, *own)).T))
        else:
            for name, parameter in self.slots["rotation_curve"].items():
                if name in columns and (parameter.powers or (0,))[0] == 1:
                    columns[name] = seen * values[name]
        return torch.stack(list(columns.values()), 1)

    def derivatives(self, x, step=1e-4):
        """Derivatives (n, free, n_parameters) of the parameters by the variates, by central differences in float64."""
        n, free = x.shape
        moves = step * torch.eye(free, dtype=x.dtype)
        at = torch.cat([(x[:, None] + moves).flatten(0, 1), (x[:, None] - moves).flatten(0, 1)])
        ahead, behind = self.parameters(at).chunk(2)
        return ((ahead - behind) / (2 * step)).unflatten(0, (n, free))


def in_own_scale(light, parameter):
    """Whether a parameter of a light counts in the light's own ``r_scale``, where it has one and is another."""
    return "r_scale" in light.names() and "r_scale" in parameter.prior.scales and parameter.name != "r_scale"


def observation_scales(observation):
    """What priors count in and an observation knows: ``beam`` and ``field`` of `~kinematics_nn.forms.priors.SCALES`."""
    ny, nx = observation.shape[1:]
    sides = np.linalg.norm(observation.pixel_matrix, axis=0)  # of a pixel
    return {
        "beam": float(np.sqrt(observation.beam[0] * observation.beam[1])),
        # The larger: an edge-on disc along the pixels is cut to a strip.
        "field": 0.5 * max(steps * float(side) for steps, side in zip((nx - 1, ny - 1), sides, strict=True)),
    }


def _share(x):
    return torch.special.ndtr(x)


def _isotropic(x):
    """The inclination [deg] at a variate."""
    return torch.rad2deg(torch.arccos((1 - _share(x)).clamp(_EDGE, 1 - _EDGE)))


def _thickness(share):
    """Scale height over the disc's scale at a share of its prior: 0 for the thin, log-uniform above."""
    low, high = THICKNESS
    above = ((share - THIN_SHARE) / (1 - THIN_SHARE)).clamp(min=0)
    return torch.where(share < THIN_SHARE, torch.zeros_like(share), low * (high / low) ** above)


def _limits(prior, scales):
    return [limit * scale_factor(name, scales) for limit, name in zip((prior.lo, prior.hi), prior.scales, strict=True)]


def _by_numpy(function, value, step):
    """A function of numpy at values (n,), with its slope by differences of a step where torch asks for one."""
    at = value.detach().numpy()
    found = torch.as_tensor(np.asarray(function(at)))
    if not value.requires_grad:
        return found
    with np.errstate(invalid="ignore"):
        slope = np.asarray((function(at + step) - function(at - step)) / (2 * step))
    # Where it is no number, and at an edge, it has none.
    slope = torch.as_tensor(np.where(np.isfinite(slope), slope, 0.0))
    return found + slope * (value - value.detach())


def _quantile(prior, x, scales):
    """The value at a variate under a prior whose scales may be tensors."""
    if isinstance(prior, Cut):
        return _by_numpy(lambda at: prior.ppf(ndtr(at)), x, 1e-4)
    low, high = _limits(prior, scales)
    if isinstance(prior, LogUniform):
        return low * (high / low) ** _share(x)
    if isinstance(prior, Uniform):
        return low + (high - low) * _share(x)
    mean, std, below, inside = _normal(prior, low, high, scales)
    share = (below + inside * _share(x)).clamp(1e-15, 1 - 1e-15) if inside < 1 else None
    return mean + std * (x if share is None else torch.special.ndtri(share))


def _probability(prior, value, scales):
    """The share of a prior below a value."""
    if isinstance(prior, Cut):
        return torch.as_tensor(prior.cdf(value.numpy()))
    low, high = _limits(prior, scales)
    if isinstance(prior, LogUniform):
        ratio = torch.as_tensor(high / low, dtype=value.dtype)
        return torch.log((value / low).clamp(min=1e-12)) / torch.log(ratio)
    if isinstance(prior, Uniform):
        return (value - low) / (high - low)
    mean, std, below, inside = _normal(prior, low, high, scales)
    return (torch.special.ndtr((value - mean) / std) - below) / inside


def _normal(prior, low, high, scales):
    """Mean and standard deviation of a truncated normal prior, the share below its limits and between them."""
    if not isinstance(prior, Normal):
        raise TypeError(f"{type(prior).__name__} is no prior that can be explored: use Uniform, LogUniform or Normal")
    factor = scale_factor(prior.scales[0], scales)
    lo, hi = (prior.lo - prior.mean) / prior.std, (prior.hi - prior.mean) / prior.std
    below, above = (0.5 * (1 + math.erf(z / math.sqrt(2))) for z in (lo, hi))
    return prior.mean * factor, prior.std * factor, below, above - below
