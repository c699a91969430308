"""The space of variates: standard normal draws are the declared priors, and back."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from observed import make_observation
from scipy import integrate, stats

from kinematics_nn.decoder import Forms
from kinematics_nn.errors import KinematicsError
from kinematics_nn.forms import (
    NFW,
    FormParameter,
    FreemanDisc,
    HernquistBulge,
    Normal,
    QuadratureSum,
    RotationCurve,
    Uniform,
    get_form,
    list_forms,
)
from kinematics_nn.inference.priors import user_priors
from kinematics_nn.inference.space import THICKNESS, THIN_SHARE, ParameterSpace, observation_scales
from kinematics_nn.results.tables import parameter_columns

SCALES = {"beam": 4.0, "field": 40.0, "r_scale": 5.0}
DEFAULT = {"rotation_curve": "arctan", "surface_brightness": "exponential", "velocity_dispersion": "constant"}


def make_space(fixed=None, priors=None, **names):
    forms = Forms(**{slot: get_form(name, slot) for slot, name in (DEFAULT | names).items()})
    units = {name: unit for name, (unit, _) in parameter_columns(forms, "Jy km / s", sky=False).items()}
    priors = user_priors(priors or {}, units)
    return ParameterSpace(forms, (1.0, -2.0, 30.0), (8.0, 9.0, 100.0), 200.0, SCALES, fixed, priors)


def variates(space, n, seed=1):
    return torch.randn(n, len(space), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def parameters_of(space, x):
    return dict(zip(space.names, space.parameters(x).T.numpy(), strict=True))


@pytest.fixture(scope="module")
def draws():
    """Draws of the prior, by way of the variates."""
    space = make_space()
    return parameters_of(space, variates(space, 20_000))


@pytest.mark.parametrize("known", list_forms(), ids=lambda known: f"{known.kind}-{known.name}")
def test_variates_are_the_inverse_for_every_form(known):
    space = make_space(**{known.kind: known.name})
    x = variates(space, 200).clamp(-3, 3)
    thickness = space.free.index("thickness")
    x[:, thickness] = x[:, thickness].abs()  # all variates of a thin disc are the same disc
    # Quantiles and back in float64; at 3 sigma a digit of a probability is 1e-13 of a variate.
    torch.testing.assert_close(space.variates(space.parameters(x)), x, rtol=0, atol=1e-8)


@pytest.mark.parametrize("known", list_forms(), ids=lambda known: f"{known.kind}-{known.name}")
def test_draws_of_every_form_follow_its_priors(known):
    space = make_space(**{known.kind: known.name})
    values = parameters_of(space, variates(space, 4000))
    slots = dict(zip(space.forms.slots[known.kind], known.form.parameters, strict=True))
    light = [values[name] for name in space.forms.slots["surface_brightness"]]
    r_scale = space.forms.surface_brightness.half_light_radius(*light) / 1.678
    if known.kind == "surface_brightness":  # of which radii count in its own, draw by draw, and not in what all have
        r_scale = values.get("r_scale")
    for name, parameter in slots.items():
        own, counted = SCALES, values[name]
        if "r_scale" in str(parameter.prior.relative_to):
            (scale,) = set(parameter.prior.scales)
            own = SCALES | {"r_scale": 1.0}
            counted = counted / {"r_scale": r_scale, "1/r_scale": 1 / r_scale}[scale]
        cdf = prior_cdf(parameter.prior.resolve(own))
        assert stats.kstest(counted, cdf).pvalue > 1e-4, name  # of 100 at a fixed seed; a wrong law gives 1e-20


class Told(RotationCurve):
    """A form with the priors that ours have none of: uniform ones, and normal ones cut off, absolute and in a scale."""

    name = "told"
    parameters = (
        FormParameter("vmax", "km/s", 150.0, (1.0, 1000.0), Normal(180, 60, 50, 400), "speed"),
        FormParameter("r_turn", "arcsec", 3.0, (1e-3, 1e5), Normal(1, 0.5, 0.1, 4, relative_to="r_scale"), "radius"),
        FormParameter("slope", "", 0.0, (-1.0, 1.0), Uniform(-0.2, 0.3), "slope"),
        FormParameter("free", "", 0.0, (-1e9, 1e9), Normal(mean=2.0, std=3.0), "without limits"),
    )

    @staticmethod
    def evaluate(radius, vmax, r_turn, slope, free):
        return vmax * radius / (radius + r_turn) * (1 + slope) + 0 * free


def test_users_forms_with_other_priors():
    forms = Forms(Told, get_form("exponential", "surface_brightness"), get_form("constant", "velocity_dispersion"))
    space = ParameterSpace(forms, (0.0, 0.0, 0.0), (8.0, 8.0, 100.0), 0.0, SCALES)
    x = variates(space, 4000).clamp(-3.5, 3.5)
    values = parameters_of(space, x)
    for parameter in Told.parameters:
        prior = parameter.prior.resolve(SCALES | {"r_scale": 1.0})
        counted = values[parameter.name] / (values["r_scale"] if parameter.name == "r_turn" else 1)
        assert stats.kstest(counted, prior_cdf(prior)).pvalue > 1e-3, parameter.name
    thickness = space.free.index("thickness")
    x[:, thickness] = x[:, thickness].abs()
    torch.testing.assert_close(space.variates(space.parameters(x)), x, rtol=0, atol=1e-6)


def prior_cdf(prior):
    at = prior.ppf(np.linspace(0, 1, 2001)[1:-1])
    return lambda value: np.interp(value, at, np.linspace(0, 1, 2001)[1:-1], left=0, right=1)


def test_orientation_is_isotropic(draws):
    assert stats.kstest(np.cos(np.radians(draws["inclination"])), "uniform").pvalue > 1e-3
    assert draws["inclination"].min() > 0
    assert draws["inclination"].max() < 90


def test_a_quarter_of_the_discs_are_thin_and_the_others_log_uniform(draws):
    ratio = draws["thickness"] / draws["r_scale"]
    # Binomial, 4 sigma.
    assert np.mean(ratio == 0) == pytest.approx(THIN_SHARE, abs=4 * np.sqrt(0.19 / len(ratio)))
    # r50 / 1.678 is the disc's scale to 2e-4.
    assert ratio[ratio > 0].min() == pytest.approx(THICKNESS[0], rel=1e-3)
    logs = np.log(ratio[ratio > 0] / THICKNESS[0]) / np.log(THICKNESS[1] / THICKNESS[0])
    assert stats.kstest(logs, "uniform").pvalue > 1e-3


def test_turnover_radii_follow_the_disc(draws):
    logs = np.log(draws["r_turn"] / draws["r_scale"] / 0.02) / np.log(5.0 / 0.02)
    assert stats.kstest(logs, "uniform").pvalue > 1e-3
    assert abs(stats.spearmanr(logs, draws["r_scale"]).statistic) < 4 / np.sqrt(len(logs))


def test_centre_and_systemic_velocity_are_normal(draws):
    for name, mean, std in (("east", 1.0, 8.0), ("north", -2.0, 9.0), ("vsys", 30.0, 100.0)):
        assert stats.kstest(draws[name], stats.norm(mean, std).cdf).pvalue > 1e-3


@pytest.mark.parametrize("given", [None, (25.0, 10.0), {"low": 190.0, "high": 260.0}, stats.norm(330.0, 20.0)])
def test_the_prior_of_the_angle_integrates_to_one(given):
    space = make_space(priors={} if given is None else {"pa": given})
    x = torch.zeros(40_001, len(space), dtype=torch.float64)
    x[:, space.free.index("pa")] = torch.linspace(-30, 30, len(x), dtype=torch.float64)
    density = np.exp(space.log_prior(x).numpy()) * np.sqrt(2 * np.pi) ** (len(space) - 1)
    # Steps at its ends, between the points of the grid.
    assert integrate.trapezoid(density, dx=60 / 40_000) == pytest.approx(1, abs=2e-3)


def test_the_prior_of_all_others_is_standard_normal():
    space = make_space(priors={"inclination": (40.0, 5.0), "vmax": {"low": 80.0}})
    x = variates(space, 20)
    x[:, space.free.index("pa")] = 0.0
    expected = -0.5 * (x**2).sum(1) - 0.5 * (len(space) - 1) * np.log(2 * np.pi) + np.log(10 / 360)
    torch.testing.assert_close(space.log_prior(x), expected)


GIVEN = {
    "normal": ("inclination", (40.0, 5.0), stats.norm(40, 5)),
    "normal cut off where the angle ends": ("inclination", (88.0, 4.0), stats.truncnorm(-22, 0.5, 88, 4)),
    "beyond the default": ("vmax", (900.0, 50.0), stats.norm(900, 50)),
    "of a radius": ("r_turn", (3.0, 0.5), stats.norm(3, 0.5)),
    "of thin discs": ("thickness", (0.0, 0.1), stats.halfnorm(0, 0.1)),
    "bounds": ("vmax", {"low": 80.0, "high": 200.0}, stats.uniform(80, 120)),
    "bounds beyond the default": ("vmax", {"low": 850.0, "high": 1200.0}, stats.uniform(850, 350)),
    "one bound": ("inclination", {"low": 60.0}, stats.uniform(60, 30)),
    "one bound, to the end of the default": ("vmax", {"low": 500.0}, stats.uniform(500, 300)),
    "one bound, beyond the default": ("velocity_dispersion", {"low": 200.0}, stats.uniform(200, 800)),
    "scipy": ("velocity_dispersion", stats.gamma(4, scale=3), stats.gamma(4, scale=3)),
    "narrow": ("vsys", (30.0, 2.0), stats.norm(30, 2)),
}


@pytest.mark.parametrize(("name", "given", "expected"), GIVEN.values(), ids=GIVEN)
def test_a_prior_of_the_users_takes_the_place_of_the_default(name, given, expected):
    space = make_space(priors={name: given})
    x = variates(space, 20_000).clamp(-4, 4)
    values = parameters_of(space, x)
    assert stats.kstest(values[name], expected.cdf).pvalue > 1e-3
    back = space.variates(space.parameters(x))[:, space.free.index(name)]
    # Quantiles and back: at 4 sigma a digit of a probability is 1e-12 of a variate.
    torch.testing.assert_close(back, x[:, space.free.index(name)], rtol=0, atol=1e-6)


@pytest.mark.skipif(not hasattr(stats, "Normal"), reason="scipy's new distributions came with 1.15")
def test_new_distributions_of_scipy_serve():
    values = parameters_of(
        space := make_space(priors={"vmax": stats.Normal(mu=200.0, sigma=20.0)}), variates(space, 5000)
    )
    assert stats.kstest(values["vmax"], stats.norm(200, 20).cdf).pvalue > 1e-3


@pytest.mark.parametrize("given", [(-50.0, 5.0), {"low": 95.0, "high": 120.0}, stats.norm(200, 10)])
def test_a_prior_outside_of_what_a_parameter_may_be_is_refused(given):
    with pytest.raises(KinematicsError, match=r"prior on inclination of which 0\.0% lies between 0 and 90"):
        make_space(priors={"inclination": given})


def test_an_angle_has_one_turn():
    space = make_space()
    x = variates(space, 2000) * 20
    inside = abs(space.parameters(x)[:, space.names.index("pa")] - 200) <= 180
    assert 0.3 < inside.double().mean() < 0.95
    assert torch.equal(torch.isfinite(space.log_prior(x)), inside)


def test_what_is_fixed_is_held_and_no_variate():
    fixed = {"inclination": 30.0, "r_scale": 6.0, "thickness": 0.0, "pa": 10.0, "vsys": 5.0, "vmax": 120.0}
    space = make_space(fixed=fixed)
    assert set(space.free) == {"east", "north", "velocity_dispersion", "r_turn"}
    x = variates(space, 50)
    values = parameters_of(space, x)
    for name, value in fixed.items():
        assert (values[name] == value).all()
    torch.testing.assert_close(space.variates(space.parameters(x)), x)
    logs = np.log(values["r_turn"] / 6.0)
    assert logs.min() > np.log(0.0199)  # its prior counts in the scale that is held
    assert logs.max() < np.log(5.01)


@pytest.mark.parametrize("known", list_forms(), ids=lambda known: f"{known.kind}-{known.name}")
def test_derivatives_are_those_of_the_chain_rule(known):
    space = make_space(**{known.kind: known.name})
    x = variates(space, 5).requires_grad_()
    found = space.derivatives(x.detach())
    expected = torch.zeros_like(found)
    for column in range(len(space.names)):
        values = space.parameters(x)[:, column]
        if values.requires_grad:
            expected[:, :, column] = torch.autograd.grad(values.sum(), x, retain_graph=True)[0]
    assert torch.isfinite(found).all()
    # Central differences of step 1e-4: their error is a sixth of its square times the third derivative.
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_values_outside_a_prior_come_to_its_edge():
    space = make_space()
    x = torch.zeros(1, len(space), dtype=torch.float64)
    beyond = space.parameters(x).repeat(2, 1)
    beyond[:, space.names.index("vmax")] = torch.tensor([1e6, 1e-6])
    found = space.variates(beyond)
    assert torch.isfinite(found).all()
    assert found[:, space.free.index("vmax")].tolist() == [5.0, -5.0]


def test_angles_are_moved_inside_users_bounds():
    space = make_space(priors={"pa": {"low": 350.0, "high": 380.0}})
    x = variates(space, 500)
    turned = np.remainder(parameters_of(space, space.inside(x))["pa"] - 350, 360)
    assert (turned <= 30).all()
    # Those counted from 200 degrees are next to the lower edge, all but some beyond 5 degrees and half a turn.
    assert np.median(turned) < 0.1
    assert torch.isfinite(space.log_prior(space.inside(x))).all()


def test_the_prior_has_a_slope_where_the_user_gave_a_part_of_it():
    """Those of users are functions of numpy; torch is told their slopes by differences."""
    given = {"inclination": (50, 3), "pa": {"low": 20.0, "high": 200.0}, "vmax": stats.gamma(4, scale=40)}
    space = make_space(priors=given)
    x = variates(space, 6)
    x = x[torch.isfinite(space.log_prior(x))].requires_grad_(True)
    assert len(x) > 0
    (slopes,) = torch.autograd.grad(space.log_prior(x).sum(), x)
    for k, name in enumerate(space.free):
        step = torch.zeros(x.shape[1]).double()
        step[k] = 1e-5
        with torch.no_grad():
            wanted = (space.log_prior(x + step) - space.log_prior(x - step)) / 2e-5
        # Both differences are of numbers of some hundreds, to 1e-6 of a slope at the best.
        torch.testing.assert_close(slopes[:, k], wanted, rtol=1e-4, atol=1e-4, msg=name)


def test_without_bounds_no_variate_is_moved():
    space = make_space(priors={"inclination": (50, 3), "pa": (20, 40)})
    x = variates(space, 50)
    torch.testing.assert_close(space.inside(x), x, rtol=0, atol=0)


def test_of_a_sum_of_masses_a_model_is_smooth_in_its_speeds():
    """Bulge for disc, disc for halo: what leaves the speeds as they are leaves what a surrogate is told as it is."""
    masses = QuadratureSum(bulge=HernquistBulge, disc=FreemanDisc, halo=NFW)
    space = make_space(rotation_curve=masses)
    x = variates(space, 5)
    smooth = space.smooth(x)
    curve = list(space.slots["rotation_curve"])
    assert smooth.shape == (5, len(space) + 1)  # one more than the six parameters that they stand for
    parameters = {name: torch.as_tensor(values)[:, None] for name, values in parameters_of(space, x).items()}
    radii = torch.as_tensor(np.geomspace(1.0, 20.0, 7))[None]  # a quarter of a beam to four scale lengths
    speeds = space.forms.rotation_curve.evaluate(radii, *(parameters[name] for name in curve))
    seen = torch.sin(torch.deg2rad(parameters["inclination"]))
    torch.testing.assert_close(smooth[:, -len(curve) - 1 :], seen * speeds)
    others = [name for name in space.free if name not in curve]
    assert (smooth[:, others.index("r_scale")] == parameters["r_scale"][:, 0]).all()


def test_a_model_is_smooth_in_speeds_as_they_are_seen():
    """And in the cosine of the inclination, the squared scale height, and lengths."""
    for name in ("arctan", "rings"):
        space = make_space(rotation_curve=name)
        x = variates(space, 4)
        parameters = parameters_of(space, x)
        smooth = dict(zip(space.free, space.smooth(x).T, strict=True))
        inclination = torch.deg2rad(torch.as_tensor(parameters["inclination"]))
        torch.testing.assert_close(smooth["inclination"], torch.cos(inclination))
        torch.testing.assert_close(smooth["thickness"], torch.as_tensor(parameters["thickness"]) ** 2)
        assert (smooth["pa"] == x[:, space.free.index("pa")]).all()
        for column, parameter in space.slots["rotation_curve"].items():
            value = torch.as_tensor(parameters[column])
            seen = torch.sin(inclination) if parameter.unit == "km/s" else 1.0
            torch.testing.assert_close(smooth[column], seen * value)


@pytest.mark.parametrize("shape", [(6, 10, 41), (6, 41, 10)])
def test_a_disc_along_the_pixels_may_be_as_long_as_its_strip(shape):
    """Half the smaller side cut off the prior of the light's scale of discs on edge."""
    scales = observation_scales(make_observation(shape))
    assert scales["field"] == 20.0
    assert scales["beam"] == pytest.approx(np.sqrt(3.5 * 3.0))


@pytest.mark.parametrize("name", ["exponential_hole", "double_exponential", "truncated_exponential"])
def test_radii_of_the_light_count_in_its_own_scale(name):
    """Whatever scale an observation has: the prior of one galaxy is that of another."""
    space, other = make_space(surface_brightness=name), make_space(surface_brightness=name)
    other.scales = SCALES | {"r_scale": 50.0}
    x = variates(space, 200)
    torch.testing.assert_close(space.parameters(x), other.parameters(x))


def test_the_order_of_a_lights_parameters_does_not_matter():
    hole = get_form("exponential_hole", "surface_brightness")

    class Swapped(hole):
        parameters = hole.parameters[::-1]

        @staticmethod
        def evaluate(radius, r_hole, r_scale):
            return hole.evaluate(radius, r_scale, r_hole)

    space = make_space(surface_brightness="exponential_hole")
    other = make_space(surface_brightness="exponential_hole")
    forms = replace(space.forms, surface_brightness=Swapped)
    other = ParameterSpace(forms, space.centre, space.spread, space.pa, SCALES | {"r_scale": 50.0})
    x = variates(other, 200).clamp(-3, 3)
    x[:, other.free.index("thickness")].abs_()
    torch.testing.assert_close(other.variates(other.parameters(x)), x, rtol=0, atol=1e-8)
    values = parameters_of(other, x)
    same = parameters_of(space, x[:, [other.free.index(name) for name in space.free]])
    np.testing.assert_allclose(values["r_hole"], same["r_hole"], rtol=1e-9)
