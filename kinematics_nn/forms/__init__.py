"""Functional forms: rotation curves, surface brightness and velocity dispersion, each written once.

A form is a class with declared parameters and one pure `evaluate`; from it come the decoder's torch face and the
`astropy.modeling` face in `kinematics_nn.models`. Importing this imports no torch.
"""

from .base import Dispersion, Form, FormParameter, RotationCurve, SurfaceBrightness
from .priors import LogUniform, Normal, Prior, Uniform

__all__ = [
    "Dispersion",
    "Form",
    "FormParameter",
    "LogUniform",
    "Normal",
    "Prior",
    "RotationCurve",
    "SurfaceBrightness",
    "Uniform",
]
