"""`fit`: from a cube to a posterior, one step a line."""

from numbers import Integral, Real

import numpy as np
from astropy import log
from astropy import units as u

from .errors import KinematicsError

__all__ = ["fit", "fresh_seed", "posterior"]

_METHODS = ("refined", "network")
_DRAWS = 1000  # of the network, that a refinement starts from


def fit(
    cube,
    *,
    rotation_curve="arctan",
    surface_brightness="exponential",
    velocity_dispersion="constant",
    thickness=None,
    method="network",
    n_samples=10_000,
    min_ess=500,
    fallback=None,
    region=None,
    mask=None,
    rest_value=None,
    velocity_convention=None,
    beam=None,
    rms=None,
    integrate_pixels=True,
    lsf=None,
    distance=None,
    fixed=None,
    priors=None,
    weights="default",
    device=None,
    seed=None,
    progress=None,
):
    """
    Fit a rotating disc to a spectral-line cube.

    Parameters
    ----------
    cube : `~spectral_cube.SpectralCube`, str or path
        The cube, or the path of one.
    rotation_curve, surface_brightness, velocity_dispersion : str, form or astropy model
        Functional forms; ``kinematics-nn forms`` lists the names.
    thickness : `~astropy.units.Quantity`, optional
        Holds the vertical scale height, as ``fixed`` does; free by default.
    method : {"refined", "network"}
        "refined": the network's answer polished on the cube and weighed by the exact likelihood, in seconds.
        "network": realisations of the network alone, in well under a second.
    n_samples : int
        Rows of ``samples``.
    min_ess : int
        Effective draws that "refined" goes on until.
    fallback : {"dynesty"}, optional
        What "refined" falls back on where its draws stay short of ``min_ess`` or their weights fail: nested sampling
        of the same posterior, which takes minutes to hours.
    region, mask, rest_value, velocity_convention, beam, rms, integrate_pixels
        What to read from the cube; see `~kinematics_nn.observation.observe`.
    lsf : `~astropy.units.Quantity` or "hanning", optional
        The instrument's line-spread function on top of the intrinsic dispersion: the standard deviation of a Gaussian,
        or channels that are Hanning-smoothed. By default none, and the network alone knows none.
    distance : `~astropy.units.Quantity`, optional
        Of the galaxy: radii are then given in kpc too.
    fixed : dict, optional
        Parameters to hold, name to value. The network alone cannot hold any.
    priors : dict, optional
        Parameter name to (mean, standard deviation), ``dict(low=, high=)`` or a frozen `scipy.stats` distribution
        (then in km/s, arcsec, deg). They take the place of the default priors; with the network alone, by weighting
        its realisations.
    weights : str, optional
        Name of weights, shipped or trained (``kinematics-nn info`` lists them), or the path of a .safetensors file.
        Those trained on one form fit no other; they are never chosen but by name.
    device : str or torch.device, optional
        Where the network runs: by default a GPU if there is one.
    seed : int, optional
        The same seed gives the same samples; recorded in ``meta`` in either case.
    progress : bool or callable, optional
        Whether to say what is being done, in astropy's log; or what is called with every step's name.

    Returns
    -------
    `~kinematics_nn.results.KinematicFit`

    Raises
    ------
    KinematicsError
        What was found, what is needed, and the next call to make.

    References
    ----------
    .. [1] Dawson, Davis, Gomez & Schock (2021), MNRAS 503, 574.
    """
    from .decoder import Forms
    from .forms import get_form
    from .inference.diagnosis import diagnose
    from .inference.refined import is_short
    from .network.weights import weights_info
    from .observation import observe, opened
    from .results import KinematicFit

    held = [*(fixed or {}), *([] if thickness is None else ["thickness"])]
    _check(method, n_samples, min_ess, held, lsf)
    _check_fallback(fallback, method)
    both = sorted(set(held) & set(priors or {}))
    if both:
        raise KinematicsError(f"{', '.join(both)} both held and with a prior", "one of the two", "fit(fixed=...)")
    lsf = _line_spread(lsf)
    forms = Forms(
        rotation_curve=get_form(rotation_curve, "rotation_curve"),
        surface_brightness=get_form(surface_brightness, "surface_brightness"),
        velocity_dispersion=get_form(velocity_dispersion, "velocity_dispersion"),
    )
    distance = _distance(distance)
    device = _device(device)
    n_samples, seed = int(n_samples), fresh_seed(seed)
    info = weights_info(weights)
    _check_weights(info, forms)
    # Refused before the cube is read, but for the flux, whose unit only the cube knows.
    _user_priors({name: given for name, given in (priors or {}).items() if name != "flux"}, forms, u.one)
    cube = opened(cube)
    observation = observe(
        cube,
        region=region,
        mask=mask,
        rest_value=rest_value,
        velocity_convention=velocity_convention,
        beam=beam,
        rms=rms,
        integrate_pixels=integrate_pixels,
    )
    forms = Forms(**{slot: getattr(forms, slot).for_observation(observation) for slot in forms.slots})
    log.debug(f"observation of {observation.data.shape} voxels, {observation.emission.sum()} of them emission")
    options = {
        "method": method,
        "n_samples": n_samples,
        "min_ess": min_ess,
        "fallback": fallback,
        "lsf": lsf,
        "fixed": dict(fixed or {}) | ({} if thickness is None else {"thickness": thickness}),
        "priors": dict(priors or {}),
        "weights": weights,
        "device": device,
    }
    samples, best, report, weighted = posterior(observation, forms, seed=seed, progress=_progress(progress), **options)
    reduced_chi2, flags = diagnose(observation, forms, samples, best)
    if report["sample_efficiency"] < 0.01 if method == "network" else is_short(report, min_ess):
        flags.append("LOW_EFFICIENCY")
    if report.get("light_scatter", 0) > 0.5 and "POOR_FIT" not in flags:
        flags.append("POOR_FIT")
    return KinematicFit(
        observation,
        forms,
        samples,
        meta={
            "method": method,
            "reduced_chi2": reduced_chi2,
            **report,
            **_provenance(observation, forms, info, seed, device, priors),
            **({} if distance is None else {"distance": distance}),
        },
        best=best,
        flags=flags,
        cube=cube,
        options=options,
        weighted=weighted,
    )


def posterior(
    observation,
    forms,
    *,
    method,
    n_samples,
    seed,
    device,
    weights,
    priors,
    fixed,
    min_ess,
    lsf,
    fallback=None,
    progress=None,
):
    """The posterior of an observation, with the options of `fit`.

    Parameters
    ----------
    observation : `~kinematics_nn.observation.Observation`
    forms : `~kinematics_nn.decoder.Forms`
    method, n_samples, seed, device, weights, priors, fixed, min_ess, fallback
        As `fit` takes them.
    lsf : float or "hanning"
        [km/s]
    progress : callable, optional

    Returns
    -------
    samples : dict of str to (n_samples,) array
    best : dict of str to float
        The one that stands for all.
    report : dict
        How well it was sampled: ``n_effective``, ``sample_efficiency`` and, refined, more.
    weighted : dict of str to (n,) array, or None
        The draws behind the samples, with their ``weight`` of sum one.
    """
    road, flux_unit = (_refined if method == "refined" else _network), observation.header["flux_unit"]
    return road(
        observation,
        forms,
        n_samples=n_samples,
        seed=seed,
        device=device,
        weights=weights,
        priors=_user_priors(priors, forms, flux_unit),
        fixed=_held(fixed, forms, flux_unit),
        min_ess=min_ess,
        lsf=lsf,
        fallback=fallback,
        progress=progress,
    )


def _network(observation, forms, *, n_samples, seed, device, weights, priors, **_):
    """The network alone: samples, the one that stands for all, and what to report."""
    from .inference.realisations import network_samples
    from .results.fit import nearest_median

    samples = network_samples(observation, forms, n_samples, seed=seed, device=device, weights=weights)
    samples, effective = _with_priors(samples, priors, forms, observation, seed)
    report = {"n_effective": effective, "sample_efficiency": effective / n_samples}
    return samples, nearest_median(samples), report, None


def _refined(observation, forms, *, n_samples, seed, device, weights, priors, fixed, min_ess, lsf, fallback, progress):
    """The network's answer, refined: samples, the highest of them, what to report, and the draws with their weights."""
    import torch

    from .inference.derived import derived
    from .inference.realisations import network_samples
    from .inference.refined import refined_posterior

    draws = network_samples(observation, forms, _DRAWS, seed=seed, device=device, weights=weights)
    samples, weighted, report, best = refined_posterior(
        observation,
        forms,
        draws,
        n_samples=n_samples,
        min_ess=min_ess,
        seed=seed,
        fixed=fixed,
        priors=priors,
        lsf=lsf,
        fallback=fallback,
        progress=progress,
    )

    def whole(values):
        tensors = {name: torch.as_tensor(np.atleast_1d(value)) for name, value in values.items()}
        return {name: value.numpy() for name, value in (tensors | derived(forms, tensors)).items()}

    best = {name: float(value[0]) for name, value in whole(best).items()}
    return whole(samples), best, report, whole(weighted)


def _check(method, n_samples, min_ess, held, lsf):
    """Arguments that can be refused before anything is read."""
    if method not in _METHODS:
        raise KinematicsError(f"method={method!r}", f"one of {_METHODS}", 'fit(method="refined")')
    if not isinstance(n_samples, Real) or not 100 <= n_samples <= 500_000 or int(n_samples) != n_samples:
        raise KinematicsError(f"n_samples={n_samples!r}", "a whole number from 100 to 500,000", "fit(n_samples=10_000)")
    if not isinstance(min_ess, Real) or not 50 <= min_ess <= 100_000:
        raise KinematicsError(f"min_ess={min_ess!r}", "a number from 50 to 100,000", "fit(min_ess=500)")
    if method == "network" and held:
        raise KinematicsError(
            f"{', '.join(held)} held fixed with method='network'",
            "a method that can hold parameters",
            f'fit(method="refined"), or priors={{{next(iter(held))!r}: (value, small standard deviation)}}',
        )
    if method == "network" and lsf is not None:
        raise KinematicsError("lsf= with method='network'", "a method that knows of it", 'fit(method="refined")')


def _check_fallback(fallback, method):
    if fallback is None:
        return
    if fallback != "dynesty" or method == "network":
        raise KinematicsError(
            f"fallback={fallback!r} with method={method!r}",
            'fallback="dynesty" with method="refined", or none',
            'fit(method="refined", fallback="dynesty")',
        )
    from .inference.nested import need_dynesty

    need_dynesty()


def _check_weights(info, forms, input="cubes"):
    """Refuse weights of another input, or of other forms alone: what they say of these is the wrong prior's."""
    trained = info.get("input", "cubes")
    if trained != input:
        call = {"cubes": "fit(cube)", "maps": "fit_maps(moment1)"}
        raise KinematicsError(
            f"weights {info['name']!r}, trained on {trained}", f"weights trained on {input}", call[trained]
        )
    for slot, name in info.get("forms", {}).items():
        found = getattr(forms, slot).name
        if found != name:
            raise KinematicsError(
                f"{slot}={found!r} with weights {info['name']!r}, trained on {name!r} alone",
                "weights of that form, or of all",
                f'fit({slot}={name!r}, weights={info["name"]!r}), or fit({slot}={found!r}, weights="default")',
            )


def _held(fixed, forms, flux_unit):
    """Parameters held, in inside units."""
    from .results.tables import parameter_columns

    columns = parameter_columns(forms, flux_unit, sky=False)
    held = {}
    for name, value in fixed.items():
        if name not in forms.parameter_names:
            raise KinematicsError(
                f"fixed={{{name!r}: ...}}", f"one of {', '.join(forms.parameter_names)}", "fit(fixed=...)"
            )
        unit = u.Unit(columns[name][0])
        try:
            held[name] = float(u.Quantity(value, None if hasattr(value, "unit") else unit).to_value(unit))
        except (u.UnitConversionError, TypeError) as error:
            raise KinematicsError(f"fixed={{{name!r}: {value!r}}}", f"a value in {unit}", "fit(fixed=...)") from error
    return held


def _line_spread(lsf):
    """A line-spread function as the decoder takes it."""
    if lsf is None or (isinstance(lsf, str) and lsf == "hanning"):
        return 0.0 if lsf is None else lsf
    try:
        width = float(u.Quantity(lsf).to_value(u.km / u.s))
    except (u.UnitConversionError, TypeError, ValueError) as error:
        raise KinematicsError(f"lsf={lsf!r}", 'a speed, or "hanning"', "fit(lsf=2 * u.km / u.s)") from error
    if not width >= 0:
        raise KinematicsError(f"lsf={lsf!r}", "a width of 0 or more", "fit(lsf=2 * u.km / u.s)")
    return width


def _progress(progress):
    if callable(progress):
        return progress
    return log.info if progress else None


def _distance(distance):
    """A distance as text that a table's metadata can hold."""
    if distance is None:
        return None
    try:
        return u.Quantity(distance).to(u.Mpc).to_string()
    except (u.UnitConversionError, TypeError) as error:
        raise KinematicsError(f"distance={distance!r}", "a length", "fit(distance=10 * u.Mpc)") from error


def fresh_seed(seed):
    """The seed that is given, or a new one."""
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    if not isinstance(seed, Integral) or not 0 <= seed < 2**63:
        raise KinematicsError(f"seed={seed!r}", "a whole number from 0 to 2**63 - 1", "fit(seed=1)")
    return int(seed)


def _device(device):
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise KinematicsError(f"device={device!r}: {error}", "a device torch has here", 'fit(device="cpu")') from error
    return str(device)


def _user_priors(priors, forms, flux_unit):
    """The user's priors, read in the units of the columns."""
    from .inference.priors import user_priors
    from .results.tables import parameter_columns

    columns = parameter_columns(forms, flux_unit, sky=False)
    return user_priors(priors, {name: u.Unit(unit) for name, (unit, _) in columns.items()})


def _with_priors(samples, priors, forms, observation, seed):
    """Samples resampled to the user's priors, and their effective number."""
    from .inference.diagnosis import form_priors
    from .inference.priors import prior_weights

    n = len(samples["vsys"])
    if not priors:
        return samples, float(n)
    weight = prior_weights(samples, priors, form_priors(observation, forms, samples["r50"]))
    index = np.random.default_rng(seed).choice(n, n, p=weight)
    return {name: values[index] for name, values in samples.items()}, float(1 / np.sum(weight**2))


def _provenance(observation, forms, info, seed, device, priors):
    import torch

    from . import __version__

    header = observation.header
    return {
        "object": header["object"],
        "convention": header["convention"],
        "frame": header["frame"],
        "rest_value": header["rest_value"],
        "noise": header["noise"],
        "n_sources": header["n_sources"],
        "forms": {slot: getattr(forms, slot).name for slot in forms.slots},
        "priors": {name: repr(value) for name, value in (priors or {}).items()},
        "weights": {key: info[key] for key in ("name", "sha256", "forms") if key in info},
        "seed": seed,
        "device": device,
        "versions": {"kinematics_nn": __version__, "torch": torch.__version__},
    }
