"""The command line, ``kinematics-nn``: the same doors as in Python, with units in text."""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import astropy.units as u
import numpy as np

from .arguments import (
    add_calibrate_arguments,
    add_fit_arguments,
    add_fit_maps_arguments,
    add_simulate_arguments,
    given,
    quantities,
    read_beam,
    read_model,
)
from .errors import KinematicsError
from .forms.base import KINDS
from .quantities import parse_quantity, parse_range

__all__ = ["main"]

_KM_S = u.km / u.s


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
        warnings.showwarning = lambda message, *_args, **_kwargs: _say(f"warning: {_one_line(message)}")
        try:
            args.run(args)
        except BrokenPipeError:
            # Whoever read our output (head, less) has gone; stdout's own flush at exit must not fail on it again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (KinematicsError, OSError) as error:
            _say(f"error: {_one_line(error)}")
            return 2
    return 0


def fit(args):
    """Fit a cube and write what is asked for."""
    from .fitting import fit as fit_cube

    _check_outputs(args)
    options = given(args, *KINDS, "method", "weights", "n_samples", "seed", "device", "region", "velocity_convention")
    options |= quantities(args, distance=u.Mpc, rms=None, rest_value=None)
    if args.beam:
        options["beam"] = read_beam(args.beam)
    cube = _slab(_read(args.cube), args)
    _say(f"fitting {args.cube}, {' x '.join(str(n) for n in cube.shape)} voxels (channel, y, x)")
    result = _timed(fit_cube, cube, **options)
    # Files first: a reader of the text that goes away (head) must not cost them.
    _write(result, args.output, args.samples, args.plot, args.corner, args.overwrite)
    print(result)


def fit_maps(args):
    """Fit a velocity field and write what is asked for."""
    from .map_fitting import fit_maps as fit_fields

    _check_outputs(args)
    options = given(args, *KINDS, "weights", "n_samples", "seed", "device", "velocity_convention")
    options |= given(args, "moment0", "moment1_error") | quantities(args, distance=u.Mpc)
    if args.beam:
        options["beam"] = read_beam(args.beam)
    _say(f"fitting {args.moment1}")
    result = _timed(fit_fields, args.moment1, **options)
    _write(result, args.output, args.samples, args.plot, args.corner, args.overwrite)
    print(result)


def simulate(args):
    """Write the cube of a disc."""
    from .results.files import check_writable
    from .simulation import simulate as simulate_cube

    check_writable(args.cube, args.overwrite)
    options = given(args, "seed", "integrate_pixels")
    options |= quantities(args, pixel_scale=u.arcsec, channel_width=_KM_S, inclination=u.deg, pa=u.deg, vsys=_KM_S)
    options |= quantities(args, velocity_dispersion=_KM_S, thickness=u.arcsec, flux=None, rms=None)
    if args.shape:
        options["shape"] = tuple(args.shape)
    if args.offset:
        options["offset"] = u.Quantity([parse_quantity(text, u.arcsec, name="--offset") for text in args.offset])
    if args.beam:
        options["beam"] = read_beam(args.beam)
    if args.like:
        options["like"] = _read(args.like)
    for kind in ("rotation_curve", "surface_brightness"):
        if getattr(args, kind):
            options[kind] = read_model(kind, getattr(args, kind))
    _write_cube(simulate_cube(**options), args.cube, args.overwrite)


def demo(args):
    """Simulate a galaxy with noise, fit it, show the truth beside the posterior."""
    from .demo import comparison, simulate_galaxy
    from .fitting import fit as fit_cube

    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    _say("simulating a galaxy")
    cube, truth = simulate_galaxy(args.seed)
    _write_cube(cube, folder / "demo.fits", overwrite=True)
    _say(f"fitting it, {' x '.join(str(n) for n in cube.shape)} voxels (channel, y, x)")
    result = _timed(fit_cube, cube, seed=args.seed, **given(args, "device"))
    names = ("demo.ecsv", "demo_samples.fits", "demo.png", "demo_corner.png")
    _write(result, *(folder / name for name in names), overwrite=True)
    print(comparison(result, truth))


def calibrate(args):
    """Fit mock galaxies drawn from the fit's own prior, and report whether the posteriors are right."""
    from .inference.calibration import calibrate, read_rows, write_report

    index, slash, count = args.shard.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal()):
        raise KinematicsError(f"--shard {args.shard}", "i/N with i from 1 to N", "--shard 1/4")
    calibrate(
        args.out,
        galaxies=args.galaxies,
        method=args.method,
        n=args.n,
        seed=args.seed,
        shard=(int(index) - 1, int(count)),
        forms=given(args, *KINDS),
        options=given(args, "min_ess"),
        progress=_say,
    )
    rows = read_rows(args.out, args.n)
    _say(f"{len(rows)} of {args.n} galaxies done")
    for path in write_report(rows, args.out, args.least):
        _say(f"wrote {path}")


def info(args):
    """Print version, weights, default priors and devices."""
    import torch

    from . import __version__
    from .forms import get_form
    from .network.weights import list_weights, weights_info

    print(f"kinematics_nn {__version__}")
    print("\npriors of the default forms (all forms: kinematics-nn forms)")
    for kind, name in zip(KINDS, ("arctan", "exponential", "constant"), strict=True):
        for parameter in get_form(name, kind).parameters:
            print(f"  {parameter.name:<20} {parameter.unit:<8} {_prior(parameter.prior)}")
    print(f"\ndevices\n  cpu ({torch.get_num_threads()} threads)")
    for index in range(torch.cuda.device_count()):
        print(f"  cuda:{index} ({torch.cuda.get_device_name(index)})")
    if torch.backends.mps.is_available():
        print("  mps")
    print("\nweights")
    for name, path in list_weights().items():
        print(f"  {name} ({path})")
        _print_nested(weights_info(name), indent=4)


def forms(args):
    """List the functional forms and who brought them."""
    from .forms import list_forms

    last = None
    for known in list_forms():
        if known.kind != last:
            print(("" if last is None else "\n") + known.kind)
        last = known.kind
        print(f"  {known.name:<22} {known.provider}")
        for p in known.form.parameters:
            default = f"{p.default:g} {p.unit}".strip()
            print(f"      {p.name:<18} {default:<12} {p.description}; {_prior(p.prior)}")


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

    sub = commands.add_parser("train", help="train a network")
    if argv[:1] == ["train"]:
        # Only who trains pays for the import of torch.
        from .training import cli as training

        training.add_arguments(sub)
        sub.set_defaults(run=training.run)
    return parser


def _read(name):
    from astropy.io.fits.verify import VerifyWarning
    from astropy.wcs import FITSFixedWarning
    from spectral_cube import SpectralCube
    from spectral_cube.io.fits import FITSReadError
    from spectral_cube.utils import StokesWarning

    from . import datasets

    path = Path(name)
    if not path.exists():
        if name not in datasets.names():
            raise KinematicsError(f"no file and no data set {name}", f"a path, or one of {', '.join(datasets.names())}")
        try:
            path = datasets.fetch(name)
        except ValueError as error:
            raise KinematicsError(str(error)) from error
    with warnings.catch_warnings():
        # What astropy mends in old headers is nothing to act on here.
        for category in (FITSFixedWarning, StokesWarning, VerifyWarning):
            warnings.simplefilter("ignore", category)
        try:
            return SpectralCube.read(str(path))
        except (FITSReadError, TypeError, ValueError) as error:
            raise KinematicsError(f"{path} does not read as a cube ({error})", "a spectral-line cube") from error


def _slab(cube, args):
    if args.slab is None:
        return cube
    from .observation.reading import cube_header
    from .observation.spectral import spectral_axis

    low, high = (end.value for end in parse_range(args.slab, _KM_S, name="--slab"))
    options = quantities(args, rest_value=None) | given(args, "velocity_convention")
    axis = spectral_axis(cube.wcs, cube.shape[0], velref=int(cube_header(cube).get("VELREF", 0)), **options)
    edges = axis.edges
    if high <= edges[0] or low >= edges[-1]:
        raise KinematicsError(f"--slab {args.slab}", f"a part of {edges[0]:.1f} to {edges[-1]:.1f} km / s")
    start = max(0, np.searchsorted(edges, low, side="right") - 1)
    stop = min(len(edges) - 1, np.searchsorted(edges, high))
    return cube[len(edges) - 1 - stop : len(edges) - 1 - start] if axis.descending else cube[start:stop]


def _timed(fit_it, data, **options):
    start = time.perf_counter()
    result = fit_it(data, **options)
    _say(f"fitted in {time.perf_counter() - start:.1f} s")
    return result


def _check_outputs(args):
    """Before the work, not after: whatever would stop the writing."""
    from .results.files import check_writable, table_format

    for path in (args.output, args.samples, args.plot, args.corner):
        if path is not None:
            check_writable(path, args.overwrite)
    for path in (args.output, args.samples):
        if path is not None:
            table_format(path)
    _check_pictures(args.plot, args.corner)


def _check_pictures(*paths):
    for path in paths:
        if path is not None and Path(path).suffix.lower() not in (".png", ".pdf", ".svg"):
            raise KinematicsError(f"{path} names no format of pictures", "an ending .png, .pdf or .svg")


def _write(result, output, samples, plot, corner, overwrite):
    for path, write in ((output, result.write), (samples, result.write_samples)):
        if path is not None:
            write(path, overwrite=overwrite)
            _say(f"wrote {path}")
    for path, draw in ((plot, result.plot), (corner, result.corner)):
        if path is not None:
            _write_picture(draw(), path, overwrite)


def _write_picture(figure, path, overwrite):
    import matplotlib.pyplot as plt

    from .results.files import whole_file

    with whole_file(path, overwrite) as partial:
        figure.savefig(partial, dpi=200)
    plt.close(figure)
    _say(f"wrote {path}")


def _write_cube(cube, path, overwrite):
    from .results.files import whole_file

    with whole_file(path, overwrite) as partial:
        cube.write(str(partial), format="fits")
    _say(f"wrote {path}")


def _prior(prior):
    ends = (f"{end:g} {scale or ''}".strip() for end, scale in zip((prior.lo, prior.hi), prior.scales, strict=True))
    return f"{type(prior).__name__} {' to '.join(ends)}"


def _print_nested(values, indent=2):
    for key, value in values.items():
        if isinstance(value, dict):
            print(f"{' ' * indent}{key}")
            _print_nested(value, indent + 2)
        else:
            print(f"{' ' * indent}{key}: {value}")


def _one_line(message):
    return " ".join(str(message).split())


def _say(text):
    print(f"kinematics-nn: {text}", file=sys.stderr, flush=True)
