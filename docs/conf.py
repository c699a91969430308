"""Sphinx settings: astropy's shared ones, and what is this package's own."""

from importlib.metadata import version as installed_version

from sphinx_astropy.conf.v2 import *  # noqa: F403
from sphinx_astropy.conf.v2 import exclude_patterns, html_theme_options, intersphinx_mapping

project = "kinematics_nn"
author = "The kinematics_nn developers"
copyright = f"2026, {author}"
release = installed_version(project)
version = ".".join(release.split(".")[:2])

html_title = f"{project} {release}"
html_static_path = ["_static"]
html_theme_options |= {"secondary_sidebar_items": ["page-toc"]}
exclude_patterns += ["_build", "**.ipynb_checkpoints"]

# `-D disable_intersphinx=1` builds without a network, where an inventory that cannot be fetched would be a warning.
for unused in ("pythonloc", "h5py", "astropy.org"):
    intersphinx_mapping.pop(unused, None)
intersphinx_mapping |= {
    "spectral_cube": ("https://spectral-cube.readthedocs.io/en/latest/", None),
    "radio_beam": ("https://radio-beam.readthedocs.io/en/latest/", None),
    "regions": ("https://astropy-regions.readthedocs.io/en/stable/", None),
}
