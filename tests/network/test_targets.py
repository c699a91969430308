"""Targets: numbers relative to the frame, and back to the disc they stand for."""

import math
from dataclasses import fields

import pytest
import torch
from torch.testing import assert_close

from kinematics_nn.network.frame import Frame
from kinematics_nn.network.targets import (
    LIGHT,
    MULTIPLES,
    SPEED,
    TARGETS,
    Disc,
    decode_targets,
    encode_targets,
)


def make_frame(n=1):
    def full(value):
        return torch.full((n,), value, dtype=torch.float64)

    return Frame(
        image=None, facts=None, east=full(3.0), north=full(-5.0), pa=full(2.9), vsys=full(1500.0), extent=full(20.0),
        width=full(250.0), flux=full(7.0),
    )  # fmt: skip


def make_disc(n=1, **changed):
    values = {
        "inclination": 1.0, "pa": 3.0, "east": 4.0, "north": -4.5, "vsys": 1510.0, "flux": 8.0, "dispersion": 9.0,
        "thickness": 0.5, "r50": 6.0,
    } | changed  # fmt: skip
    disc = {k: torch.full((n,), float(v), dtype=torch.float64) for k, v in values.items()}
    radii = torch.tensor(MULTIPLES, dtype=torch.float64)
    curves = {"speed": 180 * (2 / math.pi) * torch.atan(4 * radii), "light": 1.4 * torch.exp(-1.678 * radii)}
    return Disc(**disc, **{k: v.expand(n, -1) for k, v in curves.items()})


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"inclination": math.radians(2.0)},
        {"inclination": math.radians(89.0)},
        {"thickness": 0.0},
        {"thickness": 3.0},
        {"pa": -3.1},
        {"pa": 3.0 + 6 * math.pi},
        {"east": -40.0, "north": 60.0},
        {"vsys": 900.0},
        {"dispersion": 0.3, "flux": 1e-3, "r50": 0.4},
    ],
    ids=str,
)
def test_decoding_gives_back_what_was_encoded(changed):
    frame, disc = make_frame(), make_disc(**changed)
    back = decode_targets(encode_targets(disc, frame), frame)
    turns = torch.round((disc.pa - back.pa) / (2 * math.pi)) * 2 * math.pi
    back.pa = back.pa + turns
    for field in fields(Disc):
        # float64 through logarithms and hyperbolic functions.
        assert_close(getattr(back, field.name), getattr(disc, field.name), rtol=1e-9, atol=1e-9, msg=field.name)


@pytest.mark.parametrize("degrees", [0.0, 90.0])
def test_face_on_and_edge_on_come_back_to_a_degree(degrees):
    # The logit of 0 and 1 is infinite, so that cos i stops at 1e-4 from either: 0.8 degrees from face-on.
    frame = make_frame()
    targets = encode_targets(make_disc(inclination=math.radians(degrees)), frame)
    assert torch.isfinite(targets).all()
    back = math.degrees(decode_targets(targets, frame).inclination)
    assert back == pytest.approx(degrees, abs=0.82)


def test_a_hole_and_a_standstill_come_back():
    frame, disc = make_frame(), make_disc()
    disc.light, disc.speed = disc.light.clone(), disc.speed.clone()
    disc.light[:, :2], disc.speed[:, 0] = 0, 0
    back = decode_targets(encode_targets(disc, frame), frame)
    assert_close(back.light, disc.light, rtol=1e-9, atol=1e-9)
    assert_close(back.speed, disc.speed, rtol=1e-9, atol=1e-9)


def test_targets_have_no_scale():
    """Stretched in every unit, and moved and turned together with its frame, a galaxy has the targets it had."""
    frame, disc = make_frame(), make_disc()
    length, speed, flux, turn = 13.0, 0.2, 1e4, 0.7
    sin, cos = math.sin(turn), math.cos(turn)

    def place(of):
        east, north = of.east * length, of.north * length
        return {"east": east * cos + north * sin + 100, "north": north * cos - east * sin, "pa": of.pa + turn}

    moved_frame = Frame(
        **(vars(frame) | place(frame)
           | {"vsys": frame.vsys * speed + 20, "extent": frame.extent * length, "width": frame.width * speed,
              "flux": frame.flux * flux})
    )  # fmt: skip
    moved = Disc(
        **(vars(disc) | place(disc)
           | {"vsys": disc.vsys * speed + 20, "flux": disc.flux * flux, "dispersion": disc.dispersion * speed,
              "thickness": disc.thickness * length, "r50": disc.r50 * length, "speed": disc.speed * speed})
    )  # fmt: skip
    assert_close(encode_targets(moved, moved_frame), encode_targets(disc, frame), rtol=1e-6, atol=1e-6)


def test_names_and_slices_agree():
    assert [name for name in TARGETS if name.startswith("speed_")] == list(TARGETS[SPEED])
    assert [name for name in TARGETS if name.startswith("light_")] == list(TARGETS[LIGHT])
    assert len(set(TARGETS)) == len(TARGETS) == 9 + 2 * len(MULTIPLES)


def test_scalar_frames_serve_many_draws():
    frame = make_frame(3)
    targets = encode_targets(make_disc(3), frame)
    scalars = Frame(**{k: None if v is None else v[0] for k, v in vars(frame).items()})
    many, one = decode_targets(targets, scalars), decode_targets(targets, frame)
    for field in fields(Disc):
        assert_close(getattr(many, field.name), getattr(one, field.name))
