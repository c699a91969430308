"""`fit`: from a cube to a posterior, one step a line."""

from astropy import log
from astropy import units as u

from .methods import posterior
from .options import (
    by_name,
    check_options,
    check_priors,
    check_weights,
    distance_text,
    fresh_seed,
    held_values,
    own_priors,
    progress_function,
    torch_device,
)

__all__ = ["fit", "provenance"]


def fit(
    cube,
    *,
    rotation_curve="arctan",
    surface_brightness="exponential",
    velocity_dispersion="constant",
    thickness=None,
    method="refined",
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
        Functional forms; ``kinematics-nn forms`` lists the names. What a model holds (``fixed``) is held, and its own
        ``bounds`` are a prior that is 0 outside; what ``fixed`` and ``priors`` say goes before. Its values say nothing.
    thickness : `~astropy.units.Quantity`, optional
        Holds the vertical scale height, as ``fixed`` does; free by default.
    method : {"refined", "network"}
        "refined": the network's answer polished on the cube and weighed by the exact likelihood, in seconds (large
        cubes: minutes). "network": realisations of the network alone, in well under a second.
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
        Parameters to hold, name to value, within the limits of the form; radii may be lengths where ``distance`` is
        given. The centre is held by ``ra`` and ``dec`` (ICRS), ``x`` and ``y`` (0-based pixels), or ``east`` and
        ``north``. The network alone cannot hold any.
    priors : dict, optional
        Parameter name to (mean, standard deviation), ``dict(low=, high=)``, flat between the two, or a frozen
        `scipy.stats` distribution (then in km/s, arcsec, deg); radii may be lengths where ``distance`` is given. They
        take the place of the default priors; with the network alone, by weighting its realisations, and columns that
        follow from several parameters (r50, v22, v22_sini, w50) may have one too.
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
    from .centre import as_offsets, offset_of
    from .constraints import model_constraints, with_constraints
    from .decoder import Forms
    from .forms import get_form
    from .inference.diagnosis import diagnose
    from .inference.refined import is_short
    from .network.weights import weights_info
    from .observation import observe, opened
    from .results import KinematicFit

    fixed, priors = by_name("fixed", fixed), by_name("priors", priors)
    given = {
        "rotation_curve": rotation_curve,
        "surface_brightness": surface_brightness,
        "velocity_dispersion": velocity_dispersion,
    }
    forms = Forms(**{slot: get_form(form, slot) for slot, form in given.items()})
    if thickness is not None:
        fixed["thickness"] = thickness
    fixed, priors = with_constraints(fixed, priors, model_constraints(given.values(), forms, distance))
    check_options(method, n_samples, min_ess, fallback, list(fixed), priors, lsf)
    distance = distance_text(distance)
    device = torch_device(device)
    n_samples, seed = int(n_samples), fresh_seed(seed)
    info = weights_info(weights)
    check_weights(info, forms)
    # Refused before the cube is read, but for the flux, whose unit only the cube knows, and for a centre in its frame.
    check_priors(method, priors, forms)
    own_priors({name: value for name, value in priors.items() if name != "flux"}, forms, u.one, distance)
    now = {name: value for name, value in fixed.items() if name != "flux" and offset_of(name) == name}
    held_values(now, forms, u.one, distance)
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
        lsf=lsf,
    )
    fixed = as_offsets(fixed, priors, observation)
    forms = Forms(**{slot: getattr(forms, slot).for_observation(observation) for slot in forms.slots})
    log.debug(f"observation of {observation.data.shape} voxels, {observation.emission.sum()} of them emission")
    options = {
        "method": method,
        "n_samples": n_samples,
        "min_ess": min_ess,
        "fallback": fallback,
        "fixed": fixed,
        "priors": priors,
        "distance": distance,
        "weights": weights,
        "device": device,
    }
    progress = progress_function(progress)
    flux_unit = observation.header["flux_unit"]
    priors_read, held = (
        read(of, forms, flux_unit, distance) for read, of in ((own_priors, priors), (held_values, fixed))
    )
    samples, best, report, weighted = posterior(observation, forms, seed=seed, progress=progress, **options)
    reduced_chi2, flags = diagnose(observation, forms, samples, best, priors_read, held)
    if report["sample_efficiency"] < 0.01 if method == "network" else is_short(report, min_ess):
        flags.append("LOW_EFFICIENCY")
    if (report.get("light_scatter", 0) > 0.5 or report.get("misfit", 1) > 1) and "POOR_FIT" not in flags:
        flags.append("POOR_FIT")
    return KinematicFit(
        observation,
        forms,
        samples,
        meta={
            "method": method,
            "reduced_chi2": reduced_chi2,
            **report,
            "n_samples": n_samples,
            "min_ess": min_ess,
            **provenance(observation, forms, info, seed, device, priors_read, held),
            **({} if distance is None else {"distance": distance}),
        },
        best=best,
        flags=flags,
        cube=cube,
        options=options,
        weighted=weighted,
    )


def provenance(observation, forms, info, seed, device, priors, fixed):
    """What a fit's ``meta`` says of where it comes from, a dict; priors and what is held as they are read."""
    import torch

    from . import __version__
    from .results.tables import parameter_columns

    header = observation.header
    units = {name: unit for name, (unit, _) in parameter_columns(forms, header["flux_unit"], sky=False).items()}
    return {
        "object": header["object"],
        "convention": header["convention"],
        "frame": header["frame"],
        "rest_value": header["rest_value"],
        "lsf": header.get("lsf", 0.0),
        "noise": header["noise"],
        "n_sources": header["n_sources"],
        "forms": {slot: getattr(forms, slot).name for slot in forms.slots},
        "priors": {prior.name: f"{prior} {units[prior.name]}".rstrip() for prior in priors},
        "fixed": {name: f"{value:.9g} {units[name]}".rstrip() for name, value in fixed.items()},
        "weights": {key: info[key] for key in ("name", "sha256", "forms") if key in info},
        "seed": seed,
        "device": device,
        "versions": {"kinematics_nn": __version__, "torch": torch.__version__},
    }
