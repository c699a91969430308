"""Results: where units begin again."""

from .files import read_table, write_table
from .fit import KinematicFit
from .map_fit import MapFit
from .rings import ring_table
from .tables import KinematicFlags, decode_flags

__all__ = ["KinematicFit", "KinematicFlags", "MapFit", "decode_flags", "read_table", "ring_table", "write_table"]
