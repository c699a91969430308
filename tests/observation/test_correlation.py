"""The correlation of the noise against fields of known correlation, and what real cubes have."""

import pickle

import numpy as np
import pytest
from astropy import units as u
from radio_beam import Beam
from scipy.linalg import cholesky, solve_triangular
from scipy.signal import fftconvolve

from kinematics_nn import simulate
from kinematics_nn.errors import KinematicsError
from kinematics_nn.observation import NoiseCorrelation, observe
from kinematics_nn.observation.correlation import SERIES, beam_covariance, gaussian, known_correlation, positive
from kinematics_nn.observation.correlation_estimate import measure_correlation

SHAPE = (40, 64, 64)
MATRIX = np.array([[-1.0, 0.0], [0.0, 1.0]])
# 4.4 x 3 pixels, turned: as an interferometer has it.
COVARIANCE = beam_covariance([4.4, 3.0, 35.0], MATRIX)
KINDS = ["white", "beam", "wide"]


def lobed(n_channel=SHAPE[0], spectral="white"):
    """Noise with negative lobes, as from a dirty beam: white noise seen through a beam less a wider one."""
    narrow, broad = (gaussian(COVARIANCE, width, 18) for width in (0.8, 1.6))
    kernel = narrow / narrow.sum() - 0.6 * broad / broad.sum()
    both = fftconvolve(kernel, kernel, mode="same")
    known = known_correlation("beam", spectral, COVARIANCE, n_channel)
    return NoiseCorrelation(positive(both / both.max()), known.spectral, known.note)


def truth(kind, spectral="white", n_channel=SHAPE[0]):
    if kind == "lobed":
        return lobed(n_channel, spectral)
    return known_correlation(kind, spectral, COVARIANCE, n_channel)


def measured(noise, free=None, emission=None):
    free = np.ones(noise.shape, bool) if free is None else free
    emission = np.zeros(noise.shape, bool) if emission is None else emission
    return measure_correlation(noise, free, emission, COVARIANCE, len(noise))


def middle(correlation, reach):
    centre = correlation.spatial.shape[0] // 2
    return correlation.spatial[centre - reach : centre + reach + 1, centre - reach : centre + reach + 1]


def pixels(size=16, step=2):
    y, x = np.mgrid[0:size:step, 0:size:step]
    return y.ravel(), x.ravel()


def test_the_beam_in_pixels():
    # East is left: a beam turned by 35 deg from north to east leans to smaller x at larger y.
    values, axes = np.linalg.eigh(COVARIANCE)
    np.testing.assert_allclose(np.sqrt(8 * np.log(2) * values), [3.0, 4.4], rtol=1e-12)
    angle = np.degrees(np.arctan2(-axes[0, 1], axes[1, 1])) % 180
    assert angle == pytest.approx(35, abs=1e-9)
    # On pixels of half the size it's twice as large.
    np.testing.assert_allclose(beam_covariance([4.4, 3.0, 35.0], 0.5 * MATRIX), 4 * COVARIANCE, rtol=1e-12)


@pytest.mark.parametrize("spectral", ["white", "hanning"])
@pytest.mark.parametrize("kind", KINDS)
def test_drawn_noise_has_its_correlation(kind, spectral):
    correlation = truth(kind, spectral)
    noise = correlation.draw(SHAPE, np.random.default_rng(5))
    # Hanning noise that is wide has 4000 independent samples here, which give a variance to 2.2 %: three of those.
    assert noise.var() == pytest.approx(1, abs=0.07)
    for dy, dx in ((0, 1), (1, 0), (2, -1), (2, 2), (0, 5)):
        one, two = noise[:, : SHAPE[1] - dy, max(0, -dx) : SHAPE[2] - max(0, dx)], noise[:, dy:]
        two = two[:, :, max(0, dx) : SHAPE[2] + min(0, dx)]
        assert np.mean(one * two) == pytest.approx(middle(correlation, 5)[5 + dy, 5 + dx], abs=0.07)
    for lag in (1, 2, 3):
        assert np.mean(noise[lag:] * noise[:-lag]) == pytest.approx(correlation.spectral[lag], abs=0.07)
    # Opposite edges know nothing of each other.
    assert np.mean(noise[:, 0] * noise[:, -1]) == pytest.approx(0, abs=0.12)


@pytest.mark.parametrize("spectral", list(SERIES))
@pytest.mark.parametrize("kind", KINDS)
def test_known_correlations_are_found_exactly(kind, spectral):
    correlation = truth(kind, spectral)
    found = measured(correlation.draw(SHAPE, np.random.default_rng(1)))
    assert (found.note["spatial"], found.note["spectral"]) == (kind, spectral)
    np.testing.assert_array_equal(found.spatial, correlation.spatial)
    np.testing.assert_allclose(found.spectral, correlation.spectral, atol=1e-12)
    # Three errors of a width from 4000 samples; white noise is narrower than any Gaussian that pixels show.
    expected = {"white": 0.15, "beam": 1.0, "wide": np.sqrt(2)}[kind]
    assert found.note["width"] == pytest.approx(expected, abs=0.15 if kind == "white" else 0.06)


@pytest.mark.parametrize("spectral", ["white", "hanning"])
def test_lobes_are_found(spectral):
    correlation = lobed(spectral=spectral)
    found = measured(correlation.draw(SHAPE, np.random.default_rng(2)))
    assert found.note["spatial"] == "measured"
    # Lags are known to 0.015 (7000 samples); fading takes 2 % of the width, 0.015 at half height; twice their sum.
    np.testing.assert_allclose(middle(found, 8), middle(correlation, 8), atol=0.06)
    assert correlation.spatial.min() < -0.08
    assert found.note["lobe"] == pytest.approx(correlation.spatial.min(), abs=0.04)


@pytest.mark.parametrize("kind", [*KINDS, "lobed"])
def test_errors_made_with_it_are_true(kind):
    """The error that a fit with the measured covariance quotes for a source, over the one that it makes."""
    correlation = truth(kind)
    found = measured(correlation.draw(SHAPE, np.random.default_rng(3)))
    y, x = pixels(20, 2)
    true, used = correlation.over_sky(y, x), found.over_sky(y, x)
    inverse = np.linalg.inv(used)
    for width in (1.2, 2.0):
        light = middle(NoiseCorrelation(gaussian(COVARIANCE, width, 20), np.ones(1), {}), 10)[y, x]
        steps = np.gradient(light.reshape(10, 10))
        for signal in (light, steps[0].ravel(), steps[1].ravel()):
            weights = inverse @ signal
            quoted, made = 1 / (signal @ weights), weights @ true @ weights / (signal @ weights) ** 2
            best = 1 / (signal @ np.linalg.solve(true, signal))
            # Lags to 0.015 make a variance uncertain by some 10 %; what is quoted too small may not be more than that.
            assert 0.85 < np.sqrt(quoted / made) < (1.001 if kind in KINDS else 1.35)
            # And hardly more is made than must be.
            assert np.sqrt(made / best) < 1.1


@pytest.mark.parametrize("spectral", ["white", "hanning"])
@pytest.mark.parametrize("kind", KINDS)
def test_whitened_noise_is_white(kind, spectral):
    """On half-beam pixels: unit variance, neighbours uncorrelated, and a covariance that can be inverted."""
    correlation = truth(kind, spectral)
    rng = np.random.default_rng(4)
    found = measured(correlation.draw(SHAPE, rng))
    y, x = pixels()
    over_sky, over_channels = found.over_sky(y, x), found.over_channels(20)
    # The floor bounds it: 36 pixels' worth of power in the strongest mode, over 1e-4.
    assert np.linalg.cond(over_sky) < 1e6
    assert np.linalg.cond(over_channels) < 1e5
    roots = cholesky(over_sky, lower=True), cholesky(over_channels, lower=True)
    fresh = correlation.draw(SHAPE, rng).astype(float)[:20]
    values = []
    for y0 in (0, 32):
        for x0 in (0, 32):
            block = fresh[:, y0 + y, x0 + x]
            over_pixels = solve_triangular(roots[0], block.T, lower=True).T
            values.append(solve_triangular(roots[1], over_pixels, lower=True))
    values = np.array(values)
    # 5120 values: chi2 / dof scatters by sqrt(2 / 5120) = 0.020, correlations by 0.014; three and four of those, as
    # single precision of the draw stirs the weakest modes.
    assert np.mean(values**2) == pytest.approx(1, abs=0.06)
    grid = values.reshape(4, 20, 8, 8)
    for one, two in (
        (grid[:, 1:], grid[:, :-1]),
        (grid[:, :, 1:], grid[:, :, :-1]),
        (grid[:, :, :, 1:], grid[:, :, :, :-1]),
    ):
        assert np.mean(one * two) == pytest.approx(0, abs=0.06)


@pytest.mark.parametrize("kind", [*KINDS, "lobed"])
@pytest.mark.parametrize("spectral", list(SERIES))
def test_positive_definite_over_any_set(kind, spectral):
    found = measured(truth(kind, spectral, 24).draw((24, 40, 40), np.random.default_rng(6)))
    rng = np.random.default_rng(7)
    # A full block finer than any likelihood needs, scattered pixels over twice the reach, and all channels.
    for y, x in (np.divmod(np.arange(400), 20), rng.integers(0, 40, (2, 300))):
        y, x = np.unique([y, x], axis=1)
        assert np.linalg.eigvalsh(found.over_sky(y, x)).min() > 5e-5
    assert np.linalg.eigvalsh(found.over_channels(24)).min() > 5e-5
    np.testing.assert_array_equal(found.spatial, found.spatial[::-1, ::-1])
    assert found.spatial.max() == found.spatial[found.spatial.shape[0] // 2, found.spatial.shape[1] // 2] == 1
    assert found.spectral[0] == 1


def test_positive_mends_what_is_no_correlation():
    bad = np.zeros((9, 9))
    bad[4, 3:6] = 1.0, 1.0, 1.0  # neighbours alike, those beyond not: impossible
    good = positive(bad)
    y, x = np.divmod(np.arange(100), 10)
    matrix = NoiseCorrelation(good, np.ones(1), {}).over_sky(y, x)
    assert np.linalg.eigvalsh(matrix).min() > 5e-5
    # No correlation of neighbours alone exceeds 1/2; with what is left at 2 pixels to play with, somewhat more.
    assert 0.4 < good[4, 5] < 0.8


@pytest.mark.parametrize("spectral", ["white", "hanning"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_galaxy_does_not_look_like_correlated_noise(mock, kind, spectral):
    options = {"shape": SHAPE, "beam": mock.beam, "rms": 1 * u.Jy / u.beam, "flux": 0 * u.Jy * u.km / u.s, "seed": 3}
    noise = simulate(**options, noise=kind, spectral=spectral).filled_data[:].value
    data = 15 * mock.blob(SHAPE, size=6, gradient=0.7) + noise
    observation = observe(mock.cube(data))
    found, note = observation.correlation, observation.header["noise"]["correlation"]
    assert note["spatial"] == kind
    expected = 2 / 3 if spectral == "hanning" else 0.0
    assert found.spectral[1] == pytest.approx(expected, abs=0.04)  # 1500 samples off the galaxy: 0.025
    assert found.spectral.shape == observation.shape[:1]


def test_the_noise_of_the_continuum_is_shared_by_all_channels():
    rng = np.random.default_rng(8)
    correlation = truth("beam")
    noise = correlation.draw(SHAPE, rng)
    # Subtracting the mean of six other channels adds their noise, a sixth of the variance, to each.
    other = correlation.draw((6, *SHAPE[1:]), rng).mean(axis=0)
    found = measured(np.float32(np.sqrt(6 / 7)) * (noise - other))
    # 1/7 of the variance, from the 300 beams of one field: 0.14 times 8 %; three of those.
    assert found.note["continuum"] == pytest.approx(1 / 7, abs=0.035)
    assert found.note["spectral"] == "white"
    np.testing.assert_allclose(found.spectral[1:], found.note["continuum"], atol=1e-12)


def test_blanks_do_not_count():
    correlation = truth("wide", "hanning")
    noise = correlation.draw(SHAPE, np.random.default_rng(9))
    free = np.ones(SHAPE, bool)
    free[:, :, :20] = False
    free[:12, 30:50] = False
    free[::7] = False
    found = measured(np.where(free, noise, np.float32(0)), free)
    assert (found.note["spatial"], found.note["spectral"]) == ("wide", "hanning")


def test_few_channels():
    found = measured(truth("wide", "white", 4).draw((4, 96, 96), np.random.default_rng(10)))
    # 900 samples: neighbours to 0.04, three of those.
    assert found.note["width"] == pytest.approx(np.sqrt(2), abs=0.2)
    assert found.spectral.shape == (4,)
    assert found.spectral[1] == pytest.approx(0, abs=0.12)


def test_too_little_to_measure_takes_the_beam(mock):
    shape = (20, 24, 24)
    found = measured(truth("white", "white", 20).draw(shape, np.random.default_rng(11)), np.zeros(shape, bool))
    assert (found.note["spatial"], found.note["spectral"], found.note["sample"]) == ("assumed", "assumed", "none")
    np.testing.assert_array_equal(found.spatial, known_correlation("beam", "white", COVARIANCE, 20).spatial)
    np.testing.assert_array_equal(found.spectral, np.eye(1, 20)[0])
    # A simulation without noise has none to measure.
    observation = observe(mock.cube(mock.blob(SHAPE, peak=3.0)))
    assert observation.header["noise"]["correlation"]["spatial"] == "assumed"


def test_the_reach_never_exceeds_a_small_field():
    covariance = beam_covariance([12.0, 9.0, 0.0], MATRIX)
    noise = known_correlation("beam", "white", covariance, 60).draw((60, 24, 24), np.random.default_rng(12))
    found = measure_correlation(noise, np.ones(noise.shape, bool), np.zeros(noise.shape, bool), covariance, 60)
    y, x = np.divmod(np.arange(24 * 24), 24)
    assert np.linalg.eigvalsh(found.over_sky(y, x)).min() > 5e-5


def test_an_observation_carries_it_through_a_pickle(mock, galaxy):
    observation = observe(mock.cube(galaxy))
    again = pickle.loads(pickle.dumps(observation)).correlation
    np.testing.assert_array_equal(again.spatial, observation.correlation.spatial)
    assert again.note == observation.correlation.note == observation.header["noise"]["correlation"]
    assert all(type(value) in (str, int, float) for value in again.note.values())


def test_simulate_makes_noise_like_that_of_a_cube(mock, galaxy):
    cube = mock.cube(galaxy)
    found = observe(cube).correlation
    whole = NoiseCorrelation(found.spatial, np.eye(1, len(galaxy))[0], found.note)
    options = {"like": cube, "vsys": 1000 * u.km / u.s, "flux": 0 * u.Jy * u.km / u.s, "rms": 1 * u.Jy / u.beam}
    noise = simulate(**options, noise=whole, seed=1).filled_data[:].value
    np.testing.assert_array_equal(noise, whole.draw(galaxy.shape, np.random.default_rng(1)))
    with pytest.raises(KinematicsError, match="noise= of 3 channels for a cube of 40"):
        simulate(**options, noise=NoiseCorrelation(found.spatial, found.spectral[:3], found.note))
    with pytest.raises(KinematicsError, match="noise='pink'; needed: one of white, beam, wide"):
        simulate(**options, noise="pink")


def test_a_beam_of_another_frame_is_turned_with_it(mock):
    """The noise follows the pixels, whatever the WCS calls north."""
    beam = Beam(6 * u.arcsec, 3 * u.arcsec, 30 * u.deg)
    cube = mock.cube(np.zeros(SHAPE, np.float32), mock.wcs(SHAPE, rotation=50.0), beam=beam)
    noisy = simulate(
        like=cube, vsys=1000 * u.km / u.s, flux=9 * u.Jy * u.km / u.s, rms=1 * u.mJy / u.beam, noise="beam", seed=2
    )
    observation = observe(noisy)
    assert observation.correlation.note["spatial"] == "beam"


@pytest.mark.parametrize(
    ("name", "width", "spectral", "neighbour"),
    [
        # What these cubes have, as found here (first of its kind: no literature). Width within 0.1, correlation of
        # neighbouring channels within 0.05: different samples of the same cube differ by a half of that.
        ("ngc2903_hi", 1.14, "measured", 0.16),
        ("eso121-g6_hi", 0.83, "hanning", 0.667),
        ("ngc6946_hi", 0.93, "measured", 0.74),
        ("ngc4324_co", 1.11, "measured", 0.07),
        ("ngc2403_hi_coarse", 0.0, "measured", 0.13),
        ("ngc3256_co_merger", 0.9, "measured", 0.68),
        ("kinms_simcube", 1.0, "assumed", 0.0),
    ],
)
@pytest.mark.filterwarnings("ignore::astropy.wcs.FITSFixedWarning")
def test_real_cubes(real_cube, name, width, spectral, neighbour):
    cube = real_cube(name)
    if name == "ngc6946_hi":
        cube = cube.spectral_slab(5 * u.km / u.s, 400 * u.km / u.s)
    observation = observe(cube, beam=90 * u.arcsec if name == "ngc2403_hi_coarse" else None)
    note = observation.correlation.note
    assert note["spatial"] == ("assumed" if name == "kinms_simcube" else "measured")
    assert note["width"] == pytest.approx(width, abs=0.1)
    assert note["spectral"] == spectral
    assert note["neighbour"] == pytest.approx(neighbour, abs=0.05)
    if name in ("ngc2903_hi", "eso121-g6_hi", "ngc6946_hi", "ngc3256_co_merger"):
        # The lobes of a dirty beam.
        assert note["lobe"] < -0.05
    if name == "ngc2403_hi_coarse":
        spatial = observation.correlation.spatial
        # White but for 5 %.
        assert np.sort(abs(spatial).ravel())[-2] < 0.05
    if name == "ngc2903_hi":
        # The continuum was measured in seven channels or so, and not the same was taken off all.
        assert 1 / 9 < note["continuum"] < 1 / 5
