"""A disc fitted to the frame: its derivatives, what it finds of a disc of the decoder, and steps against it."""

import math

import pytest
import torch
from framed import DISC, make_cubes
from torch.testing import assert_close

from kinematics_nn.network.disc_fit import fit_disc, odd_step
from kinematics_nn.network.disc_model import PARAMETERS, FrameScales, QuarterDisc, smeared_step, whiteners
from kinematics_nn.network.frame import CHANNELS, FACTS, PIXELS, make_frame
from kinematics_nn.network.mirror import mirror_mean, valid_in_mirrors
from kinematics_nn.network.targets import SPEED_FLOOR

THIN = {"thickness": 0.0}


def scales(n=1, **changed):
    values = {
        "beam_u": 0.25, "beam_w": 0.2, "pixel": 0.06, "channel": 0.08, "noise": 1.0, "corr_u": 0.6, "corr_w": 0.5,
        "rms": 0.31, "axis_ratio": 0.6,
    }  # fmt: skip
    return FrameScales(**{name: torch.full((n,), value) for name, value in (values | changed).items()})


def values(**changed):
    given = {
        "inclination": 0.2, "scale": -1.7, "index": 0.1, "speed": -0.5, "turn": -1.0, "dispersion": -1.8,
        "height": -1.5, "brightness": 3.0,
    }  # fmt: skip
    return torch.tensor([[(given | changed)[name] for name in PARAMETERS]])


def made(x, scales, noise=0.0, seed=1):
    """A quarter frame of a disc of given values, and its fit's own model of it."""
    blank = torch.zeros(len(x), CHANNELS // 2, PIXELS // 2, PIXELS)
    disc = QuarterDisc(blank, torch.ones(len(x), PIXELS // 2, PIXELS), scales, torch.ones(len(x), CHANNELS // 2))
    model, slopes = disc.with_slopes(x)
    model = model.transpose(1, 2)
    random = torch.randn(model.shape, generator=torch.Generator().manual_seed(seed))
    return disc, model + noise * random, slopes


@pytest.mark.parametrize("name", PARAMETERS)
def test_derivatives_are_those_of_the_disc(name):
    x, step = values().double(), 1e-4
    doubles = FrameScales(**{key: value.double() for key, value in vars(scales()).items()})
    blank = torch.zeros(1, CHANNELS // 2, PIXELS // 2, PIXELS, dtype=torch.float64)
    known = torch.ones(1, CHANNELS // 2, dtype=torch.float64)
    disc = QuarterDisc(blank, torch.ones(1, PIXELS // 2, PIXELS, dtype=torch.float64), doubles, known)
    _, slopes = disc.with_slopes(x)
    move = step * torch.eye(len(PARAMETERS), dtype=torch.float64)[PARAMETERS.index(name)]
    expected = (disc.with_slopes(x + move)[0] - disc.with_slopes(x - move)[0]) / (2 * step)
    # Central differences are off by the square of the step.
    assert_close(slopes[:, :, PARAMETERS.index(name)], expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("inclination", [1.5, 0.0, -2.5])
def test_a_disc_has_its_flux_at_every_inclination(inclination):
    """Its strips lie closer the more it is inclined, but hold the same light."""
    _, quarter, _ = made(values(inclination=inclination), scales())
    power, scale = math.exp(0.1), math.exp(-1.7)
    flux = math.exp(3.0) * 2 * math.pi * scale**2 * math.gamma(2 / power) / power
    # Four quarters, in pixels of a sixteenth: within what strips and pixels of the plane make of a sharp centre.
    assert 4 * float(quarter.sum()) / (PIXELS / 2) ** 2 == pytest.approx(flux, rel=0.01)


@pytest.mark.parametrize("scale", [1e-3, 0.03, 0.3, 3.0])
def test_a_step_is_smeared_by_beam_and_law(scale):
    """Against the sum over an exponential law on both sides, in float64; heights from none to ten beams."""
    x, sigma = torch.linspace(-3, 3, 13, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    share = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    heights = -scale * torch.log(share)  # of as many stars
    expected = [0.5 * torch.special.ndtr((at - side * heights) / sigma).mean() for at in x for side in (1, -1)]
    expected = torch.stack(expected).view(-1, 2).sum(1)

    def smeared(x, scale):
        return smeared_step(x, sigma, torch.tensor(scale, dtype=torch.float64))

    found, by_x, by_scale = smeared(x, scale)
    # The sum is off by its first term where the law ends.
    assert_close(found, expected, rtol=0, atol=2e-5)
    single = smeared_step(x.float(), sigma.float(), torch.tensor(scale))
    for one, double, size in zip(single, (found, by_x, by_scale), (1.0, 1 / 0.3, 1 / max(scale, 0.3)), strict=True):
        assert_close(one.double(), double, rtol=0, atol=1e-6 * size)
    step = 1e-4 * scale
    ahead, behind = (smeared(x, scale + move)[0] for move in (step, -step))
    # Rounding over the step, the square of it, and of a law that is taken for thin its fourth moment.
    assert_close(by_scale, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-7 / scale if scale > 0.01 else 1e-4)
    ahead, behind = (smeared(x + move, scale)[0] for move in (1e-4, -1e-4))
    assert_close(by_x, (ahead - behind) / 2e-4, rtol=0, atol=1e-6)


@pytest.mark.parametrize("disc", [{"thickness": 2.0}, {"thickness": 1.5, "inclination": 70.0}])
def test_heights_and_dispersions_are_those_of_thick_discs_of_the_decoder(disc):
    """With a Gaussian in the place of the law, and half of what channels smooth, 18 to 22 % low and 5 to 12 % high."""
    frame = make_frame(make_cubes(disc, snr=300))
    told = dict(zip(FACTS, frame.facts[0].tolist(), strict=True))
    power = math.exp(told["fit_index"])
    scale = math.exp(told["fit_r50"]) / ((2 / power) * (1 - power / 18) ** 3) ** (1 / power)
    # What is left is of cells as large as the scale height, in light with a cusp.
    height = math.exp(told["fit_height"]) * scale * float(frame.extent)
    assert height == pytest.approx(disc["thickness"], rel=0.08)
    dispersion = math.exp(told["fit_dispersion"]) * float(frame.width)
    assert dispersion == pytest.approx(DISC["velocity_dispersion"], rel=0.08)


def test_the_fit_finds_the_disc_that_it_was_given():
    x, its = values(), scales(noise=0.2, corr_u=0.0, corr_w=0.0)
    _, quarter, _ = made(x, its, noise=0.1)
    fit = fit_disc(quarter, torch.ones(1, PIXELS // 2, PIXELS), its)
    assert ((fit.values - x).abs() < 4 * fit.errors).all()
    # Noise that is white is less than what is taken for noise correlated by a half and more.
    assert float(fit.misfit) < 2
    half = fit.model[:, CHANNELS // 2 :, PIXELS // 2 :]
    assert float((half - quarter).std()) < 0.11
    assert_close(fit.model, fit.model.flip(2))
    assert_close(fit.model, fit.model.flip(1, 3))


def test_a_frame_that_is_not_finite_spoils_no_other():
    x = values().repeat(2, 1)
    its = scales(2, noise=0.2)
    _, quarter, _ = made(x, its, noise=0.1)
    weight = torch.ones(2, PIXELS // 2, PIXELS)
    alone = fit_disc(quarter[:1], weight[:1], scales(1, noise=0.2))
    quarter[1], its.corr_u[1] = math.nan, math.nan
    both = fit_disc(quarter, weight, its)
    assert_close(both.values[:1], alone.values, rtol=0, atol=0.05)
    steps = odd_step(both.model, both.model, torch.ones(2, PIXELS, PIXELS), its, torch.ones(2, CHANNELS))
    assert all(torch.isfinite(of[0]).all() for of in steps)


def test_facts_of_the_fit_are_those_of_a_disc_of_the_decoder():
    frame = make_frame(make_cubes(THIN, snr=100))
    told = dict(zip(FACTS, frame.facts[0].tolist(), strict=True))
    inclination = math.degrees(math.acos(1 / (1 + math.exp(-told["fit_inclination"]))))
    assert inclination == pytest.approx(DISC["inclination"], abs=1.0)
    r50 = 1.678 * DISC["r_scale"]
    assert math.exp(told["fit_r50"]) * float(frame.extent) == pytest.approx(r50, rel=0.03)
    speed = DISC["vmax"] * 2 / math.pi * math.atan(r50 / DISC["r_turn"]) * math.sin(math.radians(DISC["inclination"]))
    assert math.exp(told["fit_speed"]) * float(frame.width) == pytest.approx(speed, rel=0.02)
    assert math.exp(told["fit_flux"]) == pytest.approx(1, abs=0.05)
    assert told["fit_speed_1.0"] == pytest.approx(math.log(math.exp(told["fit_speed"]) + SPEED_FLOOR), abs=1e-4)
    # Over flux / (2 pi r50^2), of an exponential; the fit's own power of the radius is a few per cent off.
    for multiple in (0.5, 1.0, 2.0):
        expected = 1.678**2 * math.exp(-1.678 * multiple)
        assert math.exp(told[f"fit_light_{multiple}"]) == pytest.approx(expected, rel=0.06)


def test_errors_of_a_step_are_of_the_noise_that_is_there():
    """Also where the frame's own estimate is half of it."""
    its = scales(noise=0.2)
    model = fit_disc(made(values(), its)[1], torch.ones(1, PIXELS // 2, PIXELS), its).model
    noise = torch.randn(200, *model.shape[1:], generator=torch.Generator().manual_seed(3))
    # White over channels, and over the sky as the scales say.
    lower = [torch.linalg.inv(one.double()).float() for one in whiteners(its, PIXELS, PIXELS)]
    noise = 0.4 * lower[0] @ noise @ lower[1].transpose(1, 2)
    odd = noise - mirror_mean(noise, torch.ones(200, CHANNELS))
    many = FrameScales(**{key: value.expand(200) for key, value in vars(its).items()})
    ones = torch.ones(200, PIXELS, PIXELS), torch.ones(200, CHANNELS)
    step, error, *_ = odd_step(odd, model.expand(200, -1, -1, -1), ones[0], many, ones[1])
    # Of 200 a spread is known to a twentieth.
    assert_close(step.std(0) / error.mean(0), torch.ones(4), rtol=0, atol=0.2)


def test_a_side_without_data_is_left_to_its_mirror():
    """A band that ends within the line: what the fit sees of either side is the same disc."""
    x, its = values(), scales(noise=0.2, corr_u=0.0, corr_w=0.0)
    _, quarter, _ = made(x, its)
    half = torch.cat([quarter.flip(2), quarter], 2)
    frame = torch.cat([half.flip(1, 3), half], 1)
    seen = (torch.arange(CHANNELS) < 16).float()[None]
    mean = mirror_mean(frame * seen[:, :, None, None], seen)
    assert_close(mean, frame)
    assert valid_in_mirrors(torch.ones(1, PIXELS, PIXELS), seen)[0, :, 0, 0].nonzero()[:, 0].tolist() == [*range(8, 16)]


def test_channels_without_data_say_nothing():
    x, its = values(), scales(noise=0.2, corr_u=0.0, corr_w=0.0)
    _, quarter, _ = made(x, its, noise=0.1)
    known = torch.ones(1, CHANNELS // 2)
    known[:, 3] = 0
    quarter[:, 3] = 0
    fit = fit_disc(quarter, torch.ones(1, PIXELS // 2, PIXELS), its, known)
    assert ((fit.values - x).abs() < 4 * fit.errors).all()
    # Taken at its word, a channel with nothing in it makes another disc.
    wrong = fit_disc(quarter, torch.ones(1, PIXELS // 2, PIXELS), its)
    assert ((wrong.values - x).abs() > 4 * wrong.errors).any()


def test_a_disc_in_finer_channels_is_the_same_disc():
    fit = fit_disc(made(values(), scales())[1], torch.ones(1, PIXELS // 2, PIXELS), scales())
    fine = fit.rendered(2 * CHANNELS)
    # To single precision: channels are integrals.
    assert_close(0.5 * (fine[:, ::2] + fine[:, 1::2]), fit.model, rtol=0, atol=1e-5 * float(fit.model.max()))


def test_steps_against_the_disc_are_better_than_against_the_mirror_average():
    """In noise, of many cubes of one galaxy: what is left of the position angle, the disc's step taken besides."""
    frame = make_frame(make_cubes(*[THIN] * 40, snr=12.0))
    beyond = 0.02 * torch.sinh(frame.facts[:, FACTS.index("disc_pa")])
    off = torch.rad2deg(torch.stack([frame.pa, frame.pa + beyond])) - DISC["pa"]
    mirror, disc = (torch.remainder(off + 180, 360) - 180).std(1)
    assert disc < mirror


def test_a_step_goes_back_by_what_a_disc_is_off():
    its = scales()
    _, quarter, _ = made(values(), its)
    fit = fit_disc(quarter, torch.ones(1, PIXELS // 2, PIXELS), its)
    at = (torch.arange(PIXELS) + 0.5) / (0.5 * PIXELS) - 1
    along = 0.25 * PIXELS * (fit.model.roll(-1, 3) - fit.model.roll(1, 3))
    weight, seen = torch.ones(1, PIXELS, PIXELS), torch.ones(1, CHANNELS)
    step, error, free, free_error = odd_step(-0.01 * along, fit.model, weight, its, seen)
    assert_close(step[0], torch.tensor([0.01, 0, 0, 0]), rtol=0, atol=1e-4)
    assert (error > 0).all()
    lopsided = 0.2 * fit.model * at
    *_, free, free_error = odd_step(-0.01 * along + lopsided, fit.model, weight, its, seen)
    assert_close(free[0], torch.tensor([0.01, 0, 0, 0, 0.2, 0]), rtol=0, atol=1e-3)
    assert (free_error[:, :4] >= error * (1 - 1e-5)).all()


def test_whiteners_make_noise_white():
    its = scales(corr_u=0.8, corr_w=0.4)
    across, along = whiteners(its, 16, 32)
    i = torch.arange(32)
    correlation = 0.9 * 0.8 ** ((i[:, None] - i) ** 2).float() + 0.1 * torch.eye(32)
    assert_close(along[0] @ correlation @ along[0].T, torch.eye(32), rtol=0, atol=1e-4)
    # A half that is its own mirror: its first row is next to its own image.
    folded = whiteners(its, 16, 32, mirrored=True)[0][0]
    assert not torch.allclose(folded, across[0], atol=1e-2)


def test_frames_of_fewer_facts_are_the_same():
    cubes = make_cubes()
    first = FACTS.index("disc_u")
    whole, some = make_frame(cubes), make_frame(cubes, facts=first)
    assert_close(some.facts, whole.facts[:, :first], rtol=0, atol=0)
    assert some.facts.shape[1] == first
