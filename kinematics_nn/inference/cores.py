"""Work for several cores: an item each, as what is done of each item is too little for several."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

import torch

__all__ = ["an_item_a_core", "in_parallel"]

_LOCK = Lock()
_fits, _cores = 0, 1


@contextmanager
def an_item_a_core():
    """Within it `in_parallel` has as many cores as torch has threads, and torch's own operations one each.

    Most of what a fit does are short operations, which several threads only slow down: they wait for each other, and
    spin on the cores that others are to work on.
    """
    global _fits, _cores
    own = torch.get_num_threads()
    with _LOCK:
        if _fits == 0:
            _cores = own
        _fits += 1
    torch.set_num_threads(1)
    try:
        yield
    finally:
        with _LOCK:
            _fits -= 1
            # It holds for this thread and for all that start later: the last fit of several gives those back.
            torch.set_num_threads(_cores if _fits == 0 else own)


def in_parallel(function, items):
    """Results of a function for items, in order."""
    cores = min(_cores if _fits else 1, len(items))
    if cores <= 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return list(pool.map(function, items))
