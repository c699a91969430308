"""Model cards: all that is in the metadata is said, with its meaning, and the commands are those that were given."""

from dataclasses import asdict, fields
from importlib.resources import files
from pathlib import Path

import pytest
from astropy.table import Table

from kinematics_nn.cli import main
from kinematics_nn.errors import KinematicsError
from kinematics_nn.network.weights import load_encoder, save_encoder, weights_info
from kinematics_nn.training.card import _meanings, model_card, without_folders, write_card
from kinematics_nn.training.simulations import Ranges

FIRST = {"output": "/any/first", "store": "/some/where/frames", "galaxies": 4096, "seed": 2, "overwrite": True}
META = {
    "ranges": asdict(Ranges()),
    "training": {"samples": 480000, "batch": 128, "rate": 7e-4, "objective": "posterior", "half_precision": True},
    "command": {"output": "mine", "start": "first", "rate": 7e-4, "objective": "posterior", "overwrite": False},
    "start": {"name": "first", "sha256": "0123456789abcdef", "command": without_folders(FIRST)},
    "held_out_loss": 0.21179,
    "seconds": 7200,
    "forms": {"rotation_curve": "brandt"},
}


@pytest.fixture
def mine(tmp_path):
    save_encoder(load_encoder(), tmp_path / "mine.safetensors", META)
    return tmp_path / "mine.safetensors"


def test_every_range_of_the_simulations_has_a_meaning(mine):
    card = write_card(mine).read_text()
    for field in fields(Ranges):
        assert _meanings()[field.name], field.name
        assert f"| `{field.name}` |" in card
    assert "| `snr` | 2.5 to 100 | peak voxel over noise. |" in card


def test_holds_what_a_reader_needs(mine):
    card = write_card(str(mine)).read_text()
    said = ("0.212 nat", "| galaxies a step | 128 |", "| hours | 2 |", "rotation curve brandt", "not measured")
    for text in (*said, weights_info(str(mine))["sha256"]):
        assert text in card, text


def test_the_commands_are_those_given_in_order_without_folders(mine):
    card = write_card(mine).read_text()
    first = "kinematics-nn train first --store frames --galaxies 4096 --seed 2"
    assert f"```\n{first}\nkinematics-nn train mine --from first --rate 0.0007 --objective posterior\n```" in card


def test_the_commands_say_where_random_numbers_were_of_a_gpu(tmp_path):
    save_encoder(load_encoder(), tmp_path / "mine.safetensors", META | {"device": "cuda"})
    card = write_card(tmp_path / "mine.safetensors").read_text()
    assert "kinematics-nn train mine --from first --rate 0.0007 --objective posterior --device cuda\n" in card
    assert "--seed 2\n" in card, "the first on a processor"


def test_no_folder_of_who_trained_is_kept():
    """Not those of cubes, either, nor in what ships."""
    kept = without_folders(
        {"fine_tune": ["/my/a.fits", "b.fits"], "store": None, "start": "/x/mine.safetensors", "seed": 1}
    )
    assert kept == {"fine_tune": ["a.fits", "b.fits"], "store": None, "start": "mine.safetensors", "seed": 1}
    for name in ("default", "maps"):
        at = weights_info(name)
        while at:
            assert at.get("command", {}) == without_folders(at.get("command", {}))
            at = at.get("start")


def test_scores_are_those_of_a_calibration(mine, tmp_path, capsys):
    row = {"by": "all", "parameter": "pa", "in_50": 0.5, "in_68": 0.671, "in_95": 0.94, "bias": -0.02, "scatter": 1.0}
    table = Table([row, row | {"by": "snr", "in_68": 0.111}])
    table.meta = {"run": {"galaxies": "kinms", "method": "network"}, "n_fitted": 997}
    with pytest.raises(KinematicsError, match="calibration"):
        write_card(mine, [tmp_path])
    table.write(tmp_path / "coverage.ecsv")
    assert main(["card", str(mine), "--scores", str(tmp_path)]) == 0
    assert "wrote" in capsys.readouterr().err
    card = mine.with_suffix(".md").read_text()
    assert '997 galaxies of KinMS, `method="network"`' in card
    assert "| `pa` | 50.0 | 67.1 | 94.0 | -0.02 | 1.00 |" in card
    assert "11.1" not in card


@pytest.mark.parametrize(("name", "door"), [("default", "kinematics_nn.fit`"), ("maps", "kinematics_nn.fit_maps`")])
def test_the_shipped_cards_are_those_of_the_shipped_weights(name, door):
    card = (Path(str(files("kinematics_nn.network"))) / "weights" / f"{name}.md").read_text()
    assert weights_info(name)["sha256"] in card
    assert door in card


def test_a_card_of_weights_without_a_record():
    assert "not record how it began" in model_card({"name": "old"})
