"""Rendering a fitted disc on the voxels of an observation, or of the whole cube that it was cut from."""

from dataclasses import replace

import numpy as np
import torch

from .disc import DiscDecoder
from .grid import Grid

__all__ = ["render", "render_on"]


def render(observation, forms, parameters, full=True, quadrature=None):
    """Brightness of a disc.

    Parameters
    ----------
    observation : `~kinematics_nn.observation.Observation`
        Gives the voxels, the beam, the line-spread function and the unit.
    forms : Forms
        Functional forms.
    parameters : dict
        Name to float for all of ``forms.parameter_names``, in arcsec, km/s and degrees; others are ignored.
    full : bool, optional
        Over the whole input cube, or over the observation's crop alone.
    quadrature : Quadrature, optional
        Points a pixel is summed at; by default as many as the disc asks for.

    Returns
    -------
    ndarray (channel, y, x)
        float32, in the cube's unit, in ascending velocity.
    """
    grid = Grid.from_observation(observation)
    if full:
        grid = _whole(grid, observation.header)
    return render_on(grid, forms, parameters, quadrature, lsf=observation.header.get("lsf", 0.0)).numpy()


def render_on(grid, forms, parameters, quadrature=None, **options):
    """Brightness (channel, y, x) on a `Grid`; ``options`` go to `DiscDecoder`."""
    vector = torch.tensor([[parameters[name] for name in forms.parameter_names]], dtype=grid.xi.dtype)
    with torch.no_grad():
        return DiscDecoder(grid, forms, quadrature, **options)(vector)[0].contiguous()


def _whole(grid, header):
    """The grid of the whole input cube: offsets go on linearly around the crop."""
    _, ny, nx = header["shape"]
    _, (y0, _), (x0, _) = header["crop"]
    matrix = grid.pixel_matrix
    y, x = torch.arange(ny, dtype=matrix.dtype)[:, None] - y0, torch.arange(nx, dtype=matrix.dtype) - x0
    xi, eta = (plane[0, 0] + matrix[k, 0] * x + matrix[k, 1] * y for k, plane in enumerate((grid.xi, grid.eta)))
    edges = torch.as_tensor(np.asarray(header["edges"]), dtype=matrix.dtype)
    return replace(grid, xi=xi, eta=eta, edges=edges)


def render_wide(observation, forms, parameters, channels, reach):
    """A disc's brightness over all of its line, whatever band the observation has.

    Parameters
    ----------
    observation : `~kinematics_nn.observation.Observation`
    forms : Forms
    parameters : dict
        As `render` takes them.
    channels : int
        Of the band.
    reach : float
        How far the band goes past the largest speed, in the largest dispersions.

    Returns
    -------
    edges : ndarray (channels + 1,)
        [km/s]
    cube : ndarray (channels, y, x)
    """
    grid = Grid.from_observation(observation)
    radii = np.linspace(0, 1, 200)[1:] * float(torch.hypot(grid.xi, grid.eta).max()) * 2
    slots = {slot: [parameters[name] for name in names] for slot, names in forms.slots.items()}
    speed = float(np.max(forms.rotation_curve.evaluate(radii, *slots["rotation_curve"])))
    sigma = float(np.max(forms.velocity_dispersion.evaluate(radii, *slots["velocity_dispersion"])))
    half = (speed * np.sin(np.deg2rad(parameters["inclination"])) + reach * sigma) * 1.02
    edges = parameters["vsys"] + np.linspace(-half, half, channels + 1)
    wide = replace(grid, edges=torch.as_tensor(edges, dtype=grid.edges.dtype))
    return edges, render_on(wide, forms, parameters).numpy()
