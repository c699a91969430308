"""`compare`: which functional forms do the data prefer? Evidences, on equal ground."""

import difflib
import math
from contextlib import suppress

import numpy as np
from astropy.modeling import Model
from astropy.table import QTable

from .errors import FormError, KinematicsError
from .forms.base import KINDS, Form
from .options import fresh_seed

__all__ = ["compare", "rank_fits"]

_READ_BY = ("integrate_pixels", "lsf")  # what the likelihood depends on beside the observation's arrays


def compare(cube, forms, **options):
    """
    Fit a cube with several forms and rank them by evidence.

    Parameters
    ----------
    cube : `~spectral_cube.SpectralCube`, str or path
        The cube, or the path of one.
    forms : list
        What to compare: names, forms or models of one kind, or dicts of ``rotation_curve``, ``surface_brightness`` and
        ``velocity_dispersion``. What is not given is that of ``options``. A model's ``fixed`` and ``bounds`` hold.
    **options
        As `kinematics_nn.fit` takes them, the same for all; ``method="refined"`` is the one that has evidences.

    Returns
    -------
    `~astropy.table.QTable`
        As `rank_fits` gives it.

    Raises
    ------
    KinematicsError
        ``method="network"``, or nothing to compare.

    Examples
    --------
    ``compare(cube, ["exponential", "ring"])``, or
    ``compare(cube, [{"rotation_curve": "arctan"}, {"rotation_curve": "nfw", "surface_brightness": "sersic"}])``.
    """
    from .fitting import fit
    from .observation import opened

    method = options.setdefault("method", "refined")
    if method != "refined":
        raise KinematicsError(f"method={method!r}, which has no evidence", "refined fits", 'compare(method="refined")')
    if isinstance(forms, (str, dict)) or len(forms := list(forms)) < 2:
        raise KinematicsError(f"forms={forms!r}", "a list of two or more", 'compare(cube, ["exponential", "ring"])')
    slots = _slots(forms)
    idle = [slot for slot in KINDS if slot in options and all(slot in own for own in slots)]
    if idle:
        raise KinematicsError(
            f"{', '.join(idle)}= beside forms that all have their own", "one of the two", "compare(cube, forms)"
        )
    options["seed"] = fresh_seed(options.get("seed"))
    cube = opened(cube)
    return rank_fits([fit(cube, **(options | own)) for own in slots])


def rank_fits(fits):
    r"""
    Rank fits of one observation by their evidence.

    The evidence is the likelihood averaged over the prior: of two forms, the one with more of it is preferred by the
    ratio (the Bayes factor), and a form pays for parameters that the data do not need. It counts on what all have in
    common being the same: the data, their noise, the priors of what every disc has, and the light's freedom to depart
    from its profile, whose patches lie on each form's own disc. The prior of the flux is normal about 0, as wide as ten
    times the flux of the detected emission. A factor of :math:`e^5`, of whose logarithm twice is 10, is where evidence
    becomes very strong (Kass & Raftery 1995, JASA 90, 773), and where a fit is flagged ``POOR_FIT`` none of the forms
    may be right.

    Parameters
    ----------
    fits : list of `~kinematics_nn.results.KinematicFit`
        Of ``method="refined"``.

    Returns
    -------
    `~astropy.table.QTable`
        A row a fit, the best first: the three forms, what is ``given`` of their parameters (held, or a prior),
        ``log_evidence`` (natural) and ``log_evidence_error``,
        ``log_bayes_factor`` relative to the best and ``log_bayes_factor_error``, ``light_scatter`` and ``flags``.

    Raises
    ------
    KinematicsError
        The fits do not stand on equal ground.
    """
    fits = list(fits)
    if len(fits) < 2:
        raise KinematicsError(f"{len(fits)} fit", "two or more", "rank_fits([fit, other])")
    for fit in fits:
        _check_refined(fit)
    for fit in fits[1:]:
        _check_ground(fits[0], fit)
    _check_normalised(fits)
    order = sorted(fits, key=lambda fit: -fit.meta["log_evidence"])
    best = order[0].meta
    rows = []
    for k, fit in enumerate(order):
        value, error = fit.meta["log_evidence"], fit.meta["log_evidence_error"]
        rows.append(
            {slot: getattr(fit.forms, slot).name for slot in KINDS}
            | {
                "given": _given(fit),
                "log_evidence": value,
                "log_evidence_error": error,
                "log_bayes_factor": value - best["log_evidence"],
                "log_bayes_factor_error": math.hypot(error, best["log_evidence_error"]) if k else 0.0,
                "light_scatter": fit.meta["light_scatter"],
                "flags": ", ".join(fit.flags) or "-",
            }
        )
    table = QTable(rows)
    for name, column in table.columns.items():
        if name.startswith("log_"):
            column.info.format = ".2f"
    table["light_scatter"].info.format = ".3f"
    table.meta = {"object": order[0].meta.get("object"), "flux_prior": list(best["flux_prior"])}
    return table


def _check_normalised(fits):
    """Refuse evidences under priors whose integral is not known, where it is not the same for all."""
    for fit in fits:
        own = {*fit.meta["priors"], *fit.meta["fixed"]}
        for slot, columns in fit.forms.slots.items():
            form = getattr(fit.forms, slot)
            alike = all(getattr(other.forms, slot).parameters == form.parameters for other in fits)
            if form.prior_residuals is None or alike:
                continue
            joint = f"{form.name}, whose parameters have a prior together"
            if form.log_prior_norm.__func__ is Form.log_prior_norm.__func__:
                raise KinematicsError(f"{joint} that is not normalised", "log_prior_norm() of the form", None)
            changed = [name for name in columns if name in own]
            if changed:
                found = f"{joint}, with priors of its own on {', '.join(changed)}"
                raise KinematicsError(
                    found, "the form's own priors, whose norm is known", "fit() without priors= of them"
                )


def _slots(items):
    """For each of what may stand in a list of forms: slot to a form, or to a model, which may hold parameters."""
    from .forms import get_form

    alone = [item for item in items if not isinstance(item, dict)]
    kinds = [_kinds(item) for item in alone]
    known = [found for found in kinds if found]
    # "exponential" names a light and a dispersion: meant is the kind that all have.
    common = [slot for slot in KINDS if all(slot in found for found in known)]
    for item, found in zip(alone, kinds, strict=True):
        if not found:
            _refuse(item, common or KINDS)
    if alone and len(common) != 1:
        shown = ", ".join(f"{item!r} ({' or '.join(found)})" for item, found in zip(alone, kinds, strict=True))
        needed = "forms of one kind, or dicts that say of which they are"
        raise FormError(shown, needed, 'compare(cube, [{"rotation_curve": "nfw"}, {"surface_brightness": "ring"}])')
    for item in items:
        if isinstance(item, dict) and not set(item) <= set(KINDS):
            raise FormError(f"forms for {', '.join(sorted(item))}", f"{', '.join(KINDS)}", "a dict of these")
    slots = [item if isinstance(item, dict) else {common[0]: item} for item in items]
    found = [{slot: (form, get_form(form, slot)) for slot, form in item.items()} for item in slots]
    # A model holds and bounds what a form doesn't.
    return [{slot: model if isinstance(model, Model) else form for slot, (model, form) in of.items()} for of in found]


def _kinds(item):
    """The slots that a name, a form or a model fits."""
    from .forms import get_form

    found = []
    for slot in KINDS:
        with suppress(FormError):
            get_form(item, slot)
            found.append(slot)
    return found


def _refuse(item, slots):
    """Say that a name is of no form, by the kind that it should have or, where nothing tells, by all."""
    from .forms import get_form, list_forms

    if len(slots) == 1 or not isinstance(item, str):
        get_form(item, slots[0])
    close = difflib.get_close_matches(item, [known.name for known in list_forms() if known.kind in slots], n=1)
    remedy = repr(close[0]) if close else "kinematics_nn.register(YourForm), if it is your own"
    kinds = " or ".join(slot.replace("_", " ") for slot in slots)
    raise FormError(f"no {kinds} is called {item!r}", "a name that kinematics_nn.forms.list_forms() has", remedy)


def _check_refined(fit):
    if fit.meta.get("log_evidence") is None:
        raise KinematicsError(
            f"a fit by method={fit.meta.get('method')!r}, which has no evidence",
            "refined fits",
            'fit(method="refined")',
        )
    untold = [name for name in ("priors", "fixed", "flux_prior", "n_patches") if name not in fit.meta]
    if untold:
        raise KinematicsError(f"a fit that doesn't tell its {', '.join(untold)}", "fits of one version", "fit() again")


def _given(fit):
    """What a fit holds, and has priors on, of its forms' own parameters, in words."""
    own = [column for columns in fit.forms.slots.values() for column in columns]
    fixed, priors = fit.meta["fixed"], fit.meta["priors"]
    told = [f"{name} = {fixed[name]}" for name in own if name in fixed]
    told += [f"{name}: {priors[name]}" for name in own if name in priors]
    return "; ".join(told) or "-"


def _of_disc(fit, kind):
    """What a fit's ``meta`` says of ``priors`` or ``fixed``, but for a form's own parameters: they are part of it."""
    of_forms = {column for columns in fit.forms.slots.values() for column in columns}
    return {name: text for name, text in fit.meta[kind].items() if name not in of_forms}


def _check_ground(one, other):
    """Refuse two fits whose evidences are of different things."""
    first, second = one.observation, other.observation
    arrays = ("data", "valid", "rms", "edges", "xi", "eta", "beam")
    same = {name: np.array_equal(getattr(first, name), getattr(second, name)) for name in arrays}
    same |= {
        name: np.array_equal(getattr(first.correlation, name), getattr(second.correlation, name))
        for name in ("spatial", "spectral")
    }
    same |= {name: first.header.get(name) == second.header.get(name) for name in _READ_BY}
    for kind in ("priors", "fixed"):
        own, others = (_of_disc(fit, kind) for fit in (one, other))
        same[kind] = own == others
    same["prior of the flux"] = np.allclose(one.meta["flux_prior"], other.meta["flux_prior"], rtol=1e-6, atol=0)
    same["patches of light"] = (one.meta["n_patches"] > 0) == (other.meta["n_patches"] > 0)
    unequal = [name for name, equal in same.items() if not equal]
    if unequal:
        raise KinematicsError(
            f"fits that differ in {', '.join(unequal)}",
            "one observation, with the same noise and priors",
            "kinematics_nn.compare(cube, [...]), which fits all of them on equal ground",
        )
