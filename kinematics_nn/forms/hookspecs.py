"""The hooks by which forms come in: a plug-in names its module under the entry-point group ``kinematics_nn``."""

from __future__ import annotations

import pluggy

__all__ = [
    "PROJECT",
    "hookimpl",
    "kinematics_nn_dispersions",
    "kinematics_nn_rotation_curves",
    "kinematics_nn_surface_brightness",
]

PROJECT = "kinematics_nn"  # of pluggy, and the entry-point group

hookimpl = pluggy.HookimplMarker(PROJECT)
_hookspec = pluggy.HookspecMarker(PROJECT)


@_hookspec
def kinematics_nn_rotation_curves():
    """A list of subclasses of `kinematics_nn.forms.RotationCurve`."""


@_hookspec
def kinematics_nn_surface_brightness():
    """A list of subclasses of `kinematics_nn.forms.SurfaceBrightness`."""


@_hookspec
def kinematics_nn_dispersions():
    """A list of subclasses of `kinematics_nn.forms.Dispersion`."""
