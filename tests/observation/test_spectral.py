"""The spectral axis against the definitions of its conventions."""

import numpy as np
import pytest
from astropy import units as u
from astropy.constants import c
from astropy.wcs import WCS

from kinematics_nn.errors import MissingVelocity, WrongUnit
from kinematics_nn.observation.spectral import spectral_axis

C = c.to_value(u.km / u.s)
REST = 115.2712018e9
FREQUENCY = {"ctype": "FREQ", "crval": 113.8e9, "cdelt": 15.6e6, "cunit": "Hz", "crpix": 1.0, "restfrq": REST}

# Greisen et al. 2006, table 1 (radio and optical) and equation 4 (relativistic).
DEFINITION = {
    "radio": lambda f: C * (1 - f / REST),
    "optical": lambda f: C * (REST / f - 1),
    "relativistic": lambda f: C * (REST**2 - f**2) / (REST**2 + f**2),
}


@pytest.mark.parametrize("convention", DEFINITION)
def test_edges_of_a_frequency_axis_are_exact(mock, convention):
    axis = spectral_axis(mock.wcs(axis=FREQUENCY), 30, velocity_convention=convention)
    frequency = 113.8e9 + 15.6e6 * (np.arange(31) - 0.5)
    # float64 of velocities near 3000 km/s from frequencies near 1e11 Hz keeps 1e-9 km/s.
    np.testing.assert_allclose(axis.edges, DEFINITION[convention](frequency)[::-1], rtol=0, atol=1e-8)
    assert axis.descending
    assert (axis.convention, axis.frame) == (convention, "LSRK")
    assert u.Quantity(axis.rest_value) == REST * u.Hz


def test_optical_channels_of_a_frequency_axis_are_not_uniform(mock):
    widths = np.diff(spectral_axis(mock.wcs(axis=FREQUENCY), 30, velocity_convention="optical").edges)
    # dv = c f0 / f^2 df, and f falls by 30 * 15.6 MHz of 113.8 GHz along the axis.
    assert widths[-1] / widths[0] == pytest.approx((1 + 29 * 15.6e6 / 113.8e9) ** 2, rel=1e-5)


def test_a_velocity_axis_needs_nothing(mock):
    axis = spectral_axis(mock.wcs(), 40)
    np.testing.assert_allclose(axis.edges, 1000 + 10 * (np.arange(41) - 20), atol=1e-9)
    assert (axis.convention, axis.descending, axis.rest_value) == ("radio", False, None)


def test_kilometres_and_falling_channels(mock):
    falling = mock.wcs(axis={"crval": 1000, "cdelt": -10, "cunit": "km/s"})
    axis = spectral_axis(falling, 40)
    np.testing.assert_allclose(axis.edges, 1000 + 10 * (np.arange(41) - 20), atol=1e-9)
    assert axis.descending


def test_another_convention_goes_through_the_frequency(mock):
    radio = spectral_axis(mock.wcs(), 40).edges
    optical = spectral_axis(mock.wcs(), 40, velocity_convention="optical").edges
    np.testing.assert_allclose(optical, C * (1 / (1 - radio / C) - 1), rtol=1e-12)


def test_another_rest_value_moves_a_velocity_axis(mock):
    there = {"restfrq": REST}
    moved = spectral_axis(mock.wcs(axis=there), 40, rest_value=110.2013541 * u.GHz)
    frequency = REST * (1 - spectral_axis(mock.wcs(axis=there), 40).edges / C)
    np.testing.assert_allclose(moved.edges, C * (1 - frequency / 110.2013541e9), rtol=1e-10)


def test_wavelength_axis_of_a_spectrograph(mock):
    halpha = 6562.8
    wcs = mock.wcs(axis={"ctype": "WAVE", "crval": 6600e-10, "cdelt": 1.25e-10, "cunit": "m", "crpix": 1.0})
    axis = spectral_axis(wcs, 20, rest_value=halpha * u.AA, velocity_convention="optical")
    edges = C * ((6600 + 1.25 * (np.arange(21) - 0.5)) / halpha - 1)
    np.testing.assert_allclose(axis.edges, edges, rtol=1e-9)


def test_axis_of_wavelengths_in_air_wants_its_rest_value_in_air(mock):
    wcs = mock.wcs(axis={"ctype": "AWAV", "crval": 6600e-10, "cdelt": 1.25e-10, "cunit": "m", "crpix": 1.0})
    wcs.wcs.restwav = 6564.61e-10  # in vacuum, as FITS defines it
    with pytest.raises(MissingVelocity, match=r"AWAV axis.*in air.*fit\(rest_value=6562.80 \* u.AA\)"):
        spectral_axis(wcs, 20, velocity_convention="optical")
    with pytest.raises(WrongUnit, match="wavelength in air"):
        spectral_axis(wcs, 20, rest_value=456.68 * u.THz, velocity_convention="optical")
    axis = spectral_axis(wcs, 20, rest_value=6562.80 * u.AA, velocity_convention="optical")
    # From the wavelengths in vacuum (Morton 2000, ApJS 130, 403, eq. 8): the index varies by 1e-7 over 50 Å.
    air = 6600 + 1.25 * (np.arange(21) - 0.5)
    index = 1 + 8.34254e-5 + 2.406147e-2 / (130 - (1e4 / air) ** 2) + 1.5998e-4 / (38.9 - (1e4 / air) ** 2)
    np.testing.assert_allclose(axis.edges, C * (air * index / 6564.61 - 1), rtol=0, atol=0.5)


def test_redshift_axis(mock):
    axis = spectral_axis(mock.wcs(axis={"ctype": "ZOPT", "crval": 0.01, "cdelt": 1e-5, "cunit": "", "crpix": 1.0}), 5)
    np.testing.assert_allclose(axis.edges, C * (0.01 + 1e-5 * (np.arange(6) - 0.5)), rtol=1e-12)
    assert axis.convention == "optical"


@pytest.mark.parametrize(("velref", "convention"), [(257, "radio"), (1, "optical")])
def test_velref_names_the_convention_of_a_frequency_axis(mock, velref, convention):
    assert spectral_axis(mock.wcs(axis=FREQUENCY), 30, velref=velref).convention == convention
    assert spectral_axis(mock.wcs(axis={"ctype": "VELO"}), 30, velref=velref).convention == convention


def test_frequency_without_convention_or_rest_value_is_refused(mock):
    with pytest.raises(MissingVelocity, match=r"FREQ axis.*Try: fit\(velocity_convention='radio'\)"):
        spectral_axis(mock.wcs(axis=FREQUENCY), 30)
    bare = {key: value for key, value in FREQUENCY.items() if key != "restfrq"}
    with pytest.raises(MissingVelocity, match=r"fit\(rest_value=.*, velocity_convention='radio'\)"):
        spectral_axis(mock.wcs(axis=bare), 30)


def test_no_spectral_axis_is_refused():
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN", "LINEAR"]
    wcs.wcs.set()
    with pytest.raises(MissingVelocity, match="no spectral axis among RA---TAN, DEC--TAN, LINEAR"):
        spectral_axis(wcs, 30)


def test_unknown_convention_and_wrong_rest_value_are_refused(mock):
    with pytest.raises(MissingVelocity, match="one of radio, optical, relativistic"):
        spectral_axis(mock.wcs(), 30, velocity_convention="redshift")
    for wrong in (115, "nonsense", -1 * u.GHz, 3 * u.km / u.s):
        with pytest.raises(WrongUnit, match="a frequency or wavelength"):
            spectral_axis(mock.wcs(), 30, rest_value=wrong)
