"""Where the pixels are on the sky, and which of them a region holds."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.wcs.utils import proj_plane_pixel_scales

from kinematics_nn.errors import WrongMask

__all__ = ["SkyGrid", "pixel_matrix", "pixel_scales", "region_mask", "sky_grid"]


class SkyGrid(NamedTuple):
    """
    Where the pixels of a box are.

    Parameters
    ----------
    xi, eta : ndarray of float64, shape (y, x)
        Offsets east and north [arcsec], in ICRS.
    reference : tuple of float
        Their origin (ra, dec) [deg], in ICRS: the centre of the box.
    north : float
        Position angle [deg, east of ICRS north] of the north of the cube's own frame, there.
    """

    xi: np.ndarray
    eta: np.ndarray
    reference: tuple[float, float]
    north: float


def sky_grid(celestial, box):
    """
    Offsets of the pixels of a box from its centre, on the sky.

    They come from the WCS, whatever its projection, rotation or frame, and are those of
    `~astropy.coordinates.SkyCoord.spherical_offsets_to`; ``SkyCoord.spherical_offsets_by`` turns them back into
    positions. Half a degree out they differ from those in the tangent plane by 1e-4 of themselves at most.

    Parameters
    ----------
    celestial : `~astropy.wcs.WCS`
        The two sky axes of the cube.
    box : tuple of slice
        The box in (y, x), in pixels of the cube.

    Returns
    -------
    SkyGrid
    """
    (y0, y1), (x0, x1) = ((side.start, side.stop) for side in box)
    y, x = np.mgrid[y0:y1, x0:x1]
    # The centre and a point north of it ride along with the pixels: transforming frames costs milliseconds a call.
    own = celestial.pixel_to_world(np.append(x, (x0 + x1 - 1) / 2), np.append(y, (y0 + y1 - 1) / 2))
    lon, lat = own.spherical.lon, own.spherical.lat
    lat = np.append(lat, lat[-1] + 1 * u.arcsec)
    lon = np.append(lon, lon[-1])
    icrs = SkyCoord(lon, lat, frame=own.frame.replicate_without_data()).icrs
    reference = icrs[-2]
    east, north = (offset.to_value(u.arcsec) for offset in reference.spherical_offsets_to(icrs))
    return SkyGrid(
        xi=east[:-2].reshape(x.shape),
        eta=north[:-2].reshape(x.shape),
        reference=(float(reference.ra.deg), float(reference.dec.deg)),
        north=float(np.degrees(np.arctan2(east[-1], north[-1]))),
    )


def pixel_matrix(xi, eta):
    """Offsets (east, north) [arcsec] of one pixel along x (first column) and along y (second), from those of all."""
    ny, nx = xi.shape
    along_x = [(a[:, -1] - a[:, 0]).mean() / (nx - 1) for a in (xi, eta)]
    along_y = [(a[-1] - a[0]).mean() / (ny - 1) for a in (xi, eta)]
    return np.array([along_x, along_y]).T


def pixel_scales(celestial):
    """Size of a pixel along (y, x) [arcsec], at the reference pixel."""
    return proj_plane_pixel_scales(celestial)[::-1] * 3600.0


def region_mask(region, celestial, shape):
    """
    Pixels whose centres lie in a region.

    Parameters
    ----------
    region : region, list of regions, str or path
        Anything from `regions`, in pixels or on the sky, or the path of a DS9 or CRTF file. Of several, the union,
        less those that exclude (``-circle(...)`` in a file, ``region.meta["include"]`` false), whatever their order;
        if all exclude, the whole field less them.
    celestial : `~astropy.wcs.WCS`
        The two sky axes of the cube.
    shape : tuple of int
        (y, x) of the cube.

    Returns
    -------
    ndarray of bool, shape (y, x)

    Raises
    ------
    WrongMask
        If the region cannot be read, has no area, or holds no pixel of the cube.
    """
    # regions takes a third of a second to import: only who gives a region pays.
    from regions import Region, Regions, SkyRegion
    from regions.core.registry import IORegistryError

    if isinstance(region, (str, Path)):
        try:
            region = Regions.read(str(region))
        except (OSError, ValueError, IORegistryError) as error:
            # Where regions knows no format, a table of those that it knows follows.
            cause = (str(error).splitlines() or [type(error).__name__])[0]
            raise WrongMask(
                f"region file {region} ({cause})", "a DS9 or CRTF region file", "regions.Regions.read(path) to see why"
            ) from error
    several = [region] if isinstance(region, Region) else list(region)
    included, excluded = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    if not any(map(_includes, several)):
        included[:] = True
    for one in several:
        pixel_region = one.to_pixel(celestial) if isinstance(one, SkyRegion) else one
        try:
            mask = pixel_region.to_mask(mode="center")
        except NotImplementedError as error:
            raise WrongMask(
                f"a {type(one).__name__}, which has no area", "a circle, ellipse, polygon or the like"
            ) from error
        image = mask.to_image(shape)
        if image is not None:
            part = included if _includes(one) else excluded
            part |= image > 0
    inside = included & ~excluded
    if not inside.any():
        raise WrongMask(
            f"region {region} holds none of the {shape[1]} x {shape[0]} pixels",
            "a region on the cube",
            "region.to_pixel(cube.wcs.celestial) to see where it lies",
        )
    return inside


def _includes(region):
    return bool(region.meta.get("include", True))
