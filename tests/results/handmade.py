"""A galaxy made by hand: an observation of known geometry and samples of known statistics."""

import numpy as np
from astropy.wcs import WCS

from kinematics_nn.forms.base import Dispersion, FormParameter, RotationCurve, SurfaceBrightness
from kinematics_nn.forms.priors import LogUniform
from kinematics_nn.observation import Observation
from kinematics_nn.observation.correlation import known_correlation

SHAPE = (24, 48, 56)
PIXEL, CHANNEL = 1.5, 20.0  # arcsec, km/s


class Arctan(RotationCurve):
    name = "test_arctan"
    parameters = (
        FormParameter("vmax", "km/s", 200.0, (1.0, 1000.0), LogUniform(10, 800), "asymptotic speed"),
        FormParameter("r_turn", "arcsec", 3.0, (0.01, 100.0), LogUniform(0.1, 50), "turnover radius"),
    )

    @staticmethod
    def evaluate(radius, vmax, r_turn):
        return vmax * 2 / np.pi * np.arctan(radius / r_turn)


class Exponential(SurfaceBrightness):
    name = "test_exponential"
    parameters = (FormParameter("r_scale", "arcsec", 8.0, (0.1, 100.0), LogUniform(0.5, 50), "scale length"),)

    @staticmethod
    def evaluate(radius, r_scale):
        return np.exp(-radius / r_scale)


class Constant(Dispersion):
    name = "test_constant"
    parameters = (
        FormParameter("velocity_dispersion", "km/s", 10.0, (0.1, 200.0), LogUniform(1, 100), "intrinsic dispersion"),
    )

    @staticmethod
    def evaluate(radius, velocity_dispersion):
        return velocity_dispersion + 0 * radius


TRUTH = {
    "inclination": 55.0,
    "pa": 2.0,
    "east": 3.0,
    "north": -1.5,
    "vsys": 1500.0,
    "flux": 12.0,
    "thickness": 0.4,
    "velocity_dispersion": 12.0,
    "vmax": 180.0,
    "r_turn": 3.0,
    "r_scale": 8.0,
    "r50": 13.4,
    "v22": 160.0,
    "v22_sini": 131.0,
    "w50": 280.0,
}
SIGMA = {name: 0.02 * abs(value) for name, value in TRUTH.items()} | {"pa": 4.0, "inclination": 2.0, "vsys": 1.0}


def input_wcs():
    """North up, east left, a descending velocity axis, and a reference pixel off the centre."""
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN", "VRAD"]
    wcs.wcs.crval = [359.999, -35.0, 1500e3]
    wcs.wcs.crpix = [30.0, 25.0, 13.0]
    wcs.wcs.cdelt = [-PIXEL / 3600, PIXEL / 3600, -CHANNEL * 1e3]
    wcs.wcs.cunit = ["deg", "deg", "m/s"]
    wcs.wcs.restfrq = 230.538e9
    wcs.wcs.specsys = "BARYCENT"
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.set()
    return wcs


def make_observation():
    """An observation of the whole of `input_wcs`'s cube but for a border of 4 pixels and 2 channels."""
    wcs = input_wcs()
    (c0, c1), (y0, y1), (x0, x1) = crop = ((2, 22), (4, 44), (4, 52))
    y, x = np.mgrid[y0:y1, x0:x1]
    # Flat-sky offsets: the field is an arcminute wide, where the SIN projection differs from it by 1e-7 arcsec.
    xi, eta = -(x - 29.0) * PIXEL, (y - 24.0) * PIXEL
    velocity = 1500.0 - CHANNEL * (np.arange(c0, c1) - 12)
    edges = np.append(velocity[::-1] - CHANNEL / 2, velocity[0] + CHANNEL / 2)
    shape = (c1 - c0, y1 - y0, x1 - x0)
    radius = np.hypot(xi - TRUTH["east"], eta - TRUTH["north"])
    return Observation(
        data=np.zeros(shape, np.float32),
        valid=np.ones(shape, bool),
        emission=np.broadcast_to(radius < 20, shape).copy(),
        rms=np.full(shape, 0.01, np.float32),
        edges=edges,
        xi=xi,
        eta=eta,
        beam=np.array([5.0, 4.0, 30.0]),
        correlation=known_correlation("white", "white", np.eye(2), shape[0]),
        header={
            "unit": "Jy / beam",
            "flux_unit": "Jy km / s",
            "brightness_per_flux": 1.133 * 20,
            "reference": (359.999, -35.0),
            "convention": "radio",
            "frame": "BARYCENT",
            "rest_value": "230.538 GHz",
            "wcs": wcs.to_header(relax=True).tostring(),
            "shape": SHAPE,
            "crop": crop,
            "descending": True,
            "edges": np.arange(SHAPE[0] + 1) * CHANNEL + 1500.0 - CHANNEL * 11.5,
            "object": "Hand-made",
            "n_sources": 1,
            "noise": {"kind": "white"},
        },
    )


def make_samples(n=4000, seed=1):
    """Independent Gaussians about `TRUTH`; the position angle straddles north and comes in [0, 360)."""
    rng = np.random.default_rng(seed)
    samples = {name: rng.normal(value, SIGMA[name], n) for name, value in TRUTH.items()}
    samples["pa"] %= 360
    return samples
