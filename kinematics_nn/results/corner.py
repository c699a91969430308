"""The joint posterior of a fit, drawn with the corner package."""

import numpy as np

from .style import CURVE, STYLE, label, symbol
from .tables import form_columns
from .text import rounded

__all__ = ["plot_corner"]


def plot_corner(fit, parameters=None):
    """
    Draw the joint posterior, contours holding 68 and 95 % of the samples.

    Parameters
    ----------
    fit : `~kinematics_nn.results.KinematicFit`
        Of one galaxy.
    parameters : list of str, optional
        Columns of the samples; the main ones by default. One that is held fixed is left out.

    Returns
    -------
    `~matplotlib.figure.Figure`
    """
    import matplotlib.pyplot as plt
    from corner import corner

    names = parameters or ["inclination", "pa", "vsys", "flux", *form_columns(fit.forms), "v22"]
    names = [name for name in names if np.ptp(fit.samples[name].value) > 0]
    panel, margin = 1.1, 0.85
    size = panel * len(names) + margin + 0.35
    with plt.rc_context(STYLE | {"xtick.labelsize": 7, "ytick.labelsize": 7}):
        fig = plt.figure(figsize=(size, size))
        corner(
            np.stack([fit.samples[name].value for name in names], axis=1),
            bins=30,
            # Tails of a few samples would squeeze the rest into a corner.
            range=[0.99] * len(names),
            smooth=1.0,
            labels=[label(name, fit.samples[name].unit) for name in names],
            labelpad=0.12,
            max_n_ticks=3,
            levels=(0.68, 0.95),
            plot_datapoints=False,
            plot_density=False,
            fill_contours=True,
            color=CURVE,
            hist_kwargs={"linewidth": 1.0},
            contour_kwargs={"linewidths": 0.8},
            fig=fig,
        )
        fig.subplots_adjust(
            left=margin / size,
            bottom=margin / size,
            right=1 - 0.1 / size,
            top=1 - 0.25 / size,
            wspace=0.06,
            hspace=0.06,
        )
        axes = np.array(fig.axes).reshape(len(names), len(names))
        for ax, name in zip(axes.diagonal(), names, strict=True):
            p16, p50, p84 = (fit.summary[f"{name}_{part}"][0].value for part in ("p16", "p50", "p84"))
            for value, dash in ((p16, ":"), (p50, "-"), (p84, ":")):
                ax.axvline(value, color="0.3", linestyle=dash, linewidth=0.7)
            middle, up, down = rounded(p50, p84 - p50, p50 - p16)
            ax.set_title(f"{symbol(name)} = ${middle}^{{+{up}}}_{{-{down}}}$", fontsize=8, pad=5)
    return fig
