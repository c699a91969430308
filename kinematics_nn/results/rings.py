"""A fit as a table of rings, such as tilted-ring programs write."""

import astropy.units as u
import numpy as np
from astropy.table import QTable

from kinematics_nn.forms.rings import ring_radii

from .tables import STATISTICS, at_distance, plain, statistics

__all__ = ["ring_table"]

_KM_S = u.km / u.s


def ring_table(fit):
    """
    A fit's curves at the radii of rings, one row a ring.

    Parameters
    ----------
    fit : `~kinematics_nn.results.KinematicFit`
        Of any functional forms. Where the rotation curve is one of rings, the rows are those; else they are the rings
        that `~kinematics_nn.forms.rings.ring_radii` finds, one a beam out to the last emission.

    Returns
    -------
    `~astropy.table.QTable`
        ``radius`` (and ``radius_kpc`` where the distance is known), then with the statistics of a summary: ``v_rot``
        and ``velocity_dispersion`` in the galaxy's rest frame, the face-on ``surface_brightness``, and the disc's
        ``inclination`` and ``pa``, which all rings share. Rows of one fit are correlated.
    """
    forms, samples = fit.forms, fit.samples
    radii = np.array(getattr(forms.rotation_curve, "radii", None) or ring_radii(fit.observation))
    values = {name: samples[name].value[:, None] for name in samples.colnames}
    n = len(samples)

    def curve(slot):
        parameters = [values[column] for column in forms.slots[slot]]
        return np.broadcast_to(getattr(forms, slot).evaluate(radii[None], *parameters), (n, radii.size))

    total = forms.surface_brightness.total(*[values[column] for column in forms.slots["surface_brightness"]])
    light = values["flux"] * curve("surface_brightness") / total
    columns = {
        "v_rot": (fit.rotation_curve_samples(radii * u.arcsec), "Rotation speed"),
        "velocity_dispersion": (curve("velocity_dispersion") * _KM_S, "Intrinsic velocity dispersion"),
        "surface_brightness": (light * samples["flux"].unit / u.arcsec**2, "Face-on surface brightness of the line"),
    }
    columns |= {
        name: (np.broadcast_to(samples[name].value[:, None], (n, radii.size)) * u.deg, samples[name].info.description)
        for name in ("inclination", "pa")
    }
    table = QTable(meta=plain(fit.meta))
    table["radius"] = radii * u.arcsec
    table["radius"].info.description = "Radius in the plane of the disc"
    if fit.distance is not None:
        table["radius_kpc"] = (radii * u.arcsec).to(u.kpc, at_distance(fit.distance))
        table["radius_kpc"].info.description = "Radius in the plane of the disc"
    for name, (drawn, text) in columns.items():
        for suffix, of_rings in statistics(drawn).items():
            table[name + suffix] = of_rings
            table[name + suffix].info.description = f"{text}: {STATISTICS[suffix]}"
    return table
