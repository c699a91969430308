"""Simulations without what makes real galaxies hard."""

PLAIN = {f"{name}_share": 0.0 for name in (
    "clump", "arm", "lopsided", "warp", "neighbour",
    "crop", "edge", "continuum", "mask", "clip", "blank", "cut", "fine",
)}  # fmt: skip
"""Smooth discs in whole fields, with plain noise."""
