"""Where on the disc a point of the sky lies, and how fast it recedes: the inclined disc, thick or thin.

All functions are pure, broadcast, and are differentiable; angles are in radians, lengths in arcsec, speeds in km/s.
"""

import math

import torch

__all__ = [
    "SPEED_OF_LIGHT",
    "axis_scale",
    "least_thickness",
    "line_of_sight",
    "line_of_sight_speed",
    "sky_to_axes",
    "vertical_law",
    "vertical_law_slopes",
]

SPEED_OF_LIGHT = 299792.458  # km/s, exact (SI definition)


def sky_to_axes(xi, eta, pa):
    """Turn sky offsets to the disc's axes.

    Parameters
    ----------
    xi, eta : Tensor
        Offsets east and north of the disc's centre [arcsec].
    pa : Tensor
        Position angle of the receding side of the major axis, east of north [rad].

    Returns
    -------
    u, w : Tensor
        Offsets along the major axis (positive on the receding side) and the minor axis [arcsec].
    """
    sin, cos = torch.sin(pa), torch.cos(pa)
    return xi * sin + eta * cos, xi * cos - eta * sin


def line_of_sight(inclination, thickness, extent):
    r"""Where along the line of sight a thick disc is summed.

    With s along the line of sight, a point of the sky at minor-axis offset w lies in the disc's own frame at
    :math:`y = w \cos i + s \sin i`, :math:`z = w \sin i - s \cos i`. This is regular from face-on to edge-on, where
    the thin disc's :math:`w / \cos i` is not. Along s the light falls off from the plane (z = 0) at the rate
    :math:`\cos i / h` and from the major axis (y = 0) at :math:`\sin i / L`. The steeper of the two says where the
    light is, with a kink there that the quadrature must sit on, and how far it reaches; depths t count in that reach.
    Both coordinates are linear in w and t.

    Parameters
    ----------
    inclination : Tensor
        [rad].
    thickness, extent : Tensor
        Vertical scale height and radial scale of the light [arcsec], both positive.

    Returns
    -------
    y_w, y_t, z_w, z_t : Tensor
        y = y_w w + y_t t, in the disc's plane at right angles to the major axis, and z = z_w w + z_t t above it.
    width : Tensor
        Length along the line of sight of one unit of t [arcsec].
    """
    sin, cos = torch.sin(inclination), torch.cos(inclination)
    vertical, radial = (cos / thickness) ** 2, (sin / extent) ** 2
    # Smooth in both, and near enough to the larger: the eighth power, measured better than the second or fourth.
    steeper = torch.maximum(vertical, radial)
    vertical, radial = vertical / steeper, radial / steeper
    total = vertical**4 + radial**4
    width = steeper.rsqrt() * total ** (-1 / 8)
    # vertical^4 tan i - radial^4 cot i over their sum, without the poles of tan and cot.
    centre = sin * cos * (vertical**3 / thickness**2 - radial**3 / extent**2) / (steeper * total)
    return cos + centre * sin, width * sin, sin - centre * cos, -width * cos, width


def least_thickness(spacing, extent, inclination):
    """What an edge-on disc is thickened by, so that it cannot fall between points ``spacing`` apart; little face-on.

    All in arcsec.
    """
    return 0.5 * spacing**2 / (spacing + extent * torch.cos(inclination).abs())


def vertical_law(height, step, depth):
    r"""Density above the plane, :math:`e^{-|z|/h}` averaged over ``step`` in z, over :math:`e^{-|t|}`.

    Averaged over the distance between sample points it sums to one however thin the disc is; divided by the law that
    the depths t are spread by (``depth`` is :math:`|t|`), it weighs them. ``height`` is :math:`|z|/h`; so is ``step``
    in scale heights, 2 at most.
    """
    x = 0.5 * step + 1e-4
    inside = torch.minimum(height, x)
    return torch.exp(depth - height + inside) * torch.addcmul(-torch.expm1(-x) / x, -torch.exp(-x) / x, _cosh(inside))


def vertical_law_slopes(height, step, depth):
    """`vertical_law` of a step that is a float, and its derivatives by height and by step."""
    x = 0.5 * step + 1e-4
    inside = height.clamp(max=x)
    falling = torch.exp(depth - height + inside)
    cosh = _cosh(inside)
    law = falling * (-math.expm1(-x) / x - math.exp(-x) / x * cosh)
    q = inside * inside
    sinh = inside * (1 + q * (1 / 6 + q * (1 / 120)))
    by_inside = torch.addcmul(law, falling, sinh, value=-math.exp(-x) / x)
    beyond = height > x
    by_height = torch.where(beyond, 0.0, by_inside) - law
    by_x = (math.exp(-x) * x + math.expm1(-x)) / x**2 + math.exp(-x) * (x + 1) / x**2 * cosh
    return law, by_height, 0.5 * torch.addcmul(torch.where(beyond, by_inside, 0.0), falling, by_x)


def _cosh(x):
    """cosh(x) - 1 by its series, which loses no digits (2e-5 at 1, the largest)."""
    q = x * x
    return q * (1 / 2 + q * (1 / 24 + q * (1 / 720)))


def line_of_sight_speed(cosine, v_rot, v_rad=None, sine=None):
    r"""Rest-frame speed along the line of sight over :math:`\sin i`, :math:`v_{rot} \cos\theta + v_{rad} \sin\theta`.

    ``cosine`` and ``sine`` are those of the azimuth in the disc's plane, 0 at the centre, where it has no meaning.
    """
    speed = v_rot * cosine
    return speed if v_rad is None else speed + v_rad * sine


def axis_scale(vsys, convention):
    """The factor J that turns a small rest-frame velocity into the cube's velocity axis at ``vsys`` [km/s].

    1 + z for the optical convention, 1 / (1 + z) for the radio one, 1 - (v/c)^2 for the relativistic one
    (Greisen et al. 2006, A&A 446, 747, table 3, differentiated at the systemic velocity).
    """
    beta = vsys / SPEED_OF_LIGHT
    if convention == "optical":
        return 1 + beta
    if convention == "radio":
        return 1 - beta
    if convention == "relativistic":
        return 1 - beta**2
    raise ValueError(f"velocity convention {convention!r}: known are 'optical', 'radio' and 'relativistic'")
