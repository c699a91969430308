"""From a spectral cube to an Observation: what is read, refused, detected and cut."""

import numpy as np
from astropy import units as u
from spectral_cube.spectral_cube import BaseSpectralCube

from kinematics_nn.errors import (
    BlankCube,
    FieldTooSmall,
    KinematicsError,
    MissingBeam,
    TooFewChannels,
    WrongMask,
    WrongUnit,
)
from kinematics_nn.observation.brightness import cube_beam, cube_unit, flux_scale
from kinematics_nn.observation.correlation import beam_covariance
from kinematics_nn.observation.correlation_estimate import measure_correlation
from kinematics_nn.observation.grid import pixel_matrix, pixel_scales, region_mask, sky_grid
from kinematics_nn.observation.observation import Observation
from kinematics_nn.observation.reading import cube_header, opened, read
from kinematics_nn.observation.source import LEAST_CHANNELS, check_line, choose, detect
from kinematics_nn.observation.spectral import spectral_axis
from kinematics_nn.options import line_spread

__all__ = ["observe"]

# Beams around the emission that the crop keeps.
MARGIN_BEAMS = 2.0
# Pixels along each side of a field: of fewer a disc leaves no pattern.
LEAST_PIXELS = 4
LEAST_BEAM = 0.5  # pixels: no image is sampled so coarsely on purpose


def observe(
    cube,
    *,
    region=None,
    mask=None,
    rest_value=None,
    velocity_convention=None,
    beam=None,
    rms=None,
    integrate_pixels=True,
    lsf=None,
):
    """
    Read a cube into plain arrays, cut to its emission.

    The data are read once. Where ``region`` is given only its box (and two beams around it) is read; without one the
    emission has to be found in the whole cube, so the whole is read and cut after.

    Parameters
    ----------
    cube : `~spectral_cube.SpectralCube`, `~spectral_cube.DaskSpectralCube`, str or path
        The cube, or the path of one that ``SpectralCube.read`` opens. A cube without a unit is fitted as it is, its
        flux in arcsec2 km/s.
    region : region, list of regions, str or path, optional
        Anything from `regions`, in pixels or on the sky, or the path of a DS9 or CRTF file. Voxels outside are not
        valid, and all emission inside is one source. Without it, the source with the most flux is taken.
    mask : array of bool or spectral_cube mask, optional
        True where the data may be used: of the cube's shape, of its (y, x), or a mask that spectral-cube applies.
    rest_value : `~astropy.units.Quantity` or str, optional
        Rest frequency or wavelength, where the header has none or another line is meant; in the medium of the axis,
        so a wavelength in air for an axis of wavelengths in air.
    velocity_convention : {"radio", "optical", "relativistic"}, optional
        Convention of the velocities; by default the header's.
    beam : `~radio_beam.Beam` or `~astropy.units.Quantity`, optional
        The beam, or the FWHM of a round one, where the header has none or a wrong one.
    rms : float, array or `~astropy.units.Quantity`, optional
        Noise, in the cube's unit where it has no other: a scalar, a spectrum (channel,), a map (y, x) or a cube, in
        the order of the input. By default it is measured, see `~kinematics_nn.observation.noise.measure_noise`.
    integrate_pixels : bool, optional
        Whether a pixel holds the light of all of it, as that of an optical detector, a simulation of cloudlets and a
        CLEANed image (whose components lie on pixels) does, or the value at its centre. At four pixels a beam the two
        differ by half a percent of the peak.
    lsf : `~astropy.units.Quantity` or "hanning", optional
        The instrument's line-spread function: the standard deviation of a Gaussian, or channels that are
        Hanning-smoothed. By default none.

    Returns
    -------
    Observation

    Warns
    -----
    SeveralSourcesWarning
        If another source has a comparable flux.
    NoiseWarning
        If too few voxels are free of emission to measure the noise well.

    Raises
    ------
    KinematicsError
        With what was found, what is needed and the next call to make.
    """
    lsf = line_spread(lsf)
    cube = opened(cube)
    cards = cube_header(cube)
    unit = cube_unit(cube.unit, str(cards.get("BUNIT", "")))
    beam = cube_beam(cube, beam)
    axis = spectral_axis(
        cube.wcs,
        cube.shape[0],
        velref=int(cards.get("VELREF", 0)),
        rest_value=rest_value,
        velocity_convention=velocity_convention,
    )
    if cube.shape[0] < LEAST_CHANNELS:
        raise TooFewChannels(
            f"a cube of {cube.shape[0]} channels",
            f"at least {LEAST_CHANNELS}",
            "the cube before it was averaged or cut",
        )

    celestial = cube.wcs.celestial
    scales = pixel_scales(celestial)
    fwhm = tuple(np.sqrt(beam.major * beam.minor).to_value(u.arcsec) / scales)
    if any(side < max(LEAST_PIXELS, wide) for side, wide in zip(cube.shape[1:], fwhm, strict=True)):
        raise FieldTooSmall(
            f"a field of {cube.shape[2]} x {cube.shape[1]} pixels under a beam of {fwhm[1]:.1f} x {fwhm[0]:.1f}",
            f"at least {LEAST_PIXELS} pixels and a beam along each side",
            "a cube of the whole galaxy, or beam= if it is not that of the header",
        )
    if min(fwhm) < LEAST_BEAM:
        raise MissingBeam(
            f"a beam of {fwhm[1]:.2g} x {fwhm[0]:.2g} pixels", f"{LEAST_BEAM} pixels or more", "fit(beam=5 * u.arcsec)"
        )
    inside = np.ones(cube.shape[1:], dtype=bool) if region is None else region_mask(region, celestial, cube.shape[1:])
    margin = [int(np.ceil(MARGIN_BEAMS * max(beam.major.to_value(u.arcsec) / scale, 1.0))) for scale in scales]
    box = tuple(_span(inside.any(axis=1 - axis_), pad) for axis_, pad in zip((0, 1), margin, strict=True))

    given_rms = None if rms is None else _rms_array(rms, unit, cube.shape)
    keep = None if mask is None else _mask_array(mask, cube, box)
    data, finite = read(cube, box)
    turn = slice(None, None, -1 if axis.descending else 1)
    data, finite = np.ascontiguousarray(data[turn]), np.ascontiguousarray(finite[turn])
    valid = finite & inside[box]
    if keep is not None:
        valid &= keep[turn]
    if given_rms is not None:
        given_rms = given_rms[:, *box][turn]
        usable = np.isfinite(given_rms) & (given_rms > 0)
        if not usable.any():
            raise KinematicsError(
                f"rms={rms!r}, which is positive nowhere", "noise above 0", "fit() to have it measured"
            )
        finite, valid = finite & usable, valid & usable
        data[~finite] = 0
    if not valid.any():
        raise BlankCube(
            f"no voxel of {cube.shape} left by blanks, mask, region and rms",
            "some finite values",
            "cube.unmasked_data[:] to see the data without the cube's mask",
        )

    labels, rms_array, note, free = detect(data, finite, fwhm, given_rms)
    found = labels > 0
    if region is not None:
        # Whoever draws a region says that what it holds is the galaxy, in however many pieces.
        labels = (labels > 0).astype(np.int32)
    emission, n_sources = choose(labels, data, valid, rms_array)
    check_line(emission, data)
    valid &= (labels == 0) | emission

    crop = _crop(emission, margin)
    sky = sky_grid(celestial, tuple(_shift(part, whole.start) for part, whole in zip(crop[1:], box, strict=True)))
    valid, emission = np.ascontiguousarray(valid[crop]), np.ascontiguousarray(emission[crop])
    # The position angle of a beam counts from the north of the cube's frame: Galactic, in a Galactic cube.
    ellipse = np.array(
        [beam.major.to_value(u.arcsec), beam.minor.to_value(u.arcsec), (beam.pa.to_value(u.deg) + sky.north) % 180.0]
    )
    covariance = beam_covariance(ellipse, pixel_matrix(sky.xi, sky.eta))
    correlation = measure_correlation(data / rms_array, free, found, covariance, valid.shape[0])
    flux_unit, brightness_per_flux = flux_scale(unit, beam, float(np.prod(scales)))
    header = {
        "unit": unit.to_string(),
        "flux_unit": flux_unit,
        "brightness_per_flux": brightness_per_flux,
        "integrate_pixels": bool(integrate_pixels),
        "lsf": lsf,
        "reference": sky.reference,
        "convention": axis.convention,
        "frame": axis.frame,
        "rest_value": axis.rest_value,
        "wcs": cube.wcs.to_header(relax=True).tostring(),
        "shape": tuple(int(n) for n in cube.shape),
        "crop": _input_crop(crop, box, cube.shape[0], axis.descending),
        "descending": axis.descending,
        "edges": tuple(float(edge) for edge in axis.edges),
        "object": str(cards.get("OBJECT", "")).strip(),
        "n_sources": n_sources,
        "noise": note | {"correlation": correlation.note},
    }
    return Observation(
        data=np.where(valid, data[crop], np.float32(0)),
        valid=valid,
        emission=emission,
        rms=np.ascontiguousarray(rms_array[crop]),
        edges=axis.edges[crop[0].start : crop[0].stop + 1].copy(),
        xi=sky.xi,
        eta=sky.eta,
        beam=ellipse,
        correlation=correlation,
        header=header,
    )


def _mask_array(mask, cube, box):
    """A mask as a boolean array of the cube's box, in the order of the input."""
    if isinstance(mask, BaseSpectralCube):
        raise WrongMask("a cube as mask", "where it is to be used", "mask=(cube > threshold)")
    view = (slice(None), *box)
    if hasattr(mask, "include"):
        # A mask that follows from the data would have all of them read.
        return np.asarray(mask.include(data=cube._data, wcs=cube.wcs, view=view), dtype=bool)
    array = np.asarray(mask)
    if array.dtype != bool or array.shape not in (cube.shape, cube.shape[1:]):
        raise WrongMask(
            f"a mask of {array.dtype} values and shape {array.shape}",
            f"True and False, of shape {cube.shape} or {cube.shape[1:]}",
            "mask=np.isfinite(array) & (array > 0)",
        )
    return np.broadcast_to(array, cube.shape)[view]


def _rms_array(rms, unit, shape):
    """Noise as an array of the cube's shape, in the cube's unit and the order of the input."""
    if isinstance(rms, BaseSpectralCube):
        rms = rms.filled_data[:]
    values = u.Quantity(rms)
    if values.unit != u.dimensionless_unscaled:
        try:
            values = values.to(unit)
        except u.UnitConversionError as error:
            raise WrongUnit(
                f"rms in {values.unit}", f"the cube's unit, {unit}", f"rms=value * u.Unit('{unit}')"
            ) from error
    values = np.asarray(values.value, dtype=np.float32)
    if values.ndim == 1:
        values = values[:, None, None]
    fits = values.ndim <= 3 and all(n in (1, full) for n, full in zip(values.shape[::-1], shape[::-1], strict=False))
    if not fits:
        raise WrongMask(
            f"rms of shape {np.shape(rms)}",
            f"a scalar, a spectrum {shape[:1]}, a map {shape[1:]} or a cube {shape}",
            "rms= left away, and it is measured",
        )
    return np.broadcast_to(values, shape)


def _crop(emission, margin):
    """Box of the emission, a margin of sky around it, and a quarter of the band on each side."""
    line = emission.any(axis=(1, 2))
    n_line = np.ptp(np.flatnonzero(line)) + 1
    return (
        # Half of the line on each side is a quarter of the band that the crop then has.
        _span(line, max(2, int(np.ceil(n_line / 2)))),
        _span(emission.any(axis=(0, 2)), margin[0]),
        _span(emission.any(axis=(0, 1)), margin[1]),
    )


def _span(flags, pad):
    """Slice from the first to the last true flag, and ``pad`` on both sides as far as there is room."""
    where = np.flatnonzero(flags)
    return slice(max(0, int(where[0]) - pad), min(len(flags), int(where[-1]) + 1 + pad))


def _shift(part, start):
    return slice(part.start + start, part.stop + start)


def _input_crop(crop, box, n_channel, descending):
    """The crop in the input cube's own order and pixels."""
    c0, c1 = crop[0].start, crop[0].stop
    channels = (n_channel - c1, n_channel - c0) if descending else (c0, c1)
    sky = (_shift(part, whole.start) for part, whole in zip(crop[1:], box, strict=True))
    return (channels, *((part.start, part.stop) for part in sky))
