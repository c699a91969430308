"""The yardsticks themselves: KinMS's conventions, the analytic disc against KinMS, and the bookkeeping of coverage."""

import numpy as np
from accuracy import errors, score
from baselines import ThinDisc
from kinms_galaxies import BEAM, CHANNEL, N_CHANNELS, PIXEL, check_conventions, draw_truth, render


def test_kinms_has_the_conventions_that_its_galaxies_are_labelled_with(capsys):
    check_conventions()
    assert "inclination" in capsys.readouterr().out


def test_the_analytic_thin_disc_is_that_of_kinms():
    truth = draw_truth(np.random.default_rng([1, 0])) | {"thickness": 0.0}
    kinms = render(truth, seed=5)
    velocity = (np.arange(N_CHANNELS) - N_CHANNELS / 2) * CHANNEL
    centre = [kinms.shape[2] / 2 - truth["east"] / PIXEL, kinms.shape[1] / 2 + truth["north"] / PIXEL]
    logs = [np.log(truth[name]) for name in ("flux", "vmax", "r_turn", "r_scale", "velocity_dispersion")]
    angles = np.radians([truth["inclination"], truth["pa"]])
    model = ThinDisc(kinms.shape, velocity, PIXEL, BEAM)(np.array([*angles, *centre, truth["vsys"], *logs]))
    # 2e6 clouds scatter by 0.06 % of the peak over the cube and 2 % in the worst voxel, near the steep centre; half a
    # channel or half a pixel is ten times that.
    assert np.std(model - kinms) < 1.5e-3 * kinms.max()
    assert abs(model - kinms).max() < 0.03 * kinms.max()


def test_position_angles_differ_across_north():
    assert np.allclose(errors("pa", [359.0, 1.0, 181.0], 0.0), [-1.0, 1.0, -179.0])


def test_coverage_is_that_of_central_intervals():
    # Ranks evenly spread are a perfect posterior; all in the middle half are one twice too wide.
    def table(ranks):
        return score([{"inclination": 1.0, "inclination_rank": rank} for rank in ranks])[0]

    even = table((np.arange(200) + 0.5) / 200)
    assert [even[f"{level} %"].split("±")[0] for level in (50, 68, 95)] == ["50", "68", "95"]
    middle = table(np.linspace(0.26, 0.74, 200))
    assert middle["50 %"].startswith("100±")
