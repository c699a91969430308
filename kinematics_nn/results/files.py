"""Writing a file whole or not at all."""

import os
from contextlib import contextmanager
from pathlib import Path

__all__ = ["check_writable", "whole_file"]


def check_writable(path, overwrite=False):
    """
    Refuse a path that cannot be written, before the work that would fill it is done.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        Where something will be written.
    overwrite : bool, optional
        Whether a file that is there may be replaced.

    Raises
    ------
    FileExistsError
        There is a file, and ``overwrite`` is not set.
    FileNotFoundError
        There is no such folder.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; pass overwrite=True (--overwrite on the command line) to replace it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}")


@contextmanager
def whole_file(path, overwrite=False):
    """
    Give a temporary name beside ``path`` to write to, and rename it when the block ends well.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        The name the file gets in the end.
    overwrite : bool, optional
        Whether a file that is there may be replaced.

    Yields
    ------
    `~pathlib.Path`
        The temporary name, with the suffixes of ``path``, by which writers choose their format.
    """
    path = Path(path)
    check_writable(path, overwrite)
    # In the same folder, for a rename is atomic only within one file system.
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
