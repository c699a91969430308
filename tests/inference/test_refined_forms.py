"""Refined fits run to their end, and find the disc, with light and speeds of every sort of form."""

import astropy.units as u
import numpy as np
import pytest

import kinematics_nn
from kinematics_nn import models
from kinematics_nn.forms import FormParameter, LogUniform, QuadratureSum, RotationCurve, ops

VMAX, R_TURN, R_SCALE, INCLINATION = 150.0, 1.0, 3.0, 55.0


class Rising(RotationCurve):
    """Rises as an exponential to its asymptote."""

    name = "rising_of_a_test"
    parameters = (
        FormParameter("vmax", "km/s", 200.0, (0.0, 5000.0), LogUniform(10.0, 800.0), "speed approached far out"),
        FormParameter("r_rise", "arcsec", 5.0, (1e-3, 1e5), LogUniform(0.02, 5.0, "r_scale"), "radius of the rise"),
    )

    @staticmethod
    def evaluate(radius, vmax, r_rise):
        return -vmax * ops.expm1(-radius / r_rise)


@pytest.fixture(scope="module")
def cube():
    return kinematics_nn.simulate(
        shape=(16, 24, 24), pixel_scale=1 * u.arcsec, channel_width=25 * u.km / u.s, beam=4 * u.arcsec,
        inclination=INCLINATION * u.deg, pa=40 * u.deg, rms=0.003, seed=2,
        surface_brightness=models.ExponentialDisc(r_scale=R_SCALE * u.arcsec),
        rotation_curve=models.ArctanRotationCurve(vmax=VMAX * u.km / u.s, r_turn=R_TURN * u.arcsec),
    )  # fmt: skip


@pytest.mark.parametrize(
    "forms",
    [
        {"surface_brightness": "rings"},
        {"surface_brightness": "moment0"},
        {"rotation_curve": "rings"},
        {"rotation_curve": QuadratureSum(disc="freeman", halo="pseudo_isothermal")},
        {"rotation_curve": Rising},
    ],
    ids=["light-rings", "light-moment0", "rings", "sum", "own"],
)
def test_a_refined_fit_finds_the_disc(cube, forms):
    fit = kinematics_nn.fit(cube, method="refined", seed=1, min_ess=60, **forms)
    assert fit.meta["sampler"] in ("two-phase", "importance")
    # What was asked for, or a flag that says it was not reached (which of the two hangs on the machine's rounding), and
    # never so few that what follows says nothing.
    assert fit.meta["n_effective"] >= 60 or "LOW_EFFICIENCY" in fit.flags
    assert fit.meta["n_effective"] >= 30
    v22 = VMAX * 2 / np.pi * np.arctan(1.31 * 1.678 * R_SCALE / R_TURN)
    truth = {"inclination": INCLINATION, "v22_sini": v22 * np.sin(np.deg2rad(INCLINATION))}
    for name, wanted in truth.items():
        values = fit.samples[name].value
        # one noise for all five: 3 of its errors are rare, and 60 draws know the error to a tenth
        assert abs(values.mean() - wanted) < 4 * values.std(), name
        assert values.std() < 0.2 * wanted, name  # far narrower than the prior: the data were used
