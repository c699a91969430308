"""Truth beside posterior, as the demo prints it."""

import astropy.units as u
from handmade import TRUTH

from kinematics_nn.demo import comparison


def test_one_line_a_parameter_with_its_miss(fit):
    row = fit.summary[0]
    half = 0.5 * (row["vsys_p84"] - row["vsys_p16"])
    truth = {"inclination": TRUTH["inclination"] * u.deg, "vsys": (row["vsys_p50"] - 2 * half).to(u.m / u.s)}
    header, inclination, vsys = comparison(fit, truth).splitlines()
    assert header.split()[:3] == ["parameter", "truth", "median"]
    assert inclination.split()[:2] == ["inclination", "55.0"]
    # Truth was given in m/s and stands two halves of the 68 % interval below the median.
    assert vsys.split()[1] == f"{(row['vsys_p50'] - 2 * half).value:.2f}"
    assert vsys.split()[-2:] == ["+2.0", "sigma"]


def test_a_parameter_that_was_held(fit):
    fit._samples["thickness"][:] = 0.4
    assert comparison(fit, {"thickness": 0.4 * u.arcsec}).splitlines()[1].split()[-1] == "held"
