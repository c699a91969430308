"""``kinematics-nn train`` from frames to weights: the real command, stopped and resumed, and what it refuses."""

import json
import os
import subprocess
import sys
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event

import pytest
import torch
from astropy.table import QTable
from safetensors.torch import load_file, save_file

from kinematics_nn.cli import main
from kinematics_nn.errors import KinematicsError
from kinematics_nn.network import weights
from kinematics_nn.network.weights import list_weights, load_encoder, weights_info
from kinematics_nn.training import cli, runs
from kinematics_nn.training import store as store_room
from kinematics_nn.training.loop import Trainer

MAIN = "import sys; from kinematics_nn.cli import main; sys.exit(main())"


@pytest.fixture
def store(tmp_path, shard):
    """A folder with one shard of 64 galaxies: any number asked for up to `SHARD` is then there."""
    folder = tmp_path / "frames"
    folder.mkdir()
    os.link(shard, folder / "shard00000.safetensors")
    return folder


@pytest.fixture
def small(monkeypatch):
    """Fewer galaxies held out, for 64 there are, and checkpoints every second step."""
    monkeypatch.setattr(runs, "_HELD_OUT", 16)
    monkeypatch.setattr(runs, "_CHECKPOINT_STEPS", 2)


def arguments(*given):
    parser = ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args([str(a) for a in given])


def tiny(output, store, *more):
    given = ["--store", store, "--galaxies", 64, "--samples", 64, "--batch", 16, "--device", "cpu", "--seed", 1]
    return arguments(output, *given, *more)


def test_the_command_makes_weights_that_load(tmp_path, store):
    frames = load_file(store / "shard00000.safetensors")
    # The command holds 2000 galaxies out: the 64 are repeated.
    many = {name: tensor.repeat(34, *[1] * (tensor.ndim - 1)) for name, tensor in frames.items()}
    (store / "shard00000.safetensors").unlink()
    save_file(many, store / "shard00000.safetensors")
    output = tmp_path / "mine.safetensors"
    command = [sys.executable, "-c", MAIN, "train", output, "--store", store, "--galaxies", 64]
    command += ["--samples", 64, "--batch", 32, "--device", "cpu", "--dropout", 0.1]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"kinematics-nn fit CUBE.fits --weights {output}"), "the next call to make"
    info = weights_info(str(output))
    assert info["training"]["objective"] == "posterior"
    assert info["training"]["dropout"] == info["settings"]["dropout"] == 0.1
    assert load_encoder(str(output)).settings["dropout"] == 0.1
    table = QTable.read(output.with_suffix(".ecsv"))
    assert {"step", "seen", "loss", "held_out", "seconds"} <= set(table.colnames)
    assert output.with_suffix(".png").exists()
    assert "dropout 0.1" in output.with_suffix(".md").read_text()
    assert not output.with_suffix(".checkpoint").exists()


@pytest.mark.parametrize("objective", ["posterior", "reconstruction"])
def test_a_killed_run_goes_on(tmp_path, store, small, monkeypatch, objective):
    cli.run(tiny(tmp_path / "whole.safetensors", store, "--objective", objective))
    validate = Trainer.validate

    def killed(self, data):
        if self.step == 4:
            raise KeyboardInterrupt
        return validate(self, data)

    path = tmp_path / "broken.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "validate", killed)
        with pytest.raises(KeyboardInterrupt):
            cli.run(tiny(path, store, "--objective", objective))
    assert path.with_suffix(".checkpoint").exists()
    assert not path.exists()
    cli.run(tiny(path, store, "--objective", objective))
    whole, broken = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "broken"))
    for name, tensor in whole.items():
        assert torch.equal(broken[name], tensor), name
    tables = [QTable.read(tmp_path / f"{name}.ecsv") for name in ("whole", "broken")]
    assert list(tables[0]["step"]) == [2, 4]
    for column in ("step", "seen", "loss", "held_out", "galaxies"):
        assert list(tables[0][column]) == pytest.approx(list(tables[1][column])), column


def test_trains_while_galaxies_are_made(tmp_path, shard, small, monkeypatch):
    """Four shards, of which the last three are of a thread that waits for the training to begin."""
    for module in (store_room, runs):
        monkeypatch.setattr(module, "SHARD", 64)
    monkeypatch.setattr(store_room, "ProcessPoolExecutor", InThisProcess)
    began, run = Event(), Trainer.run

    def make(path, *_, **__):
        assert "shard00000" in path.name or began.wait(60), "the first shard is enough to begin with"
        os.link(shard, path)

    def running(self, *given, **options):
        began.set()
        return run(self, *given, **options)

    monkeypatch.setattr(store_room, "make_shard", make)
    monkeypatch.setattr(Trainer, "run", running)
    monkeypatch.setattr(runs, "_CHECKPOINT_STEPS", 500)  # more than there are: it grows more often than that
    monkeypatch.setattr(runs, "_GROWTHS", 8)
    given = ["--store", tmp_path / "frames", "--galaxies", 256, "--samples", 16 * 16, "--batch", 16, "--device", "cpu"]
    given.append("--meanwhile")
    cli.run(arguments(tmp_path / "whole.safetensors", *given))
    table = QTable.read(tmp_path / "whole.ecsv")
    n = len(load_file(shard)["facts"])
    # From an eighth at the beginning to all at half of the 16 steps; the first 16 galaxies are held out.
    assert list(table["step"]) == list(range(2, 17, 2))
    assert list(table["galaxies"]) == [k * n - 16 for k in (1, 2, 3, 4, 4, 4, 4, 4)]

    validate = Trainer.validate

    def killed(self, data):
        if self.step == 6:
            raise KeyboardInterrupt
        return validate(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "validate", killed)
        with pytest.raises(KeyboardInterrupt):
            cli.run(arguments(tmp_path / "broken.safetensors", *given))
    with pytest.raises(KinematicsError, match="settings"):
        cli.run(arguments(tmp_path / "broken.safetensors", *given[:-1]))
    for late in (2, 3):  # made while it goes on
        (tmp_path / "frames" / f"shard{late:05d}.safetensors").unlink()
    cli.run(arguments(tmp_path / "broken.safetensors", *given))
    again = QTable.read(tmp_path / "broken.ecsv")
    for column in ("step", "loss", "held_out", "galaxies"):
        assert list(again[column]) == pytest.approx(list(table[column])), column
    with pytest.raises(KinematicsError, match="simulates nothing"):
        cli.run(arguments(tmp_path / "x.safetensors", "--fine-tune", "cube.fits", "--meanwhile"))


def test_a_run_does_not_go_on_as_another(tmp_path, store, small, monkeypatch):
    def killed(self, data):
        if self.step == 4:
            raise KeyboardInterrupt
        return 0.0

    path = tmp_path / "mine.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "validate", killed)
        with pytest.raises(KeyboardInterrupt):
            cli.run(tiny(path, store))
    for changed in (("--objective", "reconstruction"), ("--dropout", 0.3)):
        with pytest.raises(KinematicsError, match="settings"):
            cli.run(tiny(path, store, *changed))
    assert not path.exists()


def test_an_output_that_exists_stays(tmp_path, store, small):
    output = tmp_path / "mine.safetensors"
    output.write_bytes(b"precious")
    with pytest.raises(KinematicsError, match="exists"):
        cli.run(tiny(output, store))
    assert output.read_bytes() == b"precious"
    cli.run(tiny(output, store, "--overwrite"))
    assert weights_info(str(output))["name"] == "mine"


def test_an_output_of_another_kind_is_refused_at_once(tmp_path):
    with pytest.raises(KinematicsError, match=r"\.safetensors"):
        cli.run(tiny(tmp_path / "mine.pt", tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists(), "nothing is simulated first"


def test_starts_from_weights(tmp_path, store, small):
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    cli.run(tiny(first, store))
    cli.run(tiny(second, store, "--from", first, "--rate", 1e-12))
    # At no rate at all nothing moves: half precision, once more rounded, is the same half precision.
    for name, tensor in load_file(first).items():
        # What is counted anew with every training is not the weights'.
        if not any(counted in name for counted in ("running", "num_batches", "ranks")):
            torch.testing.assert_close(load_file(second)[name], tensor, rtol=2e-3, atol=1e-6, msg=name)


def test_weights_keep_the_noise_that_they_were_trained_with(tmp_path, store, small):
    def freedom(path):
        return weights_info(str(path))["settings"]["freedom"]

    first, second, third = (tmp_path / f"{name}.safetensors" for name in ("first", "second", "third"))
    cli.run(tiny(first, store))
    # Far draws of heavy tails would be all of the mean that a reconstruction takes.
    cli.run(tiny(second, store, "--from", first, "--objective", "reconstruction"))
    cli.run(tiny(third, store, "--from", second))
    assert [freedom(path) for path in (first, second, third)] == [5.0, None, None]


def test_weights_that_are_not_there_are_refused_before_anything_is_simulated(tmp_path):
    with pytest.raises(KinematicsError, match="nope"):
        cli.run(tiny(tmp_path / "x.safetensors", tmp_path / "store", "--from", "nope"))
    assert not (tmp_path / "store").exists()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user who has trained nothing yet."""
    monkeypatch.setattr(weights, "weights_folder", lambda: tmp_path / "home")
    return tmp_path / "home"


def test_a_form_of_its_own_is_trained_where_fit_finds_it(tmp_path, home, small, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for module in (store_room, runs):
        monkeypatch.setattr(module, "SHARD", 64)  # seconds: the store is of 64 galaxies, simulated in this process
    monkeypatch.setattr(store_room, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(store_room, "make_shard", partial(store_room.make_shard, galaxies=64))
    given = ["--rotation-curve", "disc:freeman+halo:nfw", "--surface-brightness", "sersic", "--galaxies", 64]
    given += ["--samples", 64, "--batch", 16, "--device", "cpu", "--seed", 1]
    cli.run(arguments(*given))
    assert (home / "disc_freeman+halo_nfw-sersic.safetensors").exists()
    info = weights_info("disc_freeman+halo_nfw-sersic")
    assert info["forms"] == {"rotation_curve": "disc:freeman+halo:nfw", "surface_brightness": "sersic"}
    assert info["ranges"]["curves"] == {"disc:freeman+halo:nfw": 1.0}
    assert info["ranges"]["lights"] == {"sersic": 1.0}
    assert info["command"]["samples"] == 64
    described = json.loads((tmp_path / "frames-disc_freeman+halo_nfw-sersic" / "store.json").read_text())
    assert described["ranges"]["lights"] == {"sersic": 1.0}
    main(["info"])
    printed = capsys.readouterr().out
    assert "disc_freeman+halo_nfw-sersic (" in printed
    assert "default (" in printed
    assert f"sha256: {info['sha256']}" in printed
    assert printed.count("held_out_loss") == len(list_weights())  # and not those of all that came before
    with pytest.raises(KinematicsError, match="exists"):
        cli.run(arguments(*given))


def test_maps_are_trained_where_fit_maps_finds_them(tmp_path, home, small, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module in (store_room, runs):
        monkeypatch.setattr(module, "SHARD", 64)
    monkeypatch.setattr(store_room, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(store_room, "make_shard", partial(store_room.make_shard, galaxies=64))
    given = ["--input", "maps", "--galaxies", 64, "--samples", 32, "--batch", 16, "--device", "cpu"]
    cli.run(arguments(home / "maps.safetensors", *given))
    assert weights_info(home / "maps.safetensors")["input"] == "maps"
    assert json.loads((tmp_path / "frames-maps" / "store.json").read_text())["maps"]["uniform_share"] > 0
    with pytest.raises(KinematicsError, match="no cubes to render"):
        cli.run(arguments(home / "other.safetensors", *given, "--objective", "reconstruction"))


class InThisProcess(ThreadPoolExecutor):
    """A pool whose workers see what a test has changed."""

    def __init__(self, workers, mp_context, initializer, initargs):
        super().__init__(workers)


def test_a_training_of_other_forms_does_not_go_on(tmp_path, store, small, monkeypatch):
    def killed(self, data):
        raise KeyboardInterrupt

    (store / "store.json").unlink(missing_ok=True)
    path = tmp_path / "mine.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "validate", lambda self, data: killed(self, data) if self.step == 4 else 0.0)
        with pytest.raises(KeyboardInterrupt):
            cli.run(tiny(path, store))
    (store / "store.json").unlink()
    with pytest.raises(KinematicsError, match="settings"):
        cli.run(tiny(path, store, "--rotation-curve", "arctan"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--rotation-curve", "rings"], "made for each observation"),
        (["--rotation-curve", "disc:freeman+rest:rings"], "made for each observation"),
        (["--surface-brightness", "moment0"], "made for each observation"),
        (["--rotation-curve", "nicer"], "nicer"),
        (["default"], "the name of shipped weights"),
        (["some/where"], "a name"),
        ([], "a name"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_made(tmp_path, home, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KinematicsError, match=said):
        cli.run(arguments(*given))
    assert not list(tmp_path.iterdir())
