"""The commands that work: fit, fit-maps, simulate, demo, calibrate and card."""

import time
from pathlib import Path

import astropy.units as u

from ..errors import KinematicsError
from ..forms.base import KINDS
from ..quantities import parse_quantity
from .arguments import given, quantities, read_beam, read_fixed, read_lsf, read_model
from .files import check_pictures, cut_slab, read_cube, write_cube, write_results
from .messages import say

__all__ = ["calibrate", "card", "demo", "fit", "fit_maps", "simulate"]

_KM_S = u.km / u.s


def fit(args):
    """Fit a cube and write what is asked for."""
    from ..fitting import fit as fit_cube

    _check_outputs(args)
    names = ("method", "min_ess", "fallback", "weights", "n_samples", "seed", "device", "region", "velocity_convention")
    options = given(args, *KINDS, *names)
    options |= quantities(args, distance=u.Mpc, rms=None, rest_value=None)
    if args.beam:
        options["beam"] = read_beam(args.beam)
    if args.lsf:
        options["lsf"] = read_lsf(args.lsf)
    if args.fixed:
        options["fixed"] = read_fixed(args.fixed)
    if args.progress:
        options["progress"] = say
    cube = cut_slab(read_cube(args.cube), args)
    say(f"fitting {args.cube}, {' x '.join(str(n) for n in cube.shape)} voxels (channel, y, x)")
    result = _timed(fit_cube, cube, **options)
    # Files first: a reader of the text that goes away (head) must not cost them.
    write_results(result, args.output, args.samples, args.plot, args.corner, args.overwrite)
    print(result)


def fit_maps(args):
    """Fit a velocity field and write what is asked for."""
    from ..map_fitting import fit_maps as fit_fields

    _check_outputs(args)
    options = given(args, *KINDS, "weights", "n_samples", "seed", "device", "velocity_convention")
    options |= given(args, "moment0", "moment1_error") | quantities(args, distance=u.Mpc)
    if args.beam:
        options["beam"] = read_beam(args.beam)
    say(f"fitting {args.moment1}")
    result = _timed(fit_fields, args.moment1, **options)
    write_results(result, args.output, args.samples, args.plot, args.corner, args.overwrite)
    print(result)


def simulate(args):
    """Write the cube of a disc."""
    from ..results.files import check_writable
    from ..simulation import simulate as simulate_cube

    check_writable(args.cube, args.overwrite)
    options = given(args, "seed", "integrate_pixels", "noise", "spectral")
    options |= quantities(args, pixel_scale=u.arcsec, channel_width=_KM_S, inclination=u.deg, pa=u.deg, vsys=_KM_S)
    options |= quantities(args, velocity_dispersion=_KM_S, flux=None, rms=None, distance=u.Mpc)
    options |= quantities(args, thickness=None if args.distance else u.arcsec)
    if args.shape:
        options["shape"] = tuple(args.shape)
    if args.offset:
        options["offset"] = u.Quantity([parse_quantity(text, u.arcsec, name="--offset") for text in args.offset])
    if args.beam:
        options["beam"] = read_beam(args.beam)
    if args.like:
        options["like"] = read_cube(args.like)
    for kind in ("rotation_curve", "surface_brightness"):
        if getattr(args, kind):
            options[kind] = read_model(kind, getattr(args, kind), options.get("distance"))
    write_cube(simulate_cube(**options), args.cube, args.overwrite)


def demo(args):
    """Simulate a galaxy with noise, fit it, show the truth beside the posterior."""
    from ..demo import comparison, simulate_galaxy
    from ..fitting import fit as fit_cube

    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    say("simulating a galaxy")
    cube, truth = simulate_galaxy(args.seed)
    write_cube(cube, folder / "demo.fits", overwrite=True)
    say(f"fitting it, {' x '.join(str(n) for n in cube.shape)} voxels (channel, y, x)")
    result = _timed(fit_cube, cube, seed=args.seed, **given(args, "device"))
    names = ("demo.ecsv", "demo_samples.fits", "demo.png", "demo_corner.png")
    write_results(result, *(folder / name for name in names), overwrite=True)
    print(comparison(result, truth))


def calibrate(args):
    """Fit mock galaxies drawn from the fit's own prior, and report whether the posteriors are right."""
    from ..inference.calibration import calibrate, read_rows, write_report

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
        options=given(args, "min_ess", "weights", "n_samples"),
        keep=args.keep,
        progress=say,
    )
    rows = read_rows(args.out)
    say(f"{len(rows)} of {max(args.n, len(rows))} galaxies done")
    for path in write_report(rows, args.out, args.least):
        say(f"wrote {path}")


def _timed(fit_it, data, **options):
    start = time.perf_counter()
    result = fit_it(data, **options)
    say(f"fitted in {time.perf_counter() - start:.1f} s")
    return result


def _check_outputs(args):
    """Before the work, not after: whatever would stop the writing."""
    from ..results.files import check_writable, table_format

    for path in (args.output, args.samples, args.plot, args.corner):
        if path is not None:
            check_writable(path, args.overwrite)
    for path in (args.output, args.samples):
        if path is not None:
            table_format(path)
    check_pictures(args.plot, args.corner)


def card(args):
    """Write the model card of weights beside them."""
    from ..training.card import write_card

    say(f"wrote {write_card(args.weights, args.scores)}")
