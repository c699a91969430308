"""The rotation curve as it is: free to differ from its form, to first order about a fit of the form."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from .light import least_flux
from .refinement import System

__all__ = ["CURVE_SCATTERS", "N_NODES", "FreeCurve", "bent_speed", "free_curve"]

CURVE_SCATTERS = np.geomspace(0.003, 0.3, 8)
"""Values of ``curve_scatter``, rms of the speed about its form over the speed, log-uniform a priori."""

_OCTAVES = np.arange(-2, 2.01, 0.5)  # where departures are counted, of r50
N_NODES = len(_OCTAVES)
"""Where departures are counted: half octaves from a quarter of r50 to four of it."""

_SMOOTH = 1.0  # octaves of radius over which they are alike
_LEAST_POWER = 0.005  # of what all nodes have together, that a departure has to have
_STEP = 0.01  # of the speed, by which models are bent to either side
_LEAST_SPEED = 0.05  # of the largest one, in which the derivatives of a curve that passes through zero count


@dataclass(frozen=True)
class FreeCurve:
    """The posterior of departures of a curve from its form, one normal for each scatter of the light and of the curve.

    Attributes
    ----------
    directions : Tensor (node, k)
        Departures, over the speed, at octaves of the half-light radius, that are independent a priori.
    axes : Tensor (f, k, k)
        Those in which they are independent given the data.
    mean, deviation : Tensor (f, g, k)
        Along them.
    response : Tensor (f, free, k)
        By what the variates of the form move with each direction.
    log : Tensor (f, g)
        Log posterior of the two scatters, unnormalised.
    change : Tensor (value,)
        What the mean departure makes of the whitened model, with all that moves with it.
    """

    directions: torch.Tensor
    axes: torch.Tensor
    mean: torch.Tensor
    deviation: torch.Tensor
    response: torch.Tensor
    log: torch.Tensor
    change: torch.Tensor

    def draw(self, n, generator):
        """Departures (n, node), moves of the variates (n, free), and the scatters (n,) that they are of."""
        chosen = torch.multinomial(torch.softmax(self.log.flatten(), 0), n, replacement=True, generator=generator)
        f, g = chosen // self.log.shape[1], chosen % self.log.shape[1]
        z = self.mean[f, g]
        z = z + self.deviation[f, g] * torch.randn(z.shape, dtype=z.dtype, generator=generator)
        z = (self.axes[f] @ z[..., None])[..., 0]
        moves = -(self.response[f] @ z[..., None])[..., 0]
        scatter = torch.as_tensor(CURVE_SCATTERS)[g] if z.shape[1] else torch.zeros(n, dtype=torch.float64)
        return z @ self.directions.T, moves, scatter

    def moved(self, space, x, generator):
        """Variates (n, free) of draws of the form, moved to where the curve is free; departures and scatters."""
        bend, moves, scatter = self.draw(len(x), generator)
        reach = space.reach()
        return space.inside((x + moves).clamp(-reach, reach)), bend, scatter


@torch.no_grad()
def free_curve(target, best, x, misfit=1.0):
    r"""How far the rotation curve departs from its form, and what that moves.

    The speed is :math:`V(R)\,(1 + \sum_k b_k h_k(R))`, with :math:`h_k` linear in log(R) between neighbouring half
    octaves of the half-light radius, and b normal with an rms g, alike over an octave, less what the form fits of them
    (by least squares, weighed by the light): what is left is no matter of the form's own parameters. About the best
    disc of the form the model is linear in its variates, the flux and b. With all three free, and patches of light,

    .. math::

       b \sim \mathcal N(P^{-1} c, P^{-1}), \qquad P = S + g^{-2}, \qquad
       S = V^\mathsf{T} M V - V^\mathsf{T} M J X, \qquad X = (J^\mathsf{T} M J + \Lambda)^{-1} J^\mathsf{T} M V ,

    with V the whitened derivatives by b, J those by variates and flux, :math:`\Lambda` their prior's precision, M what
    patches leave of the unit matrix, and c what the residuals have along V that J has not. The form's variates move by
    :math:`-X b`. Linear marginalisation of a model's discrepancy, as of instruments' errors (e.g. Bridle et al. 2002,
    MNRAS 335, 1193).

    Parameters
    ----------
    target : Target
    best : dict of str to float
        The disc of highest posterior, as `Target.best` gives it.
    x : Tensor (free,)
        Its variates.
    misfit : float, optional
        What errors are widened by, see `~kinematics_nn.inference.misfit.misfit`.

    Returns
    -------
    FreeCurve
    """
    likelihood, space, patches = target.likelihood, target.space, target.patches
    x, flux = x[None], best["flux"]
    system = System(likelihood, space, patches, 0.0, target.flux_prior)
    columns = system.columns(x)
    directions = _directions(space.forms, best)
    bent = _bent_models(likelihood, space.parameters(x), directions, space.forms)
    rest = system.data - flux * columns[-1]
    unit = flux if flux > 0 else target.flux_prior[1]  # in which the flux is counted, whatever the cube's
    columns = torch.cat([flux * columns[:-1], unit * columns[-1:], flux * bent])
    n = len(columns) - len(bent)
    found = torch.cat([columns, rest[None]])
    gram = found @ columns.T / misfit**2
    projected = (found.float() @ patches.basis).double() / misfit**2
    power = patches.power / misfit**2
    precision, pull = _prior(system, x, flux, unit)
    square = float(rest @ rest) / misfit**2
    parts = []
    for scatter, least in zip(target.scatters.tolist(), least_flux(patches, target.scatters).tolist(), strict=True):
        shrink = scatter**2 / (1 + scatter**2 * power)
        its = gram - (projected * shrink) @ projected[:-1].T
        normal, right = its[:n, :n] + precision, its[-1, :n] - pull
        solved = torch.linalg.solve(normal, torch.cat([its[:n, n:], right[:, None]], 1))
        response, step = solved[:, :-1], solved[:, -1]
        among = its[n:-1, n:] - its[:n, n:].T @ response
        along = its[-1, n:] - response.T @ right
        strength, axes = torch.linalg.eigh(0.5 * (among + among.T))
        variance = 1 / (torch.as_tensor(CURVE_SCATTERS)[:, None] ** -2 + strength.clamp(min=0))
        along = axes.T @ along
        log = 0.5 * (variance * along**2).sum(1) + 0.5 * torch.log(variance).sum(1)
        log = log - len(along) * torch.log(torch.as_tensor(CURVE_SCATTERS))
        log = log - 0.5 * (square - (shrink * projected[-1]) @ projected[-1]) + 0.5 * float(right @ step)
        log = log - 0.5 * torch.log1p(scatter**2 * power).sum() - 0.5 * torch.logdet(normal)
        # A disc has a least flux, as `light.log_marginal` has it.
        error = torch.linalg.inv(normal)[-1, -1].sqrt()
        log = log + torch.special.log_ndtr(((flux - least) / unit + step[-1]) / error)
        parts.append((axes, variance * along, variance.sqrt(), response, log))
    axes, mean, deviation, response, log = (torch.stack(part) for part in zip(*parts, strict=True))
    share = torch.softmax(log.flatten(), 0).view_as(log)
    along = (axes @ (share[..., None] * mean).sum(1)[..., None])[..., 0]  # (f, k)
    change = along.sum(0) @ columns[n:] - torch.einsum("fpk,fk->p", response, along) @ columns[:n]
    return FreeCurve(directions, axes, mean, deviation, response[:, : n - 1], log, change)


def bent_speed(speed, multiples, bend):
    """Speeds (n, radius) at ``multiples`` (n or 1, radius) of r50, departing from their form by ``bend`` (n, node)."""
    bend = torch.as_tensor(bend)
    hats = _hats(torch.as_tensor(multiples, dtype=bend.dtype))
    return torch.as_tensor(speed) * (1 + torch.einsum("nk,knr->nr", bend, hats.expand(-1, len(bend), -1))).clamp(min=0)


def _hats(multiples):
    """Weights (node, ...), at multiples (...) of r50, of what departs at each node, flat beyond the ends."""
    octave = torch.log2(multiples.clamp(min=1e-9)).clamp(_OCTAVES[0], _OCTAVES[-1])
    return torch.stack([(1 - (octave - node).abs() / (_OCTAVES[1] - _OCTAVES[0])).clamp(min=0) for node in _OCTAVES])


def _directions(forms, best):
    """Independent departures (node, k), the strongest ones, of rms one before what the form fits is taken off."""
    values = {name: torch.tensor(value, dtype=torch.float64) for name, value in best.items()}
    light, curve = ([values[name] for name in forms.slots[slot]] for slot in ("surface_brightness", "rotation_curve"))
    radii = forms.surface_brightness.half_light_radius(*light) * torch.as_tensor(2.0**_OCTAVES)
    weight = forms.surface_brightness.evaluate(radii, *light) * radii**2
    speed = forms.rotation_curve.evaluate(radii, *curve).expand_as(radii)
    fastest = float(speed.abs().max())
    if not (fastest > 0 and torch.isfinite(speed).all()):
        return radii.new_zeros(len(radii), 0)  # nothing that rotates
    slopes = []
    for k, value in enumerate(curve):
        step = 1e-4 * (value.abs() + 1e-6)
        ahead, behind = (
            forms.rotation_curve.evaluate(radii, *curve[:k], value + move, *curve[k + 1 :]) for move in (step, -step)
        )
        slopes.append(ahead - behind)
    slopes = torch.stack(slopes) / torch.copysign(speed.abs().clamp(min=_LEAST_SPEED * fastest), speed)
    slopes = torch.nan_to_num(slopes, 0.0, 0.0, 0.0)
    slopes = slopes / slopes.norm(dim=1, keepdim=True).clamp(min=1e-12)
    normal = torch.linalg.pinv((slopes * weight) @ slopes.T, rtol=1e-6, hermitian=True)
    left = torch.eye(len(radii), dtype=torch.float64) - slopes.T @ normal @ (slopes * weight)
    octaves = torch.as_tensor(_OCTAVES)
    alike = torch.exp(-0.5 * ((octaves[:, None] - octaves) / _SMOOTH) ** 2)
    power, axes = torch.linalg.eigh(left @ alike @ left.T)
    strong = power > _LEAST_POWER * len(radii)
    return axes[:, strong] * power[strong].sqrt()


def _bent_models(likelihood, parameters, directions, forms):
    """Derivatives (k, value) of the whitened model of unit flux by departures along ``directions`` (node, k)."""
    decoder, found = likelihood.decoder, []
    light = [parameters[0, forms.parameter_names.index(name)] for name in forms.slots["surface_brightness"]]
    r50 = float(forms.surface_brightness.half_light_radius(*light))
    try:
        for direction in directions.T:
            size, sides = _STEP / direction.abs().max(), []
            for step in (size, -size):
                decoder.forms = replace(forms, rotation_curve=_bent(forms.rotation_curve, r50, step * direction))
                sides.append(likelihood.white(parameters)[0].double())
            found.append((sides[0] - sides[1]) / (2 * size))
    finally:
        decoder.forms = forms
    return torch.stack(found) if found else torch.zeros(0, len(likelihood.data), dtype=torch.float64)


def _bent(form, r50, bend):
    """A curve's form with departures (node,) at multiples of ``r50``."""

    def evaluate(radius, *parameters):
        factor = 1 + torch.tensordot(bend.to(radius.dtype), _hats(radius / r50), 1)
        return form.evaluate(radius, *parameters) * factor

    return type(form.__name__, (form,), {"evaluate": staticmethod(evaluate)})


def _prior(system, x, flux, unit):
    """Precision (n, n) of the prior of variates and the flux in some unit, and its pull (n,) at where they are."""
    mean, spread = system.flux_prior
    residuals, rows = system.prior_rows(x)
    of_flux = torch.tensor([[(unit / spread) ** 2]], dtype=torch.float64)
    precision = torch.block_diag(torch.diag(system.pull) + rows.T @ rows, of_flux)
    pull = torch.cat([system.pull * x[0] + rows.T @ residuals, of_flux[0] * (flux - mean) / unit])
    return precision + 1e-6 * torch.eye(len(pull), dtype=pull.dtype), pull
