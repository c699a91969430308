"""Real galaxies by short name, for trying things out: fetched once, checked by hash."""

import os
from pathlib import Path
from typing import NamedTuple

__all__ = ["fetch", "names"]


class Source(NamedTuple):
    """Where a file lies here and where it comes from."""

    file: str
    repository: str
    commit: str
    path: str
    sha256: str

    @property
    def url(self):
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"


# Pinned by commit, so that what a name fetches never changes. Licences are those of the repositories.
WISDOM = ("SpaceMeerkat/Corellia", "da5cb1210f7a78e5ff6a914e6ebacc5ba26f4200")
SOURCES = {
    "ngc2903": Source(
        "cubes/ngc2903_hi.fits",
        "PeterKamphuis/pyFAT-astro",
        "71db90433962e495fe1c7f42ee4e6025fcdf7907",
        "pyFAT_astro/Installation_Check/NGC_2903.fits",
        "1105ab0b776750401ec6774e6fbe2c9af7f4a332556b478b13be9461b4f33ef2",
    ),
    "eso121-g6": Source(
        "cubes/eso121-g6_hi.fits",
        "gigjozsa/tirific",
        "462a58a8312ce437ac5e2c87060cde751774f1de",
        "bin/eso121-g6.fits",
        "9347ece7746ba15125acc4274c43ed5548eba2c52444e62633a1f0fe81e2687e",
    ),
    "ngc6946": Source(
        "cubes/ngc6946_hi.fits",
        "kapteyn-astro/kapteyn",
        "f12332cfd567c7c0da40628dcfc7b297971ee636",
        "doc/source/EXAMPLES/ngc6946.fits",
        "c43b40ca056998067a145a362313bcdce125740e26ddda7c1e0a53117bd021c3",
    ),
    "ngc4324": Source(
        "cubes/ngc4324_co.fits",
        "TimothyADavis/KinMS_MCMC",
        "1cdae0bc84bf328f9016651a815b174d65a3e015",
        "NGC4324.fits",
        "b123ca03e7bc5b87b7a9b1b8f538337c99645b58b0eaf62ceaf790467e7af730",
    ),
    "ngc2403": Source(
        "cubes/ngc2403_hi_coarse.fits",
        "seheon-oh/baygaud-PI",
        "3690c220340f210d5e8422216e96b1eb15b77e12",
        "demo/test_cube/ngc2403.regrid.testcube.0.fits",
        "2e02f4a3116fdb22521bf10a2b8b385f6f0493eb994b1691c5d895632969e251",
    ),
    "ngc3256": Source(
        "cubes/ngc3256_co_merger.fits",
        "astroumd/admit",
        "bbf3d79bb6e1a6f7523553ed8ede0d358d106f2c",
        "admit/at/test/mom_integ_test_input.fits",
        "3b2e29e1b22d567fb622fff883798c06f6b94f76d271ebc81a70bdd9fbe5492a",
    ),
    "kinms": Source(
        "cubes/kinms_simcube.fits",
        "TimothyADavis/KinMSpy",
        "ed247d8c4a1f0ce17f8befa598374e94820848bd",
        "kinms/docs/Test_simcube.fits",
        "ff9c5c8bce444050f8db32eed60f26709e5c2da3fe5b0cb8a19008ebe5f49c20",
    ),
    "ngc0383_mom0": Source(
        "maps/ngc0383_mom0.fits",
        *WISDOM,
        "WISDOM/fits_files/NGC0383_mom0.fits",
        "cf632fdd6998a6a9877c0fba60f6a6fe8ec9714a19e81f32dc244892c99b15d3",
    ),
    "ngc0383_mom1": Source(
        "maps/ngc0383_mom1.fits",
        *WISDOM,
        "WISDOM/fits_files/NGC0383_mom1.fits",
        "8c1fa438124b78a22ce925c7600e60a1f3489f9642f2dc1db789b6f6ef1f8edc",
    ),
    "ngc0524_mom0": Source(
        "maps/ngc0524_mom0.fits",
        *WISDOM,
        "WISDOM/fits_files/NGC0524_mom0.fits",
        "4e9ebe71ff90a48a0d18f38a65a8168b3d12391791d62d85493c102db95b197a",
    ),
    "ngc0524_mom1": Source(
        "maps/ngc0524_mom1.fits",
        *WISDOM,
        "WISDOM/fits_files/NGC0524_mom1.fits",
        "bd7d80addbe0d51fa6839f71535821c0989a7c57867d75c8b0a15cc2a73a2b21",
    ),
    "ngc1387_mom0": Source(
        "maps/ngc1387_mom0.fits",
        *WISDOM,
        "WISDOM/fits_files/NGC1387_mom0.fits",
        "0558d7473f9ad61fd669f547ae268491609152bd7487ec582cd0f679fdffd8af",
    ),
    "ngc1387_mom1": Source(
        "maps/ngc1387_mom1.fits",
        *WISDOM,
        "WISDOM/fits_files/NGC1387_mom1.fits",
        "e1a0ba840b16ea74c0492d23e79a870cde46727283e026a4edc00e46cd28a050",
    ),
}


def names():
    """
    Names that `fetch` knows.

    Returns
    -------
    list of str
    """
    return list(SOURCES)


def fetch(name):
    """
    Path of a real cube or map.

    It is read from the folder that the environment variable ``KINEMATICS_NN_DATA`` names, where that is set, and
    otherwise downloaded once into the cache of the user; its SHA-256 is checked both ways.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    `~pathlib.Path`

    Raises
    ------
    KeyError
        If there is no such name.
    FileNotFoundError
        If the folder is set and the file is not in it.
    ValueError
        If the file is not the one that was published.
    """
    # Lazily: pooch brings requests, and whoever fits their own cube needs neither.
    import pooch

    if name not in SOURCES:
        raise KeyError(
            f"no data set {name!r}; needed: one of {', '.join(SOURCES)}. Try: kinematics_nn.datasets.names()"
        )
    source = SOURCES[name]
    folder = os.environ.get("KINEMATICS_NN_DATA")
    if not folder:
        return Path(
            pooch.retrieve(
                source.url,
                known_hash=f"sha256:{source.sha256}",
                fname=Path(source.file).name,
                path=pooch.os_cache("kinematics_nn"),
            )
        )
    path = Path(folder) / source.file
    if not path.is_file():
        raise FileNotFoundError(f"no {source.file} in KINEMATICS_NN_DATA={folder}. Unset it, and it is downloaded.")
    found = pooch.file_hash(str(path), alg="sha256")
    if found != source.sha256:
        raise ValueError(
            f"{path} has SHA-256 {found}; needed: {source.sha256}. Unset KINEMATICS_NN_DATA, and it is downloaded."
        )
    return path
