"""`fit_maps` from door to table. The network is untrained: its draws lie about the frame, as wide as a prior."""

import pickle

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

import kinematics_nn
from kinematics_nn import cli
from kinematics_nn.errors import KinematicsError
from kinematics_nn.models import ArctanRotationCurve
from kinematics_nn.network.encoder import KinematicEncoder
from kinematics_nn.network.frame import make_frame
from kinematics_nn.network.targets import encode_targets, possible
from kinematics_nn.network.weights import list_weights, save_encoder
from kinematics_nn.training.maps import MapSimulator
from kinematics_nn.training.objectives import target_floor

PA, VSYS = 120.0, 2400.0


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network that knows the scale of everything and nothing else."""
    frames = []
    for seed in range(6):
        cubes, disc = MapSimulator(seed, shape=(40, 40))(8)
        frame = make_frame(cubes)
        frames.append((frame.facts, encode_targets(disc, frame)))
    facts, targets = (torch.cat(column) for column in zip(*frames, strict=True))
    good = possible(targets)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = KinematicEncoder()
    encoder.standardise(facts[good], targets[good], target_floor())
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_encoder(encoder.eval(), path, {"input": "maps"})
    return str(path)


@pytest.fixture(scope="module")
def maps():
    """HDUs of moments 1 and 0 of a disc, noise-free, blank where it is faint."""
    cube = kinematics_nn.simulate(
        shape=(50, 64, 64), inclination=50 * u.deg, pa=PA * u.deg, vsys=VSYS * u.km / u.s, channel_width=12 * u.km / u.s
    )
    cube = cube.with_spectral_unit(u.km / u.s)
    lit = cube.with_mask(cube > 0.01 * cube.unmasked_data[:].max())
    with np.errstate(invalid="ignore"):
        moment0, moment1 = (lit.moment(order=k, how="slice") for k in (0, 1))
    return moment1.hdu, moment0.hdu


@pytest.fixture(scope="module")
def fit(maps, weights):
    return kinematics_nn.fit_maps(*maps, weights=weights, n_samples=400, seed=1, distance=10 * u.Mpc)


def test_the_disc_is_where_it_is(fit):
    samples = fit.samples
    assert len(samples) == 400
    # The frame's angle is within a few degrees, the draws about it 15 wide.
    assert np.median(samples["pa"].value) == pytest.approx(PA, abs=8)
    assert np.median(samples["vsys"].value) == pytest.approx(VSYS, abs=15)
    assert np.median(samples["x"].value) == pytest.approx(32, abs=2)
    assert samples["flux"].unit == u.Jy * u.km / u.s
    assert samples["r50_kpc"].unit == u.kpc


def test_the_summary_says_what_it_is(fit, weights):
    row = fit.summary
    assert row["method"][0] == "network"
    assert row["reduced_chi2"].mask[0], "maps have no noise"
    assert row.meta["input"] == ["moment1", "moment0"]
    assert row.meta["weights"]["name"] == "untrained"
    assert 0 <= row.meta["residual"] < 1


@pytest.mark.skipif("maps" not in list_weights(), reason="no trained weights of maps here")
@pytest.mark.parametrize("with_light", [True, False])
def test_trained_weights_find_a_disc(with_light):
    """Noisy maps of a disc, masked as surveys do; the posterior holds the truth and is no wider than it has to be."""
    truth = {"inclination": 55 * u.deg, "pa": 210 * u.deg, "vsys": 30 * u.km / u.s}
    curve = kinematics_nn.models.ArctanRotationCurve(vmax=180 * u.km / u.s, r_turn=1.5 * u.arcsec)
    light = kinematics_nn.models.ExponentialDisc(r_scale=6 * u.arcsec)
    cube = kinematics_nn.simulate(
        **truth, beam=4 * u.arcsec, rotation_curve=curve, surface_brightness=light, rms=0.7 * u.mJy / u.beam, seed=2
    )
    moment0, moment1 = survey_maps(cube)
    fit = kinematics_nn.fit_maps(moment1, moment0 if with_light else None, n_samples=1000, seed=1)
    v22_sini = curve(2.2 * 6 * u.arcsec).to_value(u.km / u.s) * np.sin(np.deg2rad(55))
    # Each within three of its own sigma, and the sigmas of a map that is good: the widths of the prior are far above.
    for name, true, widest in (
        ("inclination", 55, 10), ("pa", 210, 3), ("vsys", 30, 5), ("v22_sini", v22_sini, 0.15 * v22_sini),
    ):  # fmt: skip
        values = fit.samples[name].value
        assert abs(np.median(values) - true) < 3 * values.std(), name
        assert values.std() < widest, name
    assert "POOR_FIT" not in fit.flags


def survey_maps(cube):
    """HDUs of moments 0 and 1 over the voxels above 4 sigma of the cube smoothed by a beam."""
    data = cube.unitless_filled_data[:]
    smooth = gaussian_filter(data, (1, 1.7, 1.7))
    light = np.where(smooth > 4 * np.sqrt(np.mean(smooth[smooth < 0] ** 2)), data, 0)
    velocity = cube.spectral_axis.to_value(u.km / u.s)
    moment0 = 10 * light.sum(0)
    moment0[moment0 <= 0] = np.nan
    moment1 = 10 * np.einsum("cyx,c->yx", light, velocity) / moment0
    header = cube.wcs.celestial.to_header()
    header.update({"BMAJ": 4 / 3600, "BMIN": 4 / 3600, "BPA": 0.0, "VELREF": 257})
    units = ((moment0, "Jy/beam.km/s"), (moment1, "km/s"))
    return [
        fits.PrimaryHDU(plane, fits.Header(header, copy=True) + fits.Header({"BUNIT": unit})) for plane, unit in units
    ]


def test_the_same_seed_the_same_samples(maps, weights, fit):
    again = kinematics_nn.fit_maps(*maps, weights=weights, n_samples=400, seed=1)
    np.testing.assert_array_equal(again.samples["pa"].value, fit.samples["pa"].value)


def test_without_moment_0(maps, weights):
    fit = kinematics_nn.fit_maps(maps[0], weights=weights, n_samples=200, seed=1)
    assert fit.samples["flux"].unit == u.arcsec**2
    assert fit.meta["input"] == ["moment1"]


def test_maps_of_the_model(maps, fit):
    model, rest = fit.model_moment1, fit.residual_moment1
    assert model.shape == maps[0].data.shape
    blank = ~np.isfinite(maps[0].data)
    assert not np.isfinite(model.value[blank]).any()
    seen = np.isfinite(rest.value)
    np.testing.assert_allclose((model + rest).value[seen], maps[0].data[seen], atol=0.01)
    # It recedes where the map does.
    high = maps[0].data > np.nanpercentile(maps[0].data, 90)
    assert model.value[high].mean() > VSYS > model.value[maps[0].data < np.nanpercentile(maps[0].data, 10)].mean()


def test_what_maps_do_not_have_is_refused(fit):
    for call in (lambda: fit.residual_cube, fit.verify):
        with pytest.raises(KinematicsError, match="moment maps"):
            call()
    with pytest.raises(KinematicsError, match="without weights"):
        _ = fit.weighted_samples


def test_what_else_a_fit_gives(fit):
    assert fit.plot().axes
    assert len(fit.rings) > 3
    assert fit.model_cube.unit == u.Jy / u.beam
    assert len(pickle.loads(pickle.dumps(fit)).samples) == len(fit)


def test_noise_is_no_disc(maps, weights):
    field = np.random.default_rng(1).normal(VSYS, 100, (40, 40)) * u.km / u.s
    fit = kinematics_nn.fit_maps(
        field, wcs=WCS(maps[0].header), beam=4 * u.arcsec, weights=weights, n_samples=200, seed=1
    )
    assert "POOR_FIT" in fit.flags


def test_priors_weigh(maps, weights):
    fit = kinematics_nn.fit_maps(
        *maps, weights=weights, n_samples=1000, seed=1, priors={"inclination": (50 * u.deg, 3 * u.deg)}
    )
    assert abs(np.median(fit.samples["inclination"].value) - 50) < 3
    assert fit.meta["n_effective"] < 500


def test_what_models_bound_and_hold_counts(maps, weights):
    options = {"weights": weights, "n_samples": 400, "seed": 1}
    speed = ArctanRotationCurve(vmax=200 * u.km / u.s, bounds={"vmax": (150, 250)})
    bounded = kinematics_nn.fit_maps(*maps, rotation_curve=speed, **options).samples["vmax"].to_value(u.km / u.s)
    assert bounded.min() >= 150
    assert bounded.max() <= 250
    with pytest.raises(KinematicsError, match="vmax held fixed with method='network'"):
        kinematics_nn.fit_maps(*maps, rotation_curve=ArctanRotationCurve(fixed={"vmax": True}), **options)


def test_weights_are_for_one_input(maps, weights, monkeypatch):
    with pytest.raises(KinematicsError, match="'default', trained on cubes"):
        kinematics_nn.fit_maps(maps[0], weights="default")
    with pytest.raises(KinematicsError, match="'untrained', trained on maps"):
        kinematics_nn.fit("nowhere.fits", weights=weights)
    monkeypatch.setattr("kinematics_nn.network.weights.list_weights", dict)
    with pytest.raises(KinematicsError, match="kinematics-nn train maps --input maps"):
        kinematics_nn.fit_maps(maps[0])


def test_the_light_of_a_moment_0_needs_one(maps, weights):
    with pytest.raises(KinematicsError, match="without a moment 0"):
        kinematics_nn.fit_maps(maps[0], surface_brightness="moment0", weights=weights)


def test_the_command_line(tmp_path, maps, weights, capsys):
    paths = [str(tmp_path / f"mom{k}.fits") for k in (1, 0)]
    for hdu, path in zip(maps, paths, strict=True):
        fits.PrimaryHDU(hdu.data, hdu.header).writeto(path)
    out = str(tmp_path / "out.ecsv")
    options = ["--weights", weights, "--n-samples", "200", "--seed", "1", "--beam", "4 arcsec", "--output", out]
    assert cli.main(["fit-maps", paths[0], "--moment0", paths[1], *options]) == 0
    from kinematics_nn.results import read_table

    assert read_table(out)["vsys"][0].unit == u.km / u.s
    assert "inclination" in capsys.readouterr().out
