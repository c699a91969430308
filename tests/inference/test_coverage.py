"""Ranks and coverage against posteriors that are right, too narrow, and displaced by known amounts."""

import numpy as np
import pytest
from astropy.table import Table
from scipy.stats import norm

from kinematics_nn.inference.coverage import LEVELS, coverage_table, equal_bins, error_table, rank_row
from kinematics_nn.results import KinematicFlags


def galaxies(n=2000, narrow=1.0, shift=0.0, seed=1):
    """Gaussian posteriors of unit width times ``narrow``, of a truth with a standard normal prior."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        truth = rng.standard_normal()
        data = truth + 0.5 * rng.standard_normal()
        # The posterior of a normal prior and a normal error of 0.5.
        mean, std = data * 0.8, np.sqrt(0.2)
        samples = mean + std * (shift + narrow * rng.standard_normal(400))
        rows.append(rank_row({"p": samples}, {"p": truth}, rng) | {"data": data})
    return Table(rows)


def test_right_posteriors_are_found_right():
    (line,) = coverage_table(galaxies(), ["p"])
    for level in LEVELS:
        # Three binomial errors of 2000.
        assert abs(line[f"in_{level}"] - level / 100) < 3 * line[f"in_{level}_error"]
    assert line["p_value"] > 0.01
    # The error of a median is 1.25 / sqrt(2000) = 0.03, that of a scatter is 0.04.
    assert abs(line["bias"]) < 0.09
    assert line["scatter"] == pytest.approx(1, abs=0.12)


def test_narrow_posteriors_cover_what_theory_says():
    (line,) = coverage_table(galaxies(narrow=0.5), ["p"])
    expected = 2 * norm.cdf(0.5 * norm.ppf(0.84)) - 1
    assert line["in_68"] == pytest.approx(expected, abs=3 * line["in_68_error"])
    assert line["p_value"] < 1e-6
    assert line["scatter"] == pytest.approx(2, abs=0.24)


def test_displaced_posteriors_show_their_bias():
    (line,) = coverage_table(galaxies(shift=0.5), ["p"])
    assert line["bias"] == pytest.approx(0.5, abs=0.09)
    assert line["p_value"] < 1e-6


def test_bins_of_what_is_reported_hold_the_level():
    # Binned by the truth, right posteriors would fail: those of extreme truths are pulled to the prior.
    table = coverage_table(galaxies(), ["p"], ("data",), least=400)
    bins = table[table["by"] == "data"]
    assert len(bins) == 5
    assert all(abs(bins["in_68"] - 0.68) < 3.5 * bins["in_68_error"])
    assert all(bins["low"][1:] >= bins["high"][:-1])


def test_bins_are_of_equal_count_and_large_enough():
    values = np.append(np.random.default_rng(1).random(500), np.nan)
    bins = equal_bins(values, 150)
    assert [len(index) for index in bins] == [167, 167, 166]
    assert values[bins[0]].max() <= values[bins[1]].min()
    assert len(equal_bins(values[:100], 150)) == 1


def test_an_angle_is_ranked_on_the_truths_turn():
    samples = (np.random.default_rng(1).normal(0, 3, 1000)) % 360
    row = rank_row({"pa": samples}, {"pa": 359.0}, np.random.default_rng(1))
    # 359 deg is a third of a sigma below the mean.
    assert row["pa_rank"] == pytest.approx(norm.cdf(-1 / 3), abs=0.05)
    assert abs(row["pa_p50"] - 359 - 1) < 0.5
    assert row["pa_sigma"] == pytest.approx(3, rel=0.1)


def test_truths_on_an_atom_have_uniform_ranks():
    rng = np.random.default_rng(1)
    samples = np.where(rng.random(1000) < 0.25, 0.0, rng.random(1000))
    ranks = [rank_row({"h": samples}, {"h": 0.0}, rng)["h_rank"] for _ in range(500)]
    # A quarter of the samples is at 0: so ranks fill the lowest quarter.
    assert max(ranks) <= 0.27
    assert np.mean(ranks) == pytest.approx(0.125, abs=0.02)


def test_errors_are_those_of_galaxies_seen_well():
    rng = np.random.default_rng(2)
    n = 4000
    true, off = rng.uniform(5, 90, n), rng.standard_normal(n)
    rows = Table({"snr": rng.uniform(4, 12, n), "beams": rng.uniform(2, 6, n), "channel": np.full(n, 10.0)})
    well = (rows["snr"] >= 8) & (rows["beams"] >= 4)
    size = np.where(well, 1.0, 30.0)  # what is not seen well is far off
    rows["inclination_true"], rows["inclination_p50"] = true, true + size * off
    rows["inclination_sigma"], rows["inclination_rank"] = size, np.full(n, 0.5)
    rows["inclination"] = rows["inclination_p50"]
    rows["vsys_true"], rows["vsys_p50"] = np.zeros(n), 2.0 * size * off
    rows["vsys_sigma"], rows["vsys_rank"] = np.ones(n), np.full(n, 0.5)
    rows["w50_true"] = np.where(np.arange(n) % 2, 5.0, 40.0)
    found = {(line["parameter"], line["of"]): line for line in error_table(rows)}
    line = found["inclination", "seen well"]
    assert line["n"] == well.sum()
    # A median of |normal| is 0.674; of a thousand its error is 0.025.
    assert line["median"] == pytest.approx(0.674, abs=0.075)
    assert line["error"] == pytest.approx(0.025, rel=0.4)
    # Half in units of a channel of 10, half of a line of 40: medians of 0.2 and 0.05 |normal|, together 0.064.
    assert found["vsys", "seen well"]["median"] == pytest.approx(0.064, abs=0.012)
    for part in ("true", "p50", "sigma", "rank"):
        rows[f"v22_sini_{part}"] = rows[f"inclination_{part}"]
    rows["flags"] = np.where(np.arange(n) % 4 == 0, int(KinematicFlags.BAND_EDGE | KinematicFlags.POOR_FIT), 128)
    rows["v22_sini_p50"][::4] += 100
    found |= {(line["parameter"], line["of"]): line for line in error_table(rows)}
    assert found["v22_sini", "seen whole"]["n"] == well[np.arange(n) % 4 > 0].sum()
    assert found["v22_sini", "seen whole"]["median"] < found["v22_sini", "seen well"]["median"]
    near = rows["inclination"] < 30
    assert found["inclination", "near face-on"]["n"] == near.sum()
    assert found["inclination", "near face-on"]["median"] == pytest.approx(np.median(off[near]), abs=1e-9)
