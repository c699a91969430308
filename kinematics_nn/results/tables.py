"""Posterior samples into tables with units."""

from collections import Counter
from functools import partial
from operator import mul

import astropy.units as u
import numpy as np
from astropy import constants
from astropy.nddata.bitmask import extend_bit_flag_map, interpret_bit_flags
from astropy.table import Column, MaskedColumn, QTable
from astropy.utils.masked import Masked

from kinematics_nn.errors import FormError
from kinematics_nn.forms.masses import HUBBLE_CONSTANT, find_masses

__all__ = [
    "STATISTICS",
    "KinematicFlags",
    "at_distance",
    "decode_flags",
    "encode_flags",
    "form_columns",
    "parameter_columns",
    "plain",
    "statistics",
    "summary_row",
    "unwrap",
    "with_distance",
]

KinematicFlags = extend_bit_flag_map(
    "KinematicFlags",
    LOW_SNR=1,
    UNRESOLVED=2,
    FACE_ON=4,
    EDGE_ON=8,
    BAND_EDGE=16,
    PRIOR_EDGE=32,
    LOW_EFFICIENCY=64,
    POOR_FIT=128,
)
"""What can be fitted but not trusted, as bits for `astropy.nddata.bitmask`.

The column ``flags`` of a summary holds their sum; ``bitfield_to_boolean_mask(table["flags"], "LOW_SNR",
flag_name_map=KinematicFlags)`` selects among many rows, and `decode_flags` gives the names of one.
"""

STATISTICS = {
    "": "mean",
    "_std": "standard deviation",
    "_meandev": "mean absolute deviation",
    "_p16": "16th percentile",
    "_p50": "median",
    "_p84": "84th percentile",
}
"""Suffixes of a parameter's columns, and what they are."""

# Name -> (unit, description); the flux unit is the observation's.
_SKY = {
    "ra": (u.deg, "Right ascension of the kinematic centre, ICRS"),
    "dec": (u.deg, "Declination of the kinematic centre, ICRS"),
    "x": (u.pix, "Kinematic centre along the first image axis, 0-based pixels of the input cube"),
    "y": (u.pix, "Kinematic centre along the second image axis, 0-based pixels of the input cube"),
}
_DISC = {
    "inclination": (u.deg, "Inclination, 0 face-on, 90 edge-on"),
    "pa": (u.deg, "Position angle of the receding side of the major axis, east of north"),
    "east": (u.arcsec, "Offset of the centre east of the reference position"),
    "north": (u.arcsec, "Offset of the centre north of the reference position"),
    "vsys": (u.km / u.s, "Systemic velocity, in the cube's frame and convention"),
    "flux": (None, "Integrated line flux over the whole sky"),
    "thickness": (u.arcsec, "Vertical scale height"),
}
_FREE_OF_FORM = {
    "r50": (u.arcsec, "Radius that holds half of the light"),
    "v22": (u.km / u.s, "Rotation speed at 2.2 disc scale lengths (1.31 r50)"),
    "v22_sini": (u.km / u.s, "v22 projected on the line of sight"),
    "w50": (u.km / u.s, "Line width at half of the peak"),
}


def form_columns(forms):
    """
    Columns of the forms' own parameters.

    Parameters
    ----------
    forms : `~kinematics_nn.decoder.Forms`
        The three functional forms.

    Returns
    -------
    dict
        Column name to (slot, `~kinematics_nn.forms.FormParameter`), in the order of the parameter vector.
    """
    return {
        name: (slot, parameter)
        for slot, names in forms.slots.items()
        for name, parameter in zip(names, getattr(forms, slot).parameters, strict=True)
    }


def parameter_columns(forms, flux_unit, *, sky=True, kpc=False):
    """
    Columns of a galaxy's parameters: name to (unit, description), in the order of the tables.

    They depend on the forms and on nothing else, so that tables of many galaxies stack.

    Parameters
    ----------
    forms : `~kinematics_nn.decoder.Forms`
        The three functional forms.
    flux_unit : str or `~astropy.units.Unit`
        Of ``flux``.
    sky : bool, optional
        Whether the position on the sky and in the image, which derive from the offsets, is among them.
    kpc : bool, optional
        Whether what needs a distance is there: radii in kpc, as ``r50_kpc``, and masses in solar masses.

    Raises
    ------
    FormError
        A form's parameter has the name of another column, such as ``vmax_std`` beside ``vmax``.
    """
    own = form_columns(forms)
    masses = {name: (u.Msun, model.mass_description) for name, model, _ in find_masses(forms.rotation_curve)}
    _check_names(own, masses)
    columns = {name: (u.Unit(flux_unit) if unit is None else unit, text) for name, (unit, text) in _DISC.items()}
    columns |= {name: (u.Unit(p.unit), p.description) for name, (_, p) in own.items()}
    columns |= _FREE_OF_FORM
    if kpc:
        columns |= {f"{name}_kpc": (u.kpc, columns[name][1]) for name in lengths(columns)} | masses
    return (_SKY if sky else {}) | columns


def _check_names(own, masses):
    """Check that no two columns of a summary have one name, with what statistics and a distance add to them."""
    in_kpc = [f"{name}_kpc" for name in (*lengths(_DISC), *lengths(_FREE_OF_FORM))]
    in_kpc += [f"{name}_kpc" for name, (_, parameter) in own.items() if parameter.powers == (0, 1)]
    names = [*_SKY, *_DISC, *_FREE_OF_FORM, *own, *masses, *in_kpc]
    columns = Counter([*(name + suffix for name in names for suffix in STATISTICS), *FACTS])
    twice = {column for column, n in columns.items() if n > 1}
    if twice:
        clash = [name for name in own if name in twice] or [n for n in own if any(n + s in twice for s in STATISTICS)]
        raise FormError(
            f"a form has a parameter named {', '.join(sorted(clash))}, as a column of the tables is",
            "another name",
            "renaming it in the form's `parameters`",
        )


def lengths(columns):
    """Names of the columns that are radii or heights in the galaxy [arcsec]."""
    return [name for name, (unit, _) in columns.items() if unit == u.arcsec and name not in ("east", "north")]


def at_distance(distance):
    """
    The equivalency of small angles and lengths across the line of sight, at a distance.

    Parameters
    ----------
    distance : `~astropy.units.Quantity`

    Returns
    -------
    list
        As the units of `astropy` take equivalencies; it pickles.
    """
    kpc = distance.to_value(u.kpc) * u.arcsec.to(u.rad)
    return [(u.arcsec, u.kpc, partial(mul, kpc), partial(mul, 1 / kpc))]


def with_distance(forms, samples, distance):
    """
    What a distance adds to samples: radii in kpc and masses in solar masses.

    Parameters
    ----------
    forms : `~kinematics_nn.decoder.Forms`
        The three functional forms.
    samples : dict of str to (n,) array
        In arcsec and km/s.
    distance : `~astropy.units.Quantity`
        Of the galaxy.

    Returns
    -------
    dict of str to (n,) array
        What `parameter_columns` has under ``kpc=True`` alone.
    """
    per_arcsec = (1 * u.arcsec).to(u.kpc, at_distance(distance))
    columns = parameter_columns(forms, u.one, sky=False)
    added = {f"{name}_kpc": samples[name] * per_arcsec.value for name in lengths(columns)}
    # G times a mass over the distance is in km2 arcsec/s2, and the Hubble flow at the galaxy in km/(s arcsec)
    solar = (per_arcsec * (u.km / u.s) ** 2 / constants.G).to_value(u.Msun)
    hubble = HUBBLE_CONSTANT * per_arcsec.to_value(u.Mpc)
    curve = [samples[name] for name in forms.slots["rotation_curve"]]
    for name, model, where in find_masses(forms.rotation_curve):
        added[name] = solar * model.gm(hubble, *curve[where])
    return added


def unwrap(angle):
    """
    Bring angles within half a turn of their median, with a mean in [0, 360).

    Parameters
    ----------
    angle : (n,) array
        [deg], any branch.

    Returns
    -------
    (n,) array
        The same angles, contiguous: means, percentiles and plots of them are safe.
    """
    # The circular mean picks the branch in which the median has a meaning (Fisher 1993, eq. 2.9).
    radians = np.deg2rad(angle)
    middle = np.rad2deg(np.arctan2(np.sin(radians).mean(), np.cos(radians).mean()))
    for _ in range(2):
        angle = middle + (angle - middle + 180) % 360 - 180
        middle = np.median(angle)
    return angle - 360 * np.floor(angle.mean() / 360)


def statistics(values):
    """
    Statistics of one parameter's samples, keyed as `STATISTICS`.

    ``_meandev`` is the mean absolute deviation from the mean, the σ of Dawson et al. (2021, MNRAS 503, 574),
    0.8 of a standard deviation for a Gaussian.

    Parameters
    ----------
    values : (n, ...) array or `~astropy.units.Quantity`
        Samples along the first axis; angles are to be `unwrap`-ped before.
    """
    mean = values.mean(axis=0)
    p16, p50, p84 = np.percentile(values, [16, 50, 84], axis=0)
    meandev = np.abs(values - mean).mean(axis=0)
    return dict(zip(STATISTICS, (mean, values.std(axis=0), meandev, p16, p50, p84), strict=True))


def summary_row(columns, samples, facts, meta):
    """
    One galaxy's row.

    Parameters
    ----------
    columns : dict
        Of `parameter_columns`.
    samples : `~astropy.table.QTable` or None
        One column a parameter; None for a galaxy that failed, whose parameters are masked.
    facts : dict
        What follows the parameters: method, reduced_chi2 and so on. None is masked.
    meta : dict
        Provenance: plain values, nested.

    Returns
    -------
    `~astropy.table.QTable`
    """
    row = QTable(meta=plain(meta))
    for name, (unit, text) in columns.items():
        values = dict.fromkeys(STATISTICS) if samples is None else statistics(samples[name])
        for suffix, value in values.items():
            column = Masked([np.nan], mask=[True]) * unit if value is None else u.Quantity([value], unit)
            row[name + suffix] = column
            row[name + suffix].info.description = f"{text}: {STATISTICS[suffix]}"
    for name, (dtype, text) in FACTS.items():
        value = facts.get(name)
        if dtype is str:
            # Text is empty rather than masked: no format tells the two apart.
            row[name] = Column([value or ""], description=text)
        else:
            row[name] = MaskedColumn([value or 0], dtype=dtype, mask=[value is None], description=text)
    return row


FACTS = {
    "method": (str, "How the posterior was reached"),
    "reduced_chi2": (float, "Reduced chi squared with the measured noise, where data or model is detected"),
    "n_effective": (float, "Effective number of samples"),
    "sample_efficiency": (float, "n_effective over the likelihoods reckoned, or over the samples of the network alone"),
    "flags": (np.int64, "Sum of KinematicFlags"),
    "status": (str, "ok or failed"),
    "message": (str, "Why it failed, or what to know"),
}


def decode_flags(flags):
    """
    Names of the `KinematicFlags` in a sum of them.

    Examples
    --------
    >>> from kinematics_nn.results import decode_flags
    >>> decode_flags(5)
    ('LOW_SNR', 'FACE_ON')
    """
    return tuple(name for name in _flag_names() if int(flags) & interpret_bit_flags(name, flag_name_map=KinematicFlags))


def encode_flags(names):
    """The sum that stands for some names of `KinematicFlags`."""
    known = _flag_names()
    unknown = set(names) - set(known)
    if unknown:
        raise ValueError(f"unknown flags {sorted(unknown)}: known are {', '.join(known)}")
    return sum(interpret_bit_flags(name, flag_name_map=KinematicFlags) for name in set(names))


def _flag_names():
    return [name for name in vars(KinematicFlags) if name.isupper()]


def plain(value):
    """Turn what a dict of provenance may hold into what YAML and JSON both keep as it is."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray) and not isinstance(value, u.Quantity):
        return plain(value.tolist())
    # Subclasses too (torch's version is one of str) become the plain type, the only one that YAML takes.
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return None if value is None else str(value)
