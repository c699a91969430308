"""Weights by name, shipped or trained by the user: safetensors files with the metadata to know what they are."""

import hashlib
import json
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import platformdirs

from ..errors import KinematicsError

__all__ = ["DEFAULT", "list_weights", "load_encoder", "save_encoder", "weights_folder", "weights_info", "weights_path"]

DEFAULT = "default"
"""Name of the weights that `fit` uses."""


def weights_folder():
    """The folder (`~pathlib.Path`) of the weights that this user trained, beside what else they keep for programs."""
    return platformdirs.user_data_path("kinematics_nn", appauthor=False) / "weights"


def list_weights():
    """Paths of the weights that have names, by name: those shipped, then the user's."""
    found = {}
    for folder in (Path(str(files("kinematics_nn.network"))) / "weights", weights_folder()):
        for path in sorted(folder.glob("*.safetensors")):
            if not path.name.startswith("."):  # what is being written
                found.setdefault(path.stem, path)
    return found


def weights_path(name):
    """The file (`~pathlib.Path`) of named weights, or of a path that ends in .safetensors.

    Raises
    ------
    KinematicsError
        It is not there.
    """
    path, known = Path(name), list_weights()
    if path.suffix != ".safetensors":
        path = known.get(str(name))
    if path is None or not path.exists():
        raise KinematicsError(
            f"no weights {str(name)!r}", f"one of {sorted(known)} or a .safetensors file", "kinematics-nn train"
        )
    return path


def save_encoder(encoder, path, metadata):
    """Write an encoder's weights with ``metadata`` (dict of plain values); what was there is replaced as a whole."""
    from safetensors.torch import save_file

    from ..results.files import whole_file

    tensors = {k: v.half() if v.dtype.is_floating_point and v.ndim > 1 else v for k, v in encoder.state_dict().items()}
    for name in ("target_matrix", "ranks"):  # half a precision is not enough for what maps to the targets
        tensors[name] = getattr(encoder, name)
    meta = {"settings": json.dumps(encoder.settings), **{k: json.dumps(v) for k, v in metadata.items()}}
    with whole_file(path, overwrite=True) as partial:
        save_file({k: v.contiguous() for k, v in tensors.items()}, partial, metadata=meta)


def load_encoder(name=DEFAULT, device="cpu"):
    """The encoder with the named weights (or those of a .safetensors file), in evaluation mode.

    Nothing in the file is executed. It is read once a process and shared, until the file is another.

    Raises
    ------
    KinematicsError
        The weights are not there.
    """
    path = weights_path(name)
    return _encoder(path, path.stat().st_mtime_ns, device)


@lru_cache(maxsize=4)
def _encoder(path, modified, device):
    import torch
    from safetensors.torch import load_file

    from .encoder import KinematicEncoder
    from .frame import FACTS, WITHOUT_DISC
    from .recalibration import TABLES

    info, tensors = _info(path, modified), load_file(path)
    if "ranks" not in tensors or "facts_mean" not in tensors:
        raise KinematicsError(
            f"{path.name} without the tensors of an encoder", "weights that this package wrote", "kinematics-nn train"
        )
    if tensors["ranks"].ndim == 2:  # of before faint galaxies were measured apart: one table for all
        tensors["ranks"] = tensors["ranks"].repeat(TABLES, 1, 1)
        tensors["ranks_snr"] = torch.arange(TABLES).float()
    facts = len(tensors["facts_mean"])
    if WITHOUT_DISC < facts < len(FACTS):
        raise KinematicsError(
            f"{path.name}, whose frames had {facts} facts, of which the last have another meaning by now",
            f"weights that are told {WITHOUT_DISC} or {len(FACTS)}",
            "kinematics-nn train, again",
        )
    settings = info["settings"] | {"facts": facts}
    with torch.random.fork_rng():  # the initial weights are drawn, and thrown away
        encoder = KinematicEncoder(**settings)
    encoder.load_state_dict({k: v.float() if v.dtype.is_floating_point else v for k, v in tensors.items()})
    return encoder.to(device).eval()


def weights_info(name=DEFAULT):
    """Metadata of weights: their settings, how they were trained, and their ``sha256``.

    Weights of a training on single forms name them: ``forms``, a dict of kind to name.
    """
    path = weights_path(name)
    return _info(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _info(path, modified):
    from safetensors import SafetensorError, safe_open

    needed = "weights that this package wrote", "kinematics-nn train"
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
    except (SafetensorError, OSError) as error:
        raise KinematicsError(f"{path.name}, which cannot be read ({error})", *needed) from error
    if "settings" not in (metadata or {}):
        raise KinematicsError(f"{path.name} without the settings of an encoder", *needed)
    info = {key: json.loads(value) for key, value in metadata.items()}
    return {"name": path.stem, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **info}
