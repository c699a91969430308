"""A network trained on one form, by name in a fit: it fits that form, says so, and refuses others."""

import pytest

import kinematics_nn
from kinematics_nn.demo import simulate_galaxy
from kinematics_nn.errors import KinematicsError
from kinematics_nn.network import weights
from kinematics_nn.network.weights import load_encoder, save_encoder


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Weights named ``own``: the shipped ones, said to be of Brandt's curve alone."""
    monkeypatch.setattr(weights, "weights_folder", lambda: tmp_path)
    save_encoder(load_encoder(), tmp_path / "own.safetensors", {"forms": {"rotation_curve": "brandt"}})


@pytest.mark.usefixtures("own")
def test_a_fit_finds_them_by_name_and_records_them():
    cube, _ = simulate_galaxy(1)
    fit = kinematics_nn.fit(cube, rotation_curve="brandt", weights="own", method="network", n_samples=200, seed=1)
    recorded = fit.summary.meta["weights"]
    assert (recorded["name"], recorded["forms"]) == ("own", {"rotation_curve": "brandt"})
    assert len(recorded["sha256"]) == 64
    # They are not chosen because they would match.
    other = kinematics_nn.fit(cube, rotation_curve="brandt", method="network", n_samples=200, seed=1)
    assert other.meta["weights"]["name"] == "default"
    assert "forms" not in other.meta["weights"]


@pytest.mark.usefixtures("own")
def test_they_fit_no_other_form():
    # Before the cube is read: there is none.
    with pytest.raises(KinematicsError, match=r"'arctan' with weights 'own', trained on 'brandt' alone"):
        kinematics_nn.fit("nowhere.fits", rotation_curve="arctan", weights="own")
