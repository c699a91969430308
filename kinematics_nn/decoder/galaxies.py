"""What a disc is to its pixels: the functional forms, and the few numbers that every point of it is reckoned from."""

from dataclasses import dataclass

import torch

from .geometry import axis_scale, least_thickness, line_of_sight

__all__ = ["GEOMETRY", "Forms", "coefficient_slopes", "coefficients", "line_width"]

GEOMETRY = ("inclination", "pa", "east", "north", "vsys", "flux", "thickness")
"""Parameters that every disc has, in the order of the parameter vector; those of the forms follow."""

_SLOTS = {"velocity_dispersion": "dispersion", "rotation_curve": "curve", "surface_brightness": "light"}


@dataclass(frozen=True)
class Forms:
    """The three functional forms of a disc: classes of `kinematics_nn.forms`."""

    rotation_curve: type
    surface_brightness: type
    velocity_dispersion: type

    @property
    def slots(self):
        """Dict of slot -> the names its parameters have in the parameter vector."""
        names = {slot: [p.name for p in getattr(self, slot).parameters] for slot in _SLOTS}
        every = [*GEOMETRY, *(name for slot in names.values() for name in slot)]
        return {slot: tuple(f"{_SLOTS[slot]}_{n}" if every.count(n) > 1 else n for n in names[slot]) for slot in _SLOTS}

    @property
    def parameter_names(self):
        """All parameters, in the order of the parameter vector."""
        return GEOMETRY + tuple(name for slot in self.slots.values() for name in slot)

    def values(self, parameters):
        """Dict of name -> (batch,) of parameters (batch, n_parameters), and of slot -> list of its own."""
        values = dict(zip(self.parameter_names, parameters.unbind(1), strict=True))
        return values | {slot: [values[name] for name in names] for slot, names in self.slots.items()}

    def extent(self, values):
        """Radial scale of the light (batch,): that of the exponential disc of the same half-light radius [arcsec]."""
        return self.surface_brightness.half_light_radius(*values["surface_brightness"]) / 1.678


def line_width(sigma, least):
    """Width of a line [km/s]: that of the gas on the cube's axis, and what is always added, in quadrature."""
    return torch.sqrt(sigma**2 + least**2)


def coefficients(forms, parameters, spacing, convention, least_sigma):
    r"""All that the points of a disc take from its parameters.

    With u, w the offsets along the major and the minor axis and t the depth, a point lies at
    :math:`y = y_w w + y_t t` and :math:`z / h = z_w w + z_t t`, has the light ``weight`` times the profile, the
    law in z and its share of the depths, and recedes at ``vsys`` and ``speed`` times the curve times the cosine of its
    azimuth.

    Parameters
    ----------
    forms : Forms
    parameters : Tensor (batch, n_parameters)
    spacing : Tensor (rule, 1)
        Distances between sub-pixels [arcsec].
    convention : str
        Of the velocity axis.
    least_sigma : float
        What is added to a line's width in quadrature [km/s].

    Returns
    -------
    dict
        Name to Tensor (rule, batch): ``sin``, ``cos`` of the position angle, ``east``, ``north`` [arcsec], ``y_w``,
        ``y_t``, ``z_w``, ``z_t``, ``step`` (between points in z, in scale heights), ``weight`` (for a flux of one),
        ``speed``, ``vsys`` [km/s], ``to_axis`` (J) and ``sigma`` [km/s] where it is uniform; ``light``, ``curve`` and
        ``dispersion`` followed by a number are parameters of the forms.
    """
    values = forms.values(parameters)
    light, dispersion = values["surface_brightness"], values["velocity_dispersion"]
    inclination, pa = torch.deg2rad(values["inclination"]), torch.deg2rad(values["pa"])
    extent = forms.extent(values)
    thickness = torch.sqrt(values["thickness"] ** 2 + least_thickness(spacing, extent, inclination) ** 2)
    y_w, y_t, z_w, z_t, width = line_of_sight(inclination, thickness, extent)
    to_axis = axis_scale(values["vsys"], convention)
    found = {
        "sin": torch.sin(pa), "cos": torch.cos(pa), "east": values["east"], "north": values["north"],
        "y_w": y_w, "y_t": y_t, "z_w": z_w / thickness, "z_t": z_t / thickness,
        "step": spacing * z_w.abs() / thickness,
        "weight": width / (thickness * forms.surface_brightness.total(*light)),
        "speed": to_axis * torch.sin(inclination), "vsys": values["vsys"], "to_axis": to_axis,
    }  # fmt: skip
    if forms.velocity_dispersion.uniform:
        found["sigma"] = line_width(to_axis * forms.velocity_dispersion.evaluate(extent, *dispersion), least_sigma)
        dispersion = []
    for slot, own in (("light", light), ("curve", values["rotation_curve"]), ("dispersion", dispersion)):
        found |= {f"{slot}{k}": value for k, value in enumerate(own)}
    return dict(zip(found, torch.broadcast_tensors(*found.values()), strict=True))


def coefficient_slopes(forms, parameters, spacing, *args):
    """`coefficients` of one galaxy (1, n_parameters), and dict of name -> Tensor (rule, n_parameters), derivatives."""
    with torch.no_grad():
        found = coefficients(forms, parameters, spacing, *args)
    n = len(found) * len(spacing)
    with torch.enable_grad():
        # The galaxy once for each number: one sweep backwards then serves all.
        many = parameters.detach().repeat(n, 1).requires_grad_()
        table = torch.stack(list(coefficients(forms, many, spacing, *args).values()))
        (slopes,) = torch.autograd.grad(table.view(n, n).diagonal().sum(), many)
    return found, dict(zip(found, slopes.view(len(found), len(spacing), -1), strict=True))
