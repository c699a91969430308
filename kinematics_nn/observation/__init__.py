"""From a spectral cube to plain arrays: units end here."""

from kinematics_nn.observation.correlation import NoiseCorrelation
from kinematics_nn.observation.intake import observe
from kinematics_nn.observation.observation import Observation
from kinematics_nn.observation.reading import opened

__all__ = ["NoiseCorrelation", "Observation", "observe", "opened"]
