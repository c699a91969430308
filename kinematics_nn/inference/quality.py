"""How finely a disc has to be summed for its likelihood: measured, as it depends on the disc and on its S/N."""

import math
from dataclasses import replace
from itertools import pairwise

import torch

from ..decoder import Fineness
from ..decoder.plan import measures

__all__ = ["suit"]

_DEPTHS = (4, 8, 12, 20, 32, 48, 72)
_ACROSS = ((1, 1.0), (5, 3.5), (13, 6.0), (29, 10.0))
"""Sub-pixels at least, and to the scale of the light."""

_TURNED = (1, 5, 13, 29, 65, 145)
_BIAS = 0.01  # squared distance in standard deviations, of all parameters together: a tenth of one of them
_CHANGE = 0.3  # in chi-squared, of what no parameter takes up: a share of it is the same for all draws
_NOISE = 0.05  # the same of depths that turn, which are others in each draw: noise of the log likelihood, of its root
_TURNS = 0.4  # reach over the scale of the light, from where other discs than that one have turning depths by default
_ON_EDGE = 1.0  # reach over the scale of the light, from where other discs of the posterior may be on edge
_NEAR = 1.25  # of the disc's own ratio, up to which a Gauss rule that does for it is taken of others


@torch.no_grad()
def suit(likelihood, parameters):
    """Set the `Fineness` of a likelihood's decoder to the cheapest that is exact enough for a disc, its flux included.

    Gauss rules in depth and turning ones, each compared with the next finer of its kind: by the squared difference of
    the whitened models, and by how far the parameters would move with it, in their standard deviations. Their errors
    fall four times or more with a step, so that the difference is the error of the coarser one. Near edge-on a
    turning rule is chosen beside the Gauss rule, for the discs that are more so.

    Parameters
    ----------
    likelihood : CubeLikelihood
    parameters : Tensor (n_parameters,)

    Returns
    -------
    finer : Fineness
        What the chosen one was compared with.
    bias : float
        Squared distance that the parameters are off by, in standard deviations.
    change : float
        Squared difference of the whitened models. Both are NaN where there is no choice.
    """
    decoder, at = likelihood.decoder, parameters[None]
    decoder.fineness = None
    _, slopes = likelihood.white_jacobian(at)
    slopes = slopes[0].double()
    slopes = slopes[slopes.abs().amax(1) > 0]
    slopes = slopes / slopes.norm(dim=1, keepdim=True)
    inverse = torch.linalg.pinv(slopes @ slopes.T, hermitian=True)
    models = {}

    def model(fineness, rules):
        if rules not in models:
            decoder.fineness = fineness
            models[rules] = likelihood.white(at)[0].double()
        return models[rules]

    def cheapest(pairs):
        """How far off the cheapest that is exact enough is, or the most exact of all; it, its finer one, the errors."""
        best = math.inf, *[Fineness(ratio=math.inf)] * 2, math.nan, math.nan
        for _, pair, rules in sorted(_choices(decoder, at, pairs), key=lambda choice: choice[0]):
            rest = model(pair[0], rules[0]) - model(pair[1], rules[1])
            along = slopes @ rest
            bias, change = float(along @ inverse @ along), float(rest @ rest)
            found = max(bias / _BIAS, change / _CHANGE), *pair, bias, change
            best = min(best, found, key=lambda one: one[0])
            if found[0] < 1 and (pair[0].ratio > 0 or change < _NOISE):
                return found
        return best

    _, fineness, finer, bias, change = cheapest([*_gauss(), *_turning()])
    own, turned = _ratio(decoder, at), fineness.turned
    if fineness.ratio == 0:
        turns = min(_TURNS, own / _NEAR)
    else:
        turns = max(_TURNS, _NEAR * own)
        if own > _ON_EDGE:
            turned = cheapest(_turning())[1].turned
    decoder.fineness = replace(fineness, ratio=turns, turned=turned)
    return replace(finer, ratio=turns), bias, change


def _gauss():
    """Gauss rules, each with the next finer one."""
    return [
        tuple(
            Fineness(order, across, least, ratio=math.inf)
            for order, (least, across) in zip(depths, lattices, strict=True)
        )
        for depths in pairwise(_DEPTHS)
        for lattices in pairwise(_ACROSS)
    ]


def _turning():
    """Rules whose depths turn, each with the next finer one."""
    return [
        tuple(Fineness(_DEPTHS[-2], turned=turned, ratio=0.0) for turned in numbers) for numbers in pairwise(_TURNED)
    ]


def _choices(decoder, parameters, pairs):
    """Points that a disc (1, n_parameters) is summed at, the fineness and the next finer of its kind, and their rules.

    Only those that say something: where the geometry alone asks for more points than either, both are one rule.
    """
    for pair in pairs:
        rules, points = [], []
        for decoder.fineness in pair:
            ((*_, parts),) = decoder.plan(parameters, decoder.points)
            rules.append(frozenset(part.rule for part in parts))
            points.append(sum(part.cost for part in parts))
        if rules[0] != rules[1]:
            yield points[0], pair, rules


def _ratio(decoder, parameters):
    """Reach of the light of a disc (1, n_parameters) along the line of sight over its scale."""
    values = decoder.forms.values(parameters)
    inclination = torch.deg2rad(values["inclination"])
    return float(measures(decoder.field, inclination, values["thickness"], decoder.forms.extent(values))[2])
