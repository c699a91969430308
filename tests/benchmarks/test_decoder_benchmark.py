"""The decoder's benchmark: that what it times is the same work on both sides, and that it counts right."""

from pathlib import Path

import numpy as np
import pytest
import torch
from decoder import (
    SHAPE,
    THICK,
    THIN,
    floor_tasks,
    forward,
    kinms_task,
    peak_memory,
    ratio,
    setting,
    time_in_turn,
)
from decoder_exactness import DISCS, compare, decode


@pytest.mark.parametrize("disc", [THIN, THICK], ids=["thin", "thick"])
def test_kinms_is_timed_on_the_same_cube(disc):
    theirs = np.ascontiguousarray(kinms_task(disc, 500_000)().T)
    theirs *= decode(disc).sum() / theirs.sum()  # it sets the flux inside the field
    residual, _, velocity = compare(decode(disc), theirs)
    # 5e5 clouds scatter by 0.3 % of the peak, half a pixel or half a channel is 5 %.
    assert residual < 0.01
    assert velocity < 0.5


def test_the_timed_decoder_renders_the_same_light():
    decoder, parameters = setting(THIN, batch=3)
    assert parameters.shape == (3, len(decoder.names))
    cubes = forward(THIN, batch=3)()
    assert cubes.shape == (3, *SHAPE)
    assert not cubes.requires_grad
    one = decode(DISCS[5])
    # Another centre of the field, and three position angles: as much light, but for what falls outside.
    totals = cubes.sum((1, 2, 3)) * np.pi * 4**2 / (4 * np.log(2))  # a beam's worth: that grid is in Jy / arcsec^2
    np.testing.assert_allclose(totals, one.sum(), rtol=0.03)
    assert not torch.allclose(cubes[0], cubes[1]), "no two galaxies of a batch are the same work"


def test_a_larger_field_holds_the_same_galaxy():
    small, large = (forward(THIN, (8, n, n))() for n in (32, 64))
    # The disc grows with the field: the same share of its light is inside, twice the radius in pixels.
    assert float(large.sum() / small.sum()) == pytest.approx(1, abs=0.02)


def test_tasks_are_timed_in_turn_and_per_call():
    calls, now = [], [0.0]

    def task(name, seconds):
        def work():
            calls.append(name)
            now[0] += seconds

        return work

    tasks = {"short": task("short", 0.005), "long": task("long", 0.02)}
    seconds = time_in_turn(tasks, 1, rounds=3, least=0.02, clock=lambda: now[0])
    np.testing.assert_allclose(seconds["short"], [0.005] * 3, rtol=1e-9)
    np.testing.assert_allclose(seconds["long"], [0.02] * 3, rtol=1e-9)
    turns = "".join(name[0] for name, before in zip(calls, ["", *calls], strict=False) if name != before)
    assert turns.endswith("slslsl"), "round after round, not one task after the other"


def test_a_ratio_is_the_median_of_ratios_within_rounds():
    below = np.array([1.0, 2.0, 4.0, 8.0, 16.0])  # a machine that slows down
    assert ratio(3 * below, below) == "3 ± 0"


def test_the_floor_counts_the_pixels_that_have_light(monkeypatch):
    cube = torch.zeros(SHAPE)
    cube[:, 10:20, 30:34] = 1.0
    cube[:, 0, 0] = 1e-5
    counted = []
    monkeypatch.setattr(torch, "erf", lambda x, out: counted.append(tuple(x.shape)))
    for task in floor_tasks(cube):
        task()
    assert counted == [(40, SHAPE[0] + 1)] * 2


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read as Linux tells it")
def test_peak_memory_is_that_of_a_process_of_its_own():
    own = torch.ones(2**28)  # a GiB that is not the other's
    small = peak_memory(THIN, (8, 32, 32))
    assert 0.05 < small < own.nbytes / 2**30
    # A cube of 64 MiB is at least that.
    assert peak_memory(THIN, (64, 512, 512)) > small + 0.0625
