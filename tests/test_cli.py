"""The command line: what it hands on, what it refuses before any work, and what it leaves on disk."""

import subprocess
import sys
from types import ModuleType

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from spectral_cube import SpectralCube

from kinematics_nn import cli
from kinematics_nn.errors import NoEmission


class FakeFit:
    """Stands in for a fit: writes a word where a fit would write a table."""

    def write(self, path, overwrite=False):
        path = str(path)
        with open(path, "w") as file:
            file.write("table")

    write_samples = write

    def plot(self):
        import matplotlib.pyplot as plt

        return plt.figure(figsize=(1, 1))

    corner = plot


@pytest.fixture
def calls(monkeypatch):
    """Calls of `fit` and `simulate`, which do nothing else."""
    made = []

    def record(result):
        def call(*args, **kwargs):
            made.append((args, kwargs))
            return result

        return call

    for name, function, result in (("fitting", "fit", FakeFit()), ("simulation", "simulate", small_cube())):
        module = ModuleType(f"kinematics_nn.{name}")
        setattr(module, function, record(result))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


def small_cube(ctype="VRAD", crval=1000e3, cdelt=10e3, cunit="m/s"):
    wcs = WCS(naxis=3)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN", ctype]
    wcs.wcs.cdelt = [-1e-3, 1e-3, cdelt]
    wcs.wcs.crpix = [3, 3, 1]
    wcs.wcs.crval = [10, 20, crval]
    wcs.wcs.cunit = ["deg", "deg", cunit]
    wcs.wcs.restfrq = 230.538e9
    return SpectralCube(np.ones((20, 5, 6), np.float32) * u.Jy / u.beam, wcs=wcs)


@pytest.fixture
def cube_path(tmp_path):
    path = tmp_path / "cube.fits"
    small_cube().write(str(path))
    return path


def test_fit_hands_on_quantities_and_nothing_that_was_not_given(calls, cube_path):
    text = {
        "--rms": "2 mJy/beam", "--seed": "3", "--rest-value": "1420.4 MHz", "--distance": "6600 kpc",
        "--rotation-curve": "tanh", "--n-samples": "50",
    }  # fmt: skip
    words = [word for pair in text.items() for word in pair]
    code = cli.main(["fit", str(cube_path), "--beam", "1.5 arcmin", "60 arcsec", "30 deg", *words])
    assert code == 0
    ((cube,), options) = calls[0]
    assert cube.shape == (20, 5, 6)
    beam = options.pop("beam")
    assert beam.major == 90 * u.arcsec
    assert beam.minor == 60 * u.arcsec
    assert beam.pa == 30 * u.deg
    assert options.pop("distance").to_value(u.Mpc) == pytest.approx(6.6)
    assert options == {
        "rms": 2 * u.mJy / u.beam,
        "seed": 3,
        "rest_value": 1420.4 * u.MHz,
        "rotation_curve": "tanh",
        "n_samples": 50,
    }


def test_fit_hands_on_what_refined_takes(calls, cube_path):
    words = "--method refined --min-ess 200 --fallback dynesty --progress".split()
    held = ["--fixed", "thickness=0", "vmax=0.2 Mm/s"]
    assert cli.main(["fit", str(cube_path), *words, "--lsf", "1500 m/s", *held]) == 0
    assert cli.main(["fit", str(cube_path), "--lsf", "hanning"]) == 0
    (_, options), (_, others) = calls
    assert callable(options.pop("progress"))
    assert options.pop("lsf").to_value(u.km / u.s) == 1.5
    assert options == {
        "method": "refined",
        "min_ess": 200,
        "fallback": "dynesty",
        "fixed": {"thickness": 0.0, "vmax": 0.2 * u.Mm / u.s},
    }
    assert others == {"lsf": "hanning"}


def test_slab_cuts_the_cube(calls, cube_path):
    assert cli.main(["fit", str(cube_path), "--slab", "1040:1080 km/s"]) == 0
    ((cube,), _) = calls[0]
    assert cube.spectral_axis.to_value(u.km / u.s) == pytest.approx([1040, 1050, 1060, 1070, 1080])


def frequency_cube(path):
    # Channels of 10 km/s from 1000 km/s on, in the radio convention.
    rest, c = 230.538e9, 299792.458
    small_cube("FREQ", rest * (1 - 1000 / c), -rest * 10 / c, "Hz").write(str(path))
    return path


def test_slab_of_a_frequency_axis(calls, tmp_path):
    path = frequency_cube(tmp_path / "frequency.fits")
    slab = ["--slab", "1040:1080 km/s", "--velocity-convention"]
    assert cli.main(["fit", str(path), *slab, "radio"]) == 0
    ((cube,), _) = calls[-1]
    velocity = cube.with_spectral_unit(u.km / u.s, velocity_convention="radio").spectral_axis.value
    assert velocity == pytest.approx([1040, 1050, 1060, 1070, 1080])
    # v_optical = v / (1 - v / c) is 3.5 to 4 km/s above: one channel further down.
    assert cli.main(["fit", str(path), *slab, "optical"]) == 0
    ((cube,), _) = calls[-1]
    velocity = cube.with_spectral_unit(u.km / u.s, velocity_convention="optical").spectral_axis.value
    assert velocity[0] == pytest.approx(1040, abs=5)
    assert velocity[-1] == pytest.approx(1080, abs=5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rest-value", "115 K", "--velocity-convention", "radio"], "a frequency or wavelength"),
        ([], "--velocity-convention radio"),
    ],
)
def test_slab_of_a_frequency_axis_that_cannot_be_read(calls, tmp_path, capsys, options, said):
    path = frequency_cube(tmp_path / "frequency.fits")
    assert cli.main(["fit", str(path), "--slab", "1040:1080 km/s", *options]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("kinematics-nn: error: ")
    assert said in line
    assert calls == []


def test_writes_what_is_asked_for(calls, cube_path, tmp_path, capsys):
    names = ["a.ecsv", "s.fits", "p.png", "c.pdf"]
    options = zip(["--output", "--samples", "--plot", "--corner"], (str(tmp_path / n) for n in names), strict=True)
    assert cli.main(["fit", str(cube_path), *(word for pair in options for word in pair)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"cube.fits", *names}
    assert "fitting" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--output", "--samples", "--plot", "--corner"])
def test_refuses_to_overwrite_before_the_fit(calls, cube_path, tmp_path, capsys, option):
    path = tmp_path / ("mine.png" if option in ("--plot", "--corner") else "mine.fits")
    path.write_text("mine")
    assert cli.main(["fit", str(cube_path), option, str(path)]) == 2
    assert calls == []
    assert path.read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err
    assert cli.main(["fit", str(cube_path), option, str(path), "--overwrite"]) == 0
    assert path.read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--beam", "90"], "--beam"),
        (["--beam", "90 arcsec", "60 arcsec"], "position angle"),
        (["--rms", "loud"], "--rms"),
        (["--lsf", "wide"], "--lsf"),
        (["--fixed", "thickness"], "NAME=QUANTITY"),
        (["--slab", "10:20 arcsec"], "--slab"),
        (["--slab", "1195:1200 km/s"], "995.0 to 1195.0 km / s"),
        (["--slab", "10:20 km/s"], "995.0 to 1195.0 km / s"),
        (["--output", "table.dat"], ".ecsv"),
        (["--plot", "picture.doc"], ".png"),
        (["--output", "no/such/folder/table.ecsv"], "no folder"),
    ],
)
def test_bad_input_is_one_line_and_no_work(calls, cube_path, capsys, arguments, said):
    assert cli.main(["fit", str(cube_path), *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("kinematics-nn: error: ")
    assert said in lines[0]
    assert calls == []


def test_fit_takes_no_thickness_which_the_network_cannot_hold(calls, cube_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["fit", str(cube_path), "--thickness", "0 arcsec"])
    assert "unrecognized arguments: --thickness" in capsys.readouterr().err


def test_error_of_the_fit_is_one_line(calls, cube_path, tmp_path, capsys, monkeypatch):
    def fail(*args, **kwargs):
        raise NoEmission("nothing above\n3 sigma", "a line", "region=...")

    monkeypatch.setattr(sys.modules["kinematics_nn.fitting"], "fit", fail)
    assert cli.main(["fit", str(cube_path), "--output", str(tmp_path / "a.ecsv")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("kinematics-nn: error: nothing above 3 sigma; needed")
    assert not (tmp_path / "a.ecsv").exists()


def test_name_that_is_neither_file_nor_data_set(calls, capsys):
    assert cli.main(["fit", "ngc0000"]) == 2
    assert "ngc2903" in capsys.readouterr().err


def test_name_of_a_data_set(calls, cube_path, monkeypatch):
    monkeypatch.setattr("kinematics_nn.datasets.fetch", lambda name: cube_path if name == "ngc2903" else None)
    assert cli.main(["fit", "ngc2903"]) == 0
    assert calls[0][0][0].shape == (20, 5, 6)


def test_file_that_is_no_cube(calls, tmp_path, capsys):
    path = tmp_path / "image.fits"
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(path)
    assert cli.main(["fit", str(path)]) == 2
    assert "image.fits" in capsys.readouterr().err


def test_simulate_takes_every_parameter_as_text(calls, tmp_path):
    out = tmp_path / "mock.fits"
    text = {
        "pixel-scale": "0.5 arcsec", "channel-width": "5000 m/s", "inclination": "1 rad", "pa": "30 deg",
        "vsys": "-5 km/s", "flux": "10 Jy km/s", "velocity-dispersion": "8 km/s", "thickness": "1 arcsec",
        "rms": "1 mJy/beam", "noise": "wide", "spectral": "hanning",
    }  # fmt: skip
    words = [word for name, value in text.items() for word in (f"--{name}", value)]
    words += ["--shape", "10", "20", "30", "--beam", "4 arcsec", "--offset", "1 arcsec", "-2 arcsec", "--seed", "1"]
    words += ["--rotation-curve", "arctan", "vmax=0.15 Mm/s", "--surface-brightness", "exponential", "r_scale=6 arcsec"]
    assert cli.main(["simulate", str(out), *words]) == 0
    ((), options) = calls[0]
    assert options["shape"] == (10, 20, 30)
    assert options["pixel_scale"] == 0.5 * u.arcsec
    assert options["channel_width"] == 5 * u.km / u.s
    assert options["inclination"].to_value(u.rad) == pytest.approx(1)
    assert options["vsys"] == -5 * u.km / u.s
    assert list(options["offset"].to_value(u.arcsec)) == [1, -2]
    assert options["rotation_curve"].vmax.quantity.to_value(u.km / u.s) == pytest.approx(150)
    assert options["surface_brightness"].r_scale.quantity == 6 * u.arcsec
    assert options["flux"] == 10 * u.Jy * u.km / u.s
    assert (options["noise"], options["spectral"]) == ("wide", "hanning")
    assert SpectralCube.read(str(out)).shape == (20, 5, 6)
    assert cli.main(["simulate", str(out)]) == 2
    assert len(calls) == 1
    assert cli.main(["simulate", str(out), "--overwrite"]) == 0
    assert calls[1] == ((), {})


def test_simulate_takes_lengths_at_a_distance(calls, tmp_path, capsys):
    words = ["--rotation-curve", "freeman", "r_disc=2 kpc", "vmax=150 km/s", "--thickness", "30 pc"]
    assert cli.main(["simulate", str(tmp_path / "mock.fits"), *words, "--distance", "10 Mpc"]) == 0
    options = calls[0][1]
    # 206265 arcsec a radian
    assert options["rotation_curve"].r_disc.quantity.to_value(u.arcsec) == pytest.approx(41.253, rel=1e-4)
    assert options["rotation_curve"].vmax.quantity == 150 * u.km / u.s
    assert (options["thickness"], options["distance"]) == (30 * u.pc, 10 * u.Mpc)
    assert cli.main(["simulate", str(tmp_path / "other.fits"), *words]) == 2
    words[2] = "r_disc=2 kg"
    assert cli.main(["simulate", str(tmp_path / "other.fits"), *words, "--distance", "10 Mpc"]) == 2
    assert "r_disc is" in capsys.readouterr().err.splitlines()[-1]
    assert len(calls) == 1


def test_simulate_with_a_parameter_the_form_lacks(calls, tmp_path, capsys):
    assert cli.main(["simulate", str(tmp_path / "m.fits"), "--rotation-curve", "arctan", "r_scale=3 arcsec"]) == 2
    assert "vmax, r_turn" in capsys.readouterr().err


def test_forms_names_form_and_provider(capsys):
    assert cli.main(["forms"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["arctan"])
    assert "kinematics_nn" in line


def test_forms_gives_a_line_to_all_rings_and_says_what_a_sum_is(capsys):
    assert cli.main(["forms"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("speed of ring" in line for line in lines) == sum("brightness of ring" in line for line in lines) == 1
    assert any(line.split()[:2] == ["v_1,", "..."] and "LogUniform" in line for line in lines)
    assert "disc:freeman+halo:nfw" in lines[-2]
    assert "Tabulated" in lines[-1]


def test_help_of_fit_has_a_sum(capsys):
    with pytest.raises(SystemExit):
        cli.main(["fit", "--help"])
    assert "disc:freeman+halo:nfw" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("python", "shell"),
    [
        ("fit(fixed=...)", "--fixed NAME=QUANTITY"),
        ("fit(distance=10 * u.Mpc)", "--distance '10 Mpc'"),
        ("fit(lsf=2 * u.km / u.s)", "--lsf '2 km/s'"),
        ('fit(method="refined")', "--method refined"),
        ("fit(n_samples=10_000)", "--n-samples 10000"),
        ("fit(region=...), or fit(rms=...)", "--region ..., or --rms ..."),
        ("fit(mask=...) of where it is", "fit(mask=...) of where it is"),
        ('fit(method="refined", fallback="dynesty")', 'fit(method="refined", fallback="dynesty")'),
        ("fit(beam=radio_beam.Beam(major, minor, pa))", "fit(beam=radio_beam.Beam(major, minor, pa))"),
        ("kinematics_nn.register(YourForm), if it is your own", "install it as a plug-in, if it is your own"),
    ],
)
def test_errors_advise_in_the_shells_words(calls, cube_path, capsys, monkeypatch, python, shell):
    def fail(*args, **kwargs):
        raise NoEmission("nothing", "a line", python)

    monkeypatch.setattr(sys.modules["kinematics_nn.fitting"], "fit", fail)
    assert cli.main(["fit", str(cube_path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"kinematics-nn: error: nothing; needed: a line. Try: {shell}"


def test_help_loads_no_torch():
    code = (
        "import sys; from kinematics_nn.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert not {'torch', 'matplotlib', 'regions'} & set(sys.modules), 'heavy imports'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("fit", "simulate", "demo", "info", "forms", "train"):
        assert command in done.stdout
