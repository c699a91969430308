"""What every test shares: the header, the guard of torch's global state, and the real cubes."""

import os
import warnings
from pathlib import Path

import pytest
import torch
from astropy.utils.exceptions import AstropyWarning
from pytest_astropy_header.display import PYTEST_HEADER_MODULES, TESTED_VERSIONS
from spectral_cube import SpectralCube
from spectral_cube.utils import StokesWarning

import kinematics_nn


def pytest_configure(config):
    config.option.astropy_header = True
    PYTEST_HEADER_MODULES.clear()
    for module in ("numpy", "scipy", "astropy", "torch", "zuko", "matplotlib"):
        PYTEST_HEADER_MODULES[module.capitalize()] = module
    for package in ("spectral-cube", "regions", "radio-beam", "kinms"):
        PYTEST_HEADER_MODULES[package] = package.replace("-", "_")
    TESTED_VERSIONS["kinematics_nn"] = kinematics_nn.__version__


def _torch_state():
    return {
        "threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "gradients enabled": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "random state": torch.random.get_rng_state().numpy().tobytes(),
    }


@pytest.fixture(autouse=True)
def torch_state_untouched():
    """Fail a test that leaves torch's global state other than it found it: a library has no right to it."""
    before = _torch_state()
    yield
    after = _torch_state()
    changed = [name for name in before if before[name] != after[name]]
    if changed:
        torch.random.set_rng_state(torch.frombuffer(bytearray(before["random state"]), dtype=torch.uint8))
        torch.set_num_threads(before["threads"])
        torch.set_default_dtype(before["default dtype"])
        torch.set_grad_enabled(before["gradients enabled"])
        torch.use_deterministic_algorithms(before["deterministic algorithms"])
        pytest.fail(f"torch's global state changed: {', '.join(changed)}")


@pytest.fixture(scope="session")
def real_data():
    """The folder of real data: ``KINEMATICS_NN_DATA``, or ``../shared/data`` beside the repository."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("KINEMATICS_NN_DATA") or default)
    if not folder.is_dir():
        pytest.skip("no real data here: set KINEMATICS_NN_DATA to the folder that holds cubes/")
    return folder


@pytest.fixture
def real_cube(real_data):
    """``real_cube("ngc2903_hi")`` is that cube, freshly read."""

    def read(name, **kwargs):
        path = real_data / "cubes" / f"{name}.fits"
        if not path.is_file():
            pytest.skip(f"{name}.fits is not in KINEMATICS_NN_DATA")
        with warnings.catch_warnings():
            # What astropy and spectral-cube say of these old headers (dates, units, Stokes axes) is not under test.
            warnings.simplefilter("ignore", AstropyWarning)
            warnings.simplefilter("ignore", StokesWarning)
            return SpectralCube.read(path, **kwargs)

    return read
