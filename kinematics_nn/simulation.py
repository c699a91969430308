"""`simulate`: the public face of the decoder, from parameters with units to a SpectralCube."""

import astropy.units as u
import numpy as np
from astropy.wcs import WCS

from .errors import KinematicsError, WrongUnit
from .options import distance_text
from .quantities import inside_number

__all__ = ["simulate"]

_KM_S = u.km / u.s

_LIMITS = {
    "inclination": (0, 90), "thickness": (0, np.inf), "velocity_dispersion": (0, np.inf), "rms": (0, np.inf),
    "pixel_scale": (1e-12, np.inf), "channel_width": (1e-9, np.inf),
}  # fmt: skip


def simulate(
    *,
    shape=(40, 64, 64),
    pixel_scale=1 * u.arcsec,
    channel_width=10 * _KM_S,
    beam=None,
    like=None,
    inclination=60 * u.deg,
    pa=30 * u.deg,
    vsys=0 * _KM_S,
    offset=(0, 0) * u.arcsec,
    flux=10 * u.Jy * _KM_S,
    velocity_dispersion=10 * _KM_S,
    thickness=0 * u.arcsec,
    rotation_curve=None,
    surface_brightness=None,
    distance=None,
    integrate_pixels=True,
    rms=None,
    noise="wide",
    spectral="white",
    seed=None,
):
    """
    Make the cube of a rotating disc.

    Parameters
    ----------
    shape : tuple of int
        Channels, and pixels along y and x.
    pixel_scale, channel_width : `~astropy.units.Quantity`
        The field is centred on RA 180, Dec 0 with north up and east left; the band on ``vsys``.
    beam : `~radio_beam.Beam` or `~astropy.units.Quantity`, optional
        The beam, or the FWHM of a round one; 4 pixels by default, or that of ``like``.
    like : `~spectral_cube.SpectralCube`, optional
        A cube whose grid, axis, beam and unit to take, in place of ``shape``, ``pixel_scale`` and ``channel_width``.
    inclination, pa, vsys, flux, thickness : `~astropy.units.Quantity`
        Of the disc; ``flux`` is over the whole sky, ``thickness`` the scale height of an exponential law.
    offset : `~astropy.units.Quantity`
        (East, north) of the disc's centre from the WCS reference position (CRVAL).
    velocity_dispersion : `~astropy.units.Quantity`, model, form or str
        Intrinsic: one for the whole disc, or one that changes with radius, as ``rotation_curve`` is given.
    rotation_curve, surface_brightness : model, form or str
        Models of `kinematics_nn.models`; ``ArctanRotationCurve(vmax=200*u.km/u.s, r_turn=3*u.arcsec)`` and
        ``ExponentialDisc(r_scale=8*u.arcsec)`` by default. A form, or the name of one, has its default values.
    distance : `~astropy.units.Quantity`, optional
        Of the galaxy, where radii or the thickness are lengths.
    integrate_pixels : bool
        Whether a voxel holds the average over its pixel, as `~kinematics_nn.fit` takes it to, or the value at its
        centre.
    rms : `~astropy.units.Quantity` or float, optional
        Noise to add, in the cube's unit; none by default.
    noise : {"wide", "beam", "white"} or `~kinematics_nn.observation.NoiseCorrelation`
        How the noise of neighbouring pixels is correlated: as white noise seen through the beam, which is wider than
        the beam by the root of 2; as the beam, which an interferometer's is; or not. The correlation found in a cube,
        ``cube.kinematics.observe().correlation``, makes noise like that cube's own, on its pixels (``like=cube``).
    spectral : {"white", "hanning", "hanning, averaged by two"}
        How the noise of neighbouring channels is correlated, unless ``noise`` tells.
    seed : int, optional
        Of the noise.

    Returns
    -------
    `~spectral_cube.SpectralCube`
        In Jy/beam, or the unit of ``like``.

    Raises
    ------
    WrongUnit
        A quantity's unit does not fit.
    KinematicsError
        The line lies outside the band.
    """
    import torch
    from spectral_cube import SpectralCube

    from .decoder import Forms, Grid, render_on
    from .models import ArctanRotationCurve, ConstantDispersion, ExponentialDisc, inside_values
    from .observation.brightness import cube_beam, cube_unit, flux_scale
    from .observation.correlation import beam_covariance
    from .observation.grid import pixel_matrix, pixel_scales, sky_grid
    from .observation.spectral import spectral_axis

    models = {
        "rotation_curve": ArctanRotationCurve(vmax=200 * _KM_S, r_turn=3 * u.arcsec),
        "surface_brightness": ExponentialDisc(r_scale=8 * u.arcsec),
    }
    if rotation_curve is not None:
        models["rotation_curve"] = rotation_curve
    if surface_brightness is not None:
        models["surface_brightness"] = surface_brightness
    if not _is_form(velocity_dispersion):
        velocity_dispersion = ConstantDispersion(_value("velocity_dispersion", velocity_dispersion, _KM_S) * _KM_S)
    models["velocity_dispersion"] = velocity_dispersion
    models = {slot: _model(slot, given) for slot, given in models.items()}
    forms = Forms(**{slot: model.form for slot, model in models.items()})
    distance = distance_text(distance, "simulate")
    systemic = _value("vsys", vsys, _KM_S)
    if like is None:
        if np.shape(shape) != (3,) or any(int(n) != n or n < least for n, least in zip(shape, (1, 2, 2), strict=True)):
            needed = "channels, and at least 2 pixels along y and x"
            raise KinematicsError(f"shape={shape!r}", needed, "simulate(shape=(40, 64, 64))")
        unit = u.Jy / u.beam
        wcs = _plain_wcs(shape, pixel_scale, channel_width, systemic)
        velref = 0
    else:
        wcs, shape = like.wcs, like.shape
        unit = cube_unit(like.unit, str(like.header.get("BUNIT", "")))
        velref = int(like.header.get("VELREF", 0))
    celestial = wcs.celestial
    if beam is None and like is None:
        beam = 4 * pixel_scale
    beam = cube_beam(like, beam)
    axis = spectral_axis(wcs, shape[0], velref=velref)
    sky = sky_grid(celestial, tuple(slice(0, n) for n in shape[1:]))
    flux_unit, brightness_per_flux = flux_scale(unit, beam, float(np.prod(pixel_scales(celestial))))
    east, north = _centre(celestial, offset, sky.reference)
    values = {
        "inclination": _value("inclination", inclination, u.deg),
        "pa": _value("pa", pa, u.deg),
        "east": east,
        "north": north,
        "vsys": systemic,
        "flux": _value("flux", flux, u.Unit(flux_unit)),
        "thickness": _value("thickness", thickness, u.arcsec, distance),
    }
    for slot, model in models.items():
        values.update(zip(forms.slots[slot], inside_values(model, distance).values(), strict=True))
    if not axis.edges[0] < systemic < axis.edges[-1]:
        raise KinematicsError(
            f"vsys={systemic:g} km/s outside the band, {axis.edges[0]:g} to {axis.edges[-1]:g} km/s",
            "a line in the band",
            "simulate(vsys=...)",
        )

    def tensor(array):
        return torch.as_tensor(np.ascontiguousarray(array), dtype=torch.float32)

    sides = [beam.major.to_value(u.arcsec), beam.minor.to_value(u.arcsec), beam.pa.to_value(u.deg) + sky.north]
    grid = Grid(
        xi=tensor(sky.xi),
        eta=tensor(sky.eta),
        edges=tensor(axis.edges),
        beam=tensor(sides),
        convention=axis.convention,
        brightness_per_flux=brightness_per_flux,
        integrate_pixels=integrate_pixels,
    )
    data = render_on(grid, forms, values).numpy()
    if rms is not None:
        matrix = pixel_matrix(sky.xi, sky.eta)
        correlation = _correlation(noise, spectral, beam_covariance(np.array(sides), matrix), shape[0])
        data = data + _value("rms", rms, unit) * correlation.draw(shape, np.random.default_rng(seed))
    if axis.descending:
        data = data[::-1]
    header = wcs.to_header()
    header["BUNIT"] = unit.to_string()
    return SpectralCube(u.Quantity(np.ascontiguousarray(data), unit), wcs, beam=beam, header=header)


def _is_form(given):
    """Whether it is a model, a form or a name, and no quantity, which may be text, too."""
    return hasattr(given, "form") or isinstance(given, type) or (isinstance(given, str) and given[:1].isalpha())


def _model(slot, given):
    """The model that is given for a slot, or that of the form that is named, with its default values."""
    from .forms import get_form
    from .models import model_with_units

    form = get_form(given, slot)
    return model_with_units(form, **form.defaults()) if isinstance(given, str | type) else given


def _value(name, given, unit, distance=None):
    """A quantity's value in a unit; bare numbers are refused, but for the noise, which has the cube's unit."""
    if name == "rms" and not hasattr(given, "unit"):
        given = given * unit
    try:
        if u.Quantity(given).unit == u.one != unit:
            raise u.UnitConversionError("no unit")
        value = inside_number(given, unit, distance)
    except (u.UnitConversionError, TypeError) as error:
        raise WrongUnit(f"{name}={given!r}", f"a unit like {unit}", f"simulate({name}=1 * u.Unit('{unit}'))") from error
    low, high = _LIMITS.get(name, (-np.inf, np.inf))
    if not (np.isfinite(value) and low <= value <= high):
        raise KinematicsError(f"{name}={given!r}", f"a value from {low:g} to {high:g} {unit}", f"simulate({name}=...)")
    return value


def _plain_wcs(shape, pixel_scale, channel_width, systemic):
    """North up, east left, radio velocity upwards, with the reference pixel in the middle of the cube."""
    wcs = WCS(naxis=3)
    step = _value("pixel_scale", pixel_scale, u.deg)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN", "VRAD"]
    wcs.wcs.cunit = ["deg", "deg", "m/s"]
    wcs.wcs.crval = [180.0, 0.0, 1e3 * systemic]
    wcs.wcs.cdelt = [-step, step, 1e3 * _value("channel_width", channel_width, _KM_S)]
    wcs.wcs.crpix = [(n + 1) / 2 for n in shape[::-1]]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.restfrq = 230.538e9
    wcs.wcs.specsys = "LSRK"
    wcs.wcs.set()
    return wcs


def _centre(celestial, offset, reference):
    """The disc's centre, ``offset`` (east, north) from CRVAL, as offsets [arcsec] from another reference position."""
    from astropy.coordinates import SkyCoord

    try:
        east, north = u.Quantity(offset).to(u.arcsec)
    except (u.UnitConversionError, ValueError, TypeError) as error:
        raise WrongUnit(
            f"offset={offset!r}", "two angles, east and north", "simulate(offset=(0, 0) * u.arcsec)"
        ) from error
    origin = celestial.pixel_to_world(*(celestial.wcs.crpix - 1)).icrs
    centre = origin.spherical_offsets_by(east, north)
    away = SkyCoord(*reference, unit="deg").spherical_offsets_to(centre)
    return tuple(float(angle.to_value(u.arcsec)) for angle in away)


def _correlation(noise, spectral, covariance, n_channel):
    """The correlation of the noise, from its name or as it is given."""
    from .observation.correlation import SERIES, WIDTHS, NoiseCorrelation, known_correlation

    if isinstance(noise, NoiseCorrelation):
        if len(noise.spectral) < n_channel:
            raise KinematicsError(
                f"noise= of {len(noise.spectral)} channels for a cube of {n_channel}",
                "as many channels",
                "simulate(like=cube) with the cube or the slab that was observed",
            )
        return noise
    for name, given, known in (("noise", noise, WIDTHS), ("spectral", spectral, SERIES)):
        if given not in known:
            raise KinematicsError(f"{name}={given!r}", f"one of {', '.join(known)}", f"simulate({name}=...)")
    return known_correlation(noise, spectral, covariance, n_channel)
