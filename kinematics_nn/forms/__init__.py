"""Functional forms: rotation curves, surface brightness and velocity dispersion, each written once.

A form is a class with declared parameters and one pure `evaluate`; from it come the decoder's torch face and the
`astropy.modeling` face in `kinematics_nn.models`. Importing this imports no torch.
"""

from .base import Dispersion, Form, FormParameter, RotationCurve, SurfaceBrightness
from .composite import QuadratureSum
from .dispersion import Constant, ExponentialDispersion, LinearDispersion
from .haloes import NFW, Burkert, Einasto, PseudoIsothermal
from .hookspecs import hookimpl
from .mass_models import FreemanDisc, HernquistBulge, Kepler, Plummer, SersicBulge
from .moment0 import Moment0
from .priors import LogUniform, Normal, Prior, Uniform
from .registry import get_form, list_forms, register
from .rings import Rings, RingsLight
from .rotation_curves import Arctan, Brandt, Courteau, Flat, Linear, Polyex, Tanh
from .surface_brightness import (
    DoubleExponential,
    Exponential,
    ExponentialHole,
    Gaussian,
    Ring,
    Sersic,
    TruncatedExponential,
)
from .tabulated import Tabulated

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
    "Arctan",
    "Brandt",
    "Burkert",
    "Constant",
    "Courteau",
    "DoubleExponential",
    "Einasto",
    "Exponential",
    "ExponentialDispersion",
    "ExponentialHole",
    "Flat",
    "FreemanDisc",
    "Gaussian",
    "HernquistBulge",
    "Kepler",
    "Linear",
    "LinearDispersion",
    "Moment0",
    "NFW",
    "Plummer",
    "Polyex",
    "PseudoIsothermal",
    "QuadratureSum",
    "Ring",
    "Rings",
    "RingsLight",
    "Sersic",
    "SersicBulge",
    "Tabulated",
    "Tanh",
    "TruncatedExponential",
]
