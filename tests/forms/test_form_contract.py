"""Every registered form keeps the contract, and the contract's checks fail where a form breaks it."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.autograd.function import once_differentiable

from kinematics_nn.errors import FormError
from kinematics_nn.forms import (
    FormParameter,
    LogUniform,
    Normal,
    Prior,
    RotationCurve,
    SurfaceBrightness,
    Uniform,
    get_form,
    list_forms,
    ops,
    register,
)
from kinematics_nn.forms.contract import check_numpy, check_scaling, check_torch
from kinematics_nn.forms.contract_light import check_light
from kinematics_nn.forms.declaration import check_declaration
from kinematics_nn.forms.masses import MassModel
from kinematics_nn.models import model_class
from kinematics_nn.testing import check_form

VMAX = FormParameter("vmax", "km/s", 200.0, (0.0, 5000.0), LogUniform(10.0, 800.0), "speed")
R_TURN = FormParameter("r_turn", "arcsec", 5.0, (1e-3, 1e5), LogUniform(0.02, 5.0, relative_to="r_scale"), "radius")
R_SCALE = FormParameter("r_scale", "arcsec", 5.0, (1e-3, 1e5), LogUniform(0.1, 50.0), "radius")


def curve(evaluate, parameters=(VMAX, R_TURN), **members):
    members = {"name": "broken", "parameters": parameters, "evaluate": staticmethod(evaluate), **members}
    return type("Broken", (RotationCurve,), members)


TAKEN = ("name", "form", "bounds", "fixed", "inputs", "n_models", "amplitude", "rotation_curve")


def declared(**changes):
    """A curve of one parameter, to be spoilt in its declaration."""
    known = replace(VMAX, **changes)
    scope = {}
    exec(f"def evaluate(radius, {known.name}): return {known.name} * ops.tanh(radius)", {"ops": ops}, scope)
    return curve(scope["evaluate"], (known,))


def mass_model(**members):
    evaluate = staticmethod(lambda radius, vmax, r_turn: vmax * ops.tanh(radius / r_turn))
    return type("Heavy", (MassModel,), {"name": "h", "parameters": (VMAX, R_TURN), "evaluate": evaluate, **members})


@pytest.mark.parametrize("known", list_forms(), ids=lambda known: f"{known.kind}-{known.name}")
def test_every_form_keeps_the_contract(known):
    check_form(known.form)


# torch 2.13 compiles its own forward-mode formulas by the torch.jit.script that it deprecates
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("known", list_forms(), ids=lambda known: f"{known.kind}-{known.name}")
def test_forms_work_under_vmap_and_forward_mode(known):
    form = known.form
    radius = torch.tensor([0.4, 3.0, 12.0, 80.0], dtype=torch.float64)
    values = torch.tensor([list(form.defaults().values())] * 2, dtype=torch.float64)
    values[1] *= 1.1

    def one(v):
        return form.evaluate(radius, *v)

    forward = torch.func.vmap(torch.func.jacfwd(one))(values)
    backward = torch.func.vmap(torch.func.jacrev(one))(values)
    # the two modes sum in another order
    torch.testing.assert_close(forward, backward, rtol=1e-9, atol=1e-12)


def test_importing_the_forms_and_models_imports_no_torch():
    code = "import sys, kinematics_nn.models as m; m.SersicDisc()(3.0); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (curve(lambda radius, vmax, r: vmax), "declared parameters in order"),
        (curve(lambda radius, vmax, r_turn: vmax * np.arctan(radius / r_turn)), r"ops in the place of numpy's"),
        (curve(lambda radius, vmax, r_turn: vmax * ops.sqrt(radius / r_turn)), "gradient by radius is not finite"),
        (curve(lambda radius, vmax, r_turn: vmax * r_turn / radius), "not finite"),
        (curve(lambda radius, vmax, r_turn: vmax), "shapes"),
        (curve(lambda radius, vmax, r_turn: np.float64(vmax) * radius / r_turn), "dtype kept"),
        (curve(lambda radius: radius, ()), "at least one"),
        (curve(lambda radius, vmax: radius, (VMAX,), name="Not a name"), "lower-case"),
        (
            curve(lambda radius, lambda_: radius, (FormParameter("x y", "", 0, (0, 1), LogUniform(1, 2), ""),)),
            "identifier",
        ),
        (curve(lambda radius, m: radius, (FormParameter("m", "solMass", 1, (0, 2), LogUniform(1, 2), ""),)), "km/s"),
        (
            curve(lambda radius, m: radius, (FormParameter("m", "wrong", 1, (0, 2), LogUniform(1, 2), ""),)),
            "astropy reads",
        ),
        (curve(lambda radius, m: radius, (FormParameter("m", "", 3, (0, 2), LogUniform(1, 2), ""),)), "default"),
        (curve(lambda radius, m: radius, (FormParameter("m", "", 1, (0, np.inf), LogUniform(1, 2), ""),)), "bounds"),
        (curve(lambda radius, m: radius, (FormParameter("m", "", 1, (0, 2), (0, 2), ""),)), "Prior"),
        (declared(prior=Prior(10.0, 800.0)), r"raises AttributeError.*ppf\(\) and log_prob"),
        (declared(prior=Uniform(0.0, np.inf)), "one that is finite"),
        (declared(prior=Uniform(-np.inf, np.inf)), "one that is finite"),
        (declared(prior=Uniform(-5.0, 5.0), default=1.0, bounds=(0.5, 2.0)), "a prior within the bounds"),
        (declared(prior=Normal(mean=180.0, std=100.0)), "a prior within the bounds"),
        (declared(prior=LogUniform(10.0, 1.0, ("beam", None))), "raises ValueError: a prior needs lo < hi"),
        *((declared(name=name), "of what every astropy model has") for name in TAKEN),
        (
            type("Mine", (RotationCurve,), {"name": "mine", "parameters": (VMAX,), "evaluate": lambda s, vmax: s}),
            "self",
        ),
        (int, "is no form"),
        (type("Bare", (RotationCurve,), {"name": "bare", "parameters": (VMAX,)}), r"no evaluate\(\)"),
        (mass_model(), r"no gm\(\)"),
        (mass_model(gm=staticmethod(lambda hubble, vmax, r_turn: vmax)), "no mass_description"),
    ],
)
def test_a_broken_form_is_told_what_is_wrong(form, message):
    with pytest.raises(FormError, match=message):
        check_form(form)


def test_what_a_base_class_only_describes_says_so():
    with pytest.raises(FormError, match=r"evaluate\(radius"):
        RotationCurve.evaluate(1.0)
    with pytest.raises(FormError, match=r"gm\(hubble"):
        MassModel.gm(70.0)
    whole = mass_model(gm=staticmethod(lambda hubble, vmax, r_turn: vmax**2 * r_turn), mass_description="Mass")
    check_declaration(type("Heir", (whole,), {"name": "heir"}))  # what a parent has is had


def test_priors_without_limits_or_in_units_of_the_galaxy_are_good():
    check_declaration(declared(prior=Normal(mean=180.0, std=20.0)))  # the bounds are nine standard deviations away
    check_declaration(declared(prior=Normal(180.0, 200.0, 10.0, 800.0)))
    check_declaration(declared(prior=LogUniform(0.1, 1e4, ("beam", "field"))))


class Ring(SurfaceBrightness):
    """A form of light with integrals of its own, to be spoilt in either."""

    name = "own_ring"
    parameters = (R_SCALE,)

    @staticmethod
    def evaluate(radius, r_scale):
        return radius / r_scale * ops.exp(-radius / r_scale)

    @staticmethod
    def total(r_scale):
        return 4 * np.pi * r_scale**2

    @staticmethod
    def half_light_radius(r_scale):
        return 2.674060313754 * r_scale  # P(3, x) = 1/2


def light(**members):
    return type("Spoilt", (Ring,), {name: staticmethod(member) for name, member in members.items()})


def held(r_scale):
    return r_scale.detach() if ops.is_tensor(r_scale) else r_scale


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (light(total=lambda r_scale: 2 * np.pi * r_scale**2), r"total\(\) is 157.08; needed.*314.159"),
        (light(total=lambda r_scale: 5 * 4 * np.pi * r_scale), r"r_scale=0\.1: total\(\)"),
        (light(half_light_radius=lambda r_scale: 1.678 * r_scale), "holds 0.237 of the light"),
        (
            light(total=lambda r_scale: 4 * np.pi * np.square(np.asarray(r_scale))),
            "total.* raises .* for torch tensors",
        ),
        (light(total=lambda r_scale: 4 * np.pi * held(r_scale) ** 2), "total.* holds its gradient"),
        (light(half_light_radius=lambda r_scale: 2.674 * (0.9 * held(r_scale) + 0.1 * r_scale)), "gradient of half"),
        (light(radial_scale=lambda r_scale: 1e-4 * r_scale, total=None), "total.*radial_scale"),
    ],
)
def test_wrong_integrals_of_a_light_are_found(form, message):
    """A wrong total is a wrong flux, and a wrong half-light radius the wrong scale of all relative priors."""
    if form.total is None:
        form.total = classmethod(SurfaceBrightness.total.__func__)
    check_declaration(form)
    check_numpy(form)
    check_torch(form)
    with pytest.raises(FormError, match=message):
        check_light(form)


def test_integrals_that_are_left_out_or_right_are_good():
    check_light(Ring)
    check_light(
        type("Summed", (SurfaceBrightness,), {"name": "s", "parameters": (R_SCALE,), "evaluate": Ring.evaluate})
    )
    with pytest.raises(FormError, match="half_light_radius"):
        check_form(light(half_light_radius=lambda r_scale: r_scale))
    with pytest.raises(FormError, match="half_light_radius"):
        register(light(half_light_radius=lambda r_scale: r_scale))


def test_a_costly_curve_with_a_kink_is_found():
    def bent(radius, vmax, r_turn):
        return vmax * ops.minimum(radius / r_turn, 1.0 + 0 * radius)

    check_torch(curve(bent))
    with pytest.raises(FormError, match=r"a kink near radius 5(\.\d+)? arcsec.*costly = False"):
        check_torch(curve(bent, costly=True))
    check_torch(curve(lambda radius, vmax, r_turn: vmax * ops.tanh(radius / r_turn), costly=True))


def test_a_form_that_cannot_be_imported_is_told_so():
    with pytest.raises(FormError, match="does not pickle"):
        check_form(curve(lambda radius, vmax, r_turn: vmax * ops.tanh(radius / r_turn)))


def test_a_wrong_gradient_is_found():
    class Detached(RotationCurve):
        name = "detached"
        parameters = (VMAX, R_TURN)

        @staticmethod
        def evaluate(radius, vmax, r_turn):
            held = r_turn.detach() if ops.is_tensor(r_turn) else r_turn
            return vmax * ops.tanh(radius / held)

    with pytest.raises(FormError, match="finite differences"):
        check_form(Detached)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (lambda radius, vmax, r_turn: [radius / (radius + r_turn), 0 * radius], "by r_turn"),
        (lambda radius, vmax, r_turn: [radius / (radius + r_turn)], "derivatives.. returns 1"),
    ],
)
def test_wrong_derivatives_are_found(columns, message):
    """With them astropy's fitters leave a parameter where it began, and say nothing."""
    form = curve(lambda radius, vmax, r_turn: vmax * radius / (radius + r_turn), derivatives=staticmethod(columns))
    with pytest.raises(FormError, match=message):
        check_torch(form)


def test_what_divides_by_a_parameter_is_tried_where_that_is_0():
    alpha = FormParameter("alpha", "", 0.1, (-0.5, 0.5), Uniform(-0.5, 0.5), "curvature")

    def evaluate(radius, vmax, alpha):
        return vmax * ops.expm1(alpha * ops.tanh(radius)) / alpha

    with np.errstate(invalid="ignore"), pytest.raises(FormError, match=r"alpha=0.* not finite"):
        check_form(curve(evaluate, (VMAX, alpha)))


def test_negative_light_is_found():
    class Negative(SurfaceBrightness):
        name = "negative"
        parameters = (R_SCALE,)

        @staticmethod
        def evaluate(radius, r_scale):
            return ops.exp(-radius / r_scale) - 0.1

    with pytest.raises(FormError, match="negative"):
        check_form(Negative)


def test_calling_a_form_makes_its_astropy_model():
    arctan = get_form("arctan", "rotation_curve")
    model = arctan(vmax=180.0)
    assert type(model) is model_class(arctan)
    assert (model.vmax, model.r_turn) == (180.0, arctan.defaults()["r_turn"])
    with pytest.raises(FormError, match="no parameters"):
        RotationCurve()


def test_parameters_are_bound_by_order_and_name():
    form = curve(lambda radius, vmax, r_turn: radius)
    assert form.bind(1, r_turn=2) == (1, 2)
    for wrong in (
        {"args": (1,), "kwargs": {}},
        {"args": (1, 2), "kwargs": {"vmax": 3}},
        {"args": (1,), "kwargs": {"x": 3}},
    ):
        with pytest.raises(TypeError, match="vmax, r_turn"):
            form.bind(*wrong["args"], **wrong["kwargs"])
    with pytest.raises(TypeError, match="2 parameters"):
        form.bind(1, 2, 3)


def test_units_are_read_as_powers():
    powers = [
        FormParameter("p", unit, 0, (0, 1), LogUniform(1, 2), "").powers
        for unit in ("km/s", "arcsec", "", "km/(s arcsec)")
    ]
    assert powers == [(1, 0), (0, 1), (0, 0), (1, -1)]
    assert FormParameter("p", "kpc", 0, (0, 1), LogUniform(1, 2), "").powers is None
    assert VMAX.physical_type == "speed"


def with_its_own_function(own_backward):
    """A form whose tanh brings its own backward, as a special function does that torch lacks."""

    class OwnTanh(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.tanh(x)

        backward = staticmethod(own_backward)

    def evaluate(radius, vmax, r_turn):
        x = radius / r_turn
        return vmax * (OwnTanh.apply(x) if ops.is_tensor(x) else ops.tanh(x))

    return curve(evaluate)


def of_torch(ctx, gradient):
    return gradient / torch.cosh(ctx.saved_tensors[0].clamp(max=20)) ** 2


def of_numpy(ctx, gradient):
    slope = 1 / np.cosh(ctx.saved_tensors[0].detach().clamp(max=20).numpy()) ** 2
    return torch.from_numpy(gradient.numpy() * slope)


def detached(ctx, gradient):
    return of_torch(ctx, gradient.detach())


def test_a_function_of_its_own_needs_a_backward_of_torch_operations():
    check_torch(with_its_own_function(of_torch))
    # the first gradient of all three is right; where the decoder's jacobian differentiates it they raise, or give 0
    with pytest.raises(FormError, match=r"cannot be differentiated.*made of torch operations"):
        check_torch(with_its_own_function(of_numpy))
    for backward in (detached, once_differentiable(of_torch)):
        with pytest.raises(FormError, match=r"by r_turn loses the gradient.*no once_differentiable"):
            check_torch(with_its_own_function(backward))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (
            curve(lambda radius, vmax, r_turn: vmax * ops.tanh(radius / r_turn) * ops.exp(-radius / 90)),
            "all lengths three",
        ),
        (curve(lambda radius, vmax, r_turn: vmax * ops.tanh(radius / r_turn) + 1), "all speeds twice"),
        (
            curve(
                lambda radius, vmax, r_turn: vmax * ops.tanh(radius / r_turn),
                (VMAX, replace(R_TURN, unit="", prior=Uniform(1, 9))),
            ),
            "all lengths",
        ),
    ],
    ids=["a length of its own", "a speed of its own", "a radius without its unit"],
)
def test_a_scale_that_is_no_parameter_is_found(form, message):
    """Else its model in kpc is another curve, and so is a fit's at a distance."""
    with pytest.raises(FormError, match=message):
        check_form(form)


def test_a_form_that_says_it_holds_lengths_may():
    check_scaling(curve(lambda radius, vmax, r_turn: vmax * ops.tanh(radius / 90), radius_unit="arcsec"))


def test_light_without_end_is_refused():
    """A modified Hubble profile: its sums end at 300 scales, and every size that follows is the sums'."""
    hubble = light(evaluate=staticmethod(lambda radius, r_scale: 1 / (1 + (radius / r_scale) ** 2)))
    with pytest.raises(FormError, match=r"lies beyond 1000 half-light radii.*finite"):
        check_light(hubble)


def test_a_strangers_class_is_checked_when_it_is_used():
    with pytest.raises(FormError, match="the dtype kept"):
        get_form(curve(lambda radius, vmax, r_turn: np.where(radius > r_turn, vmax, 0 * vmax)), "rotation_curve")


def test_a_normal_prior_takes_its_mean_first():
    """As ``priors={"x": (mean, std)}`` does."""
    assert Normal(40, 200) == Normal(mean=40, std=200)
    assert Normal(40, 200).ppf(0.5) == 40
