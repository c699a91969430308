"""The figures: what each panel shows, and that two panels on one scale are on one scale."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy import units as u
from astropy.visualization.wcsaxes import WCSAxes
from astropy.wcs import WCS
from handmade import PIXEL, TRUTH, input_wcs
from matplotlib.patches import Ellipse

from kinematics_nn.observation.grid import sky_grid
from kinematics_nn.results import KinematicFit
from kinematics_nn.results.maps import moments


@pytest.fixture
def drawn(fit, monkeypatch):
    """A fit whose data is its model plus a ramp of noise."""

    def render(observation, forms, parameters, full=True):
        line = 0.5 * (observation.edges[1:] + observation.edges[:-1])
        east, north = observation.xi - parameters["east"], observation.eta - parameters["north"]
        angle = np.deg2rad(parameters["pa"])
        centre = parameters["vsys"] + 6 * (east * np.sin(angle) + north * np.cos(angle))
        light = np.exp(-np.hypot(east, north) / 8)
        return light * np.exp(-0.5 * ((line[:, None, None] - centre) / 25) ** 2)

    monkeypatch.setattr("kinematics_nn.decoder.render", render, raising=False)
    model = render(fit.observation, fit.forms, fit.best_values, full=False)
    noise = np.random.default_rng(3).normal(0, 0.02, model.shape)
    fit.observation.data[:] = model + noise
    fit.observation.rms[:] = 0.02
    yield fit
    plt.close("all")


def test_maps_share_their_scales(drawn):
    figure = drawn.plot()
    maps = [ax for ax in figure.axes if isinstance(ax, WCSAxes)]
    assert len(maps) == 6
    images = [ax.get_images()[0] for ax in maps]
    for row in (0, 1):
        data, model, residual = images[3 * row : 3 * row + 3]
        assert data.get_clim() == model.get_clim()
        assert residual.get_clim()[0] == -residual.get_clim()[1]
        difference = data.get_array() - model.get_array()
        assert np.ma.allclose(residual.get_array(), difference)
    mask = drawn.observation.emission
    moment0, moment1 = moments(drawn.observation.data, mask, drawn.observation.edges)
    assert np.array_equal(images[0].get_array().filled(np.nan), moment0, equal_nan=True)
    shift = moment1 - images[3].get_array().filled(np.nan)
    assert np.nanmedian(shift) == pytest.approx(drawn.best_values["vsys"])


def test_curve_and_slice_have_their_bands_and_labels(drawn):
    figure = drawn.plot()
    panels = {ax.get_xlabel(): ax for ax in figure.axes}
    curve = panels["Radius [arcsec]"]
    assert "km" in curve.get_ylabel()
    best = curve.get_lines()[0]
    vmax, r_turn = (drawn.best_values[name] for name in ("vmax", "r_turn"))
    expected = vmax * 2 / np.pi * np.arctan(np.asarray(best.get_xdata()) / r_turn)
    assert np.asarray(best.get_ydata()) == pytest.approx(expected)
    narrow, wide = sorted(np.ptp(band.get_paths()[0].vertices[:, 1]) for band in curve.collections[:2])
    assert narrow < wide
    piece = next(ax for label, ax in panels.items() if label.startswith("Offset along PA"))
    line = piece.get_lines()[0]
    assert "radio, BARYCENT" in piece.get_ylabel()
    # Positive offsets are on the receding side: the second line drawn is that one, and it ends above vsys.
    receding = piece.get_lines()[1]
    assert receding.get_xdata()[-1] > 0
    assert receding.get_ydata()[-1] > TRUTH["vsys"] + 100
    assert line.get_ydata()[-1] < TRUTH["vsys"] - 100


def on_another_sky(fit, wcs):
    """The fit of the same pixels on another WCS."""
    observation = fit.observation
    _, *box = observation.header["crop"]
    sky = sky_grid(wcs.celestial, tuple(slice(*side) for side in box))
    header = observation.header | {"wcs": wcs.to_header(relax=True).tostring(), "reference": sky.reference}
    moved = vars(observation) | {"xi": sky.xi, "eta": sky.eta, "header": header}
    return KinematicFit(type(observation)(**moved), fit.forms, fit._samples, meta=fit.meta)


@pytest.mark.parametrize("mirror", [1, -1], ids=["east left", "east right"])
@pytest.mark.parametrize("turn", [0.0, 60.0])
def test_beam_is_drawn_along_its_own_axis(drawn, turn, mirror):
    wcs = input_wcs()
    cos, sin = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    wcs.wcs.pc = [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]
    wcs.wcs.cdelt = [-mirror * PIXEL / 3600, PIXEL / 3600, wcs.wcs.cdelt[2]]
    wcs.wcs.set()
    figure = on_another_sky(drawn, wcs).plot()
    ellipse = next(patch for ax in figure.axes if isinstance(ax, WCSAxes) for patch in ax.findobj(Ellipse))
    assert ellipse.height / ellipse.width == pytest.approx(5 / 4)
    # The other way round: the pixels that the drawn major axis passes, on the sky by the WCS.
    angle = np.deg2rad(ellipse.angle)
    x, y = -np.sin(angle) * np.array([0, 1]) + 29, np.cos(angle) * np.array([0, 1]) + 24
    start, end = WCS(wcs.to_header()).celestial.pixel_to_world(x, y)
    difference = start.position_angle(end).to_value(u.deg) - drawn.observation.beam[2]
    # The projection bends directions by 1e-3 degrees over the field.
    assert (difference + 90) % 180 - 90 == pytest.approx(0, abs=0.01)


def test_galactic_maps_are_labelled_so(drawn):
    def names(figure):
        maps = [ax for ax in figure.axes if isinstance(ax, WCSAxes)]
        return {coordinate.get_axislabel() for ax in maps for coordinate in ax.coords} - {""}

    assert names(drawn.plot()) == {"RA", "Dec"}
    wcs = input_wcs()
    wcs.wcs.ctype = ["GLON-SIN", "GLAT-SIN", "VRAD"]
    wcs.wcs.crval = [120.0, 30.0, 1500e3]
    wcs.wcs.radesys = ""
    wcs.wcs.set()
    assert names(on_another_sky(drawn, wcs).plot()) == {"$l$", "$b$"}


def test_no_axis_label_overlaps_another(drawn):
    """Labels of the axes, maps and colour bars included, stay clear of each other and inside the figure."""
    figure = drawn.plot()
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    maps = [ax for ax in figure.axes if isinstance(ax, WCSAxes)]
    labels = [coordinate._axislabels for ax in maps for coordinate in ax.coords if coordinate.get_axislabel()]
    labels += [text for ax in figure.axes if ax not in maps for text in (ax.xaxis.label, ax.yaxis.label)]
    boxes = [label.get_window_extent(renderer) for label in labels if label.get_text()]
    # Dec twice and RA twice; four colour bars; two labels in each of the lower panels.
    assert len(boxes) == 4 + 4 + 4
    for index, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])


def test_a_perfect_noise_free_model_still_draws(drawn):
    from kinematics_nn.decoder import render

    drawn.observation.data[:] = render(drawn.observation, drawn.forms, drawn.best_values, full=False)
    drawn.observation.rms[:] = 0
    drawn.plot().canvas.draw()


def test_corner_leaves_out_what_is_held(drawn):
    drawn._samples["inclination"][:] = 60.0
    figure = drawn.corner()
    size = int(np.sqrt(len(figure.axes)))
    labels = [ax.get_xlabel() for ax in figure.axes[-size:]]
    assert size == 8
    assert not any(label.startswith("$i$") for label in labels)
    chosen = drawn.corner(["vmax", "r_turn"])
    assert len(chosen.axes) == 4
