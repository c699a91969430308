"""A store of simulated frames on disk: made once by a pool of processes, used by many epochs and many networks."""

import json
from concurrent.futures import ProcessPoolExecutor, as_completed
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

__all__ = ["INPUTS", "SHARD", "load_shards", "make_shard", "simulate_shards"]

INPUTS = {"cubes": Simulator, "maps": MapSimulator}
"""What a network is trained on, and who draws it."""

SHARD = 4096
"""Galaxies in a shard."""

_BATCH = 8  # temporaries of more galaxies leave the cache


def make_shard(path, seed, index, ranges=None, galaxies=SHARD, input="cubes"):
    """Simulate shard ``index`` of the store with ``seed``, and write it (whole or not at all).

    A shard is a safetensors file of ``image`` (galaxy, plane, minor, major; float16), ``facts`` and ``targets``; it
    depends on seed, index, ranges and ``input`` (one of `INPUTS`) alone.
    """
    simulator = INPUTS[input](np.random.SeedSequence([seed, index]), ranges)
    parts = []
    with torch.no_grad():
        for _ in range(galaxies // _BATCH):
            cubes, disc = simulator(_BATCH)
            frame = make_frame(cubes)
            parts.append((frame.image.half(), frame.facts, encode_targets(disc, frame)))
    image, facts, targets = (torch.cat(column) for column in zip(*parts, strict=True))
    good = torch.isfinite(facts).all(1) & possible(targets) & torch.isfinite(image).flatten(1).all(1)
    tensors = {"image": image[good], "facts": facts[good], "targets": targets[good]}
    with whole_file(path, overwrite=True) as partial_file:
        save_file({k: v.contiguous() for k, v in tensors.items()}, partial_file)
    return int(good.sum())


def simulate_shards(folder, count, seed=0, workers=1, ranges=None, input="cubes"):
    """Fill ``folder`` up to ``count`` shards; those already there are kept. Yields each path as it is finished.

    Raises
    ------
    KinematicsError
        The store was made with another seed or other ranges, or of another input.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _describe(folder, seed, ranges or Ranges(), input)
    wanted = {folder / f"shard{index:05d}.safetensors": index for index in range(count)}
    missing = {path: index for path, index in wanted.items() if not path.exists()}
    options = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), **options) as pool:
        make = make_shard if input == "cubes" else partial(make_shard, input=input)
        futures = {pool.submit(make, path, seed, index, ranges): path for path, index in missing.items()}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        finally:  # where one has failed, or nobody wants more, the others are not begun
            pool.shutdown(wait=False, cancel_futures=True)


def _describe(folder, seed, ranges, input):
    """Write down what a store is made with, or refuse to add another kind to one that is there."""
    described = {"seed": seed, "ranges": asdict(ranges)}
    if input == "maps":
        described |= {"maps": asdict(MapRanges())}
    description = json.dumps(described, indent=1)
    path = folder / "store.json"
    if not path.exists():
        path.write_text(description)
    elif path.read_text() != description:
        raise KinematicsError(
            f"a store in {folder} made with another seed or other ranges, or another input (see {path.name})",
            "one store for one kind of simulation",
            "train --store with a new folder",
        )


def load_shards(folder, count=None):
    """Tensors of the first ``count`` shards in ``folder`` (default: all): dict of path -> dict of tensors."""
    return {path: load_file(path) for path in sorted(Path(folder).glob("shard*.safetensors"))[:count]}
