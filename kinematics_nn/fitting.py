"""`fit`: from a cube to a posterior, one step a line."""

from numbers import Integral, Real

import numpy as np
from astropy import log
from astropy import units as u

from .errors import KinematicsError

__all__ = ["fit"]

_METHODS = ("network",)


def fit(
    cube,
    *,
    rotation_curve="arctan",
    surface_brightness="exponential",
    velocity_dispersion="constant",
    thickness=None,
    method="network",
    n_samples=10_000,
    region=None,
    mask=None,
    rest_value=None,
    velocity_convention=None,
    beam=None,
    rms=None,
    distance=None,
    priors=None,
    fixed=None,
    weights="default",
    device=None,
    seed=None,
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
    method : {"network"}
        "network": realisations of the network alone, in well under a second.
    n_samples : int
        Realisations, the rows of ``samples``.
    region, mask, rest_value, velocity_convention, beam, rms
        What to read from the cube; see `~kinematics_nn.observation.observe`.
    distance : `~astropy.units.Quantity`, optional
        Of the galaxy: radii are then given in kpc too.
    priors : dict, optional
        Parameter name to (mean, standard deviation), ``dict(low=, high=)`` or a frozen `scipy.stats` distribution
        (then in km/s, arcsec, deg). They take the place of the default priors, by weighting the realisations.
    fixed : dict, optional
        Parameters to hold. The network alone cannot hold any.
    weights : str, optional
        Name of shipped weights, or the path of a .safetensors file.
    device : str or torch.device, optional
        Where the network runs: by default a GPU if there is one.
    seed : int, optional
        The same seed gives the same samples; recorded in ``meta`` in either case.

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
    from .inference.realisations import network_samples
    from .network.weights import weights_info
    from .observation import observe, opened
    from .results import KinematicFit
    from .results.fit import nearest_median

    _check(method, n_samples, fixed, thickness)
    forms = Forms(
        rotation_curve=get_form(rotation_curve, "rotation_curve"),
        surface_brightness=get_form(surface_brightness, "surface_brightness"),
        velocity_dispersion=get_form(velocity_dispersion, "velocity_dispersion"),
    )
    distance = _distance(distance)
    device = _device(device)
    n_samples, seed = int(n_samples), _seed(seed)
    info = weights_info(weights)
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
    )
    forms = Forms(**{slot: getattr(forms, slot).for_observation(observation) for slot in forms.slots})
    log.debug(f"observation of {observation.data.shape} voxels, {observation.emission.sum()} of them emission")
    samples = network_samples(observation, forms, n_samples, seed=seed, device=device, weights=weights)
    samples, effective = _with_priors(samples, priors, forms, observation, seed)
    best = nearest_median(samples)
    reduced_chi2, flags = diagnose(observation, forms, samples, best)
    if effective < 0.01 * n_samples:
        flags.append("LOW_EFFICIENCY")
    return KinematicFit(
        observation,
        forms,
        samples,
        meta={
            "method": method,
            "reduced_chi2": reduced_chi2,
            "n_effective": effective,
            "sample_efficiency": effective / n_samples,
            **_provenance(observation, forms, info, seed, device, priors),
            **({} if distance is None else {"distance": distance}),
        },
        best=best,
        flags=flags,
        cube=cube,
    )


def _check(method, n_samples, fixed, thickness):
    """Arguments that the network alone cannot serve."""
    if method not in _METHODS:
        raise KinematicsError(f"method={method!r}", f"one of {_METHODS}", 'fit(method="network")')
    if not isinstance(n_samples, Real) or not 100 <= n_samples <= 500_000 or int(n_samples) != n_samples:
        raise KinematicsError(f"n_samples={n_samples!r}", "a whole number from 100 to 500,000", "fit(n_samples=10_000)")
    held = [*(fixed or {}), *([] if thickness is None else ["thickness"])]
    if held:
        raise KinematicsError(
            f"{', '.join(held)} held fixed with method='network'",
            "parameters that the network may infer",
            f"priors={{{held[0]!r}: (value, small standard deviation)}}",
        )


def _distance(distance):
    """A distance as text that a table's metadata can hold."""
    if distance is None:
        return None
    try:
        return u.Quantity(distance).to(u.Mpc).to_string()
    except (u.UnitConversionError, TypeError) as error:
        raise KinematicsError(f"distance={distance!r}", "a length", "fit(distance=10 * u.Mpc)") from error


def _seed(seed):
    """A seed, or a fresh one."""
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
    given = _user_priors(priors, forms, observation.header["flux_unit"])
    weight = prior_weights(samples, given, form_priors(observation, forms, samples["r50"]))
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
        "weights": {"name": info["name"], "sha256": info["sha256"]},
        "seed": seed,
        "device": device,
        "versions": {"kinematics_nn": __version__, "torch": torch.__version__},
    }
