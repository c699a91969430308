"""Tables into files and back, and files written whole or not at all."""

import json
import os
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from astropy.table import Column, QTable

from kinematics_nn.errors import KinematicsError

from .tables import plain

__all__ = ["check_writable", "read_table", "table_format", "whole_file", "write_table"]

_METADATA_KEY = "KNNMETA"


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
        # Some writers make files that are their owner's alone.
        mask = os.umask(0)
        os.umask(mask)
        with suppress(OSError):  # of mounts that know no modes
            partial.chmod(0o666 & ~mask)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_table(table, path, overwrite=False):
    """
    Write a table whole or not at all, in the format its suffix names.

    ECSV keeps everything. FITS and VOTable drop nested metadata, which therefore travel as one JSON string (FITS: the
    keyword ``KNNMETA``; VOTable: an INFO element of that name); `read_table` puts them back. FITS holds no letters
    beyond ASCII: there they are written as escapes.

    Parameters
    ----------
    table : `~astropy.table.QTable`
        What to write.
    path : str or `~pathlib.Path`
        Ending in .ecsv, .fits, .fits.gz, .vot, .votable or .xml.
    overwrite : bool, optional
        Whether a file that is there may be replaced.
    """
    kind = table_format(path)
    with whole_file(path, overwrite) as partial:
        if kind == "votable":
            _write_votable(table, partial)
        elif kind == "fits":
            copy = table.copy()
            for name in _text_columns(copy):
                copy[name] = [text.encode("ascii", "backslashreplace").decode() for text in copy[name]]
            copy.meta = {_METADATA_KEY: json.dumps(plain(table.meta))} if table.meta else {}
            copy.write(partial, format="fits")
        else:
            table.write(partial, format="ascii.ecsv")


def read_table(path):
    """
    Read a table that `write_table` wrote, its metadata included.

    Parameters
    ----------
    path : str or `~pathlib.Path`
        Ending as for `write_table`.

    Returns
    -------
    `~astropy.table.QTable`
    """
    kind = table_format(path)
    if kind == "votable":
        table = _read_votable(path)
    elif kind == "ecsv":
        table = QTable.read(path, format="ascii.ecsv")
    else:
        table = QTable.read(path, format="fits")
        table.meta = json.loads(table.meta.get(_METADATA_KEY, "{}"))
    for name in _text_columns(table):
        # Empty text comes back as missing.
        table[name] = Column(np.ma.filled(table[name], "").astype(str), description=table[name].description)
    return table


def table_format(path):
    """The format that the ending of a path names, "ecsv", "fits" or "votable", or a `KinematicsError`."""
    name = Path(path).name.lower()
    for kind, suffixes in {
        "ecsv": (".ecsv",),
        "fits": (".fits", ".fits.gz"),
        "votable": (".vot", ".votable", ".xml"),
    }.items():
        if name.endswith(suffixes):
            return kind
    raise KinematicsError(f"{path} names no format of tables", "an ending .ecsv, .fits or .vot")


def _text_columns(table):
    return [name for name in table.colnames if table[name].dtype.kind in "OSU"]


def _write_votable(table, path):
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Info

    votable = from_table(table)
    if table.meta:
        votable.resources[0].infos.append(Info(name=_METADATA_KEY, value=json.dumps(plain(table.meta))))
    votable.to_xml(str(path))


def _read_votable(path):
    from astropy.io.votable import parse

    votable = parse(str(path))
    table = QTable(votable.get_first_table().to_table(use_names_over_ids=True))
    infos = {info.name: info.value for info in votable.resources[0].infos}
    table.meta = json.loads(infos.get(_METADATA_KEY, "{}"))
    return table
