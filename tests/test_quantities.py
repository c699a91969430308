"""Unit strings: what is read, and what is said when it cannot be."""

import astropy.units as u
import pytest

from kinematics_nn.errors import WrongUnit
from kinematics_nn.quantities import parse_quantity, parse_range


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("90 arcsec", u.arcsec, 90.0),
        ("1.5arcmin", u.arcsec, 90.0),
        ("-3e4 m/s", u.km / u.s, -30.0),
        ("2 mJy / beam", u.Jy / u.beam, 0.002),
        ("0.5", u.dimensionless_unscaled, 0.5),
    ],
)
def test_reads_and_converts(text, unit, value):
    quantity = parse_quantity(text, unit)
    assert quantity.unit == unit
    assert quantity.value == pytest.approx(value, rel=1e-12)


def test_without_a_wanted_unit_keeps_the_one_given():
    assert parse_quantity("2 mJy/beam") == 2 * u.mJy / u.beam


@pytest.mark.parametrize("text", ["90", "ninety arcsec", "", "5 km/s", "nan arcsec", "inf arcsec", "3 parsnips"])
def test_error_names_what_was_found_and_needed(text):
    with pytest.raises(WrongUnit) as caught:
        parse_quantity(text, u.arcsec, name="--beam")
    message = str(caught.value)
    assert "--beam" in message
    assert repr(text) in message
    assert "arcsec" in message


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("-100:300 km/s", -100, 300),
        ("300:-100 km/s", -100, 300),
        ("-100000:300000 m/s", -100, 300),
        ("-1e5 m/s : 300 km/s", -100, 300),
    ],
)
def test_range(text, low, high):
    got = parse_range(text, u.km / u.s)
    assert [end.value for end in got] == pytest.approx([low, high])
    assert all(end.unit == u.km / u.s for end in got)


@pytest.mark.parametrize("text", ["300 km/s", "1:2", "1:2 arcsec", ":5 km/s", "5:5 km/s"])
def test_bad_range(text):
    with pytest.raises(WrongUnit, match="slab"):
        parse_range(text, u.km / u.s, name="slab")
