"""A store of simulated frames on disk: made once by a pool of processes, used by many epochs and many networks."""

import json
from concurrent.futures import ProcessPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ..errors import KinematicsError
from ..network.frame import make_frame
from ..network.targets import encode_targets, possible
from ..results.files import whole_file
from .maps import MapRanges, MapSimulator
from .simulations import Ranges, Simulator

__all__ = ["INPUTS", "SHARD", "Galaxies", "make_shard", "shard_path", "shards_to_come", "simulate_shards"]

INPUTS = {"cubes": Simulator, "maps": MapSimulator}
"""What a network is trained on, and who draws it."""

SHARD = 4096
"""Galaxies in a shard."""

_BATCH = {"cpu": 8, "cuda": 32}
"""Galaxies simulated at once: temporaries of more leave a processor's cache, and fewer leave a GPU idle.

All of a batch have the same forms, so that a shard of larger ones has fewer of these.
"""


def make_shard(path, seed, index, ranges=None, galaxies=SHARD, input="cubes", device="cpu"):
    """Simulate shard ``index`` of the store with ``seed``, and write it (whole or not at all).

    A shard is a safetensors file of ``image`` (galaxy, plane, minor, major; float16), ``facts`` and ``targets``; it
    depends on seed, index, ranges, ``input`` (one of `INPUTS`) and the kind of ``device`` alone.
    """
    simulator = INPUTS[input](np.random.SeedSequence([seed, index]), ranges, device=device)
    batch = min(_BATCH.get(torch.device(device).type, 32), galaxies)
    parts = []
    with torch.no_grad():
        for _ in range(galaxies // batch):
            cubes, disc = simulator(batch)
            frame = make_frame(cubes)
            made = frame.image.half(), frame.facts, encode_targets(disc, frame)
            parts.append([tensor.cpu() for tensor in made])
    image, facts, targets = (torch.cat(column) for column in zip(*parts, strict=True))
    good = torch.isfinite(facts).all(1) & possible(targets) & torch.isfinite(image).flatten(1).all(1)
    tensors = {"image": image[good], "facts": facts[good], "targets": targets[good]}
    with whole_file(path, overwrite=True) as partial_file:
        save_file({k: v.contiguous() for k, v in tensors.items()}, partial_file)
    return int(good.sum())


def shard_path(folder, index):
    """Where shard ``index`` of a store is."""
    return Path(folder) / f"shard{index:05d}.safetensors"


@contextmanager
def shards_to_come(folder, count, seed=0, workers=1, ranges=None, input="cubes", device="cpu"):
    """Processes that fill ``folder`` up to ``count`` shards, the first ones first; what is there is kept.

    Leaving the context, those that are begun are waited for, and no others are made. All shards of a store are made on
    the kind of ``device`` that the first of them was, as random numbers are of one kind.

    Yields
    ------
    dict
        Path of each shard that was missing to its `~concurrent.futures.Future`.

    Raises
    ------
    KinematicsError
        The store was made with another seed or other ranges, or of another input, or on a GPU that is not here.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kind = _describe(folder, seed, ranges or Ranges(), input, torch.device(device).type)
    device = device if torch.device(device).type == kind else kind
    wanted = {shard_path(folder, index): index for index in range(count)}
    missing = {path: index for path, index in wanted.items() if not path.exists()}
    if missing and kind == "cuda" and not torch.cuda.is_available():
        raise KinematicsError(
            f"a store in {folder} that was begun on a GPU, and {len(missing)} shards that it lacks (see store.json)",
            "a GPU, or no more --galaxies than are there",
            "train --store with a new folder",
        )
    options = {"initializer": torch.set_num_threads, "initargs": (1,)}
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), **options)
    make = partial(make_shard, input=input, device=str(device))
    coming = {path: pool.submit(make, path, seed, index, ranges) for path, index in missing.items()}
    pool.shutdown(wait=False)  # the workers go with the last shard
    try:
        yield coming
    finally:
        for future in coming.values():
            future.cancel()
        wait(coming.values())


def simulate_shards(folder, count, **options):
    """Fill ``folder`` up to ``count`` shards, as `shards_to_come` does. Yields each path as it is finished."""
    with shards_to_come(folder, count, **options) as coming:
        paths = {future: path for path, future in coming.items()}
        for future in as_completed(paths):
            future.result()
            yield paths[future]


def _describe(folder, seed, ranges, input, device):
    """Write down what a store is made with, or refuse to add another kind to one that is there. The device's kind."""
    described = {"seed": seed, "ranges": asdict(ranges)}
    if input == "maps":
        described |= {"maps": asdict(MapRanges())}
    described = json.loads(json.dumps(described))  # tuples are lists
    path = folder / "store.json"
    if not path.exists():
        path.write_text(json.dumps(described | ({} if device == "cpu" else {"device": device}), indent=1))
        return device
    there = json.loads(path.read_text())
    device = there.pop("device", "cpu")
    if there != described:
        raise KinematicsError(
            f"a store in {folder} made with another seed or other ranges, or another input (see {path.name})",
            "one store for one kind of simulation",
            "train --store with a new folder",
        )
    return device


class Galaxies:
    """Galaxies of the first shards of a store, in memory; more can follow.

    Parameters
    ----------
    folder : path
    count : int
        Shards, at the most. There is room for all of them from the beginning, which the system gives when it is filled.
        Without any to come, those that are not there are left out.
    coming : dict, optional
        Of `shards_to_come`: what is not there is waited for.
    """

    def __init__(self, folder, count, coming=None):
        self.coming = coming or {}
        paths = [shard_path(folder, index) for index in range(count)]
        self.paths = paths if coming is not None else [path for path in paths if path.exists()]
        self.shards, self.count, self._room = 0, 0, {}

    def take(self, shards=None):
        """What the first ``shards`` hold: dict of Tensor (galaxy, ...), views. By default of all that there are.

        Raises
        ------
        FileNotFoundError
            One of them is not there, nor to come.
        """
        for future in self.coming.values():
            if future.done():
                future.result()  # one that has failed is known before its turn
        for path in self.paths[self.shards : shards]:
            if path in self.coming:
                self.coming[path].result()
            part = load_file(path)
            n = len(part["facts"])
            for key, tensor in part.items():
                if key not in self._room:
                    self._room[key] = tensor.new_empty(len(self.paths) * max(SHARD, n), *tensor.shape[1:])
                self._room[key][self.count : self.count + n] = tensor
            self.shards, self.count = self.shards + 1, self.count + n
        return {key: tensor[: self.count] for key, tensor in self._room.items()}
