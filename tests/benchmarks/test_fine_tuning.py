"""The survey of strange galaxies: what is strange in them, and what truths are scored as."""

import fine_tuning
import numpy as np
import pytest
import torch
from astropy.io import fits

from kinematics_nn.decoder import regular_grid
from kinematics_nn.training.simulations import Ranges


def test_its_beams_are_beyond_those_of_the_training():
    for k in range(5):
        major, minor, _ = fine_tuning.draw_strange(np.random.default_rng(k)).beam
        assert minor / major < Ranges().axis_ratio[0]


def test_a_bar_is_one_far_out_and_stretched_within():
    field = regular_grid((1, 64, 64))
    face_on = torch.tensor([[0.0, 0.0, 0.0, 0.0]])
    light = fine_tuning.barred(face_on, field, (64, 64), 8.0, 0.0)
    # Five half-widths of the bar from the centre there is nothing of it: exp(-12).
    assert abs(light[0, 0] - 1) < 1e-4
    # On no pixel of the grid is the bar both at its full strength and along its axis: three quarters of it.
    assert float(light.max()) == pytest.approx(1 + 0.75 * fine_tuning.BAR, abs=0.1)
    assert float(light.min()) == pytest.approx(1 - 0.75 * fine_tuning.BAR, abs=0.1)
    assert float(light.mean()) == pytest.approx(1, abs=1e-3)


def test_truths_are_those_of_the_cube(tmp_path):
    path = tmp_path / "strange.fits"
    fine_tuning.make_cube(path, [17, 0])
    row = fine_tuning.score(path, "default", 1)
    assert np.isfinite(row["log_q"])
    with fits.open(path) as file:
        assert file[0].data.ndim == 3
        assert row["vmax_true"] == file[1].data["vmax"][0]
    # A wrong side or half a turn would be tens of sigma; six allow what the network is off by.
    for name in ("x", "y", "vsys", "pa"):
        assert abs(row[f"{name}_p50"] - row[f"{name}_true"]) < 6 * row[f"{name}_sigma"], name
