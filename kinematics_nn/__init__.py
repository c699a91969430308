"""
Galaxy kinematics from spectral-line datacubes, with posteriors.

Importing the package puts ``.kinematics`` on every `~spectral_cube.SpectralCube`. Everything else loads when it is
first used, so that the import costs what ``import spectral_cube`` costs: no torch, no matplotlib.
"""

from importlib import import_module
from importlib.metadata import version

from .accessor import register_accessor

__all__ = [
    "fit",
    "fit_maps",
    "compare",
    "simulate",
    "register",
    "DiscVelocityField",
    "NetworkFitter",
    "datasets",
    "models",
    "__version__",
]

__version__ = version("kinematics_nn")

# Public name -> the module that holds it; None where the name is the module.
_HOMES = {
    "fit": "fitting",
    "fit_maps": "map_fitting",
    "compare": "comparison",
    "simulate": "simulation",
    "register": "forms",
    "DiscVelocityField": "velocity_field",
    "NetworkFitter": "fitter",
    "datasets": None,
    "models": None,
}

register_accessor()


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    return import_module(f".{name}", __name__) if home is None else getattr(import_module(f".{home}", __name__), name)


def __dir__():
    return sorted(set(globals()) | set(__all__))
