"""The accessor: on every cube class, stateless, and clear where it cannot be."""

import gc
import inspect
import subprocess
import sys
import weakref

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from radio_beam import Beam, Beams
from spectral_cube import (
    DaskSpectralCube,
    DaskVaryingResolutionSpectralCube,
    SpectralCube,
    StokesSpectralCube,
    VaryingResolutionSpectralCube,
)

import kinematics_nn
from kinematics_nn.accessor import Kinematics, _Accessor, register_accessor
from kinematics_nn.errors import StokesCube

SHAPE = (4, 5, 6)


def wcs():
    header = fits.Header(
        {
            "CTYPE1": "RA---TAN", "CRVAL1": 10.0, "CDELT1": -1 / 3600, "CRPIX1": 3.0, "CUNIT1": "deg",
            "CTYPE2": "DEC--TAN", "CRVAL2": 20.0, "CDELT2": 1 / 3600, "CRPIX2": 3.0, "CUNIT2": "deg",
            "CTYPE3": "VRAD", "CRVAL3": 1e6, "CDELT3": 1e4, "CRPIX3": 1.0, "CUNIT3": "m/s",
            "RESTFRQ": 1.1527e11,
        }
    )  # fmt: skip
    return WCS(header)


def cube_of(cube_class):
    data = np.ones(SHAPE, dtype=np.float32)
    if "Varying" in cube_class.__name__:
        beam = {"beams": Beams([3.0, 3.1, 3.2, 3.3] * u.arcsec)}
    else:
        beam = {"beam": Beam(3 * u.arcsec)}
    return cube_class(data * u.Jy / u.beam, wcs=wcs(), **beam)


@pytest.mark.parametrize(
    "cube_class",
    [SpectralCube, DaskSpectralCube, VaryingResolutionSpectralCube, DaskVaryingResolutionSpectralCube],
)
def test_every_cube_class_and_what_is_cut_from_it_has_it(cube_class):
    cube = cube_of(cube_class)
    cuts = [cube, cube[1:3], cube[:, 1:4, 1:4], cube.spectral_slab(1000 * u.km / u.s, 1020 * u.km / u.s)]
    assert all(isinstance(cut.kinematics, Kinematics) for cut in cuts)
    assert cube_class.kinematics is Kinematics


def test_it_keeps_no_cube_alive():
    cube = cube_of(SpectralCube)
    alive = weakref.ref(cube)
    assert cube.kinematics is not cube.kinematics
    del cube
    gc.collect()
    assert alive() is None


def test_fit_passes_the_cube_and_every_argument_on(monkeypatch):
    received = {}
    monkeypatch.setattr("kinematics_nn.accessor.fit", lambda cube, **kwargs: received.update(kwargs, cube=cube))
    cube = cube_of(SpectralCube)
    names = list(inspect.signature(kinematics_nn.fit).parameters)[1:]
    given = {name: object() for name in names}
    cube.kinematics.fit(**given)
    assert received.pop("cube") is cube
    assert received == given


def test_fit_has_the_signature_of_the_function():
    ours = inspect.signature(Kinematics.fit).parameters
    theirs = inspect.signature(kinematics_nn.fit).parameters
    assert {name: p.default for name, p in list(ours.items())[1:]} == {
        name: p.default for name, p in list(theirs.items())[1:]
    }
    assert all(p.kind is p.KEYWORD_ONLY for p in list(ours.values())[1:])


def test_registering_again_changes_nothing():
    before = inspect.getattr_static(SpectralCube, "kinematics")
    register_accessor()
    assert inspect.getattr_static(SpectralCube, "kinematics") is before


def test_a_foreign_attribute_is_not_overwritten():
    with pytest.raises(RuntimeError, match=r"'moment0'.*did not put there"):
        register_accessor("moment0")


def test_an_attribute_error_inside_does_not_look_like_a_missing_attribute():
    class Broken:
        def __init__(self, cube):
            self.nothing  # noqa: B018  the AttributeError is the point

    owner = type("Owner", (), {"kinematics": _Accessor(Broken)})
    with pytest.raises(RuntimeError, match="has no attribute 'nothing'"):
        owner().kinematics  # noqa: B018


def test_a_stokes_cube_says_what_to_use():
    cube = StokesSpectralCube({"I": cube_of(SpectralCube), "Q": cube_of(SpectralCube)})
    with pytest.raises(StokesCube, match=r"I, Q.*cube\.I\.kinematics"):
        cube.kinematics  # noqa: B018
    assert isinstance(cube.I.kinematics, Kinematics)


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_import_brings_no_heavy_package():
    heavy = {"torch", "matplotlib", "dask.distributed", "distributed", "zuko", "pooch"}
    code = "import sys, kinematics_nn; print(*sys.modules)"
    assert heavy.isdisjoint(run_python(code))


def test_the_import_brings_nothing_that_spectral_cube_does_not_bring():
    code = """
import sys, spectral_cube; there = set(sys.modules)
import kinematics_nn; print(*set(sys.modules) - there)
"""
    own = {"kinematics_nn", *sys.stdlib_module_names}
    assert {name for name in run_python(code) if name.partition(".")[0] not in own} == set()
