"""Sums in quadrature: signed squares, prefixed parameters, one class for the same components."""

import copy
import pickle

import numpy as np
import pytest
import torch
from astropy import constants
from astropy import units as u
from astropy.modeling.fitting import LevMarLSQFitter, TRFLSQFitter

from kinematics_nn.errors import FormError
from kinematics_nn.forms import (
    FormParameter,
    FreemanDisc,
    Kepler,
    LogUniform,
    QuadratureSum,
    RotationCurve,
    Tabulated,
    get_form,
)
from kinematics_nn.models import inside_values, model_class
from kinematics_nn.testing import check_form

KM_S = u.km / u.s
RADIUS = np.linspace(0.2, 60, 50)
NFW, ARCTAN, FLAT = (get_form(name, "rotation_curve") for name in ("nfw", "arctan", "flat"))


class Outward(RotationCurve):
    """A pull outwards: a speed that is negative."""

    name = "outward"
    parameters = (FormParameter("push", "km/s", 10.0, (0.0, 1000.0), LogUniform(1.0, 100.0), "speed"),)

    @staticmethod
    def evaluate(radius, push):
        return -push + 0 * radius

    @staticmethod
    def derivatives(radius, push):
        return [-1 + 0 * radius]


def test_squares_add_with_their_signs():
    model = QuadratureSum(a=FLAT(vmax=50.0), b=FLAT(vmax=30.0), c=Outward(push=14.0))
    # 2500 + 900 - 196; the soft root differs from the true one by 1e-12 / 4 times (3596 / 3204)**2
    np.testing.assert_allclose(model(RADIUS), np.sqrt(3204.0), rtol=1e-11)
    model = QuadratureSum(a=FLAT(vmax=5.0), c=Outward(push=13.0))
    np.testing.assert_allclose(model(RADIUS), -12.0, rtol=1e-8)


def test_a_sum_of_one_is_that_one():
    model, alone = QuadratureSum(halo=NFW(vmax=90.0, r_s=8.0)), NFW(vmax=90.0, r_s=8.0)
    # the soft root is a fourth of 1e-12 off where nothing cancels
    np.testing.assert_allclose(model(RADIUS), alone(RADIUS), rtol=1e-12)
    assert model(0.0) == 0


def test_gradients_are_finite_where_the_pulls_cancel_and_in_the_centre():
    form = QuadratureSum(a=ARCTAN, b=Outward).form
    values = torch.tensor([100.0, 5.0, 50.0], dtype=torch.float64)
    radius = torch.tensor([0.0, 5.0, 9.0], dtype=torch.float64)  # the pulls cancel at 5
    speed = form.evaluate(radius, *values)
    assert float(speed[1]) == pytest.approx(0, abs=1e-9)
    for gradient in torch.autograd.functional.jacobian(form.evaluate, (radius, *values)):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    "components",
    [
        {"disc": "arctan", "halo": "nfw"},
        {"inner": "tanh", "outer": "brandt", "middle": "burkert"},
        {"gas": Tabulated([2.0, 5.0, 30.0], [-3.0, 8.0, 20.0]), "halo": "pseudo_isothermal"},
    ],
    ids=lambda components: "+".join(components),
)
def test_sums_keep_the_contract_of_forms(components):
    check_form(QuadratureSum(**components).form)


def test_parameters_keep_their_names_priors_limits_and_units():
    form = QuadratureSum(disc=ARCTAN, halo="nfw").form
    assert form.names() == ("disc_vmax", "disc_r_turn", "halo_vmax", "halo_r_s")
    for known, own in zip(form.parameters, (*ARCTAN.parameters, *NFW.parameters), strict=True):
        assert (known.prior, known.bounds, known.unit, known.default) == (own.prior, own.bounds, own.unit, own.default)
        assert known.description.split(": ") == [known.name.split("_")[0], own.description]
    assert form.name == "disc:arctan+halo:nfw"
    assert QuadratureSum(all=form, more="flat").form.name == "all:(disc:arctan+halo:nfw)+more:flat"


def test_one_class_for_the_same_components():
    form = QuadratureSum(disc=ARCTAN, halo=NFW(vmax=100.0)).form
    assert QuadratureSum(disc="arctan", halo=model_class(NFW)).form is form
    assert get_form("disc:arctan+halo:nfw", "rotation_curve") is form
    assert QuadratureSum(halo=NFW, disc=ARCTAN).form is not form
    assert pickle.loads(pickle.dumps(form)) is form
    assert copy.deepcopy(form) is form
    assert pickle.loads(pickle.dumps(ARCTAN)) is ARCTAN


def test_models_bring_values_limits_and_what_is_fixed():
    disc = ARCTAN(vmax=80 * KM_S, r_turn=2 * u.kpc)
    disc.r_turn.fixed = True
    disc.vmax.bounds = (10, 90)
    model = QuadratureSum(disc=disc, halo=NFW())
    assert model.disc_vmax.quantity == 80 * KM_S
    assert model.halo_r_s.quantity == NFW.defaults()["r_s"] * u.kpc
    assert model.disc_r_turn.fixed
    assert not model.disc_vmax.fixed
    assert model.disc_vmax.bounds == (10, 90)
    for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), model.copy()):
        assert repr(other) == repr(model)
        assert other.fixed == model.fixed
        assert other.bounds == model.bounds
    bare = QuadratureSum(disc=ARCTAN(vmax=80.0, r_turn=2.0), halo=NFW())
    assert bare.disc_vmax.unit is None
    np.testing.assert_allclose(model(3 * u.kpc).to_value(KM_S), bare(3.0), rtol=1e-14)
    assert inside_values(bare) == {
        "disc_vmax": 80.0, "disc_r_turn": 2.0, **{f"halo_{k}": v for k, v in NFW.defaults().items()}
    }  # fmt: skip


SPEED_UNITS = [u.m / u.s, u.Mm / u.s, u.def_unit("c", constants.c)]


@pytest.mark.parametrize("unit", SPEED_UNITS, ids=str)
def test_a_sum_is_the_same_galaxy_in_any_unit_of_speed(unit):
    def galaxy(unit):
        speeds = {name: (value * KM_S).to(unit) for name, value in {"disc": 120, "halo": 110, "out": 40}.items()}
        return QuadratureSum(
            disc=ARCTAN(speeds["disc"], 3 * u.arcsec),
            halo=NFW(speeds["halo"], 9 * u.arcsec),
            out=Outward(speeds["out"]),
        )

    found, wanted = galaxy(unit)(RADIUS * u.arcsec), galaxy(KM_S)(RADIUS * u.arcsec)
    # the innermost radii move outwards at tens of km/s; what is held above 0 is 1e-30 in either unit
    np.testing.assert_allclose(found.to_value(KM_S), wanted.value, rtol=1e-10)

    start = galaxy(unit)
    start.disc_vmax, start.halo_vmax = 0.8 * start.disc_vmax.quantity, 1.2 * start.halo_vmax.quantity
    start.halo_r_s.fixed = start.out_push.fixed = True
    weights = np.full(RADIUS.size, unit.to(KM_S))  # errors of 1 km/s: the fitter's tolerances are absolute
    fitted = TRFLSQFitter()(start, RADIUS * u.arcsec, wanted.to(unit), weights=weights, maxiter=1000)
    # noiseless data: the fitter's own tolerance
    for name, truth in zip(fitted.param_names, galaxy(KM_S).parameters, strict=True):
        unit_of = u.arcsec if name.endswith(("turn", "r_s")) else KM_S
        assert getattr(fitted, name).quantity.to_value(unit_of) == pytest.approx(truth, rel=1e-3), name


@pytest.mark.parametrize("unit", [u.deg, u.rad, u.uas], ids=str)
def test_a_point_mass_is_the_same_at_radii_in_any_unit(unit):
    # within 1e-6 arcsec, and not 1e-6 rad, a point's curve is cut off
    def galaxy(unit):
        return QuadratureSum(black_hole=Kepler(1e4 * KM_S**2 * u.arcsec), halo=NFW(1 * KM_S, (1 * u.arcsec).to(unit)))

    radius = [1e-3, 0.1, 2.0] * u.arcsec
    # rounding of the conversion
    np.testing.assert_allclose(galaxy(unit)(radius).value, galaxy(u.arcsec)(radius).value, rtol=1e-12)


@pytest.mark.parametrize("fitter", [TRFLSQFitter, LevMarLSQFitter])
def test_the_fitters_of_astropy_take_a_sum(fitter):
    def galaxy(vmax, r_turn, halo):
        return QuadratureSum(
            disc=ARCTAN(vmax * KM_S, r_turn * u.kpc), halo=NFW(halo * KM_S, 30 * u.kpc), out=Outward(5 * KM_S)
        )

    truth, start = galaxy(100, 2, 150), galaxy(80, 3, 100)
    start.out_push.fixed = start.halo_r_s.fixed = True
    fitted = fitter()(start, RADIUS * u.kpc, truth(RADIUS * u.kpc), maxiter=1000)
    # noiseless data: the fitter's own tolerance
    np.testing.assert_allclose(fitted.parameters, truth.parameters, rtol=1e-4)
    assert fitted.disc_r_turn.unit == u.kpc


def test_derivatives_are_those_of_the_components():
    form = QuadratureSum(disc=ARCTAN, out=Outward).form
    values = np.array([100.0, 5.0, 30.0])
    for i, column in enumerate(form.derivatives(RADIUS, *values)):
        step = np.zeros(3)
        step[i] = 1e-5 * values[i]
        wanted = (form.evaluate(RADIUS, *(values + step)) - form.evaluate(RADIUS, *(values - step))) / (2 * step[i])
        np.testing.assert_allclose(column, wanted, rtol=1e-6, atol=1e-7)  # central differences

    class NoDerivatives(RotationCurve):
        name, parameters = "no_derivatives", FLAT.parameters
        evaluate = staticmethod(lambda radius, vmax: vmax + 0 * radius)

    assert QuadratureSum(disc=ARCTAN, other=NoDerivatives).form.derivatives is None


def test_what_cannot_be_summed_is_refused():
    with pytest.raises(FormError, match="is a surface_brightness"):
        QuadratureSum(disc=get_form("exponential", "surface_brightness"))
    with pytest.raises(FormError, match="keywords"):
        QuadratureSum()
    with pytest.raises(FormError, match="arcsec and in kpc"):
        QuadratureSum(gas=Tabulated([1, 2], [3, 4]), stars=Tabulated([1, 2] * u.kpc, [3, 4]))
    in_arcsec = NFW(100 * KM_S, 3 * u.arcsec)
    for in_kpc in (
        ARCTAN(100 * KM_S, 3 * u.kpc),
        Kepler(1e4 * KM_S**2 * u.kpc),
        get_form("linear", "rotation_curve")(10 * KM_S / u.pc),
        Tabulated([1, 2] * u.kpc, [3, 4]),
    ):
        with pytest.raises(FormError, match="radii in arcsec and in kpc; needed: one unit"):
            QuadratureSum(halo=in_arcsec, other=in_kpc)
        with pytest.raises(FormError, match="radii in kpc and in arcsec; needed: one unit"):
            QuadratureSum(other=in_kpc, bare=FLAT(), halo=in_arcsec)
    for prefix in ("a b", "1st", ""):
        with pytest.raises(FormError, match=f"the prefix '{prefix}'; needed: a Python identifier"):
            QuadratureSum(**{prefix: NFW})
    tied = ARCTAN()
    tied.r_turn.tied = lambda model: model.vmax / 50
    with pytest.raises(FormError, match="r_turn of disc is tied"):
        QuadratureSum(disc=tied, halo=NFW())
    with pytest.raises(FormError, match="one model"):
        QuadratureSum(disc=ARCTAN([1, 2], [3, 4], n_models=2))
    with pytest.raises(FormError, match="prefix:name"):
        get_form("disc:arctan+nfw", "rotation_curve")
    with pytest.raises(FormError, match=r"QuadratureSum\(\.\.\.\)"):
        get_form(QuadratureSum, "rotation_curve")


def test_a_component_without_mass_is_not_there():
    radius = np.array([0.0, 0.5, 3.0, 20.0])
    with_none = QuadratureSum(disc=FreemanDisc(), black_hole=Kepler()).form
    np.testing.assert_allclose(
        with_none.evaluate(radius, 100.0, 4.0, 0.0), FreemanDisc.evaluate(radius, 100.0, 4.0), rtol=1e-6, atol=1e-3
    )  # the least mass there is, 1e-30, at radius 0
    values = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (100.0, 4.0, 0.0)]
    with_none.evaluate(torch.as_tensor(radius), *values).sum().backward()
    assert all(torch.isfinite(value.grad) for value in values)
    assert all(np.isfinite(column).all() for column in with_none.derivatives(radius, 100.0, 4.0, 0.0))
