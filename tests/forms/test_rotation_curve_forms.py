"""Rotation curves against closed forms, limits, and other ways to the same speeds."""

from itertools import pairwise

import numpy as np
import pytest
from astropy import constants, cosmology
from astropy import units as u
from astropy.modeling import physical_models
from scipy import integrate, optimize, special

from kinematics_nn.forms import haloes, mass_models
from kinematics_nn.forms import rotation_curves as rc

RADII = np.geomspace(0.05, 400, 25)


def peak_radius(form, **parameters):
    lo, hi = 0.1, 200.0
    found = optimize.minimize_scalar(lambda r: -form.evaluate(r, **parameters), (lo, 10.0, hi), options={"xtol": 1e-10})
    return found.x, -found.fun


def spherical(density, radius):
    """Circular speed of a spherical density, by integrating its mass."""
    mass = [integrate.quad(lambda r: 4 * np.pi * r**2 * density(r), 0, r, epsrel=1e-10, limit=200)[0] for r in radius]
    return np.sqrt(np.array(mass) / radius)


def test_arctan_is_half_its_asymptote_at_the_turnover():
    assert rc.Arctan.evaluate(3.0, 200.0, 3.0) == pytest.approx(100.0, rel=1e-15)
    assert rc.Arctan.evaluate(1e9, 200.0, 3.0) == pytest.approx(200.0, rel=1e-8)


def test_tanh_value_and_asymptote():
    assert rc.Tanh.evaluate(3.0, 200.0, 3.0) == pytest.approx(200 * 0.7615941559557649, rel=1e-15)
    assert rc.Tanh.evaluate(300.0, 200.0, 3.0) == pytest.approx(200.0, rel=1e-15)


def test_polyex_formula():
    wanted = 200 * (1 - np.exp(-RADII / 3)) * (1 + 0.05 * RADII / 3)
    np.testing.assert_allclose(rc.Polyex.evaluate(RADII, 200.0, 3.0, 0.05), wanted, rtol=1e-14)  # expm1 keeps digits


@pytest.mark.parametrize("n", [0.5, 1.0, 3.0])
def test_brandt_peaks_at_its_peak_and_falls_as_kepler(n):
    radius, speed = peak_radius(rc.Brandt, vmax=200.0, r_peak=7.0, n=n)
    assert radius == pytest.approx(7.0, rel=1e-3)  # a maximum is flat: its place is known to the root of the digits
    assert speed == pytest.approx(200.0, rel=1e-12)
    wanted = 200 * RADII / 7 / (1 / 3 + 2 / 3 * (RADII / 7) ** n) ** (1.5 / n)
    np.testing.assert_allclose(rc.Brandt.evaluate(RADII, 200.0, 7.0, n), wanted, rtol=1e-12)
    far = np.array([1e12, 4e12])
    ratio = np.divide(*rc.Brandt.evaluate(far, 200.0, 7.0, n))
    assert ratio == pytest.approx(2.0, rel=1e-5)  # at n = 0.5 the next term is still 1e-6 of the first


@pytest.mark.parametrize(("beta", "gamma"), [(0.0, 1.0), (0.3, 2.0), (-0.4, 0.7), (0.0, 15.0)])
def test_courteau_formula(beta, gamma):
    x = 3.0 / RADII
    wanted = 200 * (1 + x) ** beta / (1 + x**gamma) ** (1 / gamma)
    # the cut at 1e-4 r_turn changes y**-beta by beta / 2 * (1e-4 / y)**2, 7e-6 at the innermost radius
    np.testing.assert_allclose(rc.Courteau.evaluate(RADII, 200.0, 3.0, beta, gamma), wanted, rtol=1e-5)


def test_flat_and_linear():
    np.testing.assert_array_equal(rc.Flat.evaluate(RADII, 200.0), 200.0)
    np.testing.assert_array_equal(rc.Linear.evaluate(RADII, 4.0), 4 * RADII)


def test_freeman_peaks_at_2_15_scale_lengths():
    radius, speed = peak_radius(mass_models.FreemanDisc, vmax=200.0, r_disc=4.0)
    assert radius / 4 == pytest.approx(2.150053545, rel=1e-4)  # twice 1.0750268, known to the root of the digits
    assert speed == pytest.approx(200.0, rel=1e-12)


def test_freeman_is_the_disc_of_its_surface_density():
    # v**2 = 2 pi G R times the integral of S(k) J1(k R) k dk, S the Hankel transform of Sigma0 exp(-R / r_disc)
    # (Toomre 1963, ApJ 138, 385); vmax**2 = 0.7741 pi G Sigma0 r_disc, here with pi G Sigma0 r_disc = 1
    def toomre(radius):
        def integrand(k):
            return 2 * radius * k * special.j1(k * radius) / (1 + k * k) ** 1.5

        edges = np.append(0, special.jn_zeros(1, 400) / radius)
        parts = [integrate.quad(integrand, a, b)[0] for a, b in pairwise(edges)]
        sums = np.cumsum(parts)
        return np.sqrt(0.25 * sums[-1] + 0.5 * sums[-2] + 0.25 * sums[-3])  # the alternating tail, averaged

    vmax = np.sqrt(0.7741)
    for radius in (0.5, 2.15, 6.0):
        # 0.7741 is rounded at its fourth digit, 6e-5 of the speed
        assert mass_models.FreemanDisc.evaluate(radius, vmax, 1.0) == pytest.approx(toomre(radius), rel=2e-4)


def test_freeman_far_out_is_the_point_mass():
    # vmax**2 = 0.774091 pi G Sigma0 r_disc and M = 2 pi Sigma0 r_disc**2: v**2 r -> 2 r_disc vmax**2 / 0.774091
    radius = 1e4
    point = np.sqrt(2 / (4 * 0.439912152012140844**2) / radius)
    assert mass_models.FreemanDisc.evaluate(radius, 1.0, 1.0) == pytest.approx(
        point, rel=1e-7
    )  # next term 9 / 2 (r_d / r)**2


def test_freeman_series_meets_the_bessel_functions():
    below, above = mass_models.FreemanDisc.evaluate(np.array([40.0 - 1e-9, 40.0 + 1e-9]), 200.0, 1.0)
    assert above == pytest.approx(below, rel=1e-10)  # the speed itself changes by 2e-11


def test_pseudo_isothermal_from_its_density():
    radius = np.array([0.01, 0.3, 1.0, 3.0, 40.0])
    wanted = spherical(lambda r: 1 / (4 * np.pi * (1 + r**2)), radius)
    np.testing.assert_allclose(
        haloes.PseudoIsothermal.evaluate(radius, 1.0, 1.0), wanted, rtol=1e-9
    )  # of the quadrature
    assert haloes.PseudoIsothermal.evaluate(1e9, 200.0, 5.0) == pytest.approx(200.0, rel=1e-8)


def test_burkert_from_its_density():
    radius = np.array([0.01, 0.09, 0.3, 1.0, 3.245, 40.0])
    wanted = spherical(lambda r: 1 / ((1 + r) * (1 + r * r)), radius)
    found = haloes.Burkert.evaluate(radius, 1.0, 1.0)
    np.testing.assert_allclose(found / found[4], wanted / wanted[4], rtol=1e-8)  # of the quadrature
    place, speed = peak_radius(haloes.Burkert, vmax=200.0, r_core=4.0)
    assert place / 4 == pytest.approx(3.24462573, rel=1e-3)
    assert speed == pytest.approx(200.0, rel=1e-12)


def test_nfw_peaks_at_2_163_scale_radii():
    radius, speed = peak_radius(haloes.NFW, vmax=200.0, r_s=4.0)
    assert radius / 4 == pytest.approx(2.16258159, rel=1e-3)
    assert speed == pytest.approx(200.0, rel=1e-12)


def test_nfw_is_astropys():
    halo = physical_models.NFW(
        mass=1e12 * u.Msun, concentration=10, redshift=0, massfactor=("critical", 200), cosmo=cosmology.Planck18
    )
    r_s = halo.r_s.to_value(u.kpc)
    radius = np.array([0.02, 0.3, 1.0, 3.0, 10.0]) * r_s
    wanted = halo.circular_velocity(radius * u.kpc).to_value(u.km / u.s)
    v200 = np.sqrt(constants.G * 1e12 * u.Msun / (10 * halo.r_s)).to_value(u.km / u.s)
    vmax = v200 / np.sqrt(4.625 * (np.log(11) - 10 / 11) / 10)  # as the form's documentation says
    # 4.625 is rounded at its fourth digit, and astropy's halo follows its own constants
    np.testing.assert_allclose(haloes.NFW.evaluate(radius, vmax, r_s), wanted, rtol=3e-4)


def test_nfw_rises_as_the_root_of_radius():
    slow, fast = haloes.NFW.evaluate(np.array([1e-3, 4e-3]), 200.0, 1.0)
    assert fast / slow == pytest.approx(2.0, rel=4e-3)  # the next term is 4 / 3 x in the mass
    assert haloes.NFW.evaluate(0.0, 200.0, 1.0) == 0
