"""The network: the frame that makes all galaxies alike, the encoder, and its shipped weights."""
