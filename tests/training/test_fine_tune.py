"""Fine-tuning on cubes without labels: their refined draws become targets, are kept, and are learnt."""

import json
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.table import QTable
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import kinematics_nn
from kinematics_nn.decoder import Forms
from kinematics_nn.errors import KinematicsError, KinematicsWarning
from kinematics_nn.forms import get_form
from kinematics_nn.models import ArctanRotationCurve, ExponentialDisc
from kinematics_nn.network.frame import FACTS
from kinematics_nn.network.targets import MULTIPLES, TARGETS
from kinematics_nn.network.weights import load_encoder, weights_info
from kinematics_nn.training import cli, fine_tune, runs
from kinematics_nn.training.fine_tune import FineTuning, Survey, fit_cubes, load_survey
from kinematics_nn.training.loop import Settings, Trainer
from kinematics_nn.training.objectives import simulated_posterior

KM_S = u.km / u.s
OPTIONS = {"rotation_curve": "arctan", "min_ess": 200}
SETTINGS = Settings(
    samples=25 * 12, batch=12, rate=1e-4, average=0.9, dropout=0.01, half_precision=False, objective="fine-tune"
)  # fmt: skip


def seeded():
    return torch.Generator().manual_seed(1)


def simulated(number, vsys=10 * KM_S, rms=1.0):
    return kinematics_nn.simulate(
        shape=(16, 24, 24), pixel_scale=1 * u.arcsec, channel_width=30 * KM_S, beam=3 * u.arcsec,
        inclination=55 * u.deg, pa=(40 + 70 * number) * u.deg, vsys=vsys, flux=10 * u.Jy * KM_S,
        velocity_dispersion=15 * KM_S, thickness=0.3 * u.arcsec, rms=rms * u.mJy / u.beam, seed=number,
        rotation_curve=ArctanRotationCurve(vmax=140 * KM_S, r_turn=1.5 * u.arcsec),
        surface_brightness=ExponentialDisc(r_scale=3 * u.arcsec),
    )  # fmt: skip


@pytest.fixture(scope="session")
def survey_folder(tmp_path_factory):
    """Two small cubes, and the draws of their refined posteriors (a few seconds each)."""
    folder = tmp_path_factory.mktemp("survey")
    for number in (0, 1):
        simulated(number + 2).write(folder / f"galaxy{number}.fits")
    fit_cubes(sorted(folder.glob("*.fits")), folder / "draws", **OPTIONS)
    return folder


@pytest.fixture
def survey(survey_folder):
    return load_survey(kept(survey_folder))


def kept(folder):
    return fit_cubes(sorted(map(str, folder.glob("*.fits"))), folder / "draws", **OPTIONS)[0]


def test_a_disc_is_on_the_axis_of_its_cube():
    forms = Forms(
        get_form("arctan", "rotation_curve"),
        get_form("exponential", "surface_brightness"),
        get_form("constant", "velocity_dispersion"),
    )
    given = {"inclination": 60.0, "pa": 90.0, "east": 1.0, "north": -2.0, "vsys": 29979.2458, "flux": 3.0}
    given |= {"thickness": 0.2, "vmax": 100.0, "r_turn": 2.0, "r_scale": 3.0, "velocity_dispersion": 10.0}
    given["r50"] = 1.678347 * 3.0
    values = {name: torch.tensor([value], dtype=torch.float64) for name, value in given.items()}
    disc = fine_tune.disc_of(forms, values, {"convention": "optical", "brightness_per_flux": 7.0})
    # At a tenth of the speed of light the optical axis is stretched by 1.1.
    radii = np.array(MULTIPLES) * given["r50"]
    assert disc.speed[0].tolist() == pytest.approx(110 * 2 / np.pi * np.arctan(radii / 2))
    assert float(disc.dispersion) == pytest.approx(11)
    # An exponential disc's brightness is flux / (2 pi r_scale^2) exp(-R / r_scale).
    assert disc.light[0].tolist() == pytest.approx(1.678347**2 * np.exp(-radii / 3))
    found = [float(getattr(disc, name)) for name in ("inclination", "pa", "east", "north", "vsys", "flux")]
    assert found == pytest.approx([np.pi / 3, np.pi / 2, 1, -2, 29979.2458, 21])


def test_the_draws_lie_where_the_network_looks(survey):
    assert [cube["name"] for cube in survey.cubes] == ["galaxy0.fits", "galaxy1.fits"]
    assert survey.data["facts"].shape == (2, len(FACTS))
    torch.testing.assert_close(survey.data["weight"].sum(1), torch.ones(2))
    encoder = load_encoder()
    with torch.no_grad():
        draws = encoder.sample(encoder.trunk(survey.data["image"].float(), survey.data["facts"]), 500, seeded())
    mean = (survey.data["weight"][..., None] * survey.data["targets"]).sum(1)
    off = (mean - draws.mean(1)) / draws.std(1)
    # Two posteriors of one galaxy: a wrong unit, axis or sign is tens of widths away (the flux, that of a beam's area).
    assert off.abs().max() < 3, dict(zip(TARGETS, off.abs().amax(0).tolist(), strict=True))


def test_only_new_cubes_are_fitted(survey_folder, tmp_path, monkeypatch):
    fitted = []

    def fit(task):
        fitted.append(Path(task[0]).name)
        return task[0], "not really"

    monkeypatch.setattr(fine_tune, "_fit", fit)
    assert len(kept(survey_folder)) == 2
    assert fitted == []
    paths = [*sorted(survey_folder.glob("*.fits")), tmp_path / "new.fits"]
    paths[2].write_bytes(paths[0].read_bytes()[:-1])
    found, refused = fit_cubes(paths, survey_folder / "draws", weights="other", **OPTIONS)
    assert fitted == ["new.fits"], "the weights are where a fit begins, not where it ends"
    assert (len(found), list(refused.values())) == (2, ["not really"])
    fit_cubes(paths[:1], survey_folder / "draws", **OPTIONS | {"rotation_curve": "tanh"})
    assert fitted == ["new.fits", "galaxy0.fits"], "another form has another posterior"


def test_cubes_without_a_trusted_fit_are_left_out_and_named(survey_folder, tmp_path):
    found = kept(survey_folder)
    first, second = found
    with safe_open(found[second], framework="pt") as file:
        about = json.loads(file.metadata()["about"])
    bad = tmp_path / found[second].name
    for flag in ("POOR_FIT", "LOW_EFFICIENCY"):
        about["flags"] = ["LOW_SNR", flag]
        save_file(load_file(found[second]), bad, metadata={"about": json.dumps(about)})
        with pytest.warns(KinematicsWarning, match=rf"galaxy1.fits \({flag}\).*|lost.fits \(no beam\)") as said:
            survey = load_survey({first: found[first], second: bad}, {"a/lost.fits": "no beam"})
        assert "lost.fits (no beam)" in str(said[0].message)
        assert [cube["name"] for cube in survey.cubes] == ["galaxy0.fits"]
        assert {cube["name"] for cube in survey.left_out} == {"galaxy1.fits", "lost.fits"}
    with pytest.warns(KinematicsWarning, match="galaxy1"), pytest.raises(KinematicsError, match="no cube"):
        load_survey({second: bad})


def test_a_cube_that_cannot_be_fitted_is_refused_by_name(tmp_path):
    hdu = simulated(0).hdu
    for key in ("BMAJ", "BMIN", "BPA"):
        del hdu.header[key]
    path = str(tmp_path / "bare.fits")
    hdu.writeto(path)
    found, refused = fit_cubes([path], tmp_path / "draws", **OPTIONS)
    assert found == {}
    assert "beam" in refused[path]
    assert not list((tmp_path / "draws").iterdir())


def test_a_file_that_is_no_cube_stops_no_survey(tmp_path):
    path = tmp_path / "junk.fits"
    path.write_bytes(b"no FITS file")
    found, refused = fit_cubes([path], tmp_path / "draws", **OPTIONS)
    assert found == {}
    assert "does not read as a cube" in refused[str(path)]


def test_draws_are_seen_as_often_as_their_weights_say():
    n = 3000
    numbered = torch.arange(4.0)[:, None] * torch.ones(len(TARGETS))
    weight = torch.tensor([0.1, 0.6, 0.3, 0.0])
    batch = {"image": torch.zeros(n, 1), "facts": torch.zeros(n, len(FACTS))}
    batch |= {"targets": numbered.repeat(n, 1, 1), "weight": weight.repeat(n, 1)}
    seen = {}

    class Encoder(torch.nn.Module):
        def trunk(self, image, facts):
            seen["rows"] = len(facts)

        def log_prob(self, targets, trunk):
            seen["r50"] = targets[:, TARGETS.index("r50")].round()  # no mirror turns it
            return targets[:, 0]

    FineTuning()(Encoder(), batch, seeded())
    share = torch.bincount(seen["r50"].long(), minlength=4) / n
    assert share.tolist() == pytest.approx(weight.tolist(), abs=4 * (0.25 / n) ** 0.5)
    mixed = {"image": torch.zeros(9, 1), "facts": torch.zeros(9, len(FACTS)), "targets": torch.full((9, 25), 7.0)}
    FineTuning(mixed)(Encoder(), batch, seeded())
    assert seen["rows"] == 2 * n
    assert int((seen["r50"] == 7).sum()) == n, "half are simulations"


def test_stores_and_draws_may_have_more_facts_than_the_weights_are_told(survey, frames):
    batch = {k: v[:2] for k, v in survey.data.items()}
    encoder = load_encoder()
    told = len(encoder.facts_mean)
    more, less = (frames | {"facts": frames["facts"][:, :n]} for n in (None, told))
    losses = [FineTuning(some)(encoder, batch, seeded()) for some in (more, less)]
    assert losses[0] == losses[1]


def test_the_log_density_of_draws_held_out_rises_and_simulations_are_remembered(survey, frames):
    mine, others = survey.split()
    held_out = others.drawn(200)
    forgot = {}
    for simulations in (frames, None):
        trainer = Trainer(SETTINGS, mine.data, FineTuning(simulations), start=load_encoder())
        statistics = trainer.encoder.image[0].down[1].running_mean.clone()
        before, known = (trainer.validate(data, simulated_posterior) for data in (held_out, frames))
        trainer.run()
        # Found: 3 nat in 25 steps.
        assert trainer.validate(held_out, simulated_posterior) < before - 1
        assert torch.equal(trainer.encoder.image[0].down[1].running_mean, statistics)
        forgot[simulations is None] = trainer.validate(frames, simulated_posterior) - known
    # What is mixed in is trained on too; without it the network goes on with the two cubes alone, and loses some of it.
    assert forgot[False] < 0 < forgot[True], forgot


def named(digests):
    n = len(digests)
    data = {"weight": torch.full((n, 4), 0.25), "number": torch.arange(n)}
    return Survey(data, [{"name": d, "digest": d, "role": "trained on"} for d in digests], [])


def test_a_cube_keeps_its_side_as_the_survey_grows():
    digests = [f"{k * 7919:x}" for k in range(40)]
    sides = {}
    for n in (12, 40):
        mine, others = named(digests[:n]).split()
        assert len(mine) + len(others) == n
        assert {cube["role"] for cube in others.cubes} == {"held out"}
        for cube in [*mine.cubes, *others.cubes]:
            assert sides.setdefault(cube["name"], cube["role"]) == cube["role"]
    assert len(others) == 8
    assert others.data["number"].tolist() == [int(cube["digest"], 16) // 7919 for cube in others.cubes]


def test_of_few_cubes_draws_are_held_out():
    mine, others = named(["1", "2"]).split()
    assert len(mine) == len(others) == 2
    assert not (mine.data["weight"] * others.data["weight"]).any()
    for side in (mine, others):
        torch.testing.assert_close(side.data["weight"].sum(1), torch.ones(2))


@pytest.fixture
def tune(survey_folder, shard, tmp_path, monkeypatch):
    """The command for the two cubes, with the options that their draws were made with."""
    store = tmp_path / "frames"
    store.mkdir()
    (store / shard.name).write_bytes(shard.read_bytes())
    monkeypatch.setattr(runs, "_HELD_OUT", 16)
    monkeypatch.setattr(runs, "_FINE_STEPS", 2)
    monkeypatch.setattr(fine_tune, "_kept", lambda path, folder, _, kept=fine_tune._kept: kept(path, folder, OPTIONS))

    def run(output, *more):
        parser = ArgumentParser()
        cli.add_arguments(parser)
        given = [output, "--fine-tune", *sorted(survey_folder.glob("*.fits")), "--draws", survey_folder / "draws"]
        given += ["--rotation-curve", "arctan", "--store", store, "--samples", 24, "--batch", 4, "--device", "cpu"]
        cli.run(parser.parse_args([str(word) for word in [*given, *more]]))

    return run


def test_the_command_tunes_given_weights(tune, tmp_path):
    output = tmp_path / "tuned.safetensors"
    tune(output)
    info = weights_info(str(output))
    assert info["start"]["name"] == "default"
    assert info["settings"]["dropout"] == weights_info()["settings"]["dropout"]
    assert [cube["name"] for cube in info["fine_tune"]["cubes"]] == ["galaxy0.fits", "galaxy1.fits"]
    assert info["fine_tune"]["simulations"] > 32
    assert info["held_out_loss"] < info["held_out_loss_before"]
    assert "simulations_loss" in info
    card = output.with_suffix(".md").read_text()
    assert "| galaxy1.fits | trained on |" in card
    assert "--fine-tune galaxy0.fits galaxy1.fits" in card
    fit = kinematics_nn.fit(simulated(1), weights=str(output), method="network", n_samples=200, seed=1)
    assert np.isfinite(fit.summary["pa_p50"].value).all()
    with pytest.raises(KinematicsError, match="no simulations"):
        tune(output, "--overwrite", "--store", tmp_path / "nothing")


def test_a_killed_fine_tuning_goes_on(tune, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole.safetensors", tmp_path / "broken.safetensors"
    tune(whole)
    save = Trainer.save

    def killed(self, path):
        save(self, path)
        if self.step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            tune(broken)
    tune(broken)
    one, two = (QTable.read(path.with_suffix(".ecsv")) for path in (whole, broken))
    for column in ("step", "loss", "held_out", "simulations"):
        assert list(one[column]) == pytest.approx(list(two[column])), column
    assert list(one["step"]) == [2, 4, 6]


def test_fewer_cubes_than_a_batch_make_a_batch(frames):
    few = {name: tensor[:3] for name, tensor in frames.items()}
    trainer = Trainer(replace(SETTINGS, batch=8), few, start=load_encoder())
    rows = trainer._batch()["facts"]
    assert len(rows) == 8
    assert len(rows.unique(dim=0)) == 3
