"""Functional forms fitted to the network's curves, realisation by realisation.

The network draws rotation curves and light profiles without form. Given a form, the posterior of its parameters is that
of the draws restricted to the curves the form can make. For a Gaussian posterior this is exact: each draw is fitted
with the inverse covariance of all draws as weights, and whatever else was drawn moves by its regression on what the fit
leaves over. Where the form can make none of the curves it is not the galaxy's, and nothing moves. What a form says of
its parameters together (`prior_residuals`: the smoothness of rings) is fitted beside.
"""

from dataclasses import replace

import numpy as np
import torch

from ..forms.base import SurfaceBrightness
from ..forms.priors import LogUniform
from ..network.targets import LIGHT, LIGHT_FLOOR, MULTIPLES, SPEED, SPEED_FLOOR, TARGETS, Disc, decode_targets
from .space import in_own_scale

__all__ = ["NEAREST", "project"]

NEAREST = 3
"""Draws for one that is kept, of the network's, where a form is fitted: those nearest to what the form can make.

If all were Gaussian that would change nothing. But what the network has seen is of many forms, and its density a
mixture: of discs of this form, whose curves it can make, and of wider ones about them, that it cannot.
"""

_ITERATIONS = 12
_NEAR_V22 = MULTIPLES.index(1.5)
_ANY = 1e3  # times the galaxy's own speed, and as small a part, that the one amplitude of a curve may be
_EXCLUDED = 3.0
"""What the best curves of a form leave of the draws' mean, squared in their errors, from where it is not the galaxy's.

Of 373 KinMS galaxies of the form 16 were above, of 385 others 270 (those of ``calibrate --galaxies varied troubled``).
"""


def project(targets, frame, forms, scales, n=None):
    """Parameters of ``forms`` for each draw, or for the ``n`` nearest to what the forms can make (any, if they cannot).

    Parameters
    ----------
    targets : Tensor (draw, len(TARGETS))
        Of one galaxy, from the network.
    frame : Frame
        Of the same galaxy, with scalar attributes.
    forms : Forms
        Rotation curve and surface brightness to fit.
    scales : dict of str to float
        ``beam`` and ``field`` [arcsec], as `~kinematics_nn.inference.space.observation_scales` has them: some priors
        count in them.
    n : int, optional
        Draws to keep; all by default.

    Returns
    -------
    disc : Disc
        The draws, moved to where the forms can make their curves, if they can; ``speed`` and ``light`` are the
        network's own.
    curve, light : dict
        Name to Tensor (draw,) of the forms' parameters, in arcsec and km/s.
    possible : bool
        Whether the forms can make the network's curves, within their errors.
    """
    targets = targets.double()
    r50_column = TARGETS.index("r50")
    fitted = [r50_column, *range(LIGHT.start, LIGHT.stop), *range(SPEED.start, SPEED.stop)]
    others = [k for k in range(len(TARGETS)) if k not in fitted]
    frame = _double(frame)
    disc = decode_targets(targets, frame)
    sine = torch.sin(disc.inclination)
    r50, speed = float(disc.r50.median()), float(disc.speed[:, _NEAR_V22].median())
    shape = _Shape(forms, r50, speed, scales | {"r_scale": r50 / 1.678}, frame)
    # The speeds are fitted in the plane of the disc; what inclination does to all of them alike, the amplitude takes.
    wanted = targets[:, fitted].clone()
    wanted[:, 1 + len(MULTIPLES) :] -= torch.log(sine.clamp(min=1e-3))[:, None]
    weights = _inverse_covariance(wanted)
    best = shape.best(wanted, disc.r50, weights)
    left = shape.left(wanted, disc.r50, weights, best)
    middle = left.mean(0)
    excluded = float(middle @ weights @ middle) > _EXCLUDED
    spread = torch.cov(torch.cat([targets[:, others], wanted], 1).T)
    if n is not None:
        kept = slice(n) if excluded else _chi2(left, weights).argsort()[:n].sort().values
        targets, wanted, sine = targets[kept], wanted[kept], sine[kept]
        disc = Disc(**{name: value[kept] for name, value in vars(disc).items()})
    free = shape.fit(wanted, disc.r50, weights, best)
    curve, light = shape.parameters(free)
    if excluded:
        return disc, curve, light, False
    left = wanted - shape.curves(free, disc.r50)
    regression = spread[: len(others), len(others) :] @ weights
    targets = targets.clone()
    targets[:, others] -= left @ regression.T
    moved = decode_targets(targets, frame)
    # The projected speed is what the cube knows: it stays while the inclination moves.
    turned = sine / torch.sin(moved.inclination).clamp(min=1e-3)
    for parameter in forms.rotation_curve.parameters:
        curve[parameter.name] = curve[parameter.name] * turned ** float(parameter.powers[0])
    r50 = forms.surface_brightness.half_light_radius(*light.values())
    thickness = moved.thickness / moved.r50 * r50
    return replace(moved, r50=r50, thickness=thickness), curve, light, True


def _inverse_covariance(draws):
    covariance = torch.cov(draws.T)
    floor = 0.02**2 + 1e-4 * torch.diagonal(covariance).mean()
    return torch.linalg.inv(covariance + floor * torch.eye(len(covariance), dtype=draws.dtype))


class _Shape:
    """The forms' curves as functions of unbounded parameters, and their batched fit.

    A parameter with a log-uniform prior is a sigmoid in its logarithm between the prior's limits, another one in its
    value. The one amplitude of a curve has no other limits than a speed can have: the network has seen galaxies of
    any. Of several, which the data may not tell apart, each keeps its prior, which reaches the galaxy's speed. Radii of
    the light whose prior counts in its own ``r_scale`` are that many times as large.
    """

    def __init__(self, forms, r50, speed, scales, frame):
        self.forms = forms
        self.slots = (_summed_fast(forms.surface_brightness, scales), forms.rotation_curve)
        low, high, log, start = [], [], [], []
        self.counted = []
        amplitudes = [p for p in forms.rotation_curve.parameters if _is_amplitude(p)]
        alone = len(amplitudes) == 1 or forms.rotation_curve.prior_residuals is not None  # rings are no rivals
        for form in self.slots:
            for parameter in form.parameters:
                self.counted.append(form is self.slots[0] and in_own_scale(form, parameter))
                prior = parameter.prior.resolve(scales | {"r_scale": 1.0} if self.counted[-1] else scales)
                lo, hi = prior.lo, prior.hi
                if not np.isfinite([lo, hi]).all():
                    lo, hi = prior.ppf([1e-4, 1 - 1e-4])
                own = None
                if any(parameter is one for one in amplitudes):
                    own = speed * r50 ** float(parameter.powers[1])
                    lo, hi = (own / _ANY, own * _ANY) if alone else (min(lo, 0.1 * own), max(hi, 4 * own))
                log.append(isinstance(prior, LogUniform))
                low.append(np.log(lo) if log[-1] else lo)
                high.append(np.log(hi) if log[-1] else hi)
                start.append(0.5 if own is None else (np.log(own) - low[-1]) / (high[-1] - low[-1]))
        self.start = torch.logit(torch.tensor(start, dtype=torch.float64), eps=0.02)
        self.low, self.high = (torch.tensor(a, dtype=torch.float64) for a in (low, high))
        self.log = torch.tensor(log)
        with_residuals = [form for form in self.slots if form.prior_residuals]
        self.residuals = sum(len(form.prior_residuals(*form.defaults().values())) for form in with_residuals)
        self.extent, self.width = frame.extent, frame.width

    def values(self, free, some=slice(None)):
        """Bounded parameters (..., n), of unbounded ones; ``some`` of all that there are."""
        low, log = self.low[some], self.log[some]
        value = low + (self.high[some] - low) * torch.sigmoid(free)
        value = torch.where(log, torch.exp(torch.where(log, value, 0.0)), value)
        counted = torch.tensor(self.counted)[some]  # some are the light, which is first, or the curve
        if not counted.any():
            return value
        k = self.slots[0].names().index("r_scale")
        return torch.where(counted, value * value[..., k : k + 1], value)

    def parameters(self, free):
        """The parameters of the rotation curve and of the light: two dicts of (draw,)."""
        columns = self.values(free).unbind(-1)
        n = len(self.slots[0].parameters)
        names = [p.name for form in self.slots for p in form.parameters]
        return dict(zip(names[n:], columns[n:], strict=True)), dict(zip(names[:n], columns[:n], strict=True))

    def curves(self, free, r50):
        """Logarithms of r50, light and speed (draw, 1 + 2 len(MULTIPLES)) at multiples of the given ``r50`` (draw,)."""
        return self.model(free, r50)[:, : 1 + 2 * len(MULTIPLES)]

    def model(self, free, r50):
        """The curves, and after them the forms' own residuals, such as a curve's roughness: (draw, n)."""
        sides = [outputs(self.values(free[:, None, own], own), r50) for outputs, own in self._sides()]
        return self._join(*sides)[..., 0]

    def jacobian(self, free, r50):
        """Derivatives (draw, n, parameter) of `model`, each form's outputs by its own parameters alone."""
        step, by_own = 1e-4, []
        for outputs, own in self._sides():
            at = free[:, None, own]
            # the point itself and a step along each parameter, side by side in one call
            steps = step * torch.eye(at.shape[2] + 1, at.shape[2], dtype=free.dtype).roll(1, 0)
            found = outputs(self.values(at + steps, own), r50)
            by_own.append((found[..., 1:] - found[..., :1]) / step)
        light, speed = by_own
        none = [side.new_zeros(*side.shape[:2], other.shape[2]) for side, other in ((light, speed), (speed, light))]
        return self._join(torch.cat([light, none[0]], -1), torch.cat([none[1], speed], -1))

    def _sides(self):
        """The outputs of the light and of the speed, and where their parameters are among all."""
        n = len(self.slots[0].parameters)
        return (self._light, slice(0, n)), (self._speed, slice(n, None))

    def _light(self, values, r50):
        """Logarithms of r50 and the light, then the form's residuals (draw, n, k), of values (draw, k, parameter)."""
        form, columns = self.slots[0], [c[:, None] for c in values.unbind(-1)]
        light = form.evaluate(_radii(r50), *columns) / form.total(*columns)
        light = torch.log((2 * np.pi * r50[:, None, None] ** 2 * light).clamp(min=0) + LIGHT_FLOOR)
        size = form.half_light_radius(*columns)
        return torch.cat([torch.log(size / self.extent), light, *_residuals(form, columns)], 1)

    def _speed(self, values, r50):
        """Logarithms of the speed, then the form's residuals (draw, n, k), of values (draw, k, parameter)."""
        form, columns = self.slots[1], [c[:, None] for c in values.unbind(-1)]
        speed = form.evaluate(_radii(r50), *columns)
        speed = torch.log(speed.clamp(min=0) / self.width + SPEED_FLOOR)
        return torch.cat([speed, *_residuals(form, columns)], 1)

    @staticmethod
    def _join(light, speed):
        """Outputs of the two forms in one: the curves first, then the residuals."""
        n = len(MULTIPLES)
        return torch.cat([light[:, : n + 1], speed[:, :n], light[:, n + 1 :], speed[:, n:]], 1)

    def best(self, wanted, r50, weights):
        """Free parameters (n,) of the median of the draws, from the best of many starts."""
        n = len(self.low)
        generator = torch.Generator().manual_seed(0)
        weights = self._with_residuals(weights)
        middle = torch.cat([wanted.median(0).values, wanted.new_zeros(self.residuals)])
        starts = torch.logit(torch.rand(512, n, dtype=torch.float64, generator=generator).clamp(0.02, 0.98))
        starts[0] = self.start  # of many parameters none is near by chance: one start has every speed the galaxy's
        middle = middle.expand(len(starts), -1)
        middle_r50 = r50.median().expand(len(starts))
        chosen = _chi2(middle - self.model(starts, middle_r50), weights).topk(16, largest=False).indices
        polished, chi2 = self._descend(starts[chosen], middle[:16], middle_r50[:16], weights, 2 * _ITERATIONS)
        return polished[chi2.argmin()]

    def left(self, wanted, r50, weights, best):
        """What curves near the ``best`` ones (n,) leave of draws (draw, 1 + 2 len(MULTIPLES)), to first order."""
        n = wanted.shape[1]
        model = self.model(best.expand(len(wanted), -1), r50)
        rest = torch.cat([wanted - model[:, :n], -model[:, n:]], 1)
        weights = self._with_residuals(weights)
        jacobian = self.jacobian(best[None], r50.median()[None])[0]
        normal = jacobian.T @ weights @ jacobian + _PULL * torch.eye(len(best), dtype=best.dtype)
        return (rest - rest @ (weights @ jacobian @ torch.linalg.solve(normal, jacobian.T)))[:, :n]

    def fit(self, wanted, r50, weights, best):
        """Free parameters (draw, n) by damped Gauss-Newton, every draw started from the ``best`` (n,)."""
        n = len(self.low)
        generator = torch.Generator().manual_seed(1)
        # The residuals are fitted as data are: each draw's to a draw of their own prior.
        prior = torch.randn(len(wanted), self.residuals, dtype=torch.float64, generator=generator)
        weights = self._with_residuals(weights)
        wanted = torch.cat([wanted, prior], 1)
        free = best.expand(len(wanted), -1)
        # What the curves do not fix keeps its prior: each draw is pulled to a draw of the prior, not all to one point.
        own = torch.rand(len(wanted), n, dtype=torch.float64, generator=generator).clamp(1e-3, 1 - 1e-3)
        return self._descend(free, wanted, r50, weights, _ITERATIONS, torch.logit(own))[0]

    def _with_residuals(self, weights):
        """Weights of the curves, and those of the forms' own residuals, which are standard normal a priori."""
        return torch.block_diag(weights, torch.eye(self.residuals, dtype=torch.float64))

    def _descend(self, start, wanted, r50, weights, iterations, anchor=None):
        """Levenberg-Marquardt, each draw damped on its own, with a pull to ``anchor`` that holds what nothing fixes."""
        found, found_chi2 = start.clone(), start.new_empty(len(start))
        anchor = torch.zeros_like(start) if anchor is None else anchor
        for draws in torch.arange(len(start)).split(_DRAWS):
            free = found[draws]
            damping = torch.full((len(free), 1), 1e-2, dtype=free.dtype)
            rest = wanted[draws] - self.model(free, r50[draws])
            chi2 = _chi2(rest, weights) + _pull(free - anchor[draws])
            for _ in range(iterations):
                pull = anchor[draws]
                jacobian = self.jacobian(free, r50[draws])
                weighted = weights @ jacobian
                normal = jacobian.transpose(1, 2) @ weighted
                right = (weighted.transpose(1, 2) @ rest[..., None])[..., 0] - _PULL * (free - pull)
                diagonal = torch.diagonal(normal, dim1=1, dim2=2) * damping + _PULL + 1e-9
                move = torch.linalg.solve(normal + torch.diag_embed(diagonal), right).clamp(-2, 2)
                trial = (free + move).clamp(-8, 8)
                trial_rest = wanted[draws] - self.model(trial, r50[draws])
                trial_chi2 = _chi2(trial_rest, weights) + _pull(trial - pull)
                gain = chi2 - trial_chi2
                better = gain > 0
                free = torch.where(better[:, None], trial, free)
                rest = torch.where(better[:, None], trial_rest, rest)
                chi2 = torch.where(better, trial_chi2, chi2)
                damping = torch.where(better[:, None], 0.3 * damping, 5 * damping).clamp(1e-6, 1e4)
                found[draws], found_chi2[draws] = free, chi2
                # what has settled is left, and the others go on
                on = gain.abs() > _SETTLED
                draws, free, rest, chi2, damping = (part[on] for part in (draws, free, rest, chi2, damping))
                if not len(draws):
                    break
        return found, found_chi2


_DRAWS = 1000  # fitted at a time: few enough for the processor's cache
_SETTLED = 1e-2  # of chi squared: a move of a tenth of a standard deviation
_NODES, _REACH = 128, (3e-4, 60.0)  # of the integrals of lights without closed forms
_CHECKED, _ALIKE = 200, 1e-3  # lights of the prior that such integrals are held against finer ones for, and how near
_PULL = 3 / np.pi**2  # precision of a logistic variate, which a draw of the prior is in unbounded terms


def _summed_fast(light, scales):
    """A light whose integrals are summed at fewer radii where its prior's lights allow it, and else itself.

    They are made of every draw at every step, ten times as often as all that is in closed form.
    """
    integrals = ("total", "half_light_radius")
    if not any(_own(light, name) is _own(SurfaceBrightness, name) for name in integrals):
        return light
    fast = type(light.__name__, (light,), {"nodes": _NODES, "reach": _REACH})
    rng = np.random.default_rng(0)
    values = [torch.as_tensor(p.prior.resolve(scales).sample(rng, _CHECKED)) for p in light.parameters]
    pairs = ((getattr(one, name)(*values) for one in (light, fast)) for name in integrals)
    return fast if all(torch.allclose(slow, quick, rtol=_ALIKE) for slow, quick in pairs) else light


def _own(form, name):
    """The function behind a form's class or static method."""
    return getattr(getattr(form, name), "__func__", None)


def _is_amplitude(parameter):
    """Whether a parameter is a positive speed, or a speed over a radius, of which nothing but its size is known."""
    return parameter.powers[0] == 1 and isinstance(parameter.prior, LogUniform)


def _radii(r50):
    return r50[:, None, None] * torch.tensor(MULTIPLES, dtype=r50.dtype)[:, None]


def _residuals(form, columns):
    return form.prior_residuals(*columns) if form.prior_residuals else []


def _pull(free):
    return _PULL * (free**2).sum(-1)


def _chi2(rest, weights):
    return ((rest @ weights) * rest).sum(-1)


def _double(frame):
    return replace(frame, **{k: v.double() for k, v in vars(frame).items() if torch.is_tensor(v)})
