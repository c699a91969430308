"""The run of a calibration: what is drawn, what shards leave, what a report counts; the fit is stubbed."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import kstest

import kinematics_nn
from kinematics_nn.cli import main
from kinematics_nn.decoder import Forms
from kinematics_nn.errors import KinematicsError, NoEmission
from kinematics_nn.forms import get_form
from kinematics_nn.inference import calibration
from kinematics_nn.inference import mock as mock_module
from kinematics_nn.inference.mock import Mock, draw_mock, observe_mock
from kinematics_nn.observation.correlation import beam_covariance, known_correlation


@pytest.fixture(scope="module")
def forms():
    names = {"rotation_curve": "arctan", "surface_brightness": "exponential", "velocity_dispersion": "constant"}
    return Forms(**{slot: get_form(name, slot) for slot, name in names.items()})


def mocks(forms, n, galaxies="own"):
    return [draw_mock(np.random.default_rng([5, k]), forms, galaxies) for k in range(n)]


def test_truths_follow_the_prior(forms):
    truths = [mock.truth for mock in mocks(forms, 800)]
    column = {name: np.array([truth[name] for truth in truths]) for name in truths[0]}
    # 800 draws: a share of 0.05 in the wrong place has p < 0.02 at the most; the seed is fixed.
    cosines = np.cos(np.radians([90, 5]))
    assert kstest(np.cos(np.radians(column["inclination"])), "uniform", (0, cosines[1])).pvalue > 0.01
    assert kstest(np.log(column["vmax"] / 10) / np.log(80), "uniform").pvalue > 0.01
    ratio = column["r_turn"] / column["r_scale"]
    assert kstest(np.log(ratio / 0.02) / np.log(250), "uniform").pvalue > 0.01
    assert kstest(column["pa"] / 360, "uniform").pvalue > 0.01
    # Three binomial errors.
    assert np.mean(column["thickness"] == 0) == pytest.approx(0.25, abs=0.05)
    assert column["beams"].min() >= 2
    assert column["beams"].max() <= 30


def test_mocks_are_what_they_say(forms):
    for k, mock in enumerate(mocks(forms, 3)):
        cube, rms = observe_mock(mock, np.random.default_rng(k), forms)
        noiseless, _ = observe_mock(
            Mock(mock.truth | {"snr": 1e6}, mock.shape, mock.channel, mock.beam, mock.noise, mock.spectral),
            np.random.default_rng(k),
            forms,
        )
        data = noiseless.unitless_filled_data[:]
        assert data.max() / rms == pytest.approx(mock.truth["snr"], rel=1e-3)
        assert np.std(cube.unitless_filled_data[:] - data) == pytest.approx(rms, rel=0.1)
        # Where the WCS says the light is, and how much: field and band hold 98 % of it.
        velocity = noiseless.spectral_axis.to_value("km/s")
        spectrum = data.sum((1, 2))
        assert spectrum @ velocity / spectrum.sum() == pytest.approx(mock.truth["vsys"], abs=0.05 * mock.channel)
        light = data.sum(0)
        y, x = np.indices(light.shape)
        # A tenth of a pixel: what little the field cuts off.
        assert (light * x).sum() / light.sum() == pytest.approx(mock.truth["x"], abs=0.1)
        assert (light * y).sum() / light.sum() == pytest.approx(mock.truth["y"], abs=0.1)
        area = np.pi / (4 * np.log(2)) * mock.beam[0] * mock.beam[1]
        assert data.sum() * mock.channel / area == pytest.approx(mock.truth["flux"], rel=0.03)


def test_kinms_renders_the_same_galaxy(forms):
    pytest.importorskip("kinms")
    (mock,) = [mock for mock in mocks(forms, 8, "kinms") if mock.truth["beams"] < 6][:1]
    own = mock_module._own_cube(mock, forms)
    kinms = mock_module._kinms_cube(mock, forms, 8_000_000, seed=1)
    # Eight million clouds leave 1 % of the peak; half a pixel or channel, or a mirrored angle, would be ten times that.
    assert abs(own - kinms).max() < 0.03 * own.max()
    assert kinms.sum() == pytest.approx(own.sum(), rel=0.003)


def test_clouds_are_enough_for_the_noise_they_are_seen_in(forms):
    """Noise that is white over the sky averages out over a beam, where that of clouds does not: more of them."""
    mock = mocks(forms, 1, "kinms")[0]

    def needed(noise, spectral):
        covariance = beam_covariance(np.array(mock.beam), np.diag([-1.0, 1.0]))
        correlation = known_correlation(noise, spectral, covariance, mock.shape[0])
        return mock_module._clouds_needed(mock, forms, correlation, covariance)

    as_clouds = needed("wide", "white")
    area = np.pi / (4 * np.log(2)) * mock.beam[0] * mock.beam[1]
    # Clouds under a beam are correlated over twice its area; of 15 x 15 points some of that is cut off.
    sampled = int(0.55 * mock.beam[1]) ** 2
    assert needed("white", "white") / as_clouds == pytest.approx(2 * area / sampled, rel=0.35)
    assert needed("wide", "hanning") > 3 * as_clouds


class StubFit:
    """Posteriors that are Gaussian and right, or no detection below S/N 5."""

    def __init__(self, monkeypatch, forms):
        self.calls, self.forms = 0, forms
        self.mock = None
        real = calibration.draw_mock

        def draw(*args):
            self.mock = real(*args)
            return self.mock

        monkeypatch.setattr(calibration, "draw_mock", draw)
        monkeypatch.setattr(kinematics_nn, "fit", self, raising=False)
        monkeypatch.setattr(calibration, "observe_mock", lambda mock, rng, forms, galaxies: (None, 1.0))
        monkeypatch.setattr(calibration, "beams_across", lambda observation, best, forms: best["beams"])

    def __call__(self, cube, *, seed, method, **options):
        self.calls += 1
        truth = self.mock.truth
        if truth["snr"] < 5:
            raise NoEmission("no emission", "some")
        rng = np.random.default_rng(seed)

        samples = {
            name: SimpleNamespace(value=value + 0.1 * (rng.standard_normal() + rng.standard_normal(200)))
            for name, value in truth.items()
        }
        return SimpleNamespace(
            samples=samples,
            best_values=truth,
            forms=self.forms,
            meta={"n_effective": 200.0, "sample_efficiency": 1.0},
            flags=("FACE_ON",),
            observation=SimpleNamespace(
                data=np.full((1, 1, 1), truth["snr"]), rms=np.ones((1, 1, 1)), emission=np.ones((1, 1, 1), bool)
            ),
        )


def test_shards_give_what_one_process_gives_and_resume(tmp_path, monkeypatch, forms):
    stub = StubFit(monkeypatch, forms)
    calibration.calibrate(tmp_path / "one", n=25)
    assert stub.calls == 25
    for k in (1, 0):
        calibration.calibrate(tmp_path / "two", n=25, shard=(k, 2))
    one, two = (calibration.read_rows(tmp_path / name) for name in ("one", "two"))
    assert list(one["number"]) == list(range(25))
    for name in ("inclination_rank", "vmax_true", "snr", "status"):
        np.testing.assert_array_equal(one[name], two[name])
    before = stub.calls
    (tmp_path / "two" / "parts" / "000010-000019.ecsv").unlink()
    calibration.calibrate(tmp_path / "two", n=25)
    assert stub.calls == before + 10


def test_a_longer_run_adds_galaxies_and_a_shorter_one_takes_none_away(tmp_path, monkeypatch, forms):
    stub = StubFit(monkeypatch, forms)
    calibration.calibrate(tmp_path, n=6)
    calibration.calibrate(tmp_path, n=13)
    assert stub.calls == 13
    calibration.calibrate(tmp_path, n=4)
    assert stub.calls == 13
    rows = calibration.read_rows(tmp_path)
    assert list(rows["number"]) == list(range(13))
    calibration.calibrate(tmp_path / "whole", n=13)
    np.testing.assert_array_equal(rows["vmax_rank"], calibration.read_rows(tmp_path / "whole")["vmax_rank"])


def test_another_run_is_not_mixed_in(tmp_path, monkeypatch, forms):
    StubFit(monkeypatch, forms)
    calibration.calibrate(tmp_path, n=13)
    with pytest.raises(KinematicsError, match="another run, with seed=1; needed: seed=2"):
        calibration.calibrate(tmp_path, n=2, seed=2)
    with pytest.raises(KinematicsError, match="another run"):
        calibration.calibrate(tmp_path, n=10, method="network")


def test_what_is_not_detected_is_counted(tmp_path, monkeypatch, forms):
    StubFit(monkeypatch, forms)
    calibration.calibrate(tmp_path, n=60)
    rows = calibration.read_rows(tmp_path)
    faint = np.array(rows["snr_true"]) < 5
    assert 0 < faint.sum() < 60
    np.testing.assert_array_equal(rows["status"] == "refused", faint)
    table = calibration.report(rows, least=15)
    assert table.meta["n_fitted"] == 60 - faint.sum()
    assert table.meta["reasons"] == {"NoEmission": faint.sum()}
    assert table.meta["flags"] == {"FACE_ON": table.meta["n_fitted"]}
    # Right posteriors: sigma of the stub is that of its errors.
    line = table[(table["by"] == "all") & (table["parameter"] == "vmax")][0]
    assert abs(line["in_68"] - 0.68) < 3 * line["in_68_error"]
    bins = table[(table["by"] == "snr") & (table["parameter"] == "vmax")]
    assert all(bins["n"] >= 15)


def test_the_command_writes_tables_and_a_figure(tmp_path, monkeypatch, forms, capsys):
    StubFit(monkeypatch, forms)
    command = f"calibrate --out {tmp_path} --n 20 --shard 1/1 --least 5 --method network"
    assert main(command.split()) == 0
    assert {"galaxies.ecsv", "coverage.ecsv", "coverage.inc", "coverage.png"} <= {p.name for p in tmp_path.iterdir()}
    text = (tmp_path / "coverage.inc").read_text()
    assert "20 galaxies of our own simulator" in text
    assert f"version {kinematics_nn.__version__}, weights " in text
    assert "``v22_sini``" in text
    assert "median bias below 30°" in text
    assert "20 of 20 galaxies done" in capsys.readouterr().err
    assert main(f"calibrate --out {tmp_path} --shard 3/2".split()) == 2
    assert "i/N" in capsys.readouterr().err


def test_truths_of_other_priors_than_the_fits_are_refused(tmp_path):
    for options in ({"fixed": {"thickness": 0}}, {"priors": {"inclination": (60, 3)}}, {"thickness": 0}):
        with pytest.raises(KinematicsError, match="the default priors"):
            calibration.calibrate(tmp_path, n=10, options=options)


def test_a_run_with_other_weights_is_another_run(tmp_path, monkeypatch, forms):
    StubFit(monkeypatch, forms)
    calibration.calibrate(tmp_path, n=10, method="network")
    told = calibration.read_rows(tmp_path).meta["run"]
    assert told["version"] == kinematics_nn.__version__
    found = "kinematics_nn.network.weights.weights_info"
    monkeypatch.setattr(found, lambda weights: {"sha256": "0123456789abcdef"})
    with pytest.raises(KinematicsError, match="weights='0123456789ab'"):
        calibration.calibrate(tmp_path, n=20, method="network")


def test_a_small_run_of_the_network_is_sound(tmp_path):
    calibration.calibrate(tmp_path, n=10, method="network", options={"n_samples": 1000})
    rows = calibration.read_rows(tmp_path)
    assert set(rows["status"]) <= {"ok", "refused"}
    fitted = rows[rows["status"] == "ok"]
    assert len(fitted) >= 7
    # Conventions: wrong by half a turn or a pixel, errors would be tens of sigma; six allow what a network is off by.
    for name in ("pa", "x", "y", "vsys", "r50"):
        off = (fitted[f"{name}_p50"] - fitted[f"{name}_true"]) / fitted[f"{name}_sigma"]
        assert np.median(abs(off)) < 3, name
