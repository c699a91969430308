"""The network behind the signature of astropy's fitters."""

import numpy as np
from astropy.modeling.fitting import Covariance, StandardDeviations

from .constraints import DISC_UNITS, check_tied, columns_of, constraints, with_all_units, with_constraints
from .errors import FormError, KinematicsError
from .models import model_class, model_with_units
from .velocity_field import DiscVelocityField

__all__ = ["NetworkFitter"]


class NetworkFitter:
    """
    Fit a model to a cube as astropy's fitters fit one to data.

    The model names the functional form, the units of the answer, and what is held. Its values are no start: the
    network needs none.

    Attributes
    ----------
    fit_info : dict
        Of the last fit: ``"fit"``, the `~kinematics_nn.results.KinematicFit` with all samples, and ``"param_cov"``,
        the covariance matrix of the free parameters.

    Notes
    -----
    A fitted model has, as those of astropy's fitters with ``calc_uncertainties``, a ``cov_matrix`` and ``stds`` of its
    free parameters, by name: bare floats in the units of the fitted parameters. What is uncertain in the rest of the
    disc is in them. They are moments of the realisations, which need not be Gaussian; the samples
    in ``fit_info["fit"]`` are the posterior itself. The values are those of one realisation, the one nearest to the
    median, as in ``fit.rotation_curve``.

    Examples
    --------
    >>> import astropy.units as u
    >>> from kinematics_nn import NetworkFitter, simulate
    >>> from kinematics_nn.models import ArctanRotationCurve
    >>> cube = simulate(rms=0.5 * u.mJy / u.beam, seed=1)
    >>> fitter = NetworkFitter()
    >>> curve = fitter(ArctanRotationCurve(200 * u.km / u.s, 3 * u.arcsec), cube, seed=1)
    >>> curve.vmax.unit
    Unit("km / s")
    >>> bool(0 < curve.stds["vmax"] < 20)
    True
    >>> fit = fitter.fit_info["fit"]
    """

    supported_constraints = ("fixed", "bounds")

    def __init__(self):
        self.fit_info = {}

    def __call__(self, model, cube, **options):
        """
        Fit a cube.

        Parameters
        ----------
        model : `~astropy.modeling.Model`
            A rotation curve of `kinematics_nn.models` or a `~kinematics_nn.DiscVelocityField`. A parameter that is
            ``fixed`` is held at its value, and ``bounds`` that are not the form's own become a prior that is flat
            between them. Parameters without units are in arcsec, km/s and degrees. The centre of a velocity field is
            fitted as an offset from ``fit_info["fit"].observation.header["reference"]``, in (ra, dec). In the place of
            rings that are not given radii, the model of those of the observation is returned.
        cube : `~spectral_cube.SpectralCube`, str or path
            The cube.
        **options
            As `kinematics_nn.fit` takes them, but for ``rotation_curve``, which is the model, and ``method``, which is
            the network alone by default; models with fixed parameters need ``method="refined"``. What ``fixed`` and
            ``priors`` say goes before the model's constraints. A model with radii in kpc needs ``distance``.

        Returns
        -------
        `~astropy.modeling.Model`
            A copy, with fitted values in the units of the model, ``stds`` and ``cov_matrix``.

        Raises
        ------
        KinematicsError
            The model is none that the network fits, or is constrained as the method cannot do.
        """
        from .fitting import fit

        _check(model, options)
        model = with_all_units(model)
        parts = _columns(model, options)
        options.setdefault("method", "network")
        own = (dict(options.get(name) or {}) for name in ("fixed", "priors"))
        options["fixed"], options["priors"] = with_constraints(*own, constraints(model, parts))
        result = fit(cube, rotation_curve=model.form, **options)
        if result.forms.rotation_curve is not model.form:
            model = _of_form(result.forms.rotation_curve, model)
            parts = _columns(model, options)
        free = [name for name in model.param_names if not model.fixed[name]]
        for name in free:
            column, _, scale = parts[name]
            value, unit = result.best_values[column] / scale, getattr(model, name).unit
            setattr(model, name, value if unit is None else value * unit)
        samples = [result.samples[column].value / scale for column, _, scale in (parts[name] for name in free)]
        covariance = np.atleast_2d(np.cov(samples))
        model.cov_matrix = Covariance(covariance, free)
        model.stds = StandardDeviations(covariance, free)
        self.fit_info = {"fit": result, "param_cov": covariance}
        return model


def _check(model, options):
    """What no fit of a cube can do."""
    if getattr(getattr(model, "form", None), "kind", None) != "rotation_curve" or len(model) > 1:
        raise FormError(
            f"{model!r}",
            "one rotation curve of kinematics_nn.models, or a DiscVelocityField",
            "NetworkFitter()(ArctanRotationCurve(), cube)",
        )
    if "rotation_curve" in options:
        raise KinematicsError("rotation_curve= beside a model", "one of them", "NetworkFitter()(model, cube)")
    check_tied(model)


def _columns(model, options):
    from .decoder import Forms
    from .forms import get_form

    light = get_form(options.get("surface_brightness", "exponential"), "surface_brightness")
    dispersion = get_form(options.get("velocity_dispersion", "constant"), "velocity_dispersion")
    return columns_of(model, Forms(model.form, light, dispersion), options.get("distance"))


def _of_form(form, model):
    """The model of a form that was made for the observation, as rings are: in the place of the one that was given."""
    bare = all(getattr(model, name).unit is None for name in model.param_names)
    curve = model_class(form)() if bare else model_with_units(form, **form.defaults())
    if isinstance(model, DiscVelocityField):
        disc = {name: getattr(model, name) for name in DISC_UNITS}
        values = {name: p.value if p.unit is None else p.quantity for name, p in disc.items()}
        constraints = {what: {name: getattr(p, what) for name, p in disc.items()} for what in ("fixed", "bounds")}
        curve = DiscVelocityField(**values, **constraints, rotation_curve=curve)
    curve.name, curve.meta = model.name, model.meta
    return curve
