"""The galaxy made by hand, as fixtures."""

import pytest
from handmade import Arctan, Constant, Exponential, make_observation, make_samples

from kinematics_nn.decoder import Forms
from kinematics_nn.results import KinematicFit


@pytest.fixture
def forms():
    return Forms(rotation_curve=Arctan, surface_brightness=Exponential, velocity_dispersion=Constant)


@pytest.fixture
def observation():
    return make_observation()


@pytest.fixture
def fit(observation, forms):
    meta = {
        "method": "network",
        "reduced_chi2": 1.02,
        "n_effective": 4000.0,
        "weights": {"name": "first", "sha256": "ab" * 32, "layers": [1, 2, 3]},
        "seed": 7,
    }
    return KinematicFit(observation, forms, make_samples(), meta=meta, flags=["POOR_FIT", "LOW_SNR"])
