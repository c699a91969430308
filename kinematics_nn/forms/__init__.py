"""Functional forms: rotation curves, surface brightness and velocity dispersion, each written once.

A form is a class with declared parameters and one pure `evaluate`; from it come the decoder's torch face and the
`astropy.modeling` face in `kinematics_nn.models`. Importing this imports no torch.
"""

from .base import Dispersion, Form, FormParameter, RotationCurve, SurfaceBrightness
from .hookspecs import hookimpl
from .priors import LogUniform, Normal, Prior, Uniform
from .registry import get_form, list_forms, register

__all__ = [
    "register",
    "get_form",
    "list_forms",
    "hookimpl",
    "Form",
    "RotationCurve",
    "SurfaceBrightness",
    "Dispersion",
    "FormParameter",
    "Prior",
    "Uniform",
    "LogUniform",
    "Normal",
]
