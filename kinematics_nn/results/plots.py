"""The figure of a fit: data beside model."""

import astropy.units as u
import numpy as np
from astropy.visualization.wcsaxes import add_beam, add_scalebar

from kinematics_nn.decoder.geometry import axis_scale

from .cubes import input_wcs, offset_to_sky, render_model
from .maps import emission_extent, moments, position_velocity
from .style import CURVE, KM_S, MODEL, STYLE, symbol
from .tables import at_distance
from .text import rounded

__all__ = ["plot_fit", "plot_maps"]

_SIZE = 7.2, 7.1  # inches, as all places in the figure: the maps are square and the colour bars as high as they are


def plot_fit(fit):
    """
    Draw maps of data, model and residual, the position-velocity slice and the rotation curve.

    Moments are over the detected emission, for data and model alike. Bands hold 68 and 95 % of the samples; the model
    and the lines are those of the best sample (`~kinematics_nn.results.KinematicFit.best_values`).

    Parameters
    ----------
    fit : `~kinematics_nn.results.KinematicFit`
        Of one galaxy.

    Returns
    -------
    `~matplotlib.figure.Figure`
    """
    import matplotlib.pyplot as plt

    model = render_model(fit, full=False)
    with plt.rc_context(STYLE):
        width, height = _SIZE
        fig = plt.figure(figsize=_SIZE)
        mask = fit.observation.emission & fit.observation.valid
        seen, made = (moments(cube, mask, fit.observation.edges) for cube in (fit.observation.data, model))
        _draw_maps(fig, fit, seen, made, mask)
        panels = fig.add_gridspec(
            1, 2, wspace=0.26, left=0.62 / width, right=7.1 / width, bottom=0.45 / height, top=2.55 / height
        )
        _draw_slice(fig.add_subplot(panels[0]), fit, model)
        _draw_curve(fig.add_subplot(panels[1]), fit)
        _draw_headline(fig, fit)
    return fig


def plot_maps(fit):
    """
    Draw maps of data, model and residual, and the rotation curve, as `plot_fit` does, of a fit of moment maps.

    Parameters
    ----------
    fit : `~kinematics_nn.results.MapFit`

    Returns
    -------
    `~matplotlib.figure.Figure`
    """
    import matplotlib.pyplot as plt

    observation = fit.observation
    with plt.rc_context(STYLE):
        width, height = _SIZE
        fig = plt.figure(figsize=_SIZE)
        seen = moments(observation.data, observation.emission, observation.edges)
        made = tuple(np.where(np.isfinite(seen[1]), plane, np.nan) for plane in fit.model_moments())
        _draw_maps(fig, fit, seen, made, observation.emission)
        panel = fig.add_gridspec(1, 1, left=1.9 / width, right=5.4 / width, bottom=0.45 / height, top=2.55 / height)
        _draw_curve(fig.add_subplot(panel[0]), fit)
        _draw_headline(fig, fit)
    return fig


def _draw_headline(fig, fit):
    width, height = _SIZE
    name, facts = _headline(fit)
    fig.text(0.5, 6.92 / height, name, ha="center", fontsize=10, weight="bold")
    fig.text(0.5, 6.72 / height, facts, ha="center", fontsize=8.5)
    # Upwards from the name's line: below it the facts reach far to the right.
    flags = "\n".join(", ".join(fit.flags[k : k + 2]) for k in range(0, len(fit.flags), 2))
    fig.text(1 - 0.1 / width, 6.88 / height, flags, ha="right", va="bottom", fontsize=6.5, color=MODEL)


def _draw_maps(fig, fit, seen, made, mask):
    observation, vsys = fit.observation, fit.best_values["vsys"]
    width, height = _SIZE
    grid = fig.add_gridspec(
        2,
        6,
        width_ratios=[1, 1, 0.06, 0.46, 1, 0.06],
        wspace=0.06,
        hspace=0.05,
        left=0.95 / width,
        right=6.68 / width,
        bottom=3.26 / height,
        top=6.39 / height,
    )
    seen, made = ((m0, m1 - vsys) for m0, m1 in (seen, made))
    _, (y0, y1), (x0, x1) = observation.header["crop"]
    wcs = input_wcs(observation).celestial[y0:y1, x0:x1]

    brightness = (u.Unit(observation.header["unit"]) * u.km / u.s).to_string("latex_inline")
    labels = (f"Moment 0 [{brightness}]", rf"Moment 1 $-\,V_\mathrm{{sys}}$ [{KM_S}]")
    axes = np.empty((2, 3), dtype=object)
    for row, (data, disc, label) in enumerate(zip(seen, made, labels, strict=True)):
        top = _limit(np.abs([data, disc]), 99.5)
        shared = {"cmap": "RdBu_r", "vmin": -top, "vmax": top} if row else {"cmap": "cividis", "vmin": 0, "vmax": top}
        # A perfect model (noise-free mocks) still needs a scale that is not zero.
        edge = max(_limit(np.abs(data - disc), 99), 1e-3 * top)
        scales = (shared, shared, {"cmap": "PuOr_r", "vmin": -edge, "vmax": edge})
        for column, (image, scale) in enumerate(zip((data, disc, data - disc), scales, strict=True)):
            ax = axes[row, column] = fig.add_subplot(grid[row, (0, 1, 4)[column]], projection=wcs)
            drawn = ax.imshow(image, interpolation="nearest", **scale)
            if column:
                bar = fig.colorbar(drawn, cax=fig.add_subplot(grid[row, (2, 5)[column - 1]]))
                bar.set_label(label if column == 1 else "Data $-$ model", fontsize=7.5)
                bar.ax.yaxis.set_label_coords(5.2, 0.5)
                bar.ax.tick_params(length=2)
    _frame_maps(axes, fit, wcs, mask)


def _frame_maps(axes, fit, wcs, mask):
    best, observation = fit.best_values, fit.observation
    angle = np.deg2rad(best["pa"])
    steps = np.array([-1.05, 0, 1.05]) * emission_extent(observation, best["east"], best["north"], best["pa"])
    _, x, y = offset_to_sky(observation, best["east"] + steps * np.sin(angle), best["north"] + steps * np.cos(angle))
    _, (y0, _), (x0, _) = observation.header["crop"]
    x, y = x - x0, y - y0
    half = 0.58 * max(np.ptp(x), np.ptp(y), *(np.ptp(np.flatnonzero(mask.any(axis=k))) for k in ((0, 1), (0, 2)))) + 1
    pixel = np.sqrt(np.abs(np.linalg.det(wcs.pixel_scale_matrix))) * 3600
    length = _round_length(0.45 * half * pixel)
    names = ("$l$", "$b$") if wcs.wcs.lngtyp.strip() == "GLON" else ("RA", "Dec")
    # A disc leaves two opposite corners free: the beam goes to the lower of them, the scale to the upper.
    rising = (x[2] - x[0]) * (y[2] - y[0]) > 0
    low, high = ("bottom right", "top left") if rising else ("bottom left", "top right")
    major, minor, _ = observation.beam * u.arcsec
    ellipse = {"angle": _beam_upright(observation), "facecolor": "0.6", "edgecolor": "0.1", "linewidth": 0.6}
    for (row, column), ax in np.ndenumerate(axes):
        ax.set_xlim(x[1] - half, x[1] + half)
        ax.set_ylim(y[1] - half, y[1] + half)
        ax.plot(x, y, color="0.1", linewidth=0.6, linestyle=(0, (4, 3)))
        ax.plot(x[1], y[1], marker="+", color="0.1", markersize=5, markeredgewidth=0.8)
        if row == 0:
            ax.set_title(("Data", "Model", "Residual")[column], pad=4)
        longitude, latitude = ax.coords
        longitude.set_ticks(number=3)
        latitude.set_ticks(number=4)
        longitude.set_ticklabel(exclude_overlapping=True)
        # The two left panels touch: the second one's labels would run into the first one's.
        for axis, name, shown in (
            (longitude, names[0], row == 1 and column != 1),
            (latitude, names[1], column == 0),
        ):
            axis.set_ticklabel_visible(shown)
            axis.set_auto_axislabel(False)
            axis.set_axislabel(name if shown else "", minpad=0.5)
        add_beam(ax, major=major, minor=minor, corner=low, **ellipse)
    add_scalebar(axes[0, 0], length * u.arcsec, label=_angle_label(length), corner=high, color="0.1")


def _beam_upright(observation):
    """Angle of the beam's major axis in the image [deg], from pixel-up anticlockwise, as `add_beam` counts it."""
    major, _, angle = observation.beam
    ends = np.array([-0.5, 0.5]) * major
    _, x, y = offset_to_sky(observation, ends * np.sin(np.deg2rad(angle)), ends * np.cos(np.deg2rad(angle)))
    return np.degrees(np.arctan2(x[0] - x[1], y[1] - y[0]))


def _draw_slice(ax, fit, model):
    observation, best = fit.observation, fit.best_values
    line = (best["east"], best["north"], best["pa"])
    beam = np.sqrt(observation.beam[0] * observation.beam[1])
    extent = emission_extent(observation, *line)
    reach = 1.15 * extent + beam
    data = np.where(observation.valid, observation.data, np.nan)
    offset, seen = position_velocity(observation, data, *line, reach)
    _, made = position_velocity(observation, model, *line, reach)
    velocity = 0.5 * (observation.edges[1:] + observation.edges[:-1])
    half = 0.5 * (offset[1] - offset[0])
    ends = np.append(offset - half, offset[-1] + half)
    peak = _limit(seen, 99.8)
    ax.pcolormesh(ends, observation.edges, seen, cmap="Greys", vmin=0, vmax=peak, rasterized=True)
    noise = float(np.median(observation.rms[observation.valid]))
    # Without noise (a model as input) the levels hang on the peak.
    floor, unit = (3 * noise, "3, 6, 12, …σ") if 3 * noise > 0.02 * peak else (0.05 * peak, "5, 10, 20, … %")
    levels = floor * 2.0 ** np.arange(8)
    ax.contour(
        offset,
        velocity,
        made,
        levels=levels[levels < max(np.nanmax(made), 1.01 * floor)],
        colors=MODEL,
        linewidths=0.9,
    )

    radius = np.linspace(0, extent, 60)
    curves = fit.rotation_curve_samples(radius * u.arcsec, n=500).value
    index = np.linspace(0, len(fit) - 1, len(curves)).round().astype(int)
    vsys, inclination = (fit.samples[name].value[index][:, None] for name in ("vsys", "inclination"))
    convention = observation.header["convention"]
    seen_speed = curves * axis_scale(vsys, convention) * np.sin(np.deg2rad(inclination))
    for side in (-1, 1):
        low, middle, high = np.percentile(vsys + side * seen_speed, [16, 50, 84], axis=0)
        ax.fill_between(side * radius, low, high, color=CURVE, alpha=0.25, linewidth=0)
        ax.plot(side * radius, middle, color=CURVE, linewidth=1.2)
    ax.axhline(best["vsys"], color="0.4", linewidth=0.5, linestyle=":")
    ax.axvline(0, color="0.4", linewidth=0.5, linestyle=":")
    ax.plot([], [], color=MODEL, linewidth=0.9, label=f"Model, {unit}")
    ax.plot([], [], color=CURVE, linewidth=1.2, label=r"$V_\mathrm{sys} \pm V_\mathrm{rot} \sin i$")
    ax.legend(loc="upper left", frameon=False, fontsize=7, handlelength=1.4, borderaxespad=0.3, labelspacing=0.3)
    lit = np.flatnonzero(observation.emission.any(axis=(1, 2)))
    low, high = observation.edges[[lit.min(), lit.max() + 1]] if lit.size else observation.edges[[0, -1]]
    # The legend stands above the line, so that there is more room there.
    ax.set_ylim(low - 0.15 * (high - low), high + 0.35 * (high - low))
    ax.set_xlim(-reach, reach)
    ax.set_xlabel(f"Offset along PA = {best['pa'] % 360:.0f}° [arcsec]")
    frame = observation.header["frame"]
    kind = ", ".join(part for part in (convention, frame) if part)
    ax.set_ylabel(f"Velocity ({kind}) [{KM_S}]")


def _draw_curve(ax, fit):
    observation, best, row = fit.observation, fit.best_values, fit.summary[0]
    extent = emission_extent(observation, best["east"], best["north"], best["pa"])
    radius = np.linspace(0, 1.02 * extent, 120) * u.arcsec
    curves = fit.rotation_curve_samples(radius, n=2000).value
    p2, p16, p84, p98 = np.percentile(curves, [2.5, 16, 84, 97.5], axis=0)
    ax.fill_between(radius.value, p2, p98, color=CURVE, alpha=0.18, linewidth=0, label="95 %")
    ax.fill_between(radius.value, p16, p84, color=CURVE, alpha=0.38, linewidth=0, label="68 %")
    ax.plot(radius.value, fit.rotation_curve(radius).value, color=CURVE, linewidth=1.3, label="Best")
    r22, v22 = 1.31 * row["r50_p50"].value, row["v22_p50"].value
    error = [[v22 - row["v22_p16"].value], [row["v22_p84"].value - v22]]
    ax.errorbar(r22, v22, yerr=error, fmt="o", color=MODEL, markersize=4, capsize=2, linewidth=1, label=r"$V_{2.2}$")
    beam = np.sqrt(observation.beam[0] * observation.beam[1])
    # A long tail may leave the panel: what is measured is to be seen.
    ax.set_ylim(0, 1.08 * max(min(p98.max(), 1.5 * p84.max()), v22 + error[1][0]))
    ax.set_xlim(0, max(radius.value[-1], 1.05 * r22))
    # The beam's FWHM as a bar, in the lower right where rotation curves are not.
    right = 0.96 * ax.get_xlim()[1]
    level = 0.06 * ax.get_ylim()[1]
    ax.plot([right - beam, right], [level, level], color="0.3", linewidth=2.5, solid_capstyle="butt")
    ax.text(right, 1.35 * level, "beam", ha="right", va="bottom", fontsize=7, color="0.3")
    ax.legend(
        loc="lower center", framealpha=0.75, edgecolor="none", fontsize=7, ncols=2, handlelength=1.4, columnspacing=1.0
    )
    ax.set_xlabel("Radius [arcsec]")
    if fit.distance is not None:
        ((*_, to_kpc, to_arcsec),) = at_distance(fit.distance)
        ax.tick_params(axis="x", top=False)
        ax.secondary_xaxis("top", functions=(to_kpc, to_arcsec)).set_xlabel("Radius [kpc]", labelpad=3)
    ax.set_ylabel(rf"$V_\mathrm{{rot}}$ [{KM_S}]")


def _headline(fit):
    row = fit.summary[0]
    facts = []
    for name in ("inclination", "pa", "vsys", "v22"):
        middle, spread = rounded(row[f"{name}_p50"].value, 0.5 * (row[f"{name}_p84"] - row[f"{name}_p16"]).value)
        unit = "°" if row[name].unit == u.deg else " " + row[name].unit.to_string("latex_inline")
        facts.append(rf"{symbol(name)} = ${middle} \pm {spread}${unit}")
    return fit.observation.header["object"] or "", "      ".join(facts)


def _limit(values, percentile):
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, percentile)) if finite.size else 1.0


def _round_length(length):
    """The largest of 1, 2, 3, 5 times a power of ten (or of sixty arcsec) not above a length [arcsec]."""
    unit = 60.0 if length >= 60 else 1.0
    steps = np.array([1, 2, 3, 5, 10, 15, 20, 30]) * unit
    if length < 1:
        return 10.0 ** np.floor(np.log10(length))
    return float(steps[steps <= length].max())


def _angle_label(length):
    return f"{length / 60:g}′" if length >= 60 else f"{length:g}″"
