"""The space that posteriors are explored in: every parameter as a standard normal variate under its prior."""

import math

import numpy as np
import torch

from ..forms.priors import LogUniform, Normal, Uniform, scale_factor

__all__ = ["PA_UNIT", "THICKNESS", "THIN_SHARE", "ParameterSpace", "observation_scales"]

PA_UNIT = 10.0
"""Degrees that a unit of the position angle's variate stands for: it has no normal prior."""
THICKNESS = (0.02, 0.3)
"""Limits of the log-uniform prior of the scale height over the disc's scale, r50 / 1.678."""
THIN_SHARE = 0.25
"""Share of the prior of infinitely thin discs."""

_EDGE = 1e-9
_FEW = 4  # free parameters of a curve that are as good as its speeds


class ParameterSpace:
    r"""Maps variates x to parameters: the prior is standard normal in x, and flat over a turn in position angle.

    A parameter is the quantile function of its prior at :math:`\Phi(x)`. That leaves no limits to run into, and makes
    the prior as Gaussian as a posterior is hoped to be. Radii whose prior counts in the disc's own scale follow it. The
    flux, which is linear, is not in the space.

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
        self.priors = [prior for prior in priors if prior.name in self.free]
        self.slots = {
            slot: dict(zip(columns, getattr(forms, slot).parameters, strict=True))
            for slot, columns in forms.slots.items()
        }
        joint = self.forms.rotation_curve.prior_residuals is not None  # of rings, speeds already
        self._curve = set() if joint else set(self.slots["rotation_curve"]) & set(self.free)

    def __len__(self):
        return len(self.free)

    def log_prior(self, x):
        """Log prior density (n,) of variates (n, free), per unit of x."""
        own = {prior.name for prior in self.priors}
        normal = [k for k, name in enumerate(self.free) if name != "pa" and name not in own]
        log = -0.5 * (x[:, normal] ** 2).sum(1) - 0.5 * len(normal) * math.log(2 * math.pi)
        if "pa" in self.free:
            flat = 0.0 if "pa" in own else math.log(PA_UNIT / 360)
            # One turn: an angle counts once.
            inside = (PA_UNIT * x[:, self.free.index("pa")]).abs() <= 180
            log = log + torch.where(inside, flat, -math.inf)
        for prior in self.priors:
            log = log + self._log_density(prior, x)
        joint = [slot for slot in self.slots if getattr(self.forms, slot).prior_residuals is not None]
        if joint:
            values = dict(zip(self.names, self.parameters(x).T, strict=True))
            for slot in joint:
                form = getattr(self.forms, slot)
                log = log + form.log_prior(*(values[name] for name in self.slots[slot])) - form.log_prior_norm()
        return log

    def _log_density(self, prior, x):
        """Log density (n,) of a user's prior, per unit of the variate."""
        k, column = self.free.index(prior.name), self.names.index(prior.name)
        value = self.parameters(x)[:, column]
        slope = self.derivatives(x)[:, k, column].abs()
        # An angle is the same one turn on.
        turns = (-720, -360, 0, 360, 720) if prior.name == "pa" else (0,)
        logs = [_differentiable(prior.log_density, value + turn) for turn in turns]
        return torch.logsumexp(torch.stack(logs), 0) + torch.log(slope.clamp(min=1e-300))

    def parameters(self, x):
        """Parameters (n, n_parameters) in the decoder's order, of unit flux, from variates (n, free)."""
        variates = dict(zip(self.free, x.T, strict=True))
        values = {"flux": torch.ones(len(x), dtype=x.dtype, device=x.device)}

        def held(name):
            return torch.full_like(values["flux"], self.fixed[name])

        light = self.slots["surface_brightness"]
        for name, parameter in light.items():
            values[name] = held(name) if name in self.fixed else _quantile(parameter.prior, variates[name], self.scales)
        r_scale = self.forms.surface_brightness.half_light_radius(*(values[name] for name in light)) / 1.678
        scales = self.scales | {"r_scale": r_scale}
        for slot in ("rotation_curve", "velocity_dispersion"):
            for name, parameter in self.slots[slot].items():
                values[name] = held(name) if name in self.fixed else _quantile(parameter.prior, variates[name], scales)
        for name, centre, spread in zip(("east", "north", "vsys"), self.centre, self.spread, strict=True):
            values[name] = held(name) if name in self.fixed else centre + spread * variates[name]
        values["pa"] = held("pa") if "pa" in self.fixed else self.pa + PA_UNIT * variates["pa"]
        values["inclination"] = (
            held("inclination")
            if "inclination" in self.fixed
            else torch.rad2deg(torch.arccos((1 - _share(variates["inclination"])).clamp(_EDGE, 1 - _EDGE)))
        )
        values["thickness"] = (
            held("thickness") if "thickness" in self.fixed else _thickness(_share(variates["thickness"])) * r_scale
        )
        return torch.stack([values[name] for name in self.names], 1)

    def variates(self, parameters):
        """Variates (n, free) of parameters (n, n_parameters): the inverse of `parameters`, kept within five sigma."""
        values = dict(zip(self.names, parameters.T, strict=True))
        light = self.slots["surface_brightness"]
        r_scale = self.forms.surface_brightness.half_light_radius(*(values[name] for name in light)) / 1.678
        scales = self.scales | {"r_scale": r_scale}
        found = {}
        for slot, columns in self.slots.items():
            own = self.scales if slot == "surface_brightness" else scales
            found |= {name: _probability(parameter.prior, values[name], own) for name, parameter in columns.items()}
        for name, centre, spread in zip(("east", "north", "vsys"), self.centre, self.spread, strict=True):
            found[name] = torch.special.ndtr((values[name] - centre) / spread)
        found["inclination"] = 1 - torch.cos(torch.deg2rad(values["inclination"]))
        low, high = THICKNESS
        ratio = values["thickness"] / r_scale
        thick = THIN_SHARE + (1 - THIN_SHARE) * torch.log((ratio / low).clamp(min=1)) / math.log(high / low)
        found["thickness"] = torch.where(ratio < low, THIN_SHARE * (ratio / low).clamp(min=0.5), thick)
        x = {name: torch.special.ndtri(share.clamp(_EDGE, 1 - _EDGE)).clamp(-5, 5) for name, share in found.items()}
        away = torch.remainder(values["pa"] - self.pa + 180, 360) - 180
        x["pa"] = away / PA_UNIT
        return torch.stack([x[name] for name in self.free], 1)

    def inside(self, x):
        """Variates (n, free), moved to the nearest edge, each by itself, where a user's prior is zero at them."""
        light = self.slots["surface_brightness"]
        # Radii follow the light's.
        for prior in sorted(self.priors, key=lambda prior: prior.name not in light):
            low, high = prior.support
            if np.isinf([low, high]).all() or (prior.name == "pa" and not 0 < high - low < 360):
                continue
            k, column = self.free.index(prior.name), self.names.index(prior.name)
            parameters = self.parameters(x)
            value = parameters[:, column].clone()
            if prior.name == "pa":
                middle = 0.5 * (low + high)
                value = middle + torch.remainder(value - middle + 180, 360) - 180
            # Within by what a variate's way there and back may lose.
            margin = 1e-6 * (high - low if np.isfinite(high - low) else abs(low if np.isfinite(low) else high))
            outside = (value < low) | (value > high)
            parameters[:, column] = value.clamp(low + margin, high - margin)
            x = x.clone()
            x[outside, k] = self.variates(parameters)[outside, k]
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


def observation_scales(observation):
    """What priors count in and an observation knows: ``beam`` and ``field`` of `~kinematics_nn.forms.priors.SCALES`."""
    return {
        "beam": float(np.sqrt(observation.beam[0] * observation.beam[1])),
        "field": float(0.5 * min(np.ptp(observation.xi), np.ptp(observation.eta))),
    }


def _share(x):
    return torch.special.ndtr(x)


def _thickness(share):
    """Scale height over the disc's scale at a share of its prior: 0 for the thin, log-uniform above."""
    low, high = THICKNESS
    above = ((share - THIN_SHARE) / (1 - THIN_SHARE)).clamp(min=0)
    return torch.where(share < THIN_SHARE, torch.zeros_like(share), low * (high / low) ** above)


def _limits(prior, scales):
    return [limit * scale_factor(name, scales) for limit, name in zip((prior.lo, prior.hi), prior.scales, strict=True)]


def _differentiable(log_density, value):
    """A user's log density, numpy's, at values (n,); with its slope by differences where torch asks for one."""
    at = value.detach().numpy()
    log = torch.as_tensor(np.asarray(log_density(at)))
    if not value.requires_grad:
        return log
    step = 1e-6 * np.maximum(np.abs(at), 1.0)
    with np.errstate(invalid="ignore"):
        slope = np.asarray((log_density(at + step) - log_density(at - step)) / (2 * step))
    # Where it is zero, and at an edge, it has none.
    slope = torch.as_tensor(np.where(np.isfinite(slope), slope, 0.0))
    return log + slope * (value - value.detach())


def _quantile(prior, x, scales):
    """The value at a variate under a prior whose scales may be tensors."""
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
