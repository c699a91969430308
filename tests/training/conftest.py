"""A small store of simulated frames, shared by the tests of training."""

import pytest
import torch
from safetensors.torch import load_file

from kinematics_nn.training.store import make_shard

GALAXIES = 64


@pytest.fixture(scope="session")
def shard(tmp_path_factory):
    """The path of a shard of 64 galaxies (a few of which a draw may have lost)."""
    path = tmp_path_factory.mktemp("frames") / "shard00000.safetensors"
    threads = torch.get_num_threads()
    make_shard(path, seed=5, index=0, galaxies=GALAXIES)
    torch.set_num_threads(threads)
    return path


@pytest.fixture
def frames(shard):
    """Its tensors: image, facts, targets."""
    return load_file(shard)
