"""The command line, ``kinematics-nn``: the same doors as in Python, with units in text."""

import argparse
import os
import sys
import warnings

from ..errors import KinematicsError
from .arguments import add_calibrate_arguments, add_fit_arguments, add_fit_maps_arguments, add_simulate_arguments
from .commands import calibrate, card, demo, fit, fit_maps, simulate
from .listing import forms, info
from .messages import in_shell_words, one_line, say

__all__ = ["main"]


def main(argv=None):
    """
    Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        Arguments, by default those of the process.

    Returns
    -------
    int
        Exit code: 0, or 2 where the input cannot be used (said in one line on stderr).
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    args = _parser(argv).parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_args, **_kwargs: say(f"warning: {one_line(message)}")
        try:
            args.run(args)
        except BrokenPipeError:
            # Whoever read our output (head, less) has gone; stdout's own flush at exit must not fail on it again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (KinematicsError, OSError) as error:
            say(f"error: {in_shell_words(one_line(error), vars(args))}")
            return 2
    return 0


def _parser(argv):
    parser = argparse.ArgumentParser(
        prog="kinematics-nn",
        description="Disc kinematics of galaxies from spectral-line datacubes, with posteriors.",
        epilog="Quantities are text with a unit, such as '90 arcsec'; quote them.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    sub = commands.add_parser("fit", help="fit a cube", description=fit.__doc__)
    add_fit_arguments(sub)
    sub.set_defaults(run=fit)

    sub = commands.add_parser("fit-maps", help="fit a velocity field", description=fit_maps.__doc__)
    add_fit_maps_arguments(sub)
    sub.set_defaults(run=fit_maps)

    sub = commands.add_parser("simulate", help="write a mock cube", description=simulate.__doc__)
    add_simulate_arguments(sub)
    sub.set_defaults(run=simulate)

    sub = commands.add_parser("demo", help="simulate a galaxy, fit it, compare", description=demo.__doc__)
    sub.add_argument(
        "--output-dir", default="kinematics_nn_demo", help="folder; the demo's own files in it are replaced"
    )
    sub.add_argument("--seed", type=int, default=1, help="of noise and realisations")
    sub.add_argument("--device", help="of torch, such as cpu or cuda")
    sub.set_defaults(run=demo)

    sub = commands.add_parser("calibrate", help="are error bars right?", description=calibrate.__doc__)
    add_calibrate_arguments(sub)
    sub.set_defaults(run=calibrate)

    commands.add_parser("info", help="version, weights, priors, devices").set_defaults(run=info)
    commands.add_parser("forms", help="functional forms and their parameters").set_defaults(run=forms)

    sub = commands.add_parser("card", help="model card of weights", description=card.__doc__)
    sub.add_argument("weights", metavar="NAME", help="of weights that info lists, or a .safetensors file")
    sub.add_argument("--scores", nargs="+", default=[], metavar="FOLDER", help="of calibrate --out, with these weights")
    sub.set_defaults(run=card)

    sub = commands.add_parser("train", help="train a network")
    if argv[:1] == ["train"]:
        # Only who trains pays for the import of torch.
        from ..training import cli as training

        training.add_arguments(sub)
        sub.set_defaults(run=training.run)
    return parser
