"""Quantities as users give them, text with units among them, read into numbers and quantities."""

import math

import astropy.units as u

from kinematics_nn.errors import WrongUnit

__all__ = ["inside_number", "parse_quantity", "parse_range"]


def inside_number(value, unit, distance=None):
    """
    Read one number, quantity or its text as a float in a unit.

    Parameters
    ----------
    value : float, str or `~astropy.units.Quantity`
        A bare number is in ``unit`` already.
    unit : `~astropy.units.Unit`
        A length of the galaxy, to some power, is in arcsec here.
    distance : `~astropy.units.Quantity` or str, optional
        Of the galaxy, at which lengths are angles.

    Returns
    -------
    float

    Raises
    ------
    `~astropy.units.UnitConversionError`
        The unit does not fit.
    TypeError
        It is no single number.

    Examples
    --------
    >>> import astropy.units as u
    >>> from kinematics_nn.quantities import inside_number
    >>> print(f"{inside_number(1 * u.kpc, u.arcsec, distance=10 * u.Mpc):.3f}")
    20.626
    """
    quantity, unit = u.Quantity(value), u.Unit(unit)
    if quantity.unit == u.one and not hasattr(value, "unit"):
        quantity = quantity.value * unit
    power = dict(zip(unit.bases, unit.powers, strict=True)).get(u.arcsec, 0)
    if distance is not None and power and not quantity.unit.is_equivalent(unit):
        quantity = quantity * (u.rad / u.Quantity(distance)) ** float(power)
    return float(quantity.to_value(unit))


def parse_quantity(text, unit=None, *, name="value"):
    """
    Read a number with its unit.

    Parameters
    ----------
    text : str or `~astropy.units.Quantity`
        Such as ``"90 arcsec"``, ``"1.5arcmin"`` or ``"10 km/s"``.
    unit : `~astropy.units.Unit`, optional
        The unit to convert to. Without one, any unit will do, but there must be one. With the dimensionless
        unit, a bare number is right.
    name : str, optional
        What the text stands for, named in the errors.

    Returns
    -------
    `~astropy.units.Quantity`
        Scalar, finite, in ``unit``.

    Raises
    ------
    WrongUnit
        The text is no finite number with a unit, or its unit cannot become ``unit``.

    Examples
    --------
    >>> import astropy.units as u
    >>> from kinematics_nn.quantities import parse_quantity
    >>> parse_quantity("1.5 arcmin", u.arcsec)
    <Quantity 90. arcsec>
    """
    wanted = "a number with a unit" if unit is None else f"a number with a unit like {_label(unit)}"
    example = f"{name} as '10 {_label(unit)}'" if unit is not None else f"{name} as '0.5 mJy/beam', or another unit"
    try:
        quantity = u.Quantity(text)
    except (TypeError, ValueError) as error:
        raise WrongUnit(f"{name} is {text!r}", wanted, example) from error
    if not quantity.isscalar or not math.isfinite(quantity.value):
        raise WrongUnit(f"{name} is {text!r}", f"{wanted}, single and finite", example)
    # Astropy reads a bare "90" as dimensionless; here that is a unit forgotten.
    if quantity.unit == u.dimensionless_unscaled and unit != u.dimensionless_unscaled:
        raise WrongUnit(f"{name} is {text!r}, without a unit", wanted, example)
    if unit is None:
        return quantity
    try:
        return quantity.to(unit)
    except u.UnitConversionError as error:
        raise WrongUnit(f"{name} is {text!r}, in {_label(quantity.unit)}", wanted, example) from error


def parse_range(text, unit, *, name="range"):
    """
    Read a range, ``"low:high unit"``.

    The unit after the colon serves both ends; the low end may carry one of its own.

    Parameters
    ----------
    text : str
        Such as ``"-100:300 km/s"`` or ``"0.9 km/s : 1200 m/s"``.
    unit : `~astropy.units.Unit`
        The unit to convert to.
    name : str, optional
        What the text stands for, named in the errors.

    Returns
    -------
    low, high : `~astropy.units.Quantity`
        In ascending order, in ``unit``.

    Raises
    ------
    WrongUnit
        The text is no range with a unit like ``unit``, or an empty one.
    """
    low, colon, high = text.partition(":")
    if not colon:
        raise WrongUnit(f"{name} is {text!r}", "two ends and a unit", f"{name} as '-100:300 {_label(unit)}'")
    high = parse_quantity(high.strip(), unit, name=f"the end of {name}")
    low = low.strip()
    if _is_number(low):
        # Its unit is the one written after the colon.
        low = u.Quantity(float(low), u.Quantity(text.partition(":")[2].strip()).unit).to(unit)
    else:
        low = parse_quantity(low, unit, name=f"the start of {name}")
    if low == high:
        raise WrongUnit(f"{name} is {text!r}, which is empty", "two ends that differ")
    return min(low, high), max(low, high)


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _label(unit):
    return u.Unit(unit).to_string() or "(dimensionless)"
