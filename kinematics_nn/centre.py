"""A centre that is held, given as it stands in the results: a position on the sky, or in the image."""

import astropy.units as u
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import pixel_to_skycoord

from .errors import KinematicsError
from .quantities import inside_number

__all__ = ["CENTRES", "as_offsets", "offset_of"]

CENTRES = {("ra", "dec"): u.deg, ("x", "y"): u.pix}
"""Pairs of names that give a centre, and the unit of a bare number."""


def offset_of(name):
    """The offset, ``east`` or ``north``, that a coordinate of a centre stands for; other names are what they are."""
    offsets = {at: offset for pair in CENTRES for at, offset in zip(pair, ("east", "north"), strict=True)}
    return offsets.get(name, name)


def as_offsets(fixed, priors, observation):
    """Parameters to hold, with the centre as offsets from the reference position.

    Parameters
    ----------
    fixed : dict
        With ``ra`` and ``dec`` (ICRS), or ``x`` and ``y`` (0-based pixels of the input cube), or neither.
    priors : collection of str
        Names of the parameters that have one.
    observation : `~kinematics_nn.observation.Observation`

    Returns
    -------
    dict
        A new one, with ``east`` and ``north`` [arcsec] in the place of them.

    Raises
    ------
    KinematicsError
        One of the two alone, two centres, a value that is no angle or pixel, or a centre outside of the image.
    """
    from .results.cubes import input_wcs, offset_to_sky

    given = [pair for pair in CENTRES if set(pair) & set(fixed)]
    if not given:
        return dict(fixed)
    pair = given[0]
    call = f"fit(fixed={{{pair[0]!r}: ..., {pair[1]!r}: ...}})"
    twice = sorted({"east", "north", *(name for other in given[1:] for name in other)} & {*fixed, *priors})
    if twice:
        raise KinematicsError(f"a centre by {' and '.join(pair)}, and {', '.join(twice)}", "one of them", call)
    if not set(pair) <= set(fixed):
        found, lacking = pair if pair[0] in fixed else pair[::-1]
        raise KinematicsError(f"{found} held, and no {lacking}", "both of them", call)
    try:
        first, second = (inside_number(fixed[name], CENTRES[pair]) for name in pair)
    except (u.UnitConversionError, TypeError, ValueError) as error:
        needed = f"one value each in {CENTRES[pair]}"
        raise KinematicsError(f"fixed={ {name: fixed[name] for name in pair} }", needed, call) from error
    if pair == ("ra", "dec"):
        if not abs(second) <= 90:
            raise KinematicsError(f"a declination of {second:g} deg", "one from -90 to 90", call)
        sky = SkyCoord(first, second, unit="deg")
    else:
        sky = pixel_to_skycoord(first, second, input_wcs(observation).celestial, origin=0).icrs
    reference = SkyCoord(*observation.header["reference"], unit="deg")
    east, north = (float(offset.to_value(u.arcsec)) for offset in reference.spherical_offsets_to(sky))
    x, y = (float(value) for value in offset_to_sky(observation, east, north)[1:])
    ny, nx = observation.header["shape"][-2:]
    if not (-0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5):
        found = f"a centre at pixel ({x:.1f}, {y:.1f})"
        raise KinematicsError(found, f"one in the image, of {nx} x {ny} pixels", call)
    return {name: value for name, value in fixed.items() if name not in pair} | {"east": east, "north": north}
