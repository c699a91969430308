"""The registry: what comes in, by whom, and what a broken plug-in may not harm."""

import importlib
import sys
import types
import warnings
from dataclasses import replace

import pytest
from astropy import units as u

from kinematics_nn import forms, models
from kinematics_nn.errors import FormError, KinematicsWarning
from kinematics_nn.forms import (
    FormParameter,
    LogUniform,
    RotationCurve,
    SurfaceBrightness,
    hookimpl,
    hookspecs,
    ops,
    rotation_curves,
)
from kinematics_nn.forms.registry import _KIND_OF_HOOK, FormRegistry


def make(name, qualname="Mine"):
    class Mine(RotationCurve):
        parameters = (FormParameter("vmax", "km/s", 100.0, (0.0, 5000.0), LogUniform(10, 800), "speed"),)

        @staticmethod
        def evaluate(radius, vmax):
            return vmax + 0 * radius

    Mine.name, Mine.__qualname__ = name, qualname
    return Mine


def plugin(**hooks):
    module = types.ModuleType(f"plugin_of_{len(hooks)}_{id(hooks)}")
    for name, answer in hooks.items():
        setattr(module, name, answer)
    return module


def answering(name, *answer):
    def hook():
        return list(answer)

    hook.__name__ = name
    return hookimpl(hook)


@pytest.fixture
def registry():
    registry = FormRegistry()
    registry.add_plugin(rotation_curves, "kinematics_nn 1.0")
    return registry


def test_every_hook_brings_forms_and_has_a_kind():
    specs = {name for name in dir(hookspecs) if name.startswith("kinematics_nn_")}
    assert specs == set(_KIND_OF_HOOK)
    assert {known.kind for known in forms.list_forms()} == set(_KIND_OF_HOOK.values())


def test_a_plugin_adds_its_forms(registry):
    mine = make("mine")
    registry.add_plugin(
        plugin(kinematics_nn_rotation_curves=answering("kinematics_nn_rotation_curves", mine)), "them 2.1"
    )
    assert registry.get("mine", "rotation_curve") is mine
    assert [known.provider for known in registry.list() if known.name == "mine"] == ["them 2.1"]


def raising():
    raise RuntimeError("no luck")


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        (
            {"kinematics_nn_rotation_curves": hookimpl(raising)},
            "them 2.1: kinematics_nn_rotation_curves raises.*no luck",
        ),
        ({"kinematics_nn_rotation_curves": answering("h", int)}, "them 2.1: .*is no form"),
        ({"kinematics_nn_dispersions": answering("h", make("mine"))}, "them 2.1: 'mine' is a rotation_curve"),
        ({"kinematics_nn_rotation_curve": answering("h", make("mine"))}, "did it mean kinematics_nn_rotation_curves"),
        ({"kinematics_nn_rotation_curves": lambda: [make("mine")]}, "not marked with"),
        ({"kinematics_nn_rotation_curves": answering("h", make("tanh"))}, "them 2.1 and kinematics_nn 1.0 both bring"),
    ],
)
def test_a_broken_plugin_is_named_and_harms_nothing_else(registry, hooks, message):
    before = registry.list()
    with pytest.warns(KinematicsWarning, match=message):
        registry.add_plugin(plugin(**hooks), "them 2.1")
    assert registry.list() == before
    good = make("good")
    registry.add_plugin(plugin(kinematics_nn_rotation_curves=answering("h", good)), "others 1.0")
    assert registry.get("good", "rotation_curve") is good


SPEED = FormParameter("vmax", "km/s", 100.0, (0.0, 5000.0), LogUniform(10, 800), "speed")
SCALE = FormParameter("r_scale", "arcsec", 5.0, (1e-3, 1e5), LogUniform(0.1, 50), "scale")


def declared(**changes):
    """A curve of one parameter, to be spoilt in its declaration."""
    form = make("bad")
    form.parameters = (replace(SPEED, **changes),)
    return form


def without_its_comma():
    form = make("bad")
    form.parameters = SPEED
    return form


class Light(SurfaceBrightness):
    name = "bad"
    parameters = (SCALE,)

    @staticmethod
    def evaluate(radius, r_scale):
        return ops.exp(-radius / r_scale)


class NoLength(Light):
    parameters = (FormParameter("n", "", 1.0, (0.5, 8.0), LogUniform(0.5, 8.0), "index"),)

    @staticmethod
    def evaluate(radius, n):
        return ops.exp(-radius * n)


class RaisingTotal(Light):
    @staticmethod
    def total(r_scale):
        raise RuntimeError("no luck")


class RaisingMeta(type(RotationCurve)):
    def __getattribute__(cls, name):
        if name == "kind":
            raise RuntimeError("no luck")
        return super().__getattribute__(name)


class RaisingDeclaration(RotationCurve, metaclass=RaisingMeta):
    pass


BAD_FORMS = {
    "no form": (int, "is no form"),
    "no comma": (without_its_comma(), r"parameters = FormParameter.*needed: a tuple.*with the comma"),
    "no bounds": (declared(bounds=None), "bounds None"),
    "half open bounds": (declared(bounds=(0, None)), r"bounds \(0, None\)"),
    "one bound": (declared(bounds=(0,)), r"bounds \(0,\)"),
    "default of text": (declared(default="100"), "default '100'.*a number within"),
    "default with a unit": (declared(default=100 * u.km / u.s), "default <Quantity 100.*a number within"),
    "light without a length": (NoLength, "no parameter in arcsec: it must override radial_scale"),
    "total that raises": (RaisingTotal, r"total\(\) raises RuntimeError: no luck"),
}


@pytest.mark.parametrize("what", BAD_FORMS)
def test_a_bad_form_leaves_the_plugins_good_one(registry, what):
    bad, message = BAD_FORMS[what]
    good, hook = make("good"), "kinematics_nn_rotation_curves"
    if isinstance(bad, type) and issubclass(bad, SurfaceBrightness):
        hook = "kinematics_nn_surface_brightness"
        good = type("GoodLight", (Light,), {"name": "good"})
    with pytest.warns(KinematicsWarning, match=f"(?s)them 2.1: .*{message}.* is left out"):
        registry.add_plugin(plugin(**{hook: answering("h", bad, good)}), "them 2.1")
    assert registry.get("good", good.kind) is good


@pytest.mark.parametrize("what", BAD_FORMS)
def test_a_bad_form_cannot_be_registered(registry, what):
    bad, message = BAD_FORMS[what]
    with pytest.raises(FormError, match=message):
        registry.register(bad)


def test_what_no_check_has_thought_of_is_named_too(registry):
    good = make("good")
    with pytest.warns(KinematicsWarning, match="them 2.1: .*RaisingDeclaration.* raises RuntimeError: no luck"):
        registry.add_plugin(plugin(kinematics_nn_rotation_curves=answering("h", RaisingDeclaration, good)), "them 2.1")
    assert registry.get("good", "rotation_curve") is good


@pytest.mark.parametrize("error", ["ImportError", "SystemExit"])
def test_entry_points_are_guarded(registry, tmp_path, monkeypatch, error):
    for name in ("good", "bad"):
        folder = tmp_path / f"{name}-0.3.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.3\n")
        (folder / "entry_points.txt").write_text(f"[kinematics_nn]\n{name} = {name}_plugin\n")
    (tmp_path / "bad_plugin.py").write_text(f"raise {error}('half installed')")
    (tmp_path / "good_plugin.py").write_text(
        "from kinematics_nn.forms import hookimpl\n"
        "from kinematics_nn.forms.rotation_curves import Tanh\n"
        "class Other(Tanh):\n    name = 'other'\n"
        "@hookimpl\ndef kinematics_nn_rotation_curves():\n    return [Other]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "good_plugin", raising=False)
    importlib.invalidate_caches()
    with pytest.warns(KinematicsWarning, match=r"bad 0.3: .*half installed"):
        registry.load_entry_points()
    assert [known.provider for known in registry.list() if known.name == "other"] == ["good 0.3"]


def test_register_checks_and_decorates(registry):
    mine = make("mine")
    assert registry.register(mine) is mine
    assert registry.get("mine", "rotation_curve") is mine
    broken = make("broken")
    broken.evaluate = staticmethod(lambda radius, vmax: vmax / radius)
    with pytest.raises(FormError, match="not finite"):
        registry.register(broken)


def test_a_cell_run_twice_replaces_its_form_and_another_place_does_not(registry):
    registry.register(make("mine"))
    again = make("mine")
    registry.register(again)
    assert registry.get("mine", "rotation_curve") is again
    with pytest.raises(FormError, match=f"{__name__} and {__name__} both bring"):
        registry.register(make("mine", qualname="Another"))
    with pytest.raises(FormError, match=r"kinematics_nn 1\.0 both bring a rotation_curve called 'arctan'"):
        registry.register(make("arctan"))


def test_get_form_takes_names_forms_and_models():
    arctan = rotation_curves.Arctan
    for wanted in ("arctan", arctan, models.ArctanRotationCurve, models.ArctanRotationCurve()):
        assert forms.get_form(wanted, "rotation_curve") is arctan


@pytest.mark.parametrize(
    ("wanted", "kind", "message"),
    [
        ("arctn", "rotation_curve", "Try: 'arctan'"),
        ("sersic", "rotation_curve", "one of arctan, brandt"),
        (models.SersicDisc(), "rotation_curve", "'sersic' is a surface_brightness"),
        (3, "rotation_curve", "3 is no rotation_curve"),
        ("arctan", "curve", "the kind 'curve'"),
    ],
)
def test_get_form_says_what_it_needs(wanted, kind, message):
    with pytest.raises(FormError, match=message):
        forms.get_form(wanted, kind)


def test_the_packages_own_forms_warn_of_nothing():
    registry = FormRegistry()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for module in (forms.rotation_curves, forms.surface_brightness, forms.dispersion, forms.rings, forms.moment0):
            registry.add_plugin(module, "kinematics_nn")
    own = [known for known in forms.list_forms() if known.provider.startswith("kinematics_nn ")]
    assert len(registry.list()) == len(own)
