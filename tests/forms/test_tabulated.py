"""Curves from tables: through every point, past none, with a mass-to-light ratio; the tables of SPARC."""

import copy
import pickle

import numpy as np
import pytest
import torch
from astropy import units as u
from astropy.modeling.fitting import TRFLSQFitter
from astropy.table import QTable, Table

from kinematics_nn.errors import FormError, WrongUnit
from kinematics_nn.forms import QuadratureSum, Tabulated, get_form
from kinematics_nn.models import inside_values
from kinematics_nn.testing import check_form

KM_S = u.km / u.s
RADII, SPEEDS = np.array([2.0, 4.0, 7.0, 11.0, 20.0]), np.array([-5.0, 10.0, 40.0, 42.0, 30.0])
HALO = get_form("nfw", "rotation_curve")


def test_the_curve_goes_through_the_points_and_overshoots_none():
    model = Tabulated(RADII, SPEEDS)
    np.testing.assert_allclose(model(RADII), SPEEDS, rtol=1e-14)
    between = model(np.linspace(0, 20, 2001))
    assert between.min() == SPEEDS.min()
    assert between.max() == SPEEDS.max()
    inner = np.array([1e-4, 1e-3])
    assert model(inner)[1] / model(inner)[0] == pytest.approx(10, rel=2e-3)  # V goes with R in the centre
    assert model(0.0) == 0


def test_a_smooth_curve_is_followed_between_the_points():
    wanted = HALO(vmax=120.0, r_s=8.0)
    table = np.linspace(0.5, 40, 80)
    between = np.linspace(1, 39, 500)
    # a monotone cubic errs by the square of the step where the slope bends: 5e-4 of the speed here
    np.testing.assert_allclose(Tabulated(table, wanted(table))(between), wanted(between), rtol=1e-3)


def test_outside_it_falls_as_keplers_law():
    model = Tabulated(RADII, SPEEDS)
    np.testing.assert_allclose(model(np.array([20.0, 80.0, 500.0])), [30, 15, 6], rtol=1e-14)


def test_upsilon_multiplies_the_mass():
    np.testing.assert_allclose(Tabulated(RADII, SPEEDS, 4.0)(RADII), 2 * SPEEDS, rtol=1e-14)
    assert Tabulated(RADII, SPEEDS, upsilon=0.5).upsilon == 0.5


def test_it_keeps_the_contract_and_pickles():
    model = Tabulated(RADII, SPEEDS, 0.7)
    check_form(model.form)
    assert Tabulated(list(RADII), SPEEDS * KM_S).form is model.form
    assert pickle.loads(pickle.dumps(model.form)) is model.form
    assert repr(pickle.loads(pickle.dumps(model))) == repr(copy.deepcopy(model)) == repr(model)


def test_batches_of_tensors_keep_dtype_and_have_gradients():
    form = Tabulated(RADII, SPEEDS).form
    radius = torch.linspace(0, 30, 12, dtype=torch.float32).reshape(2, 6).requires_grad_()
    upsilon = torch.tensor([[1.0], [4.0]], requires_grad=True)
    found = form.evaluate(radius, upsilon)
    assert found.dtype == torch.float32
    wanted = form.evaluate(radius.detach().double().numpy(), np.array([[1.0], [4.0]]))
    np.testing.assert_allclose(found.detach(), wanted, rtol=1e-5, atol=1e-5)  # float32
    by_radius, by_upsilon = torch.autograd.grad(found.sum(), (radius, upsilon))
    np.testing.assert_allclose(by_upsilon[:, 0], wanted.sum(1) / [2, 8], rtol=1e-5)
    assert by_radius[1, -1] < 0
    assert torch.isfinite(by_radius).all()


def test_radii_in_kpc_want_a_distance_where_the_sky_is_meant():
    in_kpc = Tabulated(RADII * u.kpc, SPEEDS * KM_S)
    assert in_kpc(7 * u.kpc).to_value(KM_S) == pytest.approx(40)
    assert in_kpc(7000 * u.pc).to_value(KM_S) == pytest.approx(40)
    with pytest.raises(WrongUnit, match="distance="):
        inside_values(in_kpc)
    with pytest.raises(FormError, match="distance="):
        in_kpc.form.for_observation(None)
    with pytest.raises(u.UnitsError):
        in_kpc(7 * u.arcsec)
    on_sky = Tabulated(RADII * u.kpc, SPEEDS * KM_S, distance=10 * u.Mpc)
    arcsec = np.rad2deg(7e-4) * 3600
    assert on_sky(arcsec * u.arcsec).to_value(KM_S) == pytest.approx(40)
    assert on_sky(arcsec) == pytest.approx(40)
    assert inside_values(on_sky) == {"upsilon": 1.0}
    assert on_sky.form.for_observation(None) is on_sky.form


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 3, 2], [1, 2, 3]), "ascending"),
        (([1, 2, 3], [1, 2]), "2 velocities at 3 radii"),
        (([1, 2], [1, np.nan]), "finite"),
        (([0, 2, 3], [1, 2, 3]), "at rest in the centre"),
        (([-1, 2], [1, 2]), "none negative"),
        (([1], [1]), "at least two"),
    ],
)
def test_a_table_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(FormError, match=message):
        Tabulated(*arguments)


def test_wrong_units_are_refused():
    with pytest.raises(WrongUnit, match="angles, or lengths"):
        Tabulated([1, 2] * u.s, [1, 2])
    with pytest.raises(WrongUnit, match="speeds"):
        Tabulated([1, 2], [1, 2] * u.kpc)
    model = QuadratureSum(gas=Tabulated(RADII * u.kpc, SPEEDS), halo=HALO(100 * KM_S, 5 * u.kpc))
    with pytest.raises(WrongUnit, match="km/s"):
        TRFLSQFitter()(model, RADII * u.kpc, (100 + SPEEDS) * 1000 * u.m / u.s)


def read_rotmod(path):
    names = ["Rad", "Vobs", "errV", "Vgas", "Vdisk", "Vbul", "SBdisk", "SBbul"]
    table = QTable(Table.read(path, format="ascii.basic", names=names, comment="#", data_start=0))
    for name in names[:6]:
        table[name] = table[name] * (u.kpc if name == "Rad" else KM_S)
    return table


@pytest.mark.parametrize("galaxy", ["NGC2403", "NGC3198", "DDO154"])
def test_sparc_baryons_and_a_halo(real_data, galaxy):
    """The published stars and gas plus a halo, of the size that spirals have, follow each curve."""
    path = real_data / "curves" / f"{galaxy}_rotmod.dat"
    if not path.is_file():
        pytest.skip("no SPARC curves in KINEMATICS_NN_DATA")
    data = read_rotmod(path)
    model = QuadratureSum(
        gas=Tabulated(data["Rad"], data["Vgas"]),
        disc=Tabulated(data["Rad"], data["Vdisk"], upsilon=0.5),
        halo=get_form("pseudo_isothermal", "rotation_curve")(100 * KM_S, 3 * u.kpc),
    )
    np.testing.assert_allclose(
        model.form.component_speeds(data["Rad"].value, *model.parameters)["gas"], data["Vgas"].value, atol=1e-12
    )
    model.gas_upsilon.fixed = True
    model.disc_upsilon.bounds = (0.1, 1.5)  # what populations of stars allow at 3.6 micron
    fitted = TRFLSQFitter()(model, data["Rad"], data["Vobs"], weights=1 / data["errV"].value)
    rest = (data["Vobs"] - fitted(data["Rad"])).value
    # Systematic wiggles of 3 to 4 km/s are what mass models leave of these curves.
    assert np.sqrt(np.mean(rest**2)) < 0.04 * data["Vobs"].value.max() + 1
    assert 30 < fitted.halo_vmax.value < 250
    assert 0.3 < fitted.halo_r_core.quantity.to_value(u.kpc) < 20
