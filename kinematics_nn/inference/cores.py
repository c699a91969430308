"""Work for several cores: an item each, as what is done of each item is too little for several."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

import torch

__all__ = ["an_item_a_core", "in_parallel"]

_CORES = ContextVar("cores", default=1)


@contextmanager
def an_item_a_core():
    """Within it `in_parallel` has as many cores as torch has threads, and torch's own operations one each.

    Most of what a fit does are short operations, which several threads only slow down: they wait for each other, and
    spin on the cores that others are to work on.
    """
    threads = torch.get_num_threads()
    token = _CORES.set(max(threads, _CORES.get()))
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _CORES.reset(token)


def in_parallel(function, items):
    """Results of a function for items, in order."""
    cores = min(_CORES.get(), len(items))
    if cores <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(function, items))
