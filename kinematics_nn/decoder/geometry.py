"""Where on the disc a point of the sky lies, and how fast it recedes: the inclined disc, thick or thin.

All functions are pure, broadcast, and are differentiable; angles are in radians, lengths in arcsec, speeds in km/s.
"""

import torch

__all__ = ["SPEED_OF_LIGHT", "axis_scale", "line_of_sight", "line_of_sight_speed", "sky_to_axes", "vertical_law"]

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


def line_of_sight(w, inclination, thickness, extent, depth):
    r"""Points along the line of sight at which a thick disc is summed.

    With s along the line of sight, a point of the sky at minor-axis offset w lies in the disc's own frame at
    :math:`y = w \cos i + s \sin i`, :math:`z = w \sin i - s \cos i`. This is regular from face-on to edge-on, where
    the thin disc's :math:`w / \cos i` is not. Along s the light falls off from the plane (z = 0) at the rate
    :math:`\cos i / h` and from the major axis (y = 0) at :math:`\sin i / L`. The steeper of the two says where the
    light is, with a kink there that the quadrature must sit on, and how far it reaches; ``depth`` counts in that reach.

    Parameters
    ----------
    w : Tensor
        Minor-axis offset [arcsec].
    inclination : Tensor
        [rad].
    thickness, extent : Tensor
        Vertical scale height and radial scale of the light [arcsec], both positive.
    depth : Tensor
        Position along the line of sight in units of the product's width.

    Returns
    -------
    y, z : Tensor
        Position in the disc's plane at right angles to the major axis, and height above it [arcsec].
    width : Tensor
        Length along the line of sight of one unit of ``depth`` [arcsec].
    """
    sin, cos = torch.sin(inclination), torch.cos(inclination)
    vertical, radial = (cos / thickness) ** 2, (sin / extent) ** 2
    # Smooth in both, and near enough to the larger: the eighth power, measured better than the second or fourth.
    steeper = torch.maximum(vertical, radial)
    vertical, radial = vertical / steeper, radial / steeper
    total = vertical**4 + radial**4
    width = steeper.rsqrt() * total ** (-1 / 8)
    # vertical^4 tan i - radial^4 cot i over their sum, without the poles of tan and cot.
    centre = w * sin * cos * (vertical**3 / thickness**2 - radial**3 / extent**2) / (steeper * total)
    s = centre + width * depth
    return w * cos + s * sin, w * sin - s * cos, width


def vertical_law(z, thickness, step, depth):
    r"""Density above the plane, :math:`e^{-|z|/h} / 2h` averaged over ``step`` in z, over :math:`e^{-|t|} / 2`.

    Averaged over the distance between sample points it sums to one however thin the disc is; divided by the law that
    the depths t are spread by, it weighs them [1/arcsec].
    """
    x = 0.5 * step / thickness
    outside = torch.exp(depth.abs() - z.abs() / thickness) * torch.sinh(x) / x
    # 1 - exp(-x) cosh(z / h), without the loss of digits where x is small.
    q = 0.5 * torch.minimum(z.abs(), 0.5 * step) / thickness
    inside = torch.exp(depth.abs()) * (-torch.expm1(-x) - 2 * torch.exp(-x) * torch.sinh(q) ** 2) / x
    return torch.where(z.abs() > 0.5 * step, outside, inside) / thickness


def line_of_sight_speed(u, y, v_rot, inclination, v_rad=None):
    r"""Rest-frame speed along the line of sight, :math:`(v_{rot} \cos\theta + v_{rad} \sin\theta) \sin i` [km/s].

    ``u`` and ``y`` are the coordinates in the disc's plane [arcsec]. At the centre the azimuth has no meaning and the
    speed is 0. The square root is kept off zero, so that its gradient stays finite there.
    """
    radius = torch.sqrt(u**2 + y**2 + 1e-12)
    speed = v_rot * u / radius
    if v_rad is not None:
        speed = speed + v_rad * y / radius
    return speed * torch.sin(inclination)


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
