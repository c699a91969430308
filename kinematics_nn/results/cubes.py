"""The fitted disc back on the sky: positions, model and residual cubes in the frame of the input."""

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import skycoord_to_pixel

__all__ = ["beam_in_cube_frame", "input_wcs", "model_cube", "offset_to_sky", "render_model", "residual_cube"]


def input_wcs(observation):
    """The `~astropy.wcs.WCS` of the input cube, three axes."""
    return WCS(fits.Header.fromstring(observation.header["wcs"]))


def offset_to_sky(observation, east, north):
    """
    Where offsets from the reference position lie.

    Parameters
    ----------
    observation : `~kinematics_nn.observation.Observation`
        Gives the reference position and the WCS.
    east, north : (...) array
        [arcsec].

    Returns
    -------
    sky : `~astropy.coordinates.SkyCoord`
        ICRS.
    x, y : (...) array
        0-based pixels of the input cube.
    """
    reference = SkyCoord(*observation.header["reference"], unit="deg")
    sky = reference.spherical_offsets_by(np.asarray(east) * u.arcsec, np.asarray(north) * u.arcsec)
    x, y = skycoord_to_pixel(sky, input_wcs(observation).celestial, origin=0)
    return sky, x, y


def render_model(fit, full=True):
    """
    Brightness of the fit's best disc, (channel, y, x) in the cube's unit and ascending velocity.

    Over the input's full shape, or (``full=False``) over the crop that the observation holds.
    """
    from kinematics_nn.decoder import render

    return render(fit.observation, fit.forms, fit.best_values, full=full)


def model_cube(fit):
    """The best disc as a `~spectral_cube.SpectralCube` of the input's shape, WCS, beam and unit."""
    from spectral_cube import SpectralCube

    return SpectralCube(_model_data(fit), **_frame(fit.observation))


def residual_cube(fit, cube):
    """Input minus model as a `~spectral_cube.SpectralCube`, with the input's mask."""
    from spectral_cube import SpectralCube

    from kinematics_nn.observation.brightness import cube_unit
    from kinematics_nn.observation.reading import cube_header

    model = _model_data(fit)
    # spectral-cube leaves a cube without a unit where it cannot read the header's.
    unit = cube_unit(cube.unit, str(cube_header(cube).get("BUNIT", "")))
    data = u.Quantity(cube.unitless_filled_data[:], unit) - model
    return SpectralCube(data.to(model.unit), mask=cube.mask, **_frame(fit.observation))


def _model_data(fit):
    from kinematics_nn.observation.reading import check_memory

    header = fit.observation.header
    (_, (y0, y1), (x0, x1)) = header["crop"]
    check_memory(
        np.prod(header["shape"], dtype=float),
        f"a fit of the cube cut to the galaxy: cube[:, {y0}:{y1}, {x0}:{x1}].kinematics.fit().model_cube",
    )
    data = render_model(fit)
    # The inside of the package counts channels by ascending velocity; the input may count them down.
    return u.Quantity(data[::-1] if header["descending"] else data, header["unit"], copy=False)


def beam_in_cube_frame(observation):
    """The beam as a `~radio_beam.Beam` whose position angle counts from the north of the cube's own frame."""
    from radio_beam import Beam

    from kinematics_nn.observation.grid import sky_grid

    major, minor, angle = observation.beam
    _, *box = observation.header["crop"]
    # The observation counts it from ICRS north: undo that turn (it is 0 for an ICRS cube, large for a galactic one).
    turn = sky_grid(input_wcs(observation).celestial, tuple(slice(*side) for side in box)).north
    return Beam(major * u.arcsec, minor * u.arcsec, (angle - turn) % 180 * u.deg)


def _frame(observation):
    header = fits.Header.fromstring(observation.header["wcs"])
    if observation.header["object"]:
        header["OBJECT"] = observation.header["object"]
    return {"wcs": input_wcs(observation), "header": header, "beam": beam_in_cube_frame(observation)}
