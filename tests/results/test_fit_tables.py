"""The tables of a fit: statistics, circular angles, units, failed galaxies, files and back."""

import json
import pickle

import astropy.units as u
import handmade
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.nddata.bitmask import bitfield_to_boolean_mask
from astropy.table import QTable, vstack

from kinematics_nn.decoder import Forms
from kinematics_nn.errors import FormError, KinematicsError, WrongUnit
from kinematics_nn.forms import FormParameter, LogUniform, RotationCurve
from kinematics_nn.results import KinematicFit, KinematicFlags, decode_flags, read_table
from kinematics_nn.results.tables import STATISTICS, parameter_columns, statistics, unwrap
from kinematics_nn.results.text import rounded

FORMATS = [".ecsv", ".fits", ".fits.gz", ".vot"]


def test_statistics_of_a_gaussian():
    draws = np.random.default_rng(0).normal(5, 2, 200_000)
    got = statistics(draws)
    # Closed forms of the Gaussian; 0.02 is four standard errors of the widest of these.
    expected = {"": 5, "_std": 2, "_meandev": 2 * np.sqrt(2 / np.pi), "_p16": 3.011, "_p50": 5, "_p84": 6.989}
    assert got == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("centre", [0.0, 2.0, 90.0, 179.0, 270.0, 358.5])
def test_unwrap_keeps_angles_together(centre):
    draws = np.random.default_rng(0).normal(centre, 5, 2000)
    angles = unwrap(draws % 360)
    assert 0 <= angles.mean() < 360
    assert angles.std() == pytest.approx(draws.std(), rel=1e-9)
    assert np.allclose(np.cos(np.deg2rad(angles - draws)), 1)


def test_summary_has_every_statistic_with_units(fit, forms):
    row = fit.summary
    assert len(row) == 1
    units = {
        "ra": u.deg,
        "x": u.pix,
        "vsys": u.km / u.s,
        "flux": u.Jy * u.km / u.s,
        "r_scale": u.arcsec,
        "w50": u.km / u.s,
    }
    for name in fit.samples.colnames:
        for suffix in STATISTICS:
            assert np.isfinite(row[name + suffix][0])
    for name, unit in units.items():
        assert row[name].unit == unit
    assert row["method"][0] == "network"
    assert row["reduced_chi2"][0] == 1.02
    assert row["sample_efficiency"].mask[0]
    assert decode_flags(row["flags"][0]) == ("LOW_SNR", "POOR_FIT") == fit.flags
    assert row.meta["weights"] == {"name": "first", "sha256": "ab" * 32, "layers": [1, 2, 3]}
    assert "reduced_chi2" not in row.meta


def test_position_angle_is_circular(fit):
    """Samples about 2 degrees with a spread of 4 lie on both sides of north; a plain mean would be near 120."""
    row = fit.summary[0]
    assert row["pa"].value == pytest.approx(2, abs=0.3)
    assert row["pa_std"].value == pytest.approx(4, rel=0.1)
    assert row["pa_p16"].value == pytest.approx(-2, abs=0.5)
    assert np.ptp(fit.samples["pa"].value) < 60


def test_position_on_sky_and_in_the_input_image(fit):
    row = fit.summary[0]
    # 3 arcsec east and 1.5 south of the reference pixel (29, 24), 1.5 arcsec a pixel, east to the left; the tolerance
    # is five standard errors of the mean of 4000 samples.
    assert row["x"].value == pytest.approx(27, abs=0.01)
    assert row["y"].value == pytest.approx(23, abs=0.01)
    reference = SkyCoord(359.999, -35, unit="deg")
    centre = SkyCoord(row["ra"], row["dec"])
    east, north = reference.spherical_offsets_to(centre)
    assert east.arcsec == pytest.approx(3, abs=0.01)
    assert north.arcsec == pytest.approx(-1.5, abs=0.01)
    # The reference lies 3.6 arcsec from RA 0, so that the samples straddle it.
    assert row["ra_std"].to_value(u.arcsec) == pytest.approx(0.06 / np.cos(np.deg2rad(35)), rel=0.1)


def test_the_best_angle_is_on_the_turn_of_the_samples(fit):
    samples = fit._samples
    turned = KinematicFit(fit.observation, fit.forms, samples, meta={}, best=fit.best_values | {"pa": 361.0})
    assert turned.best_values["pa"] == pytest.approx(1.0)


def test_best_defaults_to_a_sample_near_the_median(fit):
    best = fit.best_values
    index = np.flatnonzero(fit.samples["vsys"].value == best["vsys"])
    assert len(index) == 1
    distance = [abs(best[name] - np.median(fit.samples[name].value)) / fit.samples[name].value.std() for name in best]
    # Of 4000 draws in 15 dimensions the nearest lies about one sigma a dimension away; a random one far beyond.
    assert np.sqrt(np.mean(np.square(distance))) < 0.7


def test_distance_gives_radii_in_kpc(observation, forms, fit):
    far = KinematicFit(observation, forms, fit._samples, meta={"distance": "10 Mpc"})
    row = far.summary[0]
    # 10 Mpc: an arcsec is 48.481 pc.
    assert row["r_scale_kpc"].to_value(u.pc) == pytest.approx(row["r_scale"].value * 48.481, rel=1e-4)
    assert {"r50_kpc", "r_turn_kpc_p84", "thickness_kpc"} <= set(far.summary.colnames)
    assert not {"east_kpc", "vsys_kpc", "r50_kpc"} & set(fit.summary.colnames)
    failed = KinematicFit.failed(forms, "no", meta={"distance": "10 Mpc"})
    assert failed.summary.colnames == far.summary.colnames


def test_samples_that_do_not_fit_the_forms(observation, forms, fit):
    samples = dict(fit._samples)
    del samples["r_turn"]
    with pytest.raises(ValueError, match="r_turn"):
        KinematicFit(observation, forms, samples, meta={})
    samples["r_turn"] = np.ones(3)
    with pytest.raises(ValueError, match="one length"):
        KinematicFit(observation, forms, samples, meta={})


def test_unknown_flag(observation, forms):
    with pytest.raises(ValueError, match="LOW_SNR"):
        KinematicFit(observation, forms, None, meta={}, flags=["LOW_SNT"])


def test_failed_galaxy_has_the_same_columns_masked(fit, forms):
    failed = KinematicFit.failed(forms, "no emission", meta={"method": "network"})
    row = failed.summary
    assert row.colnames == fit.summary.colnames
    assert row["inclination"].mask[0]
    assert row["vmax_p84"].mask[0]
    assert row["reduced_chi2"].mask[0]
    assert (row["status"][0], row["message"][0]) == ("failed", "no emission")
    assert {name: row[name].unit for name in row.colnames} == {name: fit.summary[name].unit for name in row.colnames}
    with pytest.raises(KinematicsError, match="no emission"):
        failed.samples  # noqa: B018
    both = vstack([fit.summary, row], metadata_conflicts="silent")
    assert list(both["inclination"].mask) == [False, True]
    assert list(both["status"]) == ["ok", "failed"]


def forms_with(*names, unit=""):
    """Forms whose rotation curve has parameters of these names."""
    parameters = tuple(FormParameter(name, unit, 1.0, (0.1, 10.0), LogUniform(0.1, 10.0), name) for name in names)
    curve = type("Named", (RotationCurve,), {"name": "named", "parameters": parameters})
    return Forms(curve, handmade.Exponential, handmade.Constant)


@pytest.mark.parametrize(
    ("names", "unit", "clash"),
    [
        (("vmax", "vmax_std"), "km/s", "vmax_std"),
        (("vmax_p16", "vmax"), "km/s", "vmax_p16"),
        (("r_turn", "r_turn_kpc"), "arcsec", "r_turn_kpc"),
        (("r50_kpc",), "arcsec", "r50_kpc"),
        (("inclination_p84",), "", "inclination_p84"),
        (("r_scale_kpc_std",), "", "r_scale_kpc_std"),
        (("flags",), "", "flags"),
        (("w50",), "km/s", "w50"),
    ],
)
def test_parameters_whose_columns_would_be_another_s_are_refused(names, unit, clash):
    with pytest.raises(FormError, match=f"named {clash}, as a column"):
        parameter_columns(forms_with(*names, unit=unit), u.one)


def test_every_parameter_has_its_own_columns_otherwise():
    assert {"vmax", "vmax_kpc", "std"} <= set(parameter_columns(forms_with("vmax", "vmax_kpc", "std"), u.one))


@pytest.mark.parametrize("suffix", FORMATS)
def test_summary_round_trip(fit, tmp_path, suffix):
    path = tmp_path / f"galaxy{suffix}"
    fit.write(path)
    back = read_table(path)
    assert isinstance(back, QTable)
    assert back.colnames == fit.summary.colnames
    for name in back.colnames:
        assert back[name].unit == fit.summary[name].unit
        if name != "sample_efficiency":
            assert back[name][0] == fit.summary[name][0], name
    assert np.ma.getmaskarray(back["sample_efficiency"])[0]
    assert back.meta == fit.summary.meta


@pytest.mark.parametrize("suffix", FORMATS)
def test_failed_round_trip(forms, tmp_path, suffix):
    path = tmp_path / f"galaxy{suffix}"
    KinematicFit.failed(forms, "no emission above 3σ", meta={"seed": 1}).write(path)
    back = read_table(path)
    assert back["inclination"].mask[0]
    assert back["inclination"].unit == u.deg
    # FITS holds ASCII alone.
    assert back["message"][0] == ("no emission above 3\\u03c3" if "fits" in suffix else "no emission above 3σ")
    assert back.meta == {"seed": 1}


@pytest.mark.parametrize("suffix", FORMATS)
def test_samples_round_trip(fit, tmp_path, suffix):
    path = tmp_path / f"samples{suffix}"
    fit.write_samples(path)
    back = read_table(path)
    assert back.colnames == fit.samples.colnames
    for name in back.colnames:
        assert np.array_equal(back[name], fit.samples[name])


def test_nothing_is_replaced_or_half_written(fit, tmp_path, monkeypatch):
    path = tmp_path / "galaxy.ecsv"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite"):
        fit.write(path)
    assert path.read_text() == "mine"

    def broken(table, partial, **kwargs):
        partial.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(QTable, "write", broken)
    with pytest.raises(OSError, match="disk full"):
        fit.write(path, overwrite=True)
    assert path.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["galaxy.ecsv"]


def test_unknown_suffix(fit, tmp_path):
    with pytest.raises(ValueError, match="ecsv"):
        fit.write(tmp_path / "galaxy.dat")


def test_provenance_is_made_plain(observation, forms, fit):
    class Version(str):
        """As torch's, a str that YAML does not know."""

    meta = {
        "torch": Version("2.13"),
        "seed": np.int64(3),
        "noise": {"fwhm": np.array([1.0, 2.0])},
        "versions": ("a", "b"),
        5: 6 * u.km,
    }
    again = KinematicFit(observation, forms, fit._samples, meta=meta)
    assert again.summary.meta == {
        "torch": "2.13",
        "seed": 3,
        "noise": {"fwhm": [1.0, 2.0]},
        "versions": ["a", "b"],
        "5": "6.0 km",
    }
    assert type(again.summary.meta["torch"]) is str
    assert json.dumps(again.summary.meta)


def test_flags_serve_many_rows():
    rows = np.array([0, 1, 128, 129])
    selected = bitfield_to_boolean_mask(rows, "~POOR_FIT", flag_name_map=KinematicFlags)
    assert list(selected) == [False, False, True, True]


def test_curves_of_samples_depart_where_the_samples_say(fit, observation, forms):
    """One node of nine, at the half-light radius, a tenth faster: there alone."""
    samples = handmade.make_samples()
    bend = np.zeros((len(samples["vsys"]), 9))
    bend[:, 4] = 0.1
    bent = KinematicFit(observation, forms, samples | {"bend": bend}, meta=fit.meta)
    assert bent.samples.colnames == fit.samples.colnames
    r50 = np.median(samples["r50"])
    radii = [0.2 * r50, r50, 3 * r50] * u.arcsec
    ratio = np.median(bent.rotation_curve_samples(radii) / fit.rotation_curve_samples(radii), axis=0)
    # Radii are of all samples alike, whose own half-light radii scatter about theirs.
    np.testing.assert_allclose(ratio, [1, 1.1, 1], atol=0.02)


def test_rotation_curve_samples(fit):
    radii = [0, 3, 60] * u.arcsec
    curves = fit.rotation_curve_samples(radii)
    assert curves.shape == (4000, 3)
    assert curves.unit == u.km / u.s
    vmax, r_turn = (fit.samples[name].value for name in ("vmax", "r_turn"))
    assert np.allclose(curves[:, 0].value, 0)
    assert np.allclose(curves[:, 2].value, vmax * 2 / np.pi * np.arctan(60 / r_turn))
    few = fit.rotation_curve_samples(1 * u.arcmin, n=10)
    assert few.shape == (10, 1)
    assert few[-1, 0] == curves[-1, 2]
    with pytest.raises(WrongUnit, match="no distance"):
        fit.rotation_curve_samples(3 * u.km)
    with pytest.raises(WrongUnit, match="radii in s"):
        fit.rotation_curve_samples(3 * u.s)
    with pytest.raises(WrongUnit, match="radii in no unit"):
        fit.rotation_curve_samples(3)


def test_radii_in_kpc_where_the_distance_is_known(fit, observation, forms):
    far = KinematicFit(observation, forms, fit._samples, meta={"distance": 16 * u.Mpc})
    radii = [3, 60] * u.arcsec
    in_kpc = (radii * 16 * u.Mpc).to(u.kpc, u.dimensionless_angles())
    speeds = far.rotation_curve_samples(radii, n=5)
    assert u.allclose(far.rotation_curve_samples(in_kpc, n=5), speeds, rtol=1e-12)
    curve = pickle.loads(pickle.dumps(far.rotation_curve))
    assert u.allclose(curve(in_kpc), curve(radii), rtol=1e-12)
    with pytest.raises(u.UnitsError):
        fit.rotation_curve(in_kpc)


def test_pickles_with_the_same_numbers(fit):
    fit.summary  # noqa: B018
    fit.cube = lambda: "what does not pickle"
    again = pickle.loads(pickle.dumps(fit))
    assert again.cube is None
    assert again.flags == fit.flags
    assert again.summary["inclination"] == fit.summary["inclination"]
    with pytest.raises(KinematicsError, match=r"fit\.cube"):
        again.residual_cube  # noqa: B018


def test_words(fit, forms):
    text = repr(fit)
    assert "Hand-made" in text
    assert "LOW_SNR POOR_FIT" in text
    line = next(line for line in text.splitlines() if line.split()[0] == "vsys").split()
    assert float(line[1]) == pytest.approx(1500, abs=0.2)
    assert float(line[2]) == pytest.approx(1, abs=0.1)
    assert line[-3:] == ["km", "/", "s"]
    page = KinematicFit.failed(forms, "<script>bad</script>")._repr_html_()
    assert "<script>" not in page
    assert "failed" in page


@pytest.mark.parametrize(
    ("value", "errors", "expected"),
    [
        (203.4567, (1.234,), ("203.5", "1.2")),
        (0.012345, (0.000456,), ("0.01235", "0.00046")),
        (1234.5, (250.0,), ("1234", "250")),
        (60.0, (0.0,), ("60.00", "0.00")),
    ],
)
def test_rounded_to_the_error(value, errors, expected):
    assert rounded(value, *errors) == expected
