"""Results: where units begin again."""

from .fit import KinematicFit
from .tables import KinematicFlags, decode_flags, read_table, write_table

__all__ = ["KinematicFit", "KinematicFlags", "decode_flags", "read_table", "write_table"]
