"""The losses over a training, as a table and as a picture."""

import astropy.units as u
import numpy as np
from astropy.table import QTable

from ..results.files import whole_file, write_table
from ..results.style import CURVE, MODEL, STYLE

__all__ = ["curve_table", "plot_curve", "write_curve"]

_TEXTS = {
    "step": "Steps taken",
    "seen": "Galaxies seen, counting each time one is",
    "loss": "Mean loss of the training since the row before",
    "held_out": "Loss of galaxies that are not trained on, by the averaged weights without dropout",
    "simulations": "The same of simulated galaxies, while others are trained on",
    "seconds": "Time spent training",
    "galaxies": "Galaxies trained on",
}
_LINES = {
    "loss": ("training", CURVE, "-"),
    "held_out": ("held out", MODEL, "-"),
    "simulations": ("simulations held out", "0.4", "--"),
}


def curve_table(curve, batch):
    """A training's losses as a `~astropy.table.QTable`, a row a checkpoint.

    Parameters
    ----------
    curve : list of dict
        `Trainer.curve`.
    batch : int
        Galaxies a step.
    """
    table = QTable(rows=curve)
    table.add_column(table["step"] * batch, name="seen", index=1)
    table["seconds"].unit = u.s
    for name in table.colnames:
        table[name].info.description = _TEXTS[name]
    return table


def plot_curve(table):
    """Draw losses against galaxies seen, with the hours on top.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        As `curve_table` gives it.

    Returns
    -------
    `~matplotlib.figure.Figure`
    """
    import matplotlib.pyplot as plt

    seen, hours = np.asarray(table["seen"], dtype=float), table["seconds"].to_value(u.h)
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(4.5, 3.2), layout="constrained")
        for name, (text, colour, style) in _LINES.items():
            if name in table.colnames:
                axis.plot(seen, table[name], style, color=colour, lw=1, marker="o", ms=2, label=text)
        # A training gains as much from each tenfold of galaxies as from the last.
        axis.set(xscale="log", xlabel="Galaxies seen", ylabel="Loss [nat]")
        axis.legend(frameon=False)
        _hours_on_top(axis, seen, hours)
    return figure


def write_curve(curve, batch, path):
    """Write ``path`` with the endings .ecsv, the table, and .png, the picture; what was there is replaced.

    Parameters
    ----------
    curve : list of dict
        `Trainer.curve`.
    batch : int
        Galaxies a step.
    path : `~pathlib.Path`
        Such as that of the weights.
    """
    import matplotlib.pyplot as plt

    table = curve_table(curve, batch)
    write_table(table, path.with_suffix(".ecsv"), overwrite=True)
    figure = plot_curve(table)
    with whole_file(path.with_suffix(".png"), overwrite=True) as partial:
        figure.savefig(partial, dpi=200)
    plt.close(figure)


def _hours_on_top(axis, seen, hours):
    """Ticks at round numbers of hours, where the training was by then."""
    top = axis.secondary_xaxis("top")
    unit, name = (1.0, "h") if hours[-1] >= 1 else (60.0, "min") if hours[-1] >= 1 / 60 else (3600.0, "s")
    last = hours[-1] * unit
    step = 10.0 ** np.floor(np.log10(last))
    ticks = [t for t in step * np.array([0.1, 0.2, 0.5, 1, 2, 5]) if hours[0] * unit <= t <= last]
    top.set_xticks(np.interp(ticks, hours * unit, seen), [f"{tick:g}" for tick in ticks])
    top.set_xticks([], minor=True)
    top.set_xlabel(f"Training [{name}]")
