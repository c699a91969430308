"""The user guide's tables of forms: each form with all of its parameters, and none that is not there."""

import re
from pathlib import Path

import pytest

from kinematics_nn.forms import list_forms
from kinematics_nn.forms.masses import find_masses

PAGE = Path(__file__).parents[2] / "docs" / "user_guide" / "forms.rst"
KINDS = {
    "rotation_curve": ("Rotation curves without", "Rotation curves of masses"),
    "surface_brightness": ("Surface brightness,",),
    "velocity_dispersion": ("Velocity dispersion",),
}


def rows(title):
    """The rows of the table of a title: dict of name to what stands beside it."""
    table = re.split(r"\n(?=\S)", PAGE.read_text().split(f".. list-table:: {title}")[1])[0]
    cells = [row.split("\n     - ") for row in table.split("   * - ")[2:]]
    return {name.strip("` "): " ".join(rest) for name, *rest in cells}


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not beside the tests")
@pytest.mark.parametrize("kind", KINDS)
def test_every_form_is_in_its_table(kind):
    documented = {name: text for title in KINDS[kind] for name, text in rows(title).items()}
    forms = {known.name: known.form for known in list_forms() if known.kind == kind}
    own = {known.name for known in list_forms() if known.kind == kind and known.provider.startswith("kinematics_nn ")}
    assert set(documented) == own - {"rings"}  # as many parameters as rings: it has a section of its own
    for name, text in documented.items():
        for parameter in forms[name].names():
            assert f"``{parameter}``" in text
        if kind == "rotation_curve":
            for mass, _, _ in find_masses(forms[name]):
                assert f"``{mass}``" in text


def test_every_form_with_a_source_names_it():
    elementary = {"flat", "linear", "gaussian", "ring", "exponential_hole", "moment0", "constant"}
    for known in list_forms():
        if known.provider.startswith("kinematics_nn "):
            assert bool(known.form.reference) == (known.name not in elementary), known.name
