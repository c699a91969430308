"""The figures: what each panel shows, and that two panels on one scale are on one scale."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from astropy.visualization.wcsaxes import WCSAxes
from handmade import TRUTH

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


def test_no_text_overlaps(drawn):
    """Tick labels, titles and axis labels of different panels stay clear of each other."""
    figure = drawn.plot()
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    boxes = [
        text.get_window_extent(renderer)
        for ax in figure.axes
        if not isinstance(ax, WCSAxes)
        for text in (ax.xaxis.label, ax.yaxis.label)
        if text.get_text()
    ]
    assert len(boxes) == 8
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
