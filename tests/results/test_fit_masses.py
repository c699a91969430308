"""Masses in the tables of a fit, where the distance is known."""

import astropy.units as u
import numpy as np
import pytest
from astropy import constants
from handmade import TRUTH, Constant, Exponential

from kinematics_nn.decoder import Forms
from kinematics_nn.errors import FormError
from kinematics_nn.forms import FormParameter, LogUniform
from kinematics_nn.forms.composite import sum_of_forms
from kinematics_nn.forms.haloes import NFW
from kinematics_nn.forms.mass_models import FreemanDisc, Kepler
from kinematics_nn.results import KinematicFit

DISTANCE = 10 * u.Mpc


def fit_of(observation, curve, values, **meta):
    forms = Forms(curve, Exponential, Constant)
    truth = {name: value for name, value in TRUTH.items() if name not in ("vmax", "r_turn")} | values
    samples = {name: np.full(3, value) * [0.9, 1.0, 1.1] for name, value in truth.items()}
    return KinematicFit(observation, forms, samples, meta=meta)


def test_a_point_mass_in_solar_masses(observation):
    # 1e8 solar masses at 10 Mpc, by astropy's units alone
    gm = (constants.G * 1e8 * u.Msun / DISTANCE * u.rad).to_value(u.km**2 * u.arcsec / u.s**2)
    fit = fit_of(observation, Kepler, {"gm": gm}, distance="10 Mpc")
    assert fit.samples["mass"].unit == u.Msun
    np.testing.assert_allclose(fit.samples["mass"].value, [0.9e8, 1e8, 1.1e8], rtol=1e-12)
    assert fit.samples["mass"].info.description == "Mass of the point"
    assert fit.summary["mass_p50"][0].to_value(u.Msun) == pytest.approx(1e8, rel=1e-12)
    assert "mass" not in fit_of(observation, Kepler, {"gm": gm}).samples.colnames


def test_the_masses_of_a_sum(observation):
    curve = sum_of_forms((("disc", FreemanDisc), ("halo", NFW)))
    values = {"disc_vmax": 120.0, "disc_r_disc": 40.0, "halo_vmax": 150.0, "halo_r_s": 200.0}
    fit = fit_of(observation, curve, values, distance="10 Mpc")
    # vmax**2 = 0.7741 pi G Sigma0 r_disc and a mass of 2 pi Sigma0 r_disc**2; 0.7741 is rounded at its fourth digit
    r_disc = (40 * u.arcsec).to_value(u.rad) * DISTANCE
    disc = 2 * (120 * u.km / u.s) ** 2 * r_disc / (0.7741 * constants.G)
    assert fit.samples["disc_mass"][1].to_value(u.Msun) == pytest.approx(disc.to_value(u.Msun), rel=1e-4)
    # a halo of 150 km/s: within a factor of two of 5e11 solar masses for any concentration
    assert 2.5e11 < fit.samples["halo_m200"][1].to_value(u.Msun) < 1e12
    assert "H0 = 70 km/s/Mpc" in fit.samples["halo_m200"].info.description
    failed = KinematicFit.failed(fit.forms, "no", meta={"distance": "10 Mpc"})
    assert failed.summary.colnames == fit.summary.colnames
    assert failed.summary["halo_m200"].unit == u.Msun


def test_a_parameter_called_as_a_mass_is_refused(observation):
    class Weighed(Kepler):
        name = "weighed"
        parameters = (FormParameter("mass", "km2 arcsec/s2", 1e4, (1e-6, 1e12), LogUniform(10.0, 1e7), "own"),)

    with pytest.raises(FormError, match="mass"):
        fit_of(observation, Weighed, {"mass": 1e4})
