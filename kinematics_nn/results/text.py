"""A fit in words: what a terminal and a notebook show."""

import html
import math

from .tables import parameter_columns

__all__ = ["as_html", "as_text", "rounded"]

_FEW = 20  # effective draws: fewer tell no error

# Offsets and pixels say again what ra and dec say.
_HIDDEN = ("east", "north", "x", "y")


def rounded(value, *errors):
    """
    Value and errors as strings, to two digits of the smallest error.

    Examples
    --------
    >>> from kinematics_nn.results.text import rounded
    >>> rounded(203.4567, 1.234)
    ('203.5', '1.2')
    """
    finite = [abs(error) for error in errors if error and math.isfinite(error)]
    digits = max(0, 1 - math.floor(math.log10(min(finite)))) if finite else 2
    return tuple(f"{number:.{digits}f}" for number in (value, *errors))


def as_text(fit):
    """Several lines, one a parameter: median, and the distances to the 84th and 16th percentiles."""
    lines = [f"<KinematicFit: {_heading(fit)}"]
    lines += [f"  {name:<20} {median:>12} +{up} -{down} {unit}".rstrip() for name, median, up, down, unit in _rows(fit)]
    return "\n".join(lines) + ">"


def as_html(fit):
    """A heading and a table, as `as_text`; every string that came from outside is escaped."""
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td style='text-align:right'>{median} <sup>+{up}</sup><sub>−{down}</sub></td>"
        f"<td>{html.escape(unit)}</td></tr>"
        for name, median, up, down, unit in _rows(fit)
    )
    heading = f"<p><b>KinematicFit</b>: {html.escape(_heading(fit))}</p>"
    if not rows:
        return heading
    return f"{heading}<table><thead><tr><th>parameter</th><th>median</th><th>unit</th></tr></thead>{rows}</table>"


def _heading(fit):
    name = fit.observation.header["object"] if fit.observation is not None else None
    if fit.status == "failed":
        return f"{name or 'galaxy'}, failed: {fit.message}"
    parts = [name or "galaxy", f"method {fit.meta.get('method', 'unknown')}", f"{len(fit)} samples"]
    if fit.flags:
        parts.append("flags " + " ".join(fit.flags))
    effective = fit.meta.get("n_effective", math.inf)
    if effective < _FEW:
        parts.append(f"{effective:.0f} effective, so that errors are not measured")
    return ", ".join(parts) + (f" ({fit.message})" if fit.message else "")


def _rows(fit):
    if fit.status == "failed":
        return
    row = fit.summary[0]
    for name, (unit, _) in parameter_columns(fit.forms, fit.observation.header["flux_unit"]).items():
        if name not in _HIDDEN:
            low, median, high = (row[f"{name}_{part}"].value for part in ("p16", "p50", "p84"))
            yield name, *rounded(median, high - median, median - low), unit.to_string()
