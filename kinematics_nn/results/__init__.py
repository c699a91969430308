"""Results: where units begin again."""

from .files import read_table, write_table
from .fit import KinematicFit
from .rings import ring_table
from .tables import KinematicFlags, decode_flags

__all__ = ["KinematicFit", "KinematicFlags", "decode_flags", "read_table", "ring_table", "write_table"]
