"""A start from all of a crop's emission, for where the network has seen a part of the galaxy."""

import numpy as np
import pytest
from observed import CHANNEL, DISC, FORMS, make_observation, network_like

from kinematics_nn.inference.modes import find_modes
from kinematics_nn.inference.moments import moment_disc, overlooked
from kinematics_nn.inference.target import Target

SHAPE = (16, 30, 30)
HORN = {"vsys": DISC["vsys"] + 110.0, "vmax": 30.0, "east": 1.6, "north": 0.7}
"""What the receding half of `DISC` looks like by itself."""


@pytest.fixture(scope="module")
def observation():
    return make_observation(SHAPE, snr=15.0)


@pytest.mark.parametrize("pa", [40.0, 170.0, 290.0])
def test_moments_are_those_of_the_disc(pa):
    typical = DISC | {"vmax": 50.0, "r_scale": 6.0, "r_turn": 1.0, "r50": 1.678 * 6.0, "vsys": -200.0, "east": 5.0}
    found = moment_disc(make_observation(SHAPE, snr=30.0, pa=pa), FORMS, typical)
    assert set(FORMS.parameter_names) <= set(found)
    # What is below the mask takes a quarter off the size, and noise is worth a few degrees and a tenth of a beam.
    assert abs((found["pa"] - pa + 180) % 360 - 180) < 6
    assert abs(found["inclination"] - DISC["inclination"]) < 10
    assert np.hypot(found["east"] - DISC["east"], found["north"] - DISC["north"]) < 0.5
    assert abs(found["vsys"] - DISC["vsys"]) < 0.3 * CHANNEL
    assert 0.6 < found["r_scale"] / DISC["r_scale"] < 1.1
    assert found["r_turn"] / found["r_scale"] == pytest.approx(1 / 6)
    v22 = FORMS.rotation_curve.evaluate(1.31 * 1.678 * found["r_scale"], found["vmax"], found["r_turn"])
    assert 0.7 < v22 / FORMS.rotation_curve.evaluate(2.2 * DISC["r_scale"], DISC["vmax"], DISC["r_turn"]) < 1.3


def test_a_network_that_saw_the_galaxy_overlooks_nothing(observation):
    assert not overlooked(observation, DISC)
    assert overlooked(observation, DISC | HORN)


@pytest.mark.parametrize(("moved", "number"), [({}, 2), (HORN, 3)])
def test_a_descent_starts_from_all_the_emission_where_the_network_took_a_horn_for_it(
    observation, monkeypatch, moved, number
):
    descents, modes = [], Target.modes

    def noted(target, starts):
        descents.append(target.space.parameters(starts)[:, target.space.names.index("vsys")])
        return modes(target, starts)

    monkeypatch.setattr(Target, "modes", noted)
    _, found, _ = find_modes(observation, FORMS, network_like(**moved))
    assert len(descents[0]) == number
    assert (descents[0] - DISC["vsys"]).abs().min() < 0.5 * CHANNEL
    # Whatever else was found, modes are in order, and none so far below that it has no draw.
    heights = [mode.log_posterior for mode in found]
    assert heights == sorted(heights, reverse=True)
    assert heights[-1] > heights[0] - 20
