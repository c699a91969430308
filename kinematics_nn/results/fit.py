"""What a fit returns: the posterior with its units, and what is drawn from it."""

from functools import cached_property

import astropy.units as u
import numpy as np

from kinematics_nn.errors import KinematicsError, WrongUnit

from . import tables
from .files import write_table
from .rings import ring_table
from .samples import checked_samples, nearest_median, sample_table

__all__ = ["KinematicFit"]


class KinematicFit:
    """
    The posterior of one galaxy's disc.

    Parameters
    ----------
    observation : `~kinematics_nn.observation.Observation`
        What was fitted.
    forms : `~kinematics_nn.decoder.Forms`
        The functional forms.
    samples : dict
        Column name to (n,) float64 array, in arcsec, km/s and degrees: inclination, pa, east, north, vsys, flux,
        thickness, the forms' parameters, r50, v22, v22_sini and w50; and ``bend`` (n, node), the departures of the
        speeds from their form (`kinematics_nn.inference.free_curve`).
    meta : dict
        Provenance, plain values, nested. ``method``, ``reduced_chi2``, ``n_effective`` and ``sample_efficiency``
        become columns of the summary; the rest is its metadata. With a ``distance`` ("10 Mpc"), radii are given in
        kpc, too, and the masses of mass models in solar masses.
    best : dict, optional
        The sample that stands for all, as name to float. By default the one nearest to the median, each
        parameter counted in its own standard deviations.
    flags : iterable of str, optional
        Names of `KinematicFlags`.
    cube : `~spectral_cube.SpectralCube`, optional
        The input, for the residual. It is left behind when the fit is pickled.
    message, status : str, optional
        What to know, and "ok" or "failed".
    options : dict, optional
        What `~kinematics_nn.methods.posterior` was called with, for `verify` to do the same again.
    weighted : dict of str to (m,) array, optional
        The draws behind ``samples``, with columns ``light_scatter`` and ``weight`` on top.

    Raises
    ------
    ValueError
        The columns are not those of the forms, or differ in length.
    """

    def __init__(
        self, observation, forms, samples, *,
        meta, best=None, flags=(), cube=None, message="", status="ok", options=None, weighted=None,
    ):  # fmt: skip
        self.observation, self.forms, self.cube, self.options = observation, forms, cube, options
        self.flags = tables.decode_flags(tables.encode_flags(flags))
        self.meta, self.message, self.status = dict(meta), message, status
        self._samples = self._best = self._bend = None
        self._weighted = weighted
        self._flux_unit = None if observation is None else observation.header["flux_unit"]
        if samples is not None:
            samples = dict(samples)
            self._bend = samples.pop("bend", None)
            self._samples = checked_samples(forms, samples)
            self._best = nearest_median(self._samples) if best is None else {k: float(v) for k, v in best.items()}
            # On the turn of the samples.
            middle = float(np.median(self._samples["pa"]))
            self._best["pa"] = middle + (self._best["pa"] - middle + 180) % 360 - 180

    @classmethod
    def failed(cls, forms, message, *, meta=None, observation=None, flags=(), flux_unit="Jy km / s"):
        """
        A galaxy that could not be fitted: the same columns, masked.

        Parameters
        ----------
        forms : `~kinematics_nn.decoder.Forms`
            The forms it was to be fitted with; they set the columns.
        message : str
            Why.
        meta : dict, optional
            Provenance.
        observation : `~kinematics_nn.observation.Observation`, optional
            Where the failure came after the intake.
        flags : iterable of str, optional
            Names of `KinematicFlags`.
        flux_unit : str, optional
            Of the masked flux; the other rows' unit lets them stack.
        """
        self = cls(observation, forms, None, meta=meta or {}, flags=flags, message=message, status="failed")
        if observation is None:
            self._flux_unit = flux_unit
        return self

    @cached_property
    def samples(self):
        """One row a realisation, one column a parameter, with units: a `~astropy.table.QTable`."""
        self._check()
        return self._table(self._samples)

    @cached_property
    def weighted_samples(self):
        """The draws that ``samples`` were drawn from: a `~astropy.table.QTable` of the same columns and two more.

        ``weight``, of sum one, makes the posterior of them; ``light_scatter`` is the rms of the light about its
        profile. None is there twice. Of a fit in two phases (``meta["sampler"]``) they are draws of the surrogate, and
        all are moved by the free curve and widened by the misfit as ``samples`` are.
        """
        self._check()
        if self._weighted is None:
            raise KinematicsError(
                "samples that came without weights", 'those of method="refined"', 'fit(method="refined")'
            )
        turns = np.round((np.median(self._samples["pa"]) - self._weighted["pa"]) / 360)
        table = self._table(self._weighted | {"pa": self._weighted["pa"] + 360 * turns})
        for name, text in (("light_scatter", "Rms of the light about its profile"), ("weight", "Of sum one")):
            table[name] = self._weighted[name]
            table[name].info.description = text
        return table

    @cached_property
    def summary(self):
        """One row: every parameter's statistics with units, the facts of the fit, and its provenance in ``meta``."""
        facts = {name: self.meta.get(name) for name in tables.FACTS}
        facts |= {"flags": tables.encode_flags(self.flags), "status": self.status, "message": self.message}
        provenance = {name: value for name, value in self.meta.items() if name not in tables.FACTS}
        return tables.summary_row(self._columns(), None if self._samples is None else self.samples, facts, provenance)

    @property
    def distance(self):
        """Distance of the galaxy that the fit was given: a `~astropy.units.Quantity`, or None."""
        given = self.meta.get("distance")
        return None if given is None else u.Quantity(given).to(u.Mpc)

    @property
    def best_values(self):
        """The sample that stands for all: dict of floats in arcsec, km/s, degrees.

        Refined, that of the highest posterior; of the network alone, the one nearest to the median.
        """
        self._check()
        return dict(self._best)

    @property
    def rotation_curve(self):
        """The rotation curve of the best sample: an `astropy.modeling` model with units.

        Of radii in arcsec, and in kpc too where the fit was given a distance.
        """
        from kinematics_nn.models import model_with_units

        best, columns = self.best_values, self._slot_columns("rotation_curve")
        curve = model_with_units(self.forms.rotation_curve, **{p.name: best[column] for column, p in columns.items()})
        if self.distance is not None:
            curve.input_units_equivalencies = {curve.inputs[0]: tables.at_distance(self.distance)}
        return curve

    def rotation_curve_samples(self, radii, n=None):
        """
        Rotation curves of the samples; refined, with their departures from the form (:ref:`method`).

        Parameters
        ----------
        radii : (radius,) `~astropy.units.Quantity`
            An angle, or a length where the fit was given a distance.
        n : int, optional
            How many samples, spread evenly over them all; all by default.

        Returns
        -------
        (sample, radius) `~astropy.units.Quantity`
            [km/s], in the galaxy's rest frame.

        Raises
        ------
        WrongUnit
            The radii are no angle, or a length and no distance is known.
        """
        self._check()
        radius = np.atleast_1d(self._angle(radii))[None]
        total = self._samples["vsys"].size
        index = np.linspace(0, total - 1, min(n or total, total)).round().astype(int)
        columns = self._slot_columns("rotation_curve")
        parameters = [self._samples[column][index][:, None] for column in columns]
        speed = self.forms.rotation_curve.evaluate(radius, *parameters)
        speed = np.broadcast_to(speed, (index.size, radius.size))
        if self._bend is not None:
            from ..inference.free_curve import bent_speed

            light = [self._samples[column][index] for column in self._slot_columns("surface_brightness")]
            multiples = radius / self.forms.surface_brightness.half_light_radius(*light)[:, None]
            speed = bent_speed(speed.copy(), multiples, self._bend[index]).numpy()
        return speed * (u.km / u.s)

    def _angle(self, radii):
        """Radii in arcsec."""
        radii, distance = u.Quantity(radii), self.distance
        try:
            return radii.to_value(u.arcsec, [] if distance is None else tables.at_distance(distance))
        except u.UnitConversionError as error:
            of_length = radii.unit.is_equivalent(u.kpc) and distance is None
            raise WrongUnit(
                f"radii in {radii.unit.to_string() or 'no unit'}" + " and no distance" * of_length,
                "an angle, or a length where the distance is known",
                "fit(distance=16 * u.Mpc)" if of_length else "rotation_curve_samples([5, 10] * u.arcsec)",
            ) from error

    @cached_property
    def rings(self):
        """One row a ring, as tilted-ring programs write: speed, dispersion and brightness at one radius per beam.

        A `~astropy.table.QTable`; see `~kinematics_nn.results.ring_table`.
        """
        self._check()
        return ring_table(self)

    @cached_property
    def model_cube(self):
        """The best disc as a `~spectral_cube.SpectralCube`: shape, WCS, beam and unit of the input."""
        from .cubes import model_cube

        self._check()
        return model_cube(self)

    @cached_property
    def residual_cube(self):
        """Input minus model as a `~spectral_cube.SpectralCube`."""
        from .cubes import residual_cube

        self._check()
        if self.cube is None:
            raise KinematicsError(
                "this fit holds no cube (it was fitted by path, or pickled)",
                "the input cube",
                "fit.cube = SpectralCube.read(...)",
            )
        return residual_cube(self, self.cube)

    def plot(self):
        """
        Draw data, model and residual maps, the position-velocity slice and the rotation curve.

        Returns
        -------
        `~matplotlib.figure.Figure`
        """
        from .plots import plot_fit

        self._check()
        return plot_fit(self)

    def corner(self, parameters=None):
        """
        Draw the joint posterior of the main parameters.

        Parameters
        ----------
        parameters : list of str, optional
            Columns of ``samples``; the main ones by default.

        Returns
        -------
        `~matplotlib.figure.Figure`
        """
        from .corner import plot_corner

        self._check()
        return plot_corner(self, parameters)

    def verify(self, n=50, seed=None, progress=None):
        """
        Test the error bars on this very galaxy: mock ones like it, in noise as it was measured, behind its mask.

        Parameters
        ----------
        n : int, optional
            Mock galaxies, each a draw of this posterior; the time is that of as many fits.
        seed : int, optional
            Of the draws and the noise.
        progress : callable, optional
            Called with a line on every mock.

        Returns
        -------
        `~astropy.table.QTable`
            A row a parameter: how many 50, 68 and 95 % intervals hold the truth, with binomial errors, and the median
            error in its sigma. See `~kinematics_nn.inference.verification.verify`.
        """
        from kinematics_nn.inference.verification import verify

        self._check()
        return verify(self, n, seed, progress)

    def write(self, path, overwrite=False):
        """Write the summary; see `~kinematics_nn.results.write_table` for formats."""
        write_table(self.summary, path, overwrite)

    def write_samples(self, path, overwrite=False):
        """Write the samples; see `~kinematics_nn.results.write_table` for formats."""
        write_table(self.samples, path, overwrite)

    def __len__(self):
        return 0 if self._samples is None else self._samples["vsys"].size

    def __repr__(self):
        from .text import as_text

        return as_text(self)

    def _repr_html_(self):
        from .text import as_html

        return as_html(self)

    def __getstate__(self):
        # A used SpectralCube does not pickle, and what is derived is cheap to derive again.
        derived = {"samples", "weighted_samples", "summary", "rings", "model_cube", "residual_cube"}
        return {name: value for name, value in vars(self).items() if name not in derived} | {"cube": None}

    def _table(self, samples):
        table = sample_table(self.observation, self.forms, samples, self._columns(), self.distance)
        table.meta = {name: tables.plain(value) for name, value in self.meta.items()}
        return table

    def _columns(self):
        return tables.parameter_columns(self.forms, self._flux_unit, kpc=self.distance is not None)

    def _slot_columns(self, slot):
        return {column: p for column, (of, p) in tables.form_columns(self.forms).items() if of == slot}

    def _check(self):
        if self._samples is None:
            raise KinematicsError(f"this galaxy was not fitted: {self.message}", None, "fit.summary, for its row")
