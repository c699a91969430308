"""The decoder: a differentiable model of a rotating disc seen through a telescope."""

from .beam import BeamOperator, beam_covariance
from .disc import DiscDecoder
from .galaxies import GEOMETRY, Forms
from .grid import Grid, regular_grid
from .quadrature import Fineness, Quadrature
from .render import render, render_on, render_wide

__all__ = [
    "GEOMETRY",
    "BeamOperator",
    "DiscDecoder",
    "Fineness",
    "Forms",
    "Grid",
    "Quadrature",
    "beam_covariance",
    "regular_grid",
    "render",
    "render_on",
    "render_wide",
]
