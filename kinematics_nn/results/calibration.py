"""The calibration report as a page: tables in reStructuredText, and a figure."""

import numpy as np
from scipy.stats import binom

from ..inference.coverage import FACE_ON, SEEN_WELL
from .style import CURVE, MODEL, STYLE, symbol

__all__ = ["WHOSE", "as_rst", "plot_calibration"]

_TITLES = {"inclination": "inclination [deg]", "snr": "S/N", "beams": "beams across"}
_FAR = 3  # binomial errors from which a coverage is set in bold
_BAR = 10  # bars of a rank histogram

WHOSE = {
    "own": "our own simulator",
    "kinms": "KinMS",
    "broken": "our own simulator, which break the model",
    "varied": "KinMS over the whole range, half of them of other forms than the fit's",
    "troubled": "KinMS over the whole range, half of them of other forms, with uneven light, warps and flawed cubes",
}


def as_rst(table):
    """Tables for the documentation.

    Parameters
    ----------
    table : `~astropy.table.Table`
        As `~kinematics_nn.inference.calibration.report` gives it.

    Returns
    -------
    str
        reStructuredText to include: what was run, coverage of all galaxies, and that of 68 % intervals in the bins,
        bold where it is more than 3 binomial errors off; and the errors.
    """
    meta, everything = table.meta, table[table["by"] == "all"]
    run = meta["run"]
    whose = WHOSE[run["galaxies"]]
    told = ", ".join(f"{name} {run[name]}" for name in ("seed", "version", "weights") if name in run)
    lost = ", ".join(f"{count} {reason}" for reason, count in meta["reasons"].items())
    flagged = ", ".join(f"``{name}`` {count}" for name, count in meta["flags"].items())
    lines = [
        f'{meta["n_drawn"]} galaxies of {whose}, ``method="{run["method"]}"``, {told}: '
        f"{meta['n_fitted']} fitted{f'; {lost}' if lost else ''}. Flagged: {flagged or 'none'}. "
        f"{meta['seconds']:.1f} s a galaxy, {meta['efficiency']:.2g} effective draws a likelihood (medians).",
        "",
    ]
    head = ["Parameter", "in 50 %", "in 68 %", "in 95 %", "SBC p", "Bias [σ]", "Scatter [σ]"]
    body = [
        [
            f"``{row['parameter']}``",
            *(_cell(row, level) for level in (50, 68, 95)),
            f"{row['p_value']:.2g}",
            f"{row['bias']:+.2f}",
            f"{row['scatter']:.2f}",
        ]
        for row in everything
    ]
    lines += _list_table(head, body)
    for by, title in _TITLES.items():
        part = table[table["by"] == by]
        bins = sorted({(float(row["low"]), float(row["high"])) for row in part})
        counts = [int(part[part["low"] == low]["n"][0]) for low, _ in bins]
        lines += ["", f"In 68 %, by the fit's own {title.split(' [')[0]}:", ""]
        head = ["Parameter", *(f"{low:.3g}–{high:.3g} ({n})" for (low, high), n in zip(bins, counts, strict=True))]
        body = [
            [f"``{name}``", *(_cell(row, 68) for row in part[part["parameter"] == name])]
            for name in everything["parameter"]
        ]
        lines += _list_table(head, body)
    return "\n".join(lines + _errors(meta["errors"])) + "\n"


def _errors(errors):
    """Lines of the table of errors."""
    of = {
        "seen well": "median error, S/N ≥ {snr:g} and {beams:g} beams across".format(**SEEN_WELL),
        "seen whole": "the same, but for ``BAND_EDGE``",
        "near face-on": f"median bias below {FACE_ON:g}° of reported inclination",
    }
    units = {"deg": "°", "%": " %", "sigma": " σ", "channel or line": " of the larger of a channel and w50"}
    body = []
    for line in errors:
        sign = "+" if line["of"] == "near face-on" else ""
        value = f"{line['median']:{sign}.2g}±{line['error']:.1g}{units[line['unit']]}"
        body.append([f"``{line['parameter']}``", of[line["of"]], value, str(line["n"])])
    return ["", "Errors, by what the fit reports:", "", *_list_table(["Parameter", "What", "Value", "Galaxies"], body)]


def plot_calibration(rows, table):
    """Draw rank histograms, coverage against level, and coverage by what the fits report.

    Parameters
    ----------
    rows : `~astropy.table.Table`
        A row a galaxy, as `~kinematics_nn.inference.calibration.read_rows` gives them.
    table : `~astropy.table.Table`
        Their report.

    Returns
    -------
    `~matplotlib.figure.Figure`
    """
    import matplotlib.pyplot as plt

    fitted = rows[rows["status"] == "ok"]
    names = list(table[table["by"] == "all"]["parameter"])
    columns = 5
    strips = -(-len(names) // columns)
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(10, 1.9 * 2 * strips + 2.8), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=(2 * 1.9 * strips, 2.8))
        axes = top.subplots(2 * strips, columns, squeeze=False)
        for axis in axes.flat:
            axis.set_visible(False)
        for k, name in enumerate(names):
            strip, column = divmod(k, columns)
            ranks = np.asarray(fitted[f"{name}_rank"], dtype=float)
            _histogram(axes[2 * strip, column], ranks, symbol(name))
            _curve(axes[2 * strip + 1, column], ranks)
        for axis, (by, title) in zip(bottom.subplots(1, len(_TITLES), sharey=True), _TITLES.items(), strict=True):
            _by_bin(axis, table[table["by"] == by], title)
        bottom.axes[0].set_ylabel("in 68 % [%]")
        bottom.legend(*bottom.axes[0].get_legend_handles_labels(), fontsize=6, frameon=False, loc="outside right")
    return figure


def _histogram(axis, ranks, title):
    """Ranks of the truths, and where 99.7 % of the bars of uniform ones are."""
    axis.set_visible(True)
    low, high = binom.interval(0.997, len(ranks), 1 / _BAR)
    axis.axhspan(low, high, color="0.9")
    axis.hist(ranks, bins=_BAR, range=(0, 1), histtype="step", color=CURVE)
    axis.set(title=title, xlim=(0, 1), ylim=(0, None), xlabel="rank", yticks=[])


def _curve(axis, ranks):
    """Coverage less the level, against it, and three binomial errors."""
    axis.set_visible(True)
    level = np.linspace(0, 1, 101)
    held = np.mean(abs(ranks[:, None] - 0.5) <= level / 2, axis=0)
    error = _FAR * np.sqrt(level * (1 - level) / len(ranks))
    axis.fill_between(100 * level, -100 * error, 100 * error, color="0.9")
    axis.axhline(0, color="0.6", lw=0.6)
    axis.plot(100 * level, 100 * (held - level), color=MODEL)
    axis.set(xlim=(0, 100), xlabel="interval [%]", ylabel="held - said [%]")


def _by_bin(axis, part, title):
    for k, name in enumerate(dict.fromkeys(part["parameter"])):
        own = part[part["parameter"] == name]
        middle = 0.5 * (own["low"] + own["high"])
        # Five colours, each with every marker: fifteen lines that can be told apart.
        look = {"color": f"C{k % 5}", "marker": "os^Dv"[k // 5 % 5], "ms": 3, "lw": 0.7}
        axis.plot(middle, 100 * own["in_68"], label=symbol(name), **look)
    own = part[part["parameter"] == part["parameter"][0]]
    error = 100 * _FAR * np.asarray(own["in_68_error"])
    middle = 0.5 * (own["low"] + own["high"])
    axis.fill_between(middle, 68 - error, 68 + error, color="0.9")
    axis.axhline(68, color="0.6", lw=0.6)
    axis.set(xlabel=title)


def _cell(row, level):
    share, error = row[f"in_{level}"], row[f"in_{level}_error"]
    text = f"{100 * share:.1f}±{100 * error:.1f}"
    return f"**{text}**" if abs(share - level / 100) > _FAR * error else text


def _list_table(head, body):
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for line in (head, *body):
        lines += [f"   {'* -' if k == 0 else '  -'} {cell}" for k, cell in enumerate(line)]
    return lines
