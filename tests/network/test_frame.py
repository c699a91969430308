"""The network frame: alike for a galaxy turned, moved, stretched or mirrored; what it does about noise and blanks."""

import math
from dataclasses import fields, replace

import pytest
import torch
from framed import DISC, fact, make_cubes, mirrored_sky, on_the_sky, reversed_velocity
from torch.testing import assert_close

from kinematics_nn.network.frame import CHANNELS, FACTS, ODD_FACTS, PIXELS, PLANES, make_frame

# The road is the same arithmetic in other units: float32 through sums of 80,000 voxels, three resamplings and a solve.
# The step and its facts are differences of nearly equal numbers divided by 0.02.
IMAGE, FACT = 2e-2, 5e-3


@pytest.fixture(scope="module")
def cubes():
    return make_cubes()


@pytest.fixture(scope="module")
def frame(cubes):
    return make_frame(cubes)


def assert_alike(a, b):
    assert_close(a.image, b.image, rtol=0, atol=IMAGE)
    fitted = torch.tensor([name.startswith("fit_") for name in FACTS])
    assert_close(a.facts[:, ~fitted], b.facts[:, ~fitted], rtol=0, atol=FACT)
    # Rounding moves where a fit ends along what the data leave open: a tenth of the error of this thin disc's height.
    assert_close(a.facts[:, fitted], b.facts[:, fitted], rtol=0, atol=10 * FACT)


def angle(a, b):
    """Difference of two angles [rad], about zero."""
    return torch.remainder(a - b + math.pi, 2 * math.pi) - math.pi


def test_shapes_and_names(frame):
    assert frame.image.shape == (1, PLANES, PIXELS // 2, PIXELS)
    assert frame.facts.shape == (1, len(FACTS))
    assert set(sum(ODD_FACTS.values(), ())) < set(FACTS)


@pytest.mark.parametrize("side", ["low", "high"])
def test_a_band_that_ends_within_the_line_leaves_the_disc_where_it_is(cubes, frame, side):
    """A fifth of the line on one side has no data: its mirror says what is there."""
    inside = slice(13, None) if side == "low" else slice(None, -13)
    cut = replace(cubes, data=cubes.data[:, inside], seen=cubes.seen[:, inside], edges=cubes.edges[:, inside])
    found = make_frame(cut)
    # The whole cube's are good to 0.2 channels of 14 km/s; moments of what is left are two channels off.
    assert float(found.vsys) == pytest.approx(DISC["vsys"], abs=5.0)
    assert math.degrees(found.pa) == pytest.approx(DISC["pa"], abs=1.5)
    assert fact(found, "fit_inclination").item() == pytest.approx(fact(frame, "fit_inclination").item(), abs=0.25)


def test_beyond_a_dark_band_there_is_nothing(cubes):
    """As if channels of nothing had been added, but for what is told of the band."""
    short = replace(cubes, data=cubes.data[:, 8:-8], seen=cubes.seen[:, 8:-8], edges=cubes.edges[:, 8:-8])
    long = replace(cubes, data=cubes.data.clone())
    long.data[:, :8], long.data[:, -8:] = 0, 0
    found = make_frame(replace(short, dark=True), facts=36)
    assert_close(found.image, make_frame(long, facts=36).image, rtol=0, atol=IMAGE)
    assert float((found.image - make_frame(short, facts=36).image).abs().max()) > IMAGE


def test_blank_channels_are_not_dark_ones(cubes, frame):
    blank = replace(cubes, data=cubes.data.clone(), seen=cubes.seen.clone())
    blank.data[:, 14:16], blank.seen[:, 14:16] = 0, 0
    found = make_frame(blank)
    dark = make_frame(replace(blank, seen=cubes.seen))
    off = [abs(float(one.vsys - frame.vsys)) for one in (found, dark)]
    # A tenth of a channel of 14 km/s, of which two of ten have gone.
    assert off[0] < min(1.4, off[1])
    assert fact(found, "misfit").item() < fact(dark, "misfit").item()


def test_finds_the_disc(frame):
    # 40 times the noise: the mirror step is good to a few tenths of a pixel, channel and degree.
    assert math.degrees(frame.pa) == pytest.approx(DISC["pa"], abs=1.0)
    assert float(frame.east) == pytest.approx(DISC["east"], abs=0.3)
    assert float(frame.north) == pytest.approx(DISC["north"], abs=0.3)
    assert float(frame.vsys) == pytest.approx(DISC["vsys"], abs=2.0)


@pytest.mark.parametrize("degrees", [33.0, 90.0, 200.0])
def test_turning_the_sky_turns_the_angle_alone(cubes, frame, degrees):
    sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    turned_beam = cubes.beam + torch.tensor([0.0, 0.0, degrees])
    # North to east, as position angles are counted.
    turned = make_frame(on_the_sky(cubes, ((cos, sin), (-sin, cos)), beam=turned_beam))
    assert_alike(turned, frame)
    assert float(angle(turned.pa, frame.pa + math.radians(degrees))) == pytest.approx(0, abs=1e-3)
    assert float(turned.east) == pytest.approx(float(cos * frame.east + sin * frame.north), abs=5e-3)
    assert_close(turned.extent, frame.extent, rtol=1e-4, atol=0)


def test_moving_the_sky_moves_the_centre_alone(cubes, frame):
    moved = make_frame(on_the_sky(cubes, move=(20.0, -35.0)))
    assert_alike(moved, frame)
    assert_close(moved.east, frame.east + 20, rtol=0, atol=5e-3)
    assert_close(moved.north, frame.north - 35, rtol=0, atol=5e-3)
    assert_close(moved.pa, frame.pa, rtol=0, atol=1e-3)


@pytest.mark.parametrize("factor", [0.03, 50.0])
def test_stretching_the_sky_scales_lengths_alone(cubes, frame, factor):
    scaled = make_frame(
        on_the_sky(cubes, ((factor, 0.0), (0.0, factor)), beam=cubes.beam * torch.tensor([factor, factor, 1.0]))
    )
    assert_alike(scaled, frame)
    for name in ("extent", "east", "north"):
        assert_close(getattr(scaled, name), factor * getattr(frame, name), rtol=1e-3, atol=5e-3 * factor)
    assert_close(scaled.flux, factor**2 * frame.flux, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("factor", "shift"), [(1.0, 5000.0), (0.1, 0.0), (8.0, -300.0)])
def test_another_velocity_axis_moves_velocities_alone(cubes, frame, factor, shift):
    other = make_frame(replace(cubes, edges=factor * cubes.edges + shift))
    # At 5000 km/s float32 knows velocities to 5e-4 km/s, a thousandth of what a channel is divided by.
    assert_alike(other, frame)
    assert_close(other.vsys, factor * frame.vsys + shift, rtol=0, atol=1e-2 * factor + 1e-6 * abs(shift))
    assert_close(other.width, factor * frame.width, rtol=1e-3, atol=0)
    assert_close(other.pa, frame.pa, rtol=0, atol=1e-3)


def test_a_disc_drawn_at_another_angle_and_place_gives_the_same_picture():
    # Not the same voxels this time, but another rendering: round beam, what differs is interpolation and sub-pixels.
    first, second = (
        make_frame(make_cubes(disc, snr=1000, beam=(4.5, 4.5, 0.0)))
        for disc in ({}, {"pa": 40.0 + 131.0, "east": -4.3, "north": 3.1, "vsys": -20.0})
    )
    assert math.degrees(angle(second.pa - first.pa, torch.tensor(math.radians(131.0)))) == pytest.approx(0, abs=1.0)
    assert float(second.vsys - first.vsys) == pytest.approx(-32.0, abs=1.5)
    assert float(second.extent / first.extent) == pytest.approx(1, abs=0.02)
    # The voxels fall elsewhere on the disc, and the noise is other noise.
    a, b = (torch.sinh(found.image[0, :-3]) for found in (first, second))
    assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] > 0.995


def test_mirroring_the_sky_flips_the_facts_odd_across_the_minor_axis(cubes, frame):
    mirrored = make_frame(mirrored_sky(cubes))
    assert_close(mirrored.image, frame.image, rtol=0, atol=IMAGE)
    _assert_flipped(mirrored, frame, ODD_FACTS["minor"])
    assert_close(mirrored.pa, -frame.pa, rtol=0, atol=1e-3)
    assert_close(mirrored.east, -frame.east, rtol=0, atol=5e-3)


def test_mirroring_sky_and_velocity_flips_the_facts_odd_along_the_major_axis(cubes, frame):
    mirrored = make_frame(reversed_velocity(mirrored_sky(cubes)))
    assert_close(mirrored.image, frame.image, rtol=0, atol=IMAGE)
    swapped = replace(frame, facts=frame.facts.clone())
    low, high = FACTS.index("band_low"), FACTS.index("band_high")
    swapped.facts[:, [low, high]] = frame.facts[:, [high, low]]
    _assert_flipped(mirrored, swapped, ODD_FACTS["major"])
    assert_close(mirrored.vsys, -frame.vsys, rtol=0, atol=1e-2)


def _assert_flipped(mirrored, frame, odd):
    for name in FACTS:
        sign = -1 if name in odd else 1
        assert_close(
            fact(mirrored, name), sign * fact(frame, name), rtol=0, atol=FACT, msg=lambda text, n=name: f"{n}: {text}"
        )
    # An odd fact of zero would pass with either sign.
    assert fact(frame, "beam_twist").abs() > 20 * FACT


def test_two_discs_that_differ_in_what_is_even_differ_in_the_picture(frame):
    other = make_frame(make_cubes({"inclination": 35.0}))
    assert (other.image - frame.image).abs().max() > 20 * IMAGE


@pytest.mark.parametrize(
    ("name", "by", "scale"), [("east", 4.0, 1.0), ("north", -4.0, 1.0), ("vsys", 25.0, 14.0), ("pa", 0.25, 0.1)]
)
def test_the_mirror_step_brings_a_shifted_frame_back(cubes, name, by, scale, monkeypatch):
    import kinematics_nn.network.frame as module

    guess = module.moment_guess

    def shifted(given):
        found = dict(zip(("east", "north", "vsys", "pa", "extent", "width", "axis_ratio"), guess(given), strict=True))
        found[name] = found[name] + by
        return tuple(found.values())

    honest = make_frame(cubes, steps=6)
    monkeypatch.setattr(module, "moment_guess", shifted)
    # A step is linear and bounded; from a tenth of the frame away six of them suffice.
    brought_back = make_frame(cubes, steps=6)
    assert float(getattr(brought_back, name)) == pytest.approx(float(getattr(honest, name)), abs=0.1 * scale)
    once = make_frame(cubes, steps=1)
    left = abs(float(getattr(once, name) - getattr(honest, name)))
    assert left < 0.7 * abs(by), "one step goes the right way"


@pytest.mark.parametrize(("angle", "axis"), [(0.0, "u"), (math.pi, "u"), (0.5 * math.pi, "w"), (-0.5 * math.pi, "w")])
def test_lopsided_light_is_said_and_where_the_centre_is_then(angle, axis):
    """Light on one side draws the centre to it; let free, the step goes back."""
    frame = make_frame(make_cubes(snr=100, lopsided=(0.4, angle)))
    along, across = (0.1 * math.sinh(float(fact(frame, f"lopsided_{name}"))) for name in (axis, "uw".strip(axis)))
    # 0.4 at two half-light radii, which lie at a third of the frame's half-size along u, a sixth along w.
    assert math.copysign(1, math.cos(angle) + math.sin(angle)) * along > 0.4
    assert abs(across) < 0.1 * abs(along)
    sin, cos = torch.sin(frame.pa), torch.cos(frame.pa)
    east, north = DISC["east"] - frame.east, DISC["north"] - frame.north
    left = float({"u": east * sin + north * cos, "w": east * cos - north * sin}[axis] / frame.extent)
    free, plain = (0.02 * math.sinh(float(fact(frame, f"{what}_{axis}"))) for what in ("free", "shift"))
    assert abs(left) > 0.01, "the light draws the centre away"
    # The templates' own wave is not the light's: it takes too much for it, and the network learns how much.
    assert 0.5 < (free - plain) / left < 4
    even = make_frame(make_cubes(snr=100))
    for name in "uw":
        assert abs(fact(even, f"lopsided_{name}")) < 0.5
        assert abs(fact(even, f"free_{name}")) < 0.1


def test_the_error_of_the_step_is_the_scatter_over_noise():
    # 40 noise seeds of one galaxy; the scatter of a centre has a relative error of 1/sqrt(80) = 11 %.
    cubes = make_cubes(*[{}] * 40, snr=25.0)
    frame = make_frame(cubes)
    for name, unit, error in (("east", 1.0, "u"), ("vsys", 1.0, "v"), ("pa", 1.0, "pa")):
        scatter = float(getattr(frame, name).std()) / unit
        scale = {"u": frame.extent, "v": frame.width, "pa": torch.ones(40)}[error]
        # east mixes u and w; interpolation correlates the noise of the frame's voxels, so the error is a formal one.
        formal = float((fact(frame, f"error_{error}").exp() * scale).mean())
        assert 0.4 < scatter / formal < 4, name


def test_a_batch_is_its_galaxies_one_by_one():
    batch = make_cubes({}, {"inclination": 20.0, "r_scale": 8.0}, {"pa": 200.0, "r_scale": 2.5}, snr=15.0)
    together = make_frame(batch)
    for i in range(3):
        own = {name: value[i : i + 1] for name, value in vars(batch).items() if torch.is_tensor(value)}
        alone = make_frame(replace(batch, **own))
        assert_close(alone.image, together.image[i : i + 1], rtol=0, atol=IMAGE)
        # A descent that has not come to its end goes by the rounding of another batch: a twentieth of an error or so.
        of_fit = torch.tensor([name.startswith("fit_") for name in FACTS])
        difference = (alone.facts - together.facts[i : i + 1])[0].abs()
        assert (difference < torch.where(of_fit, 0.05, FACT)).all()
        for name in ("east", "north", "vsys", "pa", "extent", "width", "flux"):
            assert_close(getattr(alone, name), getattr(together, name)[i : i + 1], rtol=1e-3, atol=1e-3)


def test_blank_pixels_travel_as_weight(cubes, frame):
    weight = cubes.weight.clone()
    weight[:, :, 33:] = 0
    blanked = make_frame(replace(cubes, data=cubes.data * weight[:, None], weight=weight))
    assert torch.isfinite(blanked.image).all()
    assert torch.isfinite(blanked.facts).all()
    seen, before = blanked.image[0, -1], frame.image[0, -1]
    assert (before > 0.99).float().mean() > 0.5, "the field holds most of the frame, but for its corners"
    # The weight of the quarter is the mean over its four mirror images, about half of them blank at the outskirts.
    assert 0.4 < seen.mean() / before.mean() < 0.95
    assert math.degrees(blanked.pa) == pytest.approx(math.degrees(frame.pa), abs=8)


@pytest.mark.parametrize("values", ["zero", "noise"])
def test_a_cube_without_a_galaxy_gives_finite_numbers(cubes, values):
    noise = torch.randn(cubes.data.shape, generator=torch.Generator().manual_seed(3))
    empty = make_frame(replace(cubes, data=torch.zeros_like(cubes.data) if values == "zero" else noise))
    for field in fields(empty):
        assert torch.isfinite(getattr(empty, field.name)).all(), field.name


def test_facts_say_what_they_are_named_after(frame, cubes):
    extent, width = float(frame.extent), float(frame.width)
    assert float(fact(frame, "channel").exp()) == pytest.approx(14.0 / width, rel=1e-4)
    assert float(fact(frame, "pixel").exp()) == pytest.approx(1.0 / extent, rel=1e-4)
    # The beam's major axis lies 15 degrees from the disc's.
    assert float(fact(frame, "beam_u").exp()) == pytest.approx(math.hypot(5 * math.cos(0.262), 4 * math.sin(0.262))
                                                                / extent, rel=0.01)  # fmt: skip
    assert float(fact(frame, "band_high")) == pytest.approx(min(2, (18 * 14.0 - 12.0) / width), abs=0.05)
    fainter = make_frame(make_cubes(snr=10.0))
    # Four times fainter; part of the "noise" at high S/N is the disc's interpolation error.
    assert 1.0 < float(fact(frame, "snr") - fact(fainter, "snr")) < math.log(5)


def test_the_noise_fact_is_the_noise_of_the_odd_part():
    # A frame wide against its pixels averages voxels: nominal noise 1 in each goes down, alike for every seed.
    noises = fact(make_frame(make_cubes(*[{}] * 6, snr=20.0)), "noise").exp()
    assert noises.std() / noises.mean() < 0.1
    assert 0.05 < noises.mean() < 1.0
    assert CHANNELS * PIXELS == 768, "the range above is for this frame"
