"""Weights on disk: what is written is read, with what it is, and nothing global moves."""

import hashlib
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from kinematics_nn.errors import KinematicsError
from kinematics_nn.network import weights
from kinematics_nn.network.encoder import KinematicEncoder
from kinematics_nn.network.frame import FACTS, PIXELS, PLANES, WITHOUT_DISC
from kinematics_nn.network.targets import TARGETS
from kinematics_nn.network.weights import DEFAULT, list_weights, load_encoder, save_encoder, weights_info


@pytest.fixture
def encoder():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = KinematicEncoder((8, 8, 8, 16), bottleneck=16, context=16, dropout=0.2, couplings=2).eval()
    with torch.no_grad():
        made.target_matrix.copy_(torch.eye(len(TARGETS)) * (1 + 1e-5))
        made.facts_mean.fill_(1e-5)
    return made


def test_what_is_written_is_read(encoder, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_encoder(encoder, path, {"galaxies": 12, "training": {"rate": 1e-3}})
    read = load_encoder(str(path))
    assert not read.training
    assert read.settings == encoder.settings
    for name, value in encoder.state_dict().items():
        # Matrices are written in half precision, 2^-11; the whitening is not, for its inverse is taken.
        half = value.dtype.is_floating_point and value.ndim > 1 and name != "target_matrix"
        assert_close(read.state_dict()[name], value, rtol=5e-4 if half else 0, atol=1e-7 if half else 0, msg=name)
        assert read.state_dict()[name].dtype == value.dtype


def test_colleagues_may_read_what_is_written(encoder, tmp_path):
    path, other = tmp_path / "w.safetensors", tmp_path / "other"
    save_encoder(encoder, path, {})
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


def test_metadata_says_what_they_are(encoder, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_encoder(encoder, path, {"galaxies": 12, "training": {"rate": 1e-3}, "version": "0.1"})
    info = weights_info(str(path))
    assert info["name"] == "mine"
    assert info["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (info["galaxies"], info["training"], info["version"]) == (12, {"rate": 1e-3}, "0.1")
    assert info["settings"] == encoder.settings
    assert [p.name for p in tmp_path.iterdir()] == ["mine.safetensors"], "no temporary file is left"


def test_missing_weights_are_named_with_those_there_are():
    with pytest.raises(KinematicsError, match=r"no weights 'nicer'.*default.*kinematics-nn train"):
        load_encoder("nicer")


def test_a_file_that_holds_no_weights_is_named(tmp_path):
    from safetensors.torch import save_file

    broken, other = tmp_path / "broken.safetensors", tmp_path / "other.safetensors"
    broken.write_bytes(b"no weights at all")
    save_file({"x": torch.zeros(1)}, other, metadata={"settings": "{}"})
    for path in (broken, other):
        with pytest.raises(KinematicsError, match=f"{path.name}.*weights that this package wrote"):
            load_encoder(str(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(KinematicsError, match=r"gone\.safetensors"):
        weights_info(str(tmp_path / "gone.safetensors"))


def test_loading_leaves_the_random_state(encoder, tmp_path):
    path = tmp_path / "mine.safetensors"
    save_encoder(encoder, path, {})
    before = torch.random.get_rng_state()
    load_encoder(str(path))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_shipped_weights_are_of_this_network():
    info, encoder = weights_info(), load_encoder()
    assert info["name"] == DEFAULT
    assert {"settings", "training", "sha256"} <= set(info), "what they are"
    assert len(encoder.facts_mean) <= len(FACTS)
    assert encoder.target_mean.shape == (len(TARGETS),)
    with torch.no_grad():
        trunk = encoder.trunk(torch.zeros(1, PLANES, PIXELS // 2, PIXELS), torch.zeros(1, len(FACTS)))
        assert torch.isfinite(encoder.log_prob(encoder.target_mean[None], trunk)).all()
    # It ships inside the package: a few MB.
    assert sum(p.numel() for p in encoder.parameters()) * 2 < 8e6


def test_weights_say_how_many_facts_they_were_told(tmp_path):
    with torch.random.fork_rng():
        made = KinematicEncoder((8, 8, 16, 16), bottleneck=32, context=16, couplings=2, facts=20)
    save_encoder(made, tmp_path / "less.safetensors", {})
    assert len(load_encoder(tmp_path / "less.safetensors").facts_mean) == 20


def test_loaded_once_a_process():
    assert load_encoder() is load_encoder()


def test_the_users_weights_have_names(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "weights_folder", lambda: tmp_path)
    save_encoder(encoder, tmp_path / "mine.safetensors", {"forms": {"rotation_curve": "brandt"}})
    save_encoder(encoder, tmp_path / f"{DEFAULT}.safetensors", {})
    shipped = {DEFAULT, "maps"}
    assert [name for name in list_weights() if name not in shipped] == ["mine"]
    assert weights_info("mine")["forms"] == {"rotation_curve": "brandt"}
    assert weights_info(DEFAULT)["training"]["samples"] > 1e5, "what is shipped is not hidden by a file of its name"
    assert load_encoder("mine").settings == encoder.settings


def test_weights_that_were_trained_anew_are_read_anew(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "weights_folder", lambda: tmp_path)
    path = tmp_path / "mine.safetensors"
    save_encoder(encoder, path, {"galaxies": 1})
    first = load_encoder("mine")
    save_encoder(encoder, path, {"galaxies": 2})
    os.utime(path, ns=(0, 1))  # the clock of a file system may be coarse
    assert weights_info("mine")["galaxies"] == 2
    assert load_encoder("mine") is not first


def test_weights_of_facts_that_have_changed_are_refused(tmp_path):
    with torch.random.fork_rng():
        made = KinematicEncoder((8, 8, 16, 16), bottleneck=32, context=16, couplings=2, facts=WITHOUT_DISC + 1)
    save_encoder(made, tmp_path / "older.safetensors", {})
    with pytest.raises(KinematicsError, match="another meaning"):
        load_encoder(str(tmp_path / "older.safetensors"))


def test_weights_with_one_table_of_ranks_serve(encoder, tmp_path):
    path = tmp_path / "older.safetensors"
    save_encoder(encoder, path, {})
    tensors = load_file(path)
    tensors["ranks"] = tensors["ranks"][0]
    del tensors["ranks_snr"]
    with safe_open(path, framework="pt") as file:
        save_file(tensors, path, metadata=file.metadata())
    read = load_encoder(str(path))
    assert_close(read.ranks, encoder.ranks)
