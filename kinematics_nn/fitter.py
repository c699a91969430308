"""The network behind the signature of astropy's fitters."""

import numpy as np
from astropy import units as u
from astropy.modeling.fitting import Covariance, StandardDeviations

from .errors import FormError, KinematicsError, WrongUnit
from .models import model_class, model_with_units
from .velocity_field import DiscVelocityField, curve_names

__all__ = ["NetworkFitter"]

_DISC_UNITS = {"inclination": u.deg, "pa": u.deg, "east": u.arcsec, "north": u.arcsec, "vsys": u.km / u.s}


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
            ``fixed`` is held at its value, and ``bounds`` that are not the form's own become a prior that is 0
            outside. Parameters without units are in arcsec, km/s and degrees. The centre of a velocity field is
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
        model = _with_all_units(model)
        parts = _parts(model, options)
        options.setdefault("method", "network")
        options["fixed"] = _fixed(model, parts) | dict(options.get("fixed") or {})
        options["priors"] = _bounds(model, parts) | dict(options.get("priors") or {})
        result = fit(cube, rotation_curve=model.form, **options)
        if result.forms.rotation_curve is not model.form:
            model = _of_form(result.forms.rotation_curve, model)
            parts = _parts(model, options)
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
    tied = [name for name, tie in model.tied.items() if tie]
    if tied:
        raise KinematicsError(
            f"{', '.join(tied)} tied to other parameters",
            "parameters that are free, fixed or bounded",
            "a form of one parameter less, kinematics_nn.register(YourForm)",
        )


def _with_all_units(model):
    """Copy the model; where some parameters have units, the others get those that go with them, as astropy does it."""
    model = model.copy()
    parameters = [getattr(model, name) for name in model.param_names]
    if all(parameter.unit is None for parameter in parameters):
        return model
    length = next(iter((model.input_units or {}).values()), u.arcsec)
    speed = next(iter((model.return_units or {}).values()), u.km / u.s)
    units = model._parameter_units_for_data_units(dict.fromkeys(model.inputs, length), {model.outputs[0]: speed})
    for parameter in parameters:
        if parameter.unit is None and parameter.name in units:
            setattr(model, parameter.name, parameter.value * units[parameter.name])
    return model


def _of_form(form, model):
    """The model of a form that was made for the observation, as rings are: in the place of the one that was given."""
    bare = all(getattr(model, name).unit is None for name in model.param_names)
    curve = model_class(form)() if bare else model_with_units(form, **form.defaults())
    if isinstance(model, DiscVelocityField):
        disc = {name: getattr(model, name) for name in _DISC_UNITS}
        values = {name: p.value if p.unit is None else p.quantity for name, p in disc.items()}
        constraints = {what: {name: getattr(p, what) for name, p in disc.items()} for what in ("fixed", "bounds")}
        curve = DiscVelocityField(**values, **constraints, rotation_curve=curve)
    curve.name, curve.meta = model.name, model.meta
    return curve


def _parts(model, options):
    """Of each parameter of the model: its column in a fit's samples, the unit there, and the model's unit in it."""
    from .decoder import Forms
    from .forms import get_form

    form = model.form
    light = get_form(options.get("surface_brightness", "exponential"), "surface_brightness")
    dispersion = get_form(options.get("velocity_dispersion", "constant"), "velocity_dispersion")
    columns = Forms(rotation_curve=form, surface_brightness=light, velocity_dispersion=dispersion).slots[
        "rotation_curve"
    ]
    names = dict(zip(form.names(), form.names(), strict=True))
    parts = {}
    if isinstance(model, DiscVelocityField):
        names = curve_names(form)
        parts = {name: (name, unit, unit == u.arcsec) for name, unit in _DISC_UNITS.items()}
    for known, column in zip(form.parameters, columns, strict=True):
        parts[names[known.name]] = column, u.Unit(known.unit), known.powers[1]
    distance = options.get("distance")
    return {
        name: (column, unit, _scale(getattr(model, name), unit, power, distance))
        for name, (column, unit, power) in parts.items()
    }


def _scale(parameter, unit, power, distance):
    """One of a parameter's units, in the unit of the fit; lengths to some power are angles at the distance."""
    if parameter.unit is None:
        return 1.0
    one = 1 * parameter.unit
    if power and distance is not None and not one.unit.is_equivalent(unit):
        one = one * (u.rad / u.Quantity(distance)) ** float(power)
    try:
        return float(one.to_value(unit))
    except u.UnitConversionError as error:
        remedy = "distance=10*u.Mpc" if power and distance is None else None
        raise WrongUnit(f"{parameter.name} is {parameter.quantity}", f"a unit like {unit}", remedy) from error


def _fixed(model, parts):
    """What the model holds, as `fit` takes it."""
    return {
        column: getattr(model, name).value * scale * unit
        for name, (column, unit, scale) in parts.items()
        if model.fixed[name]
    }


def _bounds(model, parts):
    """The limits that the user gave the model, as priors: those that every model of the form has say nothing new."""
    priors = {}
    for name, (column, unit, scale) in parts.items():
        given = model.bounds[name]
        if model.fixed[name] or given == getattr(type(model), name).bounds:
            continue
        ends = zip(("low", "high"), given, strict=True)
        priors[column] = {end: value * scale * unit for end, value in ends if value is not None}
    return priors
