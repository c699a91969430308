"""What the command line says beside its output: one line at a time, on stderr."""

import sys

__all__ = ["one_line", "say"]


def one_line(message):
    """A message without its line breaks."""
    return " ".join(str(message).split())


def say(text):
    """Say something on stderr, under the program's name."""
    print(f"kinematics-nn: {text}", file=sys.stderr, flush=True)
