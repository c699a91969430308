"""Mass models against closed forms, limits, total masses, densities summed by hand, and other packages."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from astropy import constants, cosmology
from astropy import units as u
from astropy.modeling import physical_models
from scipy import integrate, optimize, special

from kinematics_nn.forms import haloes, list_forms, mass_models
from kinematics_nn.forms.masses import HUBBLE_CONSTANT, MassModel, find_masses

MODELS = [known.form for known in list_forms() if isinstance(known.form, type) and issubclass(known.form, MassModel)]


def peak_radius(form, **parameters):
    lo, hi = 0.1, 200.0
    found = optimize.minimize_scalar(lambda r: -form.evaluate(r, **parameters), (lo, 10.0, hi), options={"xtol": 1e-10})
    return found.x, -found.fun


def spherical(density, radius):
    """Circular speed of a spherical density, by integrating its mass."""
    mass = [integrate.quad(lambda r: 4 * np.pi * r**2 * density(r), 0, r, epsrel=1e-10, limit=200)[0] for r in radius]
    return np.sqrt(np.array(mass) / radius)


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


def test_freeman_far_out_in_single_precision():
    radius = np.geomspace(10.0, 200.0, 300).astype(np.float32)
    wanted = mass_models.FreemanDisc.evaluate(radius.astype(float), 200.0, 1.0)
    found = {
        "numpy": mass_models.FreemanDisc.evaluate(radius, 200.0, 1.0),
        "torch": mass_models.FreemanDisc.evaluate(torch.tensor(radius), 200.0, 1.0).numpy(),
    }
    for library, speed in found.items():
        assert speed.dtype == np.float32
        # the difference is 1 / 2y**2 of its terms, 1 / 200 at y = 10, which have some roundings of 6e-8 each
        np.testing.assert_allclose(speed, wanted, rtol=5e-5, err_msg=library)
        outside = radius > 20.0  # the series' own 4e-7 at y = 10, and some roundings
        np.testing.assert_allclose(speed[outside], wanted[outside], rtol=1e-6, err_msg=library)
    by_radius = mass_models.FreemanDisc.derivatives(radius, 200.0, 1.0)[1]
    exact = mass_models.FreemanDisc.derivatives(radius.astype(float), 200.0, 1.0)[1]
    # the slope's own difference loses a digit more than the speed
    np.testing.assert_allclose(by_radius, exact, rtol=1e-3)
    np.testing.assert_allclose(by_radius[outside], exact[outside], rtol=3e-5)


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


def test_hernquist_peaks_at_its_scale_radius():
    radius, speed = peak_radius(mass_models.HernquistBulge, vmax=200.0, r_bulge=4.0)
    assert radius == pytest.approx(4.0, rel=1e-4)  # a maximum is flat: its place is known to the root of the digits
    assert speed == pytest.approx(200.0, rel=1e-12)


def test_hernquist_from_its_density():
    radius = np.array([0.01, 0.3, 1.0, 3.0, 40.0])
    wanted = spherical(lambda r: 1 / (2 * np.pi * r * (1 + r) ** 3), radius)  # a mass of 1 within a scale radius of 1
    np.testing.assert_allclose(mass_models.HernquistBulge.evaluate(radius, 0.5, 1.0), wanted, rtol=1e-9)


def test_plummer_is_astropys():
    sphere = physical_models.Plummer1D(mass=1.0, r_plum=3.0)
    radius = np.array([0.01, 0.3, 1.0, 3.0, 40.0])
    vmax = np.sqrt(1 / mass_models.Plummer.gm(0.0, 1.0, 3.0))  # of G M = 1
    # the quadrature's own accuracy
    np.testing.assert_allclose(
        mass_models.Plummer.evaluate(radius, vmax, 3.0), spherical(lambda r: sphere(r), radius), rtol=1e-9
    )
    place, speed = peak_radius(mass_models.Plummer, vmax=200.0, r_plummer=4.0)
    assert place == pytest.approx(4.0 * np.sqrt(2), rel=1e-4)
    assert speed == pytest.approx(200.0, rel=1e-12)


def test_kepler_falls_as_the_root_and_stays_finite():
    radius = np.array([1e-5, 1.0, 4.0, 1e4])
    np.testing.assert_allclose(mass_models.Kepler.evaluate(radius, 9e4), [300 / 10**-2.5, 300, 150, 3], rtol=1e-13)
    # solid-body inside 1e-6 arcsec, from 0 at the centre
    np.testing.assert_allclose(
        mass_models.Kepler.evaluate(np.array([0.0, 5e-7, 1e-6]), 9e4), [0, 1.5e5, 3e5], rtol=1e-12
    )


def deprojected_share(n, radius):
    """Share of a Sérsic sphere's mass within a radius: of each shell of projected light, the part inside it.

    Abel's integral for the density times 4 pi r**2, both summed over R, is the integral of -dI/dR times the volume
    that a cylinder of radius R shares with the sphere, over pi; here with b set by scipy and the total by its gamma.
    """
    b = special.gammaincinv(2 * n, 0.5)

    def integrand(log_r):
        r = np.exp(log_r)
        w = min(1.0, radius / r)
        falling = b / n * r ** (1 / n) * np.exp(-b * r ** (1 / n))
        return 2 * r * r * falling * (np.arcsin(w) - w * np.sqrt(1 - w * w))

    middle = np.log(radius)
    edges = np.unique([-30.0, middle - 8, middle - 3, middle, middle + 0.1, middle + 1, middle + 3, n * np.log(60 / b)])
    edges = edges[edges <= max(edges[0], n * np.log(60 / b))]
    parts = [integrate.quad(integrand, lo, hi, limit=200, epsabs=0, epsrel=1e-9)[0] for lo, hi in pairwise(edges)]
    return sum(parts) / (2 * np.pi * n * b ** (-2 * n) * special.gamma(2 * n))


@pytest.mark.parametrize(
    ("n", "accuracy"), [(0.5, 0.003), (0.8, 0.008), (1.0, 0.007), (2.0, 0.004), (4.0, 0.003), (7.0, 0.003)]
)
def test_sersic_bulge_is_the_deprojected_profile(n, accuracy):
    radius = np.geomspace(0.01, 30, 12)
    total = mass_models.SersicBulge.gm(0.0, 1.0, 1.0, n)
    wanted = np.sqrt(total * np.array([deprojected_share(n, r) for r in radius]) / radius)
    # as documented: the polynomials in 1/n are fitted to this
    np.testing.assert_allclose(mass_models.SersicBulge.evaluate(radius, 1.0, 1.0, n), wanted, rtol=accuracy)


def test_einasto_from_its_density():
    radius = np.array([0.01, 0.3, 1.0, 3.0, 40.0])
    for alpha in (0.12, 0.3, 1.0):
        wanted = spherical(lambda r, alpha=alpha: np.exp(-2 / alpha * (r**alpha - 1)), radius)
        found = haloes.Einasto.evaluate(radius, 1.0, 1.0, alpha)
        np.testing.assert_allclose(found, wanted / wanted[2], rtol=1e-8)  # of the quadrature


GALPY = {
    "hernquist": lambda p: p.HernquistPotential(amp=2.0, a=3.0),
    "plummer": lambda p: p.PlummerPotential(amp=1.0, b=3.0),
    "kepler": lambda p: p.KeplerPotential(amp=1.0),
    "nfw": lambda p: p.NFWPotential(amp=1.0, a=3.0),
    "burkert": lambda p: p.BurkertPotential(amp=1.0, a=3.0),
    "pseudo_isothermal": lambda p: p.PseudoIsothermalPotential(amp=1.0, a=3.0),
    "freeman": lambda p: p.RazorThinExponentialDiskPotential(amp=1.0, hr=3.0),
    "einasto": lambda p: p.EinastoPotential(amp=1.0, rm2=3.0, n=5.0),
}


@pytest.mark.parametrize("form", [form for form in MODELS if form.name in GALPY], ids=lambda form: form.name)
def test_the_shape_is_galpys(form):
    potential = GALPY[form.name](pytest.importorskip("galpy.potential"))
    radius = np.array([0.03, 0.3, 1.0, 3.0, 10.0, 100.0])
    wanted = np.array([float(potential.vcirc(r, use_physical=False)) for r in radius])
    values = {"kepler": (1.0,), "einasto": (1.0, 3.0, 0.2)}.get(form.name, (1.0, 3.0))
    found = form.evaluate(radius, *values)
    # galpy integrates Einasto's density numerically
    np.testing.assert_allclose(found / found[3], wanted / wanted[3], rtol=1e-5 if form.name == "einasto" else 1e-9)


@pytest.mark.parametrize(
    ("name", "amplitude"), [("hernquist", 2.0), ("plummer", 1.0), ("kepler", 1.0), ("freeman", 1.0)]
)
def test_the_total_mass_is_galpys(name, amplitude):
    potential = GALPY[name](pytest.importorskip("galpy.potential"))
    form = next(form for form in MODELS if form.name == name)
    speed = float(potential.vcirc(3.0, use_physical=False))
    # the mass that galpy's amplitude stands for: half of it for Hernquist, 2 pi hr**2 for the disc
    total = {"hernquist": 1.0, "freeman": 2 * np.pi * 9.0}.get(name, 1.0)
    values = (speed**2 * 3.0,) if name == "kepler" else (speed / form.evaluate(3.0, 1.0, 3.0), 3.0)
    assert form.gm(0.0, *values) == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize(
    "form", [form for form in MODELS if not issubclass(form, haloes.Halo)], ids=lambda form: form.name
)
def test_far_out_all_the_mass_is_a_point(form):
    values = form.defaults().values()
    radius = 1e6
    # Hernquist's mass outside is 2 a / r of it, 4e-6, and the deprojected Sérsic's nothing
    assert radius * form.evaluate(radius, *values) ** 2 == pytest.approx(form.gm(0.0, *values), rel=1e-5)


@pytest.mark.parametrize("form", [form for form in MODELS if issubclass(form, haloes.Halo)], ids=lambda form: form.name)
def test_m200_is_200_times_critical(form):
    distance = 10 * u.Mpc
    per_arcsec = distance / u.rad.to(u.arcsec)
    hubble = HUBBLE_CONSTANT * per_arcsec.to_value(u.Mpc)
    mass = form.gm(hubble, *form.defaults().values()) * per_arcsec * (u.km / u.s) ** 2 / constants.G
    critical = cosmology.FlatLambdaCDM(H0=HUBBLE_CONSTANT, Om0=0.3).critical_density0
    r200 = np.cbrt(3 * mass / (4 * np.pi * 200 * critical)).to(u.kpc)
    speed = form.evaluate((r200 / per_arcsec).to_value(u.one), *form.defaults().values())
    # the constants of astropy's cosmology and of this sum are the same
    assert speed == pytest.approx(np.sqrt(constants.G * mass / r200).to_value(u.km / u.s), rel=1e-9)


def test_m200_of_astropys_nfw():
    cosmo = cosmology.FlatLambdaCDM(H0=HUBBLE_CONSTANT, Om0=0.3)
    halo = physical_models.NFW(
        mass=1e12 * u.Msun, concentration=10, redshift=0, massfactor=("critical", 200), cosmo=cosmo
    )
    distance = 10 * u.Mpc
    per_arcsec = distance / u.rad.to(u.arcsec)
    r_s = (halo.r_s / per_arcsec).to_value(u.one)
    vmax = haloes.NFW.evaluate(2.16258, 1.0, 1.0) * halo.v_max.to_value(u.km / u.s)
    mass = haloes.NFW.gm(HUBBLE_CONSTANT * per_arcsec.to_value(u.Mpc), vmax, r_s) * per_arcsec * (u.km / u.s) ** 2
    assert (mass / constants.G).to_value(u.Msun) == pytest.approx(
        1e12, rel=1e-3
    )  # astropy's v_max is at r_max of 2.163


def test_m200_takes_arrays_and_is_zero_where_nothing_is_dense():
    found = haloes.Burkert.gm(0.0034, np.array([150.0, 1e-3]), np.array([60.0, 6e4]))
    assert found[0] > 0
    assert found[1] == 0


def test_the_masses_of_a_sum_have_prefixes():
    from kinematics_nn.forms.composite import sum_of_forms

    inner = sum_of_forms((("thin", mass_models.FreemanDisc), ("bulge", mass_models.SersicBulge)))
    whole = sum_of_forms((("stars", inner), ("halo", haloes.NFW), ("hole", mass_models.Kepler)))
    found = {name: whole.names()[where] for name, _, where in find_masses(whole)}
    assert found == {
        "stars_thin_mass": ("stars_thin_vmax", "stars_thin_r_disc"),
        "stars_bulge_mass": ("stars_bulge_v_eff", "stars_bulge_r_eff", "stars_bulge_n"),
        "halo_m200": ("halo_vmax", "halo_r_s"),
        "hole_mass": ("hole_gm",),
    }
