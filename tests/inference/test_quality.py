"""How finely discs are summed follows what their likelihood can see of it."""

from dataclasses import replace

import pytest
import torch
from observed import CHANNEL, FORMS, make_observation, vector

from kinematics_nn.decoder import Fineness, Quadrature
from kinematics_nn.inference.likelihood import CubeLikelihood
from kinematics_nn.inference.quality import suit

SHAPE = (24, 30, 30)
THICK = {"thickness": 1.2, "r_scale": 4.0, "r_turn": 0.3, "vmax": 280.0}
"""Along the line of sight the speed turns over within the disc's own height, in a width of the line or less."""


def likelihood_and_truth(snr, **disc):
    disc = THICK | {"flux": 10.0, "velocity_dispersion": 0.6 * CHANNEL} | disc
    return CubeLikelihood(make_observation(SHAPE, snr=snr, **disc), FORMS), vector(FORMS.parameter_names, **disc)


def bias_and_change(likelihood, at):
    """Squared distances of parameters, in their errors, and of models, from a rule that is finer than all others."""
    _, slopes = likelihood.white_jacobian(at)
    slopes = slopes[0].double()
    model = likelihood.white(at)[0].double()
    likelihood.decoder.quadrature = Quadrature(145, 16)
    rest = model - likelihood.white(at)[0].double()
    likelihood.decoder.quadrature = None
    along = slopes @ rest
    return float(along @ torch.linalg.pinv(slopes @ slopes.T, hermitian=True) @ along), float(rest @ rest)


@pytest.mark.parametrize("inclination", [50.0, 80.0])
def test_a_bright_thick_disc_is_summed_finely_enough(inclination):
    likelihood, at = likelihood_and_truth(15.0, inclination=inclination)
    *_, said = suit(likelihood, at[0])
    chosen = bias_and_change(likelihood, at)
    # A fifth of an error of one parameter, and half of what one error of one parameter changes in chi-squared.
    assert chosen[0] < 0.04
    assert chosen[1] < 0.5
    # The next finer rule's own error is in the difference, too.
    assert abs(said - chosen[1]) < 0.3


@pytest.mark.parametrize(("snr", "inclination"), [(4.0, 75.0), (5.0, 80.0)])
def test_depths_that_turn_are_no_noise_in_the_likelihood(snr, inclination):
    """Discs a hundredth apart: with rules chosen as Gauss rules are the scatter is 0.30 and 0.24."""
    likelihood, at = likelihood_and_truth(snr, inclination=inclination)
    suit(likelihood, at[0])
    generator = torch.Generator().manual_seed(1)
    discs = at.repeat(24, 1) * (1 + 0.01 * torch.randn(24, at.shape[1], generator=generator, dtype=at.dtype))
    own = likelihood.log_prob(discs)
    likelihood.decoder.fineness = replace(likelihood.decoder.fineness, across=10.0, least=29, turned=145)
    assert float((own - likelihood.log_prob(discs)).std()) < 0.05**0.5  # the change in chi-squared that is allowed


def test_few_depths_are_wrong_where_many_are_taken():
    likelihood, at = likelihood_and_truth(15.0, inclination=50.0)
    likelihood.decoder.fineness = Fineness(4)
    assert bias_and_change(likelihood, at)[0] > 0.04


def test_a_faint_disc_is_summed_at_fewer_points():
    points = []
    for snr in (3.0, 30.0):
        likelihood, at = likelihood_and_truth(snr, inclination=50.0)
        suit(likelihood, at[0])
        ((*_, parts),) = likelihood.decoder.plan(at.float(), 10**7)
        points.append(sum(part.cost for part in parts))
    assert 2 * points[0] <= points[1]


def test_discs_on_edge_have_turning_depths_whatever_the_mode_needs():
    likelihood, at = likelihood_and_truth(3.0, inclination=30.0)
    suit(likelihood, at[0])
    ((*_, parts),) = likelihood.decoder.plan(vector(FORMS.parameter_names, **THICK, inclination=85.0).float(), 10**7)
    assert all(part.rule.turned for part in parts)


def test_near_edge_on_the_discs_that_are_more_so_are_summed_finely_enough():
    """A Gauss rule does for the mode, and turning depths for those draws that are nearer to edge-on."""
    disc = {"inclination": 87.0, "thickness": 0.3, "r_turn": 1.0}
    likelihood, at = likelihood_and_truth(40.0, **disc)
    suit(likelihood, at[0])
    assert likelihood.decoder.fineness.ratio > 1
    nearer = vector(FORMS.parameter_names, **(THICK | disc | {"flux": 10.0, "inclination": 89.5}))
    ((*_, parts),) = likelihood.decoder.plan(nearer.float(), 10**7)
    assert all(part.rule.turned for part in parts)
    # Those of the neighbour, not of the disc that was measured: twice what is allowed of it.
    assert bias_and_change(likelihood, nearer)[0] < 0.08
