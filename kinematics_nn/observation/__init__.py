"""From a spectral cube to plain arrays: units end here."""

from kinematics_nn.observation.intake import observe
from kinematics_nn.observation.observation import Observation

__all__ = ["Observation", "observe"]
