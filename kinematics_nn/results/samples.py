"""Samples of a posterior: checked, with their units, and the one that stands for all."""

import astropy.units as u
import numpy as np
from astropy.table import QTable

from . import tables

__all__ = ["checked_samples", "nearest_median", "sample_table"]


def checked_samples(forms, samples):
    """
    Samples as float64 arrays in the order of the columns, position angles without a jump.

    Parameters
    ----------
    forms : `~kinematics_nn.decoder.Forms`
        They set the columns.
    samples : dict of str to (n,) array
        As `KinematicFit` takes them.

    Returns
    -------
    dict of str to (n,) array

    Raises
    ------
    ValueError
        The columns are not those of the forms, or differ in length.
    """
    wanted = list(tables.parameter_columns(forms, u.one, sky=False))
    if set(samples) != set(wanted):
        raise ValueError(
            f"samples lack {sorted(set(wanted) - set(samples))} and hold {sorted(set(samples) - set(wanted))} "
            f"too many: the forms need {wanted}"
        )
    checked = {name: np.asarray(samples[name], dtype=np.float64) for name in wanted}
    shapes = {values.shape for values in checked.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1 or shapes == {(0,)}:
        raise ValueError(f"samples must be arrays of one length, one axis, not empty; found {sorted(shapes)}")
    return checked | {"pa": tables.unwrap(checked["pa"])}


def sample_table(observation, forms, samples, columns, distance=None):
    """
    Samples with units, and what derives from them.

    Parameters
    ----------
    observation : `~kinematics_nn.observation.Observation`
    forms : `~kinematics_nn.decoder.Forms`
    samples : dict of str to (n,) array
        As `checked_samples` gives them.
    columns : dict
        Those of `~kinematics_nn.results.tables.parameter_columns`.
    distance : `~astropy.units.Quantity`, optional
        Of the galaxy, where the columns have lengths and masses.

    Returns
    -------
    `~astropy.table.QTable`
    """
    from .cubes import offset_to_sky

    sky, x, y = offset_to_sky(observation, samples["east"], samples["north"])
    values = {"ra": tables.unwrap(sky.ra.deg), "dec": sky.dec.deg, "x": x, "y": y, **samples}
    if distance is not None:
        values |= tables.with_distance(forms, samples, distance)
    table = QTable({name: u.Quantity(values[name], unit) for name, (unit, _) in columns.items()})
    for name, (_, text) in columns.items():
        table[name].info.description = text
    return table


def nearest_median(samples):
    """
    The sample nearest to the median, each parameter counted in standard deviations.

    Parameters
    ----------
    samples : dict of str to (n,) array
        As `KinematicFit` takes them.

    Returns
    -------
    dict of str to float
        One of the samples: unlike the medians themselves, it lies on the ridge of a curved posterior.
    """
    stack = np.stack([tables.unwrap(values) if name == "pa" else values for name, values in samples.items()], axis=1)
    spread = stack.std(axis=0)
    # A parameter held fixed has no spread, and is at its median anyway.
    scaled = (stack - np.median(stack, axis=0)) / np.where(spread > 0, spread, 1)
    return dict(zip(samples, stack[np.argmin((scaled**2).sum(axis=1))].tolist(), strict=True))
