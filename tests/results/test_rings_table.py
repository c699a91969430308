"""The table of rings: a fit's curves at one radius per beam, whatever its forms."""

import pickle

import astropy.units as u
import numpy as np
import pytest
from handmade import TRUTH, Constant, Exponential, make_samples

from kinematics_nn.decoder import Forms
from kinematics_nn.errors import KinematicsError
from kinematics_nn.forms import Rings
from kinematics_nn.forms.rings import ring_radii
from kinematics_nn.results import KinematicFit, read_table, write_table
from kinematics_nn.results.tables import STATISTICS

KM_S = u.km / u.s


@pytest.fixture
def observation(observation):
    """The hand-made galaxy with light where its emission is."""
    observation.data[observation.emission] = 1
    return observation


def test_the_rings_are_those_that_the_beam_resolves(fit):
    np.testing.assert_allclose(fit.rings["radius"].to_value(u.arcsec), ring_radii(fit.observation))
    names = ("v_rot", "velocity_dispersion", "surface_brightness", "inclination", "pa")
    assert fit.rings.colnames == ["radius", *(name + suffix for name in names for suffix in STATISTICS)]


def test_speeds_are_those_of_the_samples(fit):
    speeds = fit.rotation_curve_samples(fit.rings["radius"])
    np.testing.assert_allclose(fit.rings["v_rot"], speeds.mean(0), rtol=1e-12)
    np.testing.assert_allclose(fit.rings["v_rot_std"], speeds.std(0), rtol=1e-12)
    np.testing.assert_allclose(fit.rings["v_rot_p16"], np.percentile(speeds, 16, axis=0), rtol=1e-12)
    np.testing.assert_allclose(fit.rings["v_rot_p84"], np.percentile(speeds, 84, axis=0), rtol=1e-12)
    assert fit.rings["v_rot"].unit == KM_S


def test_brightness_is_face_on_and_adds_up_to_the_flux(observation, forms):
    samples = {name: np.full(3, value) for name, value in TRUTH.items()}
    rings = KinematicFit(observation, forms, samples, meta={}).rings
    wanted = 12.0 * np.exp(-rings["radius"].value / 8) / (2 * np.pi * 8**2)
    # the total of this form is integrated numerically, to 1e-6
    np.testing.assert_allclose(rings["surface_brightness"].to_value("Jy km / (s arcsec2)"), wanted, rtol=1e-5)


def test_geometry_and_dispersion_are_the_discs(fit):
    rings, summary = fit.rings, fit.summary
    for name in ("inclination", "pa", "velocity_dispersion"):
        for suffix in STATISTICS:
            np.testing.assert_allclose(rings[name + suffix], summary[name + suffix][0], rtol=1e-12)


def test_a_distance_gives_radii_in_kpc(observation, forms):
    fit = KinematicFit(observation, forms, make_samples(200), meta={"distance": "10 Mpc"})
    expected = fit.rings["radius"].to_value(u.rad) * 1e4
    np.testing.assert_allclose(fit.rings["radius_kpc"].to_value(u.kpc), expected, rtol=1e-12)


def test_a_curve_of_rings_gives_its_own(observation):
    curve = Rings([2.0, 5.0, 9.0]).form
    samples = make_samples(500)
    speeds = {"v_1": 50.0, "v_2": 90.0, "v_3": 120.0}
    samples = {name: values for name, values in samples.items() if name not in ("vmax", "r_turn")}
    rng = np.random.default_rng(1)
    samples |= {name: rng.normal(value, 5, 500) for name, value in speeds.items()}
    fit = KinematicFit(observation, Forms(curve, Exponential, Constant), samples, meta={})
    np.testing.assert_allclose(fit.rings["radius"].value, [2, 5, 9])
    np.testing.assert_allclose(fit.rings["v_rot"].value, [samples[name].mean() for name in speeds], rtol=1e-12)
    assert pickle.loads(pickle.dumps(fit)).forms.rotation_curve is curve


@pytest.mark.parametrize("suffix", ["ecsv", "fits", "vot"])
def test_the_table_survives_files(fit, tmp_path, suffix):
    write_table(fit.rings, tmp_path / f"rings.{suffix}")
    again = read_table(tmp_path / f"rings.{suffix}")
    assert again.colnames == fit.rings.colnames
    np.testing.assert_allclose(again["v_rot"].to_value(KM_S), fit.rings["v_rot"].to_value(KM_S))
    assert again.meta["seed"] == 7


def test_a_failed_fit_has_no_rings(forms):
    with pytest.raises(KinematicsError, match="no disc"):
        _ = KinematicFit.failed(forms, "no disc").rings
