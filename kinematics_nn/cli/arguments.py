"""What the command line takes: its options, and their text read into what the Python doors take."""

import argparse
import contextlib

import astropy.units as u

from ..errors import KinematicsError
from ..forms.base import KINDS
from ..observation.correlation import SERIES, WIDTHS
from ..quantities import inside_number, parse_quantity

__all__ = [
    "add_calibrate_arguments",
    "add_fit_arguments",
    "add_fit_maps_arguments",
    "add_simulate_arguments",
    "given",
    "quantities",
    "read_beam",
    "read_fixed",
    "read_lsf",
    "read_model",
]

_SUM = {"rotation_curve": "; a sum is written as disc:freeman+halo:nfw"}


def add_fit_arguments(sub):
    """Declare what ``kinematics-nn fit`` takes."""
    sub.add_argument("cube", metavar="CUBE", help="path of a cube, or a name of kinematics_nn.datasets")
    _output_arguments(sub)
    sub.add_argument("--region", metavar="FILE", help="DS9 or CRTF file of the galaxy")
    sub.add_argument(
        "--slab", metavar="'VMIN:VMAX km/s'", help="channels to use (as --slab='-100:300 km/s' if negative)"
    )
    _beam_argument(sub)
    sub.add_argument("--rms", metavar="QUANTITY", help="noise, such as '2 mJy/beam'; measured by default")
    sub.add_argument("--rest-value", metavar="QUANTITY", help="rest frequency or wavelength, where the header has none")
    sub.add_argument("--method", choices=("refined", "network"), help="the exact likelihood, or the network alone")
    sub.add_argument("--min-ess", type=float, metavar="N", help="effective draws that refined goes on until")
    sub.add_argument("--fallback", choices=("dynesty",), help="what refined falls back on, for minutes to hours")
    sub.add_argument("--lsf", metavar="QUANTITY", help="sigma of the line-spread function, or hanning")
    sub.add_argument(
        "--fixed",
        nargs="+",
        metavar="NAME=QUANTITY",
        help="parameters to hold, such as 'thickness=0 arcsec', or 'ra=143.04 deg' 'dec=21.5 deg'",
    )
    sub.add_argument("--progress", action="store_true", help="say every step")
    _posterior_arguments(sub)


def add_fit_maps_arguments(sub):
    """Declare what ``kinematics-nn fit-maps`` takes."""
    sub.add_argument("moment1", metavar="MOMENT1", help="FITS file of a velocity field")
    sub.add_argument("--moment0", metavar="FILE", help="FITS file of the integrated brightness")
    sub.add_argument("--moment1-error", metavar="FILE", help="FITS file of the velocity field's error")
    _output_arguments(sub)
    _beam_argument(sub)
    _posterior_arguments(sub)


def _output_arguments(sub):
    sub.add_argument("--output", metavar="TABLE", help="summary: .ecsv, .fits or .vot")
    sub.add_argument("--samples", metavar="TABLE", help="samples: .ecsv, .fits or .vot")
    sub.add_argument("--plot", metavar="PICTURE", help="maps, rotation curve and, of cubes, slice: .png, .pdf, .svg")
    sub.add_argument("--corner", metavar="PICTURE", help="joint posterior: .png, .pdf, .svg")
    sub.add_argument("--overwrite", action="store_true", help="replace files that exist")


def _posterior_arguments(sub):
    sub.add_argument("--velocity-convention", choices=("radio", "optical", "relativistic"))
    sub.add_argument("--distance", metavar="QUANTITY", help="such as '10 Mpc'")
    for kind in KINDS:
        sub.add_argument(
            f"--{kind.replace('_', '-')}", metavar="FORM", help=f"see kinematics-nn forms{_SUM.get(kind, '')}"
        )
    sub.add_argument(
        "--weights", metavar="NAME", help="of weights that kinematics-nn info lists, or a .safetensors file"
    )
    sub.add_argument("--n-samples", type=int, metavar="N", help="realisations")
    sub.add_argument("--seed", type=int)
    sub.add_argument("--device", help="of torch, such as cpu or cuda")


def add_simulate_arguments(sub):
    """Declare what ``kinematics-nn simulate`` takes."""
    sub.add_argument("cube", metavar="OUT.fits")
    sub.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    sub.add_argument("--like", metavar="CUBE", help="take grid, beam and unit from this cube")
    sub.add_argument("--shape", type=int, nargs=3, metavar=("CHANNEL", "Y", "X"))
    _beam_argument(sub)
    sub.add_argument("--offset", nargs=2, metavar=("EAST", "NORTH"), help="of the centre from the reference position")
    for name in (
        "pixel-scale",
        "channel-width",
        "inclination",
        "pa",
        "vsys",
        "flux",
        "velocity-dispersion",
        "thickness",
    ):
        sub.add_argument(f"--{name}", metavar="QUANTITY")
    for kind in ("rotation-curve", "surface-brightness"):
        help_ = "a form, and what differs from its defaults, such as arctan 'vmax=200 km/s'"
        sub.add_argument(f"--{kind}", nargs="+", metavar=("FORM", "NAME=QUANTITY"), help=help_)
    sub.add_argument("--distance", metavar="QUANTITY", help="such as '10 Mpc', where radii are lengths")
    sub.add_argument("--integrate-pixels", action=argparse.BooleanOptionalAction, help="over the pixel, or its centre")
    sub.add_argument("--rms", metavar="QUANTITY", help="noise, such as '2 mJy/beam'; none by default")
    sub.add_argument("--noise", choices=tuple(WIDTHS), help="how the noise is correlated over the sky")
    sub.add_argument("--spectral", choices=tuple(SERIES), help="and over channels")
    sub.add_argument("--seed", type=int, help="of the noise")


def add_calibrate_arguments(sub):
    """Declare what ``kinematics-nn calibrate`` takes."""
    sub.add_argument("--out", metavar="FOLDER", required=True, help="of the run: parts, tables and a figure")
    whose = "whose code makes them; broken: clumpy, holed, lopsided, or of other curves than they are fitted with; "
    whose += "varied: KinMS's, over all that the network is to serve, half of them of other forms; "
    whose += "troubled: such with uneven light, warps and flawed cubes"
    sub.add_argument("--galaxies", choices=("own", "kinms", "broken", "varied", "troubled"), default="own", help=whose)
    sub.add_argument("--method", choices=("refined", "network"), default="refined")
    sub.add_argument("--n", type=int, default=1000, help="galaxies, all shards together")
    sub.add_argument("--seed", type=int, default=1)
    sub.add_argument("--shard", metavar="i/N", default="1/1", help="the i-th of N processes that share the galaxies")
    sub.add_argument("--least", type=int, default=150, metavar="N", help="galaxies in a bin, at least")
    sub.add_argument("--min-ess", type=float, metavar="N", help="effective draws of each fit (fit's own default)")
    sub.add_argument("--n-samples", type=int, metavar="N", help="realisations of each fit (fit's own default)")
    sub.add_argument("--keep", metavar="FOLDER", help="of the cubes: those there are fitted, the others kept there")
    sub.add_argument("--weights", metavar="NAME", help="of the fits; those of fit by default")
    for kind in KINDS:
        sub.add_argument(
            f"--{kind.replace('_', '-')}", metavar="FORM", help=f"of galaxies and fits{_SUM.get(kind, '')}"
        )


def _beam_argument(sub):
    sub.add_argument("--beam", nargs="+", metavar="QUANTITY", help="FWHM; or major, minor and position angle")


def given(args, *names):
    """The options among some names that were given: dict of name to value."""
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def quantities(args, **units):
    """Those of some options that were given, as quantities in these units (None: any unit)."""
    return {
        name: parse_quantity(text, units[name], name=f"--{name.replace('_', '-')}")
        for name, text in given(args, *units).items()
    }


def read_beam(texts):
    """A `~radio_beam.Beam` of one FWHM, or of major axis, minor axis and position angle."""
    from radio_beam import Beam

    if len(texts) not in (1, 3):
        raise KinematicsError(f"--beam has {len(texts)} values", "one FWHM, or major, minor and position angle")
    units = (u.arcsec, u.arcsec, u.deg)
    return Beam(*(parse_quantity(text, unit, name="--beam") for text, unit in zip(texts, units, strict=False)))


def read_lsf(text):
    """A line-spread function: "hanning", or a speed."""
    return text if text == "hanning" else parse_quantity(text, u.km / u.s, name="--lsf")


def read_fixed(words):
    """Parameters held, of ``name=quantity`` words; a bare number is in the unit of the parameter's column."""
    held = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise KinematicsError(f"--fixed {word!r}", "NAME=QUANTITY", "--fixed 'thickness=0 arcsec'")
        try:
            held[name] = float(text)
        except ValueError:
            held[name] = parse_quantity(text, None, name=f"--fixed {name}")
    return held


def read_model(kind, words, distance=None):
    """An astropy model from a form's name and ``name=quantity`` words; radii may be lengths at a distance."""
    from ..forms import get_form
    from ..models import model_class

    form = get_form(words[0], kind)
    values = {p.name: p.default * u.Unit(p.unit) for p in form.parameters}
    for word in words[1:]:
        name, equals, text = word.partition("=")
        if not equals or name not in values:
            raise KinematicsError(f"{word!r} after {form.name}", f"NAME=QUANTITY, with NAME among {', '.join(values)}")
        unit = values[name].unit
        if distance is not None and unit != u.one:
            text = parse_quantity(text, None, name=name)
            with contextlib.suppress(u.UnitConversionError):  # which is said below
                text = inside_number(text, unit, distance) * unit
        values[name] = parse_quantity(text, unit, name=name)
    return model_class(form)(**values)
