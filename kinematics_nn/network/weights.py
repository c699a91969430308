"""The shipped weights: safetensors files with the metadata to know what they are."""

import hashlib
import json
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from ..errors import KinematicsError

__all__ = ["DEFAULT", "load_encoder", "save_encoder", "weights_info"]

DEFAULT = "default"
"""Name of the weights that `fit` uses."""


def _path(name):
    path = Path(name)
    if path.suffix == ".safetensors":
        return path
    return Path(str(files("kinematics_nn.network") / "weights" / f"{name}.safetensors"))


def save_encoder(encoder, path, metadata):
    """Write an encoder's weights with ``metadata`` (dict of plain values); what was there is replaced as a whole."""
    from safetensors.torch import save_file

    path = Path(path)
    temporary = path.with_suffix(".part")
    tensors = {k: v.half() if v.dtype.is_floating_point and v.ndim > 1 else v for k, v in encoder.state_dict().items()}
    for name in ("target_matrix", "ranks"):  # half a precision is not enough for what maps to the targets
        tensors[name] = getattr(encoder, name)
    meta = {"settings": json.dumps(encoder.settings), **{k: json.dumps(v) for k, v in metadata.items()}}
    save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, metadata=meta)
    temporary.replace(path)


@lru_cache(maxsize=4)
def load_encoder(name=DEFAULT, device="cpu"):
    """The encoder with the named weights (or those of a .safetensors file), in evaluation mode.

    Nothing in the file is executed. It is read once a process and shared.

    Raises
    ------
    KinematicsError
        The weights are not there.
    """
    import torch
    from safetensors.torch import load_file

    from .encoder import KinematicEncoder

    info = weights_info(name)
    with torch.random.fork_rng():  # the initial weights are drawn, and thrown away
        encoder = KinematicEncoder(**info["settings"])
    tensors = load_file(_path(name))
    encoder.load_state_dict({k: v.float() if v.dtype.is_floating_point else v for k, v in tensors.items()})
    return encoder.to(device).eval()


@lru_cache(maxsize=4)
def weights_info(name=DEFAULT):
    """Metadata of weights: their settings, how they were trained, and their ``sha256``."""
    from safetensors import safe_open

    path = _path(name)
    if not path.exists():
        known = sorted(p.stem for p in _path(DEFAULT).parent.glob("*.safetensors"))
        raise KinematicsError(
            f"no weights {str(name)!r}", f"one of {known} or a .safetensors file", "kinematics-nn train"
        )
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    if "settings" not in (metadata or {}):
        raise KinematicsError(
            f"{path.name} without the settings of an encoder", "weights that this package wrote", "kinematics-nn train"
        )
    info = {key: json.loads(value) for key, value in metadata.items()}
    return {"name": path.stem, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **info}
