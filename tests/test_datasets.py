"""Real galaxies by name, with no network: pooch's own download is replaced."""

import subprocess
import sys

import pooch
import pytest

from kinematics_nn import datasets


def test_names_are_the_short_ones():
    names = datasets.names()
    assert names[:7] == ["ngc2903", "eso121-g6", "ngc6946", "ngc4324", "ngc2403", "ngc3256", "kinms"]
    assert {f"ngc{n}_mom{m}" for n in ("0383", "0524", "1387") for m in (0, 1)} == set(names[7:])


@pytest.mark.parametrize("name", datasets.names())
def test_file_of_the_folder_is_checked(real_data, monkeypatch, name):
    monkeypatch.setenv("KINEMATICS_NN_DATA", str(real_data))
    path = datasets.fetch(name)
    assert path.is_file()
    assert path.parent.name == ("maps" if "_mom" in name else "cubes")


def test_file_that_was_changed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMATICS_NN_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no cubes/ngc2903_hi.fits in KINEMATICS_NN_DATA=.*Unset it"):
        datasets.fetch("ngc2903")
    (tmp_path / "cubes").mkdir()
    (tmp_path / "cubes" / "ngc2903_hi.fits").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"has SHA-256 .*; needed: 1105ab0b"):
        datasets.fetch("ngc2903")


def test_download_is_pinned_by_commit_and_hash(monkeypatch, tmp_path):
    asked = {}

    def retrieve(url, **kwargs):
        asked.update(url=url, **kwargs)
        return str(tmp_path / kwargs["fname"])

    monkeypatch.delenv("KINEMATICS_NN_DATA", raising=False)
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert datasets.fetch("ngc0383_mom0") == tmp_path / "ngc0383_mom0.fits"
    commit = "da5cb1210f7a78e5ff6a914e6ebacc5ba26f4200"
    assert asked["url"] == (
        f"https://raw.githubusercontent.com/SpaceMeerkat/Corellia/{commit}/WISDOM/fits_files/NGC0383_mom0.fits"
    )
    assert asked["known_hash"] == "sha256:cf632fdd6998a6a9877c0fba60f6a6fe8ec9714a19e81f32dc244892c99b15d3"


def test_unknown_name_is_refused():
    with pytest.raises(KeyError, match="no data set 'm31'; needed: one of ngc2903"):
        datasets.fetch("m31")


def test_import_leaves_the_heavy_alone():
    code = (
        "import sys, kinematics_nn.datasets, kinematics_nn.observation;"
        "print([m for m in ('torch', 'matplotlib', 'dask.distributed', 'pooch', 'regions') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"
