"""Plug-ins as users have them: installed distributions, seen from another process; and forms written in a notebook."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path

import pytest

from kinematics_nn.forms import hookspecs, list_forms

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "docs" / "examples" / "kinematics-nn-example-plugin"
GUIDE = ROOT / "docs" / "user_guide" / "plugins.rst"

HOOKS = [name for name in hookspecs.__all__ if name.startswith(f"{hookspecs.PROJECT}_")]

# One good form for each hook: the name of its base class, and a formula of radius and one parameter.
FORMS = {
    "kinematics_nn_rotation_curves": ("RotationCurve", "speed + 0 * radius"),
    "kinematics_nn_surface_brightness": ("SurfaceBrightness", "ops.exp(-radius / length)"),
    "kinematics_nn_dispersions": ("Dispersion", "speed * ops.exp(-radius)"),
}
PARAMETERS = {
    "speed": 'FormParameter("speed", "km/s", 100.0, (0.0, 1e3), LogUniform(1, 800), "a speed")',
    "length": 'FormParameter("length", "arcsec", 5.0, (1e-3, 1e5), LogUniform(0.1, 50), "a length")',
}


def run(*command, path=(), **settings):
    """A command in a process of its own, with these folders in front of what it imports from."""
    path = [*map(str, path), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path)), "MPLBACKEND": "agg"}
    return subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, check=False, **settings
    )


def forms_command(*path):
    """What ``kinematics-nn forms`` prints, and what it says on stderr."""
    done = run("-c", "import sys; from kinematics_nn.cli import main; sys.exit(main(['forms']))", path=path)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def providers(listing):
    """Form name to who brought it, of what ``kinematics-nn forms`` lists: a list of pairs."""
    return re.findall(r"^  (\w+) +(\S.*)$", listing, flags=re.MULTILINE)


def install(folder, name, source, version="0.3"):
    """Lay a distribution of one module into a folder as pip does it: the module, its metadata, its entry point."""
    module = name.replace("-", "_")
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[kinematics_nn]\nforms = {module}\n")
    (folder / f"{module}.py").write_text(textwrap.dedent(source))
    return folder


def source(hook="kinematics_nn_rotation_curves", name="mine", mark="@hookimpl", called=None, body="return [Mine]"):
    """A plug-in's module with one form, to be spoilt at one place."""
    base, formula = FORMS[hook]
    parameter = "length" if "length" in formula else "speed"
    return f"""\
from kinematics_nn.forms import Dispersion, FormParameter, LogUniform, RotationCurve, SurfaceBrightness, hookimpl, ops

class Mine({base}):
    name = "{name}"
    parameters = ({PARAMETERS[parameter]},)

    @staticmethod
    def evaluate(radius, {parameter}):
        return {formula}

{mark}
def {called or hook}():
    {body}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder into which pip has installed the example, without a network."""
    pytest.importorskip("setuptools", reason="the example is built with setuptools")
    folder = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, folder / "source")  # setuptools leaves its build beside the source
    target = folder / "site"
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    done = run("-m", "pip", "install", *options, "--target", target, folder / "source")
    assert done.returncode == 0, done.stderr
    return target


def test_the_examples_forms_are_listed_with_their_provider(site):
    listing, said = forms_command(site)
    assert said == ""
    own = f"kinematics_nn {version('kinematics_nn')}"
    theirs = "kinematics-nn-example-plugin 0.1.0"
    found = providers(listing)
    assert [name for name, provider in found if provider == theirs] == ["logarithmic", "floored"]
    assert len([name for name, provider in found if provider == own]) == len(list_forms())


def test_the_examples_own_tests_pass(site, tmp_path):
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", path=[site], cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b4 passed", done.stdout)


def test_the_examples_forms_simulate_and_fit(site, tmp_path):
    script = """
        import astropy.units as u
        import numpy as np
        from kinematics_nn import DiscVelocityField, fit, simulate
        from kinematics_nn.forms import get_form

        kms = u.km / u.s
        curve = get_form("logarithmic", "rotation_curve")(vmax=200 * kms, r_core=3 * u.arcsec)
        floored = get_form("floored", "velocity_dispersion")
        dispersion = floored(velocity_dispersion=8 * kms, dispersion_excess=20 * kms, r_dispersion=4 * u.arcsec)
        cube = simulate(
            rotation_curve=curve, velocity_dispersion=dispersion, shape=(40, 48, 48), channel_width=12 * kms,
            flux=20 * u.Jy * kms, rms=0.5 * u.mJy / u.beam, seed=1,
        )
        options = {"method": "network", "n_samples": 500, "seed": 1, "device": "cpu"}
        result = fit(cube, rotation_curve="logarithmic", velocity_dispersion="floored", **options)
        for name in ("vmax", "r_core", "velocity_dispersion", "dispersion_excess", "r_dispersion"):
            assert np.isfinite(result.samples[name].value).all(), name
        miss = result.summary["vmax"][0] - 200 * kms
        assert abs(miss) < 5 * result.summary["vmax_std"][0], miss
        assert type(result.rotation_curve) is type(curve)
        assert DiscVelocityField(rotation_curve="logarithmic").r_core == 5
    """
    done = run("-c", textwrap.dedent(script), path=[site], cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_command_line_takes_the_examples_forms(site, tmp_path):
    main = "import sys; from kinematics_nn.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["simulate", "mock.fits", "--rotation-curve", "logarithmic", "vmax=150 km/s", "--rms", "0.5 mJy/beam"]
    done = run("-c", main, *words, path=[site], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    words = ["fit", "mock.fits", "--rotation-curve", "logarithmic", "--n-samples", "200", "--seed", "1"]
    done = run("-c", main, *words, path=[site], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "r_core" in done.stdout


def test_every_hook_has_a_form_here():
    assert sorted(FORMS) == sorted(HOOKS)


def test_every_hook_brings_forms_in(tmp_path):
    for hook in HOOKS:
        install(tmp_path, f"forms-of-{hook.replace('_', '-')}", source(hook))
    listing, said = forms_command(tmp_path)
    assert said == ""
    parts = re.split(r"^(\w+)$", listing, flags=re.MULTILINE)
    by_kind = {
        kind: re.findall(r"forms-of-(\S+) 0\.3", text) for kind, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    assert by_kind == {
        "rotation_curve": ["kinematics-nn-rotation-curves"],
        "surface_brightness": ["kinematics-nn-surface-brightness"],
        "velocity_dispersion": ["kinematics-nn-dispersions"],
    }


BROKEN = {
    "half installed": ("raise ImportError('no numba here')", r"raises ImportError: no numba here"),
    "no longer python": ("def (", r"raises SyntaxError"),
    "a hook that raises": (source(body="raise RuntimeError('no luck')"), r"curves raises RuntimeError: no luck"),
    "a form that breaks": (
        source().replace("speed + 0 * radius", "speed / radius"),
        r"rotation_curve 'mine' .* is not finite at radius 0",
    ),
    "no form": (source(body="return [int]"), r"<class 'int'> is no form"),
    "another kind": (source(called="kinematics_nn_dispersions"), r"'mine' is a rotation_curve"),
    "a misspelt hook": (
        source(called="kinematics_nn_rotation_curve"),
        r"no hook kinematics_nn_rotation_curve; did it mean kinematics_nn_rotation_curves\?",
    ),
    "an unmarked hook": (source(mark=""), r"_rotation_curves is not marked with kinematics_nn\.forms\.hookimpl"),
    "a name of ours": (source(name="arctan"), r"and kinematics_nn \S+ both bring a rotation_curve called 'arctan'"),
}  # fmt: skip


@pytest.fixture(scope="module")
def with_broken_plugins(tmp_path_factory):
    """What is listed with good plug-ins alone, and what is listed and said with every broken one beside them."""
    folder = tmp_path_factory.mktemp("plugins")
    # One that is found before the broken ones and one that is found after: the order must not matter.
    for name, hook in (("first-good", "kinematics_nn_dispersions"), ("last-good", "kinematics_nn_surface_brightness")):
        install(folder / name, f"{name}-forms", source(hook, name="theirs"), version="1.2")
    for what, (text, _) in BROKEN.items():
        install(folder / "broken", f"{what.replace(' ', '-')}-forms", text, version="0.7")
    good = folder / "first-good", folder / "last-good"
    return forms_command(*good)[0], *forms_command(good[0], folder / "broken", good[1])


def test_broken_plugins_harm_nothing_else(with_broken_plugins):
    unharmed, listing, said = with_broken_plugins
    assert listing == unharmed
    assert [name for name, provider in providers(listing) if provider.endswith("-good-forms 1.2")] == ["theirs"] * 2
    assert "good-forms" not in said
    assert said.count("warning:") == len(BROKEN)


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_plugin_is_told_of_with_its_version(what, with_broken_plugins):
    _, _, said = with_broken_plugins
    assert re.search(rf"warning: {what.replace(' ', '-')}-forms 0\.7.*{BROKEN[what][1]}", said), said


def test_two_plugins_of_one_name_are_both_named(tmp_path):
    install(tmp_path / "a", "first-forms", source(name="mine"), version="1.0")
    install(tmp_path / "b", "second-forms", source(name="mine"), version="2.0")
    listing, said = forms_command(tmp_path / "a", tmp_path / "b")
    assert [provider for name, provider in providers(listing) if name == "mine"] == ["first-forms 1.0"]
    assert "second-forms 2.0 and first-forms 1.0 both bring a rotation_curve called 'mine'" in said


def test_no_plugin_runs_when_the_package_is_imported(tmp_path):
    install(tmp_path, "slow-forms", "raise SystemExit('imported too early')")
    done = run("-c", "import kinematics_nn; kinematics_nn.simulate; import kinematics_nn.models", path=[tmp_path])
    assert done.returncode == 0, done.stderr


def test_a_form_is_written_registered_and_fitted_in_under_20_lines(tmp_path):
    text = GUIDE.read_text()
    block = re.search(r"\.\. code-block:: python\n   :name: a-form-of-your-own\n\n((?:   .*\n|\n)+)", text).group(1)
    script = textwrap.dedent(block)
    lines = [line for line in script.splitlines() if line.strip()]
    assert len(lines) < 20
    assert "@kinematics_nn.register" in script
    main = "import sys; from kinematics_nn.cli import main; sys.exit(main(sys.argv[1:]))"
    done = run("-c", main, "simulate", "galaxy.fits", "--rms", "0.5 mJy/beam", "--seed", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    check = """
        assert fit.rotation_curve.form is Rising
        # the disc has an arctan of 200 km/s that turns at 3 arcsec: at 15 arcsec, 174 km/s
        speed = fit.rotation_curve(15 * u.arcsec).to_value(u.km / u.s)
        assert abs(speed - 174) < 20, speed
    """
    done = run("-c", f"{script}\nimport astropy.units as u\n{textwrap.dedent(check)}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
