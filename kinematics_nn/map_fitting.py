"""`fit_maps`: from a velocity field to a posterior."""

import numpy as np
from astropy import log
from astropy import units as u

from .errors import KinematicsError
from .fitting import provenance
from .methods import with_priors
from .options import by_name, check_options, check_weights, distance_text, fresh_seed, own_priors, torch_device

__all__ = ["fit_maps"]

# Median residual over the median velocity about the field's middle: 0.03 to 0.17 of discs, 0.21 to 0.28 of a merger.
_POOR = 0.2


def fit_maps(
    moment1,
    moment0=None,
    moment1_error=None,
    *,
    wcs=None,
    beam=None,
    velocity_convention=None,
    rotation_curve="arctan",
    surface_brightness="exponential",
    velocity_dispersion="constant",
    n_samples=10_000,
    distance=None,
    priors=None,
    weights="maps",
    device=None,
    seed=None,
):
    """
    Fit a rotating disc to a velocity field, for galaxies of which there are moment maps and no cube.

    The method is the network alone, trained on moment maps of simulated cubes. What maps do not hold stays as wide as
    the prior: the dispersion, and without moment 0 the light. Where there is a cube, fit the cube.

    Parameters
    ----------
    moment1 : `~spectral_cube.lower_dimensional_structures.Projection`, `~astropy.units.Quantity`, HDU, str or path
        Velocity field (y, x), blank where there is no line. A file's first image is taken.
    moment0 : likewise, optional
        Integrated brightness, on the same pixels. Without it ``flux`` counts in arcsec2: it is in units of the mean
        brightness of the valid pixels.
    moment1_error : likewise, optional
        Error of moment 1: pixels with more than three times its median are taken as blank. Beyond that the errors are
        not used; the network knows noise by how rough the field is.
    wcs : `~astropy.wcs.WCS`, optional
        Of the sky, where ``moment1`` is a bare array.
    beam : `~radio_beam.Beam` or `~astropy.units.Quantity`, optional
        The beam or point-spread function, or the FWHM of a round one; by default that of the header.
    velocity_convention : {"radio", "optical", "relativistic"}, optional
        Of the velocities; by default what VELREF in the header says, else optical. Speeds of the galaxy follow from
        it: the two differ by a factor of (1 + z)^2.
    rotation_curve, surface_brightness, velocity_dispersion, n_samples, distance, priors, device, seed
        As `kinematics_nn.fit` takes them.
    weights : str, optional
        Name of weights that were trained on maps, or the path of a .safetensors file.

    Returns
    -------
    `~kinematics_nn.results.MapFit`

    Raises
    ------
    KinematicsError
        What was found, what is needed, and the next call to make.
    """
    from .constraints import model_constraints, with_constraints
    from .decoder import Forms
    from .forms import get_form
    from .inference.diagnosis import disc_flags
    from .inference.realisations import network_samples
    from .network.maps import prepare_maps, pseudo_observation
    from .network.weights import list_weights, weights_info
    from .observation.maps import observe_maps
    from .results import MapFit
    from .results.samples import nearest_median

    given = {
        "rotation_curve": rotation_curve,
        "surface_brightness": surface_brightness,
        "velocity_dispersion": velocity_dispersion,
    }
    forms = Forms(**{slot: get_form(form, slot) for slot, form in given.items()})
    of_models = model_constraints(given.values(), forms, distance)
    fixed, priors = with_constraints({}, by_name("priors", priors), of_models)
    check_options("network", n_samples, 500, None, list(fixed), priors, None)
    if forms.surface_brightness.name == "moment0" and moment0 is None:
        raise KinematicsError(
            "surface_brightness='moment0' without a moment 0", "one", "fit_maps(moment1, moment0=...)"
        )
    distance, device = distance_text(distance), torch_device(device)
    n_samples, seed = int(n_samples), fresh_seed(seed)
    if weights == "maps" and weights not in list_weights():
        raise KinematicsError(
            "no weights 'maps' here", "a network trained on maps", "kinematics-nn train maps --input maps"
        )
    info = weights_info(weights)
    check_weights(info, forms, "maps")
    own_priors({name: given for name, given in priors.items() if name != "flux"}, forms, u.one, distance)
    maps = observe_maps(moment1, moment0, moment1_error, wcs=wcs, beam=beam, velocity_convention=velocity_convention)
    observation = pseudo_observation(maps)
    log.debug(f"maps of {maps.moment1.shape} pixels, {np.isfinite(maps.moment1).sum()} of them valid")
    forms = Forms(**{slot: getattr(forms, slot).for_observation(observation) for slot in forms.slots})
    samples = network_samples(
        observation, forms, n_samples, seed=seed, device=device, weights=weights, cubes=prepare_maps(maps)
    )
    priors_read = own_priors(priors, forms, observation.header["flux_unit"], distance)
    samples, effective = with_priors(samples, priors_read, forms, observation, seed)
    best = nearest_median(samples)
    flags = [name for name, raised in disc_flags(observation, forms, samples, best, priors_read).items() if raised]
    if effective < 0.01 * n_samples:
        flags.append("LOW_EFFICIENCY")
    meta = {
        "method": "network",
        "input": ["moment1", *(["moment0"] if moment0 is not None else [])],
        "n_effective": effective,
        "sample_efficiency": effective / n_samples,
        "n_samples": n_samples,
        **provenance(observation, forms, info, seed, device, priors_read, {}),
        **({} if distance is None else {"distance": distance}),
    }
    result = MapFit(observation, forms, samples, meta=meta, best=best, flags=flags)
    rest, field = abs(result.residual_moment1.value), abs(maps.moment1 - np.nanmedian(maps.moment1))
    rough = float(np.nanmedian(rest) / max(np.nanmedian(field), 1e-9))
    result.meta["residual"] = round(rough, 4)
    if rough > _POOR:
        result.flags = (*result.flags, "POOR_FIT")
    return result
