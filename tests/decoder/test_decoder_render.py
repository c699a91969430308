"""Rendering on an observation: over its crop and over the whole cube, in the right place and order."""

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.wcs import WCS
from discs import DISC, forms, grid
from spectral_cube import SpectralCube

from kinematics_nn import simulate
from kinematics_nn.decoder import Quadrature, render, render_on
from kinematics_nn.models import ArctanRotationCurve, ExponentialDisc
from kinematics_nn.observation import observe

TRUTH = DISC | {"east": 6.0, "north": -4.0, "vsys": 25.0, "r_scale": 3.0, "vmax": 120.0}


def simulated(rms=None, like=None):
    return simulate(
        shape=(48, 72, 80),
        like=like,
        inclination=TRUTH["inclination"] * u.deg,
        pa=TRUTH["pa"] * u.deg,
        vsys=TRUTH["vsys"] * u.km / u.s,
        offset=(TRUTH["east"], TRUTH["north"]) * u.arcsec,
        flux=TRUTH["flux"] * u.Jy * u.km / u.s,
        velocity_dispersion=TRUTH["velocity_dispersion"] * u.km / u.s,
        rotation_curve=ArctanRotationCurve(vmax=TRUTH["vmax"] * u.km / u.s, r_turn=TRUTH["r_turn"] * u.arcsec),
        surface_brightness=ExponentialDisc(r_scale=TRUTH["r_scale"] * u.arcsec),
        rms=rms,
        seed=1,
    )


def turned_upside_down(cube):
    """The same cube with its channels in descending velocity, in a WCS that says so."""
    header = cube.wcs.to_header()
    wcs = WCS(header)
    wcs.wcs.cdelt = cube.wcs.wcs.cdelt * [1, 1, -1]
    wcs.wcs.crpix = [*cube.wcs.wcs.crpix[:2], len(cube) + 1 - cube.wcs.wcs.crpix[2]]
    return SpectralCube(cube.filled_data[:][::-1], wcs, beam=cube.beam)


def centre_from(cube, observation):
    """The parameters with the centre counted from the observation's own reference position."""
    ra, dec = observation.header["reference"]
    # On the celestial equator and over an arcminute, offsets add.
    return TRUTH | {
        "east": TRUTH["east"] - (ra - cube.wcs.wcs.crval[0]) * 3600,
        "north": TRUTH["north"] - (dec - cube.wcs.wcs.crval[1]) * 3600,
    }


@pytest.mark.parametrize("descending", [False, True])
def test_the_whole_cube_and_the_crop_agree(descending):
    clean, noisy = simulated(), simulated(rms=1 * u.mJy / u.beam)
    if descending:
        noisy = turned_upside_down(noisy)
    observation = observe(noisy)
    (c0, c1), (y0, y1), (x0, x1) = observation.header["crop"]
    assert observation.shape < (48, 72, 80), "there must be something cut off"
    assert (x0, y0) != (0, 0), "and not at the end only"
    if descending:
        c0, c1 = 48 - c1, 48 - c0  # the crop counts the input's channels, the model ascends
    parameters = centre_from(noisy, observation)
    whole, crop = (render(observation, forms(), parameters, full=full) for full in (True, False))
    assert (whole.shape, crop.shape) == ((48, 72, 80), observation.shape)
    peak = whole.max()
    # Two sums over other points of the quadrature, and light beyond three sigma of the beam outside the crop.
    assert abs(whole[c0:c1, y0:y1, x0:x1] - crop).max() < 4e-3 * peak
    # The cube that simulate() made by another way through the WCS.
    assert abs(whole - clean.filled_data[:].value).max() < 4e-3 * peak
    # And it is what was observed: the residual is the noise.
    assert np.std(observation.data - crop) == pytest.approx(1e-3, rel=0.05)


def test_parameters_of_no_form_are_ignored_and_missing_ones_are_not():
    on = grid((4, 12, 12), channel_width=100.0)
    given = DISC | {"v22": 1.0}
    assert render_on(on, forms(), given).shape == (4, 12, 12)
    del given["vmax"]
    with pytest.raises(KeyError, match="vmax"):
        render_on(on, forms(), given)


def test_a_small_disc_gets_the_sub_pixels_that_it_needs():
    on = grid((1, 32, 32), channel_width=4000.0)
    small = DISC | {"r_scale": 0.5, "inclination": 30.0, "east": 0.2, "north": 0.3}
    chosen, fine, coarse = (
        render_on(on, forms(), small, rule) for rule in (None, Quadrature(145, 1), Quadrature(1, 1))
    )
    # The cusp of a disc of half a pixel; a single point in each pixel, with the right flux in all, misses its shape.
    assert float(abs(chosen - fine).max() / fine.max()) < 2e-3
    assert float(abs(coarse - fine).max() / fine.max()) > 1e-2


def test_rendering_keeps_no_graph_and_no_state():
    on = grid((4, 12, 12), channel_width=100.0, dtype=torch.float32)
    first = render_on(on, forms(), DISC)
    assert not first.requires_grad
    assert first.dtype == torch.float32
    torch.testing.assert_close(render_on(on, forms(), DISC), first, rtol=0, atol=0)
