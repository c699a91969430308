"""
The forms as `astropy.modeling` models.

Each form of `kinematics_nn.forms` has a model of the same parameters, which may carry units: radii in any unit of
angle or length (arcsec, kpc), speeds in any unit of velocity. Without units, everything is in arcsec and km/s. A
negative radius counts by its size.

>>> import astropy.units as u
>>> from kinematics_nn.models import ArctanRotationCurve
>>> curve = ArctanRotationCurve(vmax=200 * u.km / u.s, r_turn=3 * u.arcsec)
>>> curve(3 * u.arcsec)
<Quantity 100. km / s>

A surface brightness is a face-on shape with an `amplitude`, so that it can be fitted to a profile. Where a disc is
simulated or fitted, its flux is a parameter of its own and the amplitude plays no part.
"""

from ..forms import dispersion, haloes, mass_models, moment0, rings, rotation_curves, surface_brightness
from .classes import model_class
from .values import inside_values, model_with_units

__all__ = [
    "model_class",
    "model_with_units",
    "inside_values",
    "ArctanRotationCurve",
    "BrandtRotationCurve",
    "BurkertRotationCurve",
    "CourteauRotationCurve",
    "EinastoRotationCurve",
    "FlatRotationCurve",
    "FreemanRotationCurve",
    "HernquistBulgeRotationCurve",
    "KeplerRotationCurve",
    "LinearRotationCurve",
    "NFWRotationCurve",
    "PlummerRotationCurve",
    "PolyexRotationCurve",
    "PseudoIsothermalRotationCurve",
    "RingsRotationCurve",
    "SersicBulgeRotationCurve",
    "TanhRotationCurve",
    "DoubleExponentialDisc",
    "ExponentialDisc",
    "ExponentialHoleDisc",
    "GaussianDisc",
    "Moment0Disc",
    "RingDisc",
    "RingsLightDisc",
    "SersicDisc",
    "TruncatedExponentialDisc",
    "ConstantDispersion",
    "ExponentialDispersion",
    "LinearDispersion",
]

ArctanRotationCurve = model_class(rotation_curves.Arctan)
BrandtRotationCurve = model_class(rotation_curves.Brandt)
BurkertRotationCurve = model_class(haloes.Burkert)
CourteauRotationCurve = model_class(rotation_curves.Courteau)
EinastoRotationCurve = model_class(haloes.Einasto)
FlatRotationCurve = model_class(rotation_curves.Flat)
FreemanRotationCurve = model_class(mass_models.FreemanDisc)
HernquistBulgeRotationCurve = model_class(mass_models.HernquistBulge)
KeplerRotationCurve = model_class(mass_models.Kepler)
LinearRotationCurve = model_class(rotation_curves.Linear)
NFWRotationCurve = model_class(haloes.NFW)
PlummerRotationCurve = model_class(mass_models.Plummer)
PolyexRotationCurve = model_class(rotation_curves.Polyex)
PseudoIsothermalRotationCurve = model_class(haloes.PseudoIsothermal)
RingsRotationCurve = model_class(rings.Rings)
SersicBulgeRotationCurve = model_class(mass_models.SersicBulge)
TanhRotationCurve = model_class(rotation_curves.Tanh)
DoubleExponentialDisc = model_class(surface_brightness.DoubleExponential)
ExponentialDisc = model_class(surface_brightness.Exponential)
ExponentialHoleDisc = model_class(surface_brightness.ExponentialHole)
GaussianDisc = model_class(surface_brightness.Gaussian)
Moment0Disc = model_class(moment0.Moment0)
RingDisc = model_class(surface_brightness.Ring)
RingsLightDisc = model_class(rings.RingsLight)
SersicDisc = model_class(surface_brightness.Sersic)
TruncatedExponentialDisc = model_class(surface_brightness.TruncatedExponential)
ConstantDispersion = model_class(dispersion.Constant)
ExponentialDispersion = model_class(dispersion.ExponentialDispersion)
LinearDispersion = model_class(dispersion.LinearDispersion)
