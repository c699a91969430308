"""Forms fitted to the network's curves: exact curves are recovered, and clouds of draws are narrowed as they must."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from kinematics_nn.decoder import Forms
from kinematics_nn.forms import (
    FormParameter,
    LogUniform,
    Normal,
    RotationCurve,
    SurfaceBrightness,
    Uniform,
    get_form,
    list_forms,
    ops,
)
from kinematics_nn.inference.derived import derived, derived_of_curves
from kinematics_nn.inference.projection import _Shape, _summed_fast, project
from kinematics_nn.network.frame import Frame
from kinematics_nn.network.targets import (
    LIGHT,
    MULTIPLES,
    SPEED,
    SPEED_FLOOR,
    TARGETS,
    Disc,
    decode_targets,
    encode_targets,
)

R50, VMAX = 6.0, 180.0
CURVES = [known.name for known in list_forms() if known.kind == "rotation_curve"]
LIGHTS = [known.name for known in list_forms() if known.kind == "surface_brightness"]


def double(value):
    return torch.tensor([float(value)], dtype=torch.float64)


FRAME = Frame(
    image=None, facts=None, east=double(1.0), north=double(-2.0), pa=double(0.5), vsys=double(900.0),
    extent=double(20.0), width=double(220.0), flux=double(5.0),
)  # fmt: skip
SCALARS = replace(FRAME, **{k: v[0] for k, v in vars(FRAME).items() if v is not None})


SCALES = {"beam": 3.0, "field": 80.0}


def make_forms(curve="arctan", light="exponential"):
    return Forms(
        get_form(curve, "rotation_curve"),
        get_form(light, "surface_brightness"),
        get_form("constant", "velocity_dispersion"),
    )


def typical(form, rng):
    """Parameters from the middle half of a form's priors, with the size and the speed of this galaxy."""
    if form.name == "rings":  # of which a prior holds that they are smooth
        radii = np.array(form.radii)
        curve, light = 150 * np.tanh(radii / 2), np.exp(-1.678 * radii / R50)
        return list(curve if form.kind == "rotation_curve" else light)
    scales = {"r_scale": R50 / 1.678, "beam": 3.0, "field": 40.0}
    return [float(p.prior.resolve(scales).ppf(rng.uniform(0.25, 0.75))) for p in form.parameters]


def make_galaxy(forms, seed=1):
    """Targets (1, n) of a disc of these forms, and the forms' parameters by name."""
    rng = np.random.default_rng(seed)
    light, curve = typical(forms.surface_brightness, rng), typical(forms.rotation_curve, rng)
    size = float(forms.surface_brightness.half_light_radius(*light))
    stretch = R50 / size
    light = [
        v * stretch if p.unit == "arcsec" else v
        for v, p in zip(light, forms.surface_brightness.parameters, strict=True)
    ]
    speed = float(forms.rotation_curve.evaluate(np.array([1.31 * R50]), *curve)[0])
    curve = [
        v * VMAX / speed if p.powers[0] == 1 else v for v, p in zip(curve, forms.rotation_curve.parameters, strict=True)
    ]
    radii = np.array(MULTIPLES) * R50
    profile = forms.surface_brightness.evaluate(radii, *light) / forms.surface_brightness.total(*light)
    disc = Disc(
        inclination=double(math.radians(55)), pa=double(0.55), east=double(1.2), north=double(-2.1),
        vsys=double(903.0), flux=double(5.2), dispersion=double(11.0), thickness=double(0.4), r50=double(R50),
        speed=torch.as_tensor(forms.rotation_curve.evaluate(radii, *curve))[None],
        light=torch.as_tensor(profile * 2 * math.pi * R50**2)[None],
    )  # fmt: skip
    names = [p.name for form in (forms.surface_brightness, forms.rotation_curve) for p in form.parameters]
    return encode_targets(disc, FRAME), dict(zip(names, [*light, *curve], strict=True))


def cloud(targets, n, sigma, seed=1):
    """Draws about targets: independent normals of this standard deviation."""
    return targets + sigma * torch.randn(
        n, len(TARGETS), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def test_exact_curves_are_recovered():
    forms = make_forms()
    targets, truth = make_galaxy(forms)
    disc, curve, light, _ = project(cloud(targets, 400, 1e-4), SCALARS, forms, SCALES)
    for name, wanted in truth.items():
        found = (curve | light)[name]
        # The weak pull to the middle of the prior moves what is fixed to a per cent by a tenth of that.
        assert float(found.median()) == pytest.approx(wanted, rel=0.01), name
    assert float(disc.inclination.median()) == pytest.approx(math.radians(55), abs=1e-3)
    assert float(disc.pa.median()) == pytest.approx(0.55, abs=1e-3)
    assert float(disc.vsys.median()) == pytest.approx(903.0, abs=0.1)
    assert float(disc.r50.median()) == pytest.approx(R50, rel=5e-3)


@pytest.mark.parametrize(
    ("curve", "light"),
    [*[(name, "exponential") for name in CURVES], *[("arctan", name) for name in LIGHTS if name != "exponential"]],
    ids=str,
)
def test_the_curves_of_every_form_are_reached(curve, light):
    """Parameters may trade against one another (a Sérsic index, a sharpness); the curves may not."""
    forms = make_forms(curve, light)
    targets, _ = make_galaxy(forms)
    disc, found_curve, found_light, possible = project(cloud(targets, 60, 3e-3), SCALARS, forms, SCALES)
    assert possible
    radii = R50 * torch.tensor(MULTIPLES, dtype=torch.float64)
    truth = torch.exp(targets[0, SPEED]) * 220.0 / math.sin(math.radians(55))
    speed = forms.rotation_curve.evaluate(radii, *(v[:, None] for v in found_curve.values())).median(0).values
    # 3 % of the largest speed: what a limit of a prior and the pull to its middle may cost.
    np.testing.assert_allclose(speed, truth, atol=0.03 * float(truth.max()))
    assert float(disc.r50.median()) == pytest.approx(R50, rel=0.05)
    columns = [v[:, None] for v in found_light.values()]
    profile = forms.surface_brightness.evaluate(radii, *columns) / forms.surface_brightness.total(*columns)
    profile = (2 * math.pi * R50**2 * profile).median(0).values
    wanted = torch.exp(targets[0, LIGHT])
    np.testing.assert_allclose(profile, wanted, atol=0.05 * float(wanted.max()) + 3e-3)
    for name, value in (found_curve | found_light).items():
        assert torch.isfinite(value).all(), name
        assert value.shape == (60,), name


@pytest.mark.parametrize("size", [1.0, 100.0])
def test_a_slope_is_found_at_any_angular_size(size):
    """A speed over a radius has limits in that unit: a galaxy of ten arcminutes rises by 0.1 km/s an arcsec."""
    forms = make_forms("linear")
    targets, truth = make_galaxy(forms)
    far = {name: size * getattr(SCALARS, name) for name in ("east", "north", "extent")}
    scales = {name: size * value for name, value in SCALES.items()}
    _, curve, *_ = project(cloud(targets, 200, 3e-3), replace(SCALARS, **far), forms, scales)
    # Three standard errors of the mean of five speeds, of 0.3 % each, and the weak pull to the middle.
    assert float(curve["slope"].median()) == pytest.approx(truth["slope"] / size, rel=0.01)


def test_a_speed_may_be_signed():
    """An amplitude with a prior that is not of a scale keeps it, and its sign."""

    class Dented(RotationCurve):
        name = "dented"
        parameters = (
            FormParameter("v_far", "km/s", 150.0, (0.0, 2000.0), LogUniform(10, 800), "far out"),
            FormParameter(
                "r_turn", "arcsec", 3.0, (0.0, 1e4), LogUniform(0.1, 3, relative_to="r_scale"), "of the rise"
            ),
            FormParameter("dent", "km/s", 0.0, (-500.0, 500.0), Uniform(-60, 60), "at half the size"),
        )

        @staticmethod
        def evaluate(radius, v_far, r_turn, dent):
            """Speed [km/s] at radius [arcsec]."""
            return v_far * ops.tanh(radius / r_turn) + dent * ops.exp(-0.5 * (radius - 3.0) ** 2)

    forms = replace(make_forms(), rotation_curve=Dented)
    targets, _ = make_galaxy(make_forms())
    speed = torch.as_tensor(Dented.evaluate(R50 * np.array(MULTIPLES), 180.0, 2.0, -40.0)) * math.sin(math.radians(55))
    targets = targets.clone()
    targets[0, SPEED] = torch.log(speed / 220.0 + SPEED_FLOOR)
    _, curve, *_ = project(cloud(targets, 200, 3e-3), SCALARS, forms, SCALES)
    assert float(curve["dent"].median()) == pytest.approx(-40, abs=3)


def test_an_unseen_mass_keeps_its_prior():
    targets, _ = make_galaxy(make_forms())
    _, curve, *_ = project(
        cloud(targets, 500, 0.3), SCALARS, make_forms("disc:freeman+halo:nfw+bulge:hernquist"), SCALES
    )
    assert float(curve["bulge_vmax"].min()) > 9.9  # of a prior from 10 to 800


def test_a_cloud_gives_the_spread_of_linear_propagation():
    """Independent errors on every target: the parameters' covariance is that of weighted least squares."""
    forms = make_forms()
    targets, truth = make_galaxy(forms)
    sigma = 0.1
    draws = cloud(targets, 4000, sigma)
    _, curve, light, _ = project(draws, SCALARS, forms, SCALES)
    names = list(truth)
    logs = torch.log(torch.stack([(curve | light)[name] for name in names], 1)).numpy()

    def curves(log):
        values = dict(zip(names, np.exp(log), strict=True))
        radii = np.array(MULTIPLES) * R50
        shape = forms.surface_brightness
        own = [values[p.name] for p in shape.parameters]
        profile = shape.evaluate(radii, *own) / shape.total(*own)
        speed = forms.rotation_curve.evaluate(radii, *[values[p.name] for p in forms.rotation_curve.parameters])
        return np.concatenate(
            [[np.log(shape.half_light_radius(*own))], np.log(2 * np.pi * R50**2 * profile + 3e-3),
             np.log(speed / 220.0 + 2e-3)]
        )  # fmt: skip

    at = np.log([truth[name] for name in names])
    jacobian = np.stack([(curves(at + h) - curves(at - h)) / 2e-4 for h in 1e-4 * np.eye(len(at))], 1)
    # The radii of the light's and the speed's targets go with the drawn r50, which is independent of the others.
    slopes = np.zeros(len(jacobian))
    values = np.log(R50) + np.array([1e-4, -1e-4])
    for sign, log_r50 in zip((1, -1), values, strict=True):
        radii = np.array(MULTIPLES) * np.exp(log_r50)
        own = [truth[p.name] for p in forms.surface_brightness.parameters]
        profile = forms.surface_brightness.evaluate(radii, *own) / forms.surface_brightness.total(*own)
        speed = forms.rotation_curve.evaluate(radii, *[truth[p.name] for p in forms.rotation_curve.parameters])
        slopes[1:] += (
            sign
            / 2e-4
            * np.concatenate([np.log(2 * np.pi * np.exp(log_r50) ** 2 * profile + 3e-3), np.log(speed / 220.0 + 2e-3)])
        )
    errors = sigma * np.eye(len(jacobian))
    errors[:, 0] -= sigma * slopes  # what a drawn r50 does to what is left over of the others
    # The covariance of the draws themselves weighs, as it is measured from them.
    weights = np.eye(len(jacobian)) / sigma**2
    gain = np.linalg.solve(jacobian.T @ weights @ jacobian, jacobian.T @ weights)
    wanted = np.sqrt(np.diag(gain @ errors @ errors.T @ gain.T))
    # The inclination turns all speeds alike, which the amplitude takes: vmax has that error too. The rest of the
    # tolerance is for 4000 draws, the logarithm's bend and the pull.
    found = logs.std(0)
    for name, a, b in zip(names, found, wanted, strict=True):
        if name != "vmax":
            assert a == pytest.approx(b, rel=0.15), name


def test_a_form_narrows_what_it_ties_together():
    """Sixteen noisy points on curves of three parameters: the curve is better known than any point of it."""
    forms = make_forms()
    targets, _ = make_galaxy(forms)
    _, curve, *_ = project(cloud(targets, 2000, 0.1), SCALARS, forms, SCALES)
    radii = R50 * torch.tensor([1.0], dtype=torch.float64)
    speed = torch.log(forms.rotation_curve.evaluate(radii, *(v[:, None] for v in curve.values())))
    assert float(speed.std()) < 0.08


def test_what_is_correlated_with_the_curves_moves_with_them():
    """A vsys drawn together with an excess that no arctan can make comes back when the excess is taken away."""
    forms = make_forms()
    targets, _ = make_galaxy(forms)
    draws = cloud(targets, 3000, 0.02)
    bump = 0.2 * torch.randn(3000, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    vsys = TARGETS.index("vsys")
    ripple = torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1], dtype=torch.float64)
    draws[:, SPEED] += bump[:, None] * ripple
    draws[:, vsys] += 2 * bump
    before = float(draws[:, vsys].std())
    disc, *_ = project(draws, SCALARS, forms, SCALES)
    after = torch.asinh((disc.vsys - 900.0) / 220.0 / 0.02)
    assert before > 0.35
    assert float(after.std()) < 0.35 * before


def test_the_projected_speed_stays_while_the_inclination_is_uncertain():
    forms = make_forms()
    targets, _ = make_galaxy(forms)
    draws = cloud(targets, 2000, 1e-2)
    draws[:, 0] += 0.3 * torch.randn(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    disc, curve, *_ = project(draws, SCALARS, forms, SCALES)
    speed = forms.rotation_curve.evaluate(1.31 * disc.r50, *curve.values())
    assert float((speed.log()).std()) > 2 * float((speed * torch.sin(disc.inclination)).log().std())
    # 1 % on every target: the projection keeps to that where the plane's speed scatters by the sine's 10 %.
    assert float((speed * torch.sin(disc.inclination)).log().std()) < 0.05


def test_a_form_that_the_curves_exclude_moves_nothing():
    """A ring of light, fitted by an exponential: what the network knows of the disc stays as it is."""
    targets, _ = make_galaxy(make_forms(light="ring"))
    draws = cloud(targets, 500, 0.05)
    disc, _, _, possible = project(draws, SCALARS, make_forms(), SCALES)
    assert not possible
    known = decode_targets(draws, FRAME)
    for name in ("inclination", "pa", "east", "vsys", "flux", "r50", "thickness"):
        torch.testing.assert_close(getattr(disc, name), getattr(known, name), msg=name)


def test_what_every_disc_has_is_read_off_the_curves_as_off_a_form():
    forms = make_forms("polyex", "sersic")
    targets, parameters = make_galaxy(forms)
    disc = decode_targets(targets, FRAME)
    scale = double(1.01)  # speeds on the cube's axis over the galaxy's own
    of_curves = derived_of_curves(disc, disc.dispersion / scale, scale)
    own = {"velocity_dispersion": disc.dispersion / scale, "inclination": torch.rad2deg(disc.inclination)}
    for slot in ("rotation_curve", "surface_brightness"):
        for column, known in zip(forms.slots[slot], getattr(forms, slot).parameters, strict=True):
            own[column] = double(parameters[known.name]) / scale ** known.powers[0]
    of_form = derived(forms, own)
    # A cubic through eight points of smooth curves; the last ring of the line width is beyond them.
    for name, tolerance in {"r50": 1e-6, "v22": 0.01, "v22_sini": 0.01, "w50": 0.02}.items():
        assert float(of_curves[name]) == pytest.approx(float(of_form[name]), rel=tolerance), name


def test_is_deterministic():
    forms = make_forms()
    draws = cloud(make_galaxy(forms)[0], 200, 0.05)
    first, second = (project(draws, SCALARS, forms, SCALES)[1]["vmax"] for _ in range(2))
    assert torch.equal(first, second)


class Idle(RotationCurve):
    """An arctangent with a parameter that does nothing."""

    name = "idle"
    parameters = (
        *get_form("arctan", "rotation_curve").parameters,
        FormParameter("idle", "", 1.0, (0.01, 100.0), LogUniform(0.1, 10.0), "does nothing"),
    )

    @staticmethod
    def evaluate(radius, vmax, r_turn, idle):
        return vmax * (2 / math.pi) * ops.arctan(radius / r_turn) + 0 * idle


class Unbounded(RotationCurve):
    """An arctangent whose turnover has a normal prior, without limits."""

    name = "unbounded"
    parameters = (
        get_form("arctan", "rotation_curve").parameters[0],
        FormParameter("turn", "", 1.0, (1e-3, 100.0), Normal(mean=1.5, std=0.4), "turnover"),
    )

    @staticmethod
    def evaluate(radius, vmax, turn):
        return vmax * (2 / math.pi) * ops.arctan(radius / turn)


def test_what_the_curves_do_not_fix_keeps_its_prior():
    targets, _ = make_galaxy(make_forms())
    forms = replace(make_forms(), rotation_curve=Idle)
    _, curve, *_ = project(cloud(targets, 2000, 0.03), SCALARS, forms, SCALES)
    found = np.log10(np.percentile(curve["idle"], [16, 50, 84]))
    # Log-uniform from 0.1 to 10. The pull is a Gaussian of the logistic's variance: its quantiles differ by a tenth.
    np.testing.assert_allclose(found, [-0.68, 0, 0.68], atol=0.15)


def test_a_prior_without_limits_is_taken():
    targets, _ = make_galaxy(make_forms())
    forms = replace(make_forms(), rotation_curve=Unbounded)
    disc, curve, *_ = project(cloud(targets, 200, 0.03), SCALARS, forms, SCALES)
    assert torch.isfinite(curve["turn"]).all()
    assert torch.isfinite(disc.inclination).all()


class NarrowRing(SurfaceBrightness):
    """A ring far narrower than its radius, without closed forms."""

    name = "narrow_ring"
    parameters = (FormParameter("r_ring", "arcsec", 5.0, (1e-3, 1e5), LogUniform(1.0, 20.0), "radius"),)

    @staticmethod
    def evaluate(radius, r_ring):
        return ops.exp(-0.5 * ((radius / r_ring - 1) / 0.01) ** 2)


def test_integrals_are_summed_at_fewer_radii_where_that_is_enough():
    scales = SCALES | {"r_scale": R50 / 1.678}
    truncated, exponential = (get_form(name, "surface_brightness") for name in ("truncated_exponential", "exponential"))
    fast = _summed_fast(truncated, scales)
    assert fast.nodes < truncated.nodes
    assert float(fast.half_light_radius(5.0, 8.0)) == pytest.approx(
        float(truncated.half_light_radius(5.0, 8.0)), rel=1e-3
    )
    assert _summed_fast(exponential, scales) is exponential
    assert _summed_fast(NarrowRing, scales) is NarrowRing


def test_draws_nearest_to_the_form_are_kept():
    """A third of the draws are of discs of the form, known to a per cent, and the others of any disc."""
    forms = make_forms()
    targets, truth = make_galaxy(forms)
    tight, wide = cloud(targets, 1000, 0.01, seed=2), cloud(targets, 2000, 0.15, seed=3)
    draws = torch.cat([tight, wide])[torch.randperm(3000, generator=torch.Generator().manual_seed(4))]
    spreads = []
    for n in (1000, None):
        disc, curve, light, possible = project(draws, SCALARS, forms, SCALES, n)
        assert possible
        assert len(disc.r50) == len(curve["vmax"]) == len(light["r_scale"]) == (n or 3000)
        spreads.append(float(torch.log(light["r_scale"] / truth["r_scale"]).std()))
    # A per cent on each of the curves, and fifteen.
    assert spreads[0] < 0.02 < spreads[1]


def test_of_a_gaussian_any_draws_are_as_good():
    forms = make_forms()
    targets, _ = make_galaxy(forms)
    draws = cloud(targets, 6000, 0.02)
    widths = [
        torch.stack([torch.log(values).std() for values in (curve["vmax"], light["r_scale"])])
        for _, curve, light, _ in (project(draws, SCALARS, forms, SCALES, n) for n in (None, 2000))
    ]
    # Known to a sixtieth, and what is not linear.
    torch.testing.assert_close(widths[1], widths[0], rtol=0.1, atol=0)


def test_where_the_form_is_excluded_draws_are_any():
    targets, _ = make_galaxy(make_forms(light="ring"))
    draws = cloud(targets, 600, 0.05)
    disc, curve, _, possible = project(draws, SCALARS, make_forms(), SCALES, 200)
    assert not possible
    torch.testing.assert_close(disc.r50, decode_targets(draws[:200], FRAME).r50)
    assert len(curve["vmax"]) == 200


@pytest.mark.parametrize("light", ["exponential_hole", "double_exponential", "truncated_exponential"])
def test_a_lights_own_radii_keep_to_the_prior_of_a_refined_fit(light):
    """They count in the draw's own r_scale, and not in the galaxy's."""
    forms = make_forms(light=light)
    shape = _Shape(forms, 8.0, 150.0, {"beam": 3.0, "field": 40.0, "r_scale": 8.0 / 1.678}, FRAME)
    free = 6 * torch.randn(2000, len(shape.low), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    _, values = shape.parameters(free)
    (own,) = [p for p in forms.surface_brightness.parameters if p.prior.scales == ("r_scale", "r_scale")]
    ratio = values[own.name] / values["r_scale"]
    assert own.prior.lo <= ratio.min() < 1.2 * own.prior.lo
    assert own.prior.hi / 1.2 < ratio.max() <= own.prior.hi * (1 + 1e-9)
