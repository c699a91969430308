"""A rotation curve and a velocity dispersion for kinematics_nn."""

from kinematics_nn.forms import Dispersion, FormParameter, LogUniform, RotationCurve, hookimpl, ops

__all__ = ["Floored", "Logarithmic"]


class Logarithmic(RotationCurve):
    """Logarithmic potential: rises in proportion to radius within `r_core`, flat outside."""

    name = "logarithmic"
    parameters = (
        FormParameter("vmax", "km/s", 200.0, (0.0, 5000.0), LogUniform(10.0, 800.0), "speed approached far out"),
        # 0.02 to 5 times the scale radius of the light: no range in arcsec would do for every galaxy
        FormParameter("r_core", "arcsec", 5.0, (1e-3, 1e5), LogUniform(0.02, 5.0, "r_scale"), "core radius"),
    )
    reference = "Binney & Tremaine (2008), section 2.3.2"

    @staticmethod
    def evaluate(radius, vmax, r_core):
        """Speed [km/s] at each radius [arcsec], for numpy and torch alike: hence `ops`."""
        x = radius / r_core
        return vmax * x / ops.sqrt(1 + x * x)

    @staticmethod
    def derivatives(radius, vmax, r_core):
        """By each parameter: optional; astropy's fitters take differences without it."""
        x = radius / r_core
        return [x / ops.sqrt(1 + x * x), -vmax / r_core * x * (1 + x * x) ** -1.5]


class Floored(Dispersion):
    """Dispersion that falls exponentially from the centre to a floor."""

    name = "floored"
    parameters = (
        FormParameter("velocity_dispersion", "km/s", 8.0, (0.0, 1e3), LogUniform(1.0, 100.0), "dispersion far out"),
        FormParameter("dispersion_excess", "km/s", 20.0, (0.0, 1e3), LogUniform(1.0, 100.0), "the centre above it"),
        FormParameter(
            "r_dispersion", "arcsec", 5.0, (1e-3, 1e5), LogUniform(0.1, 5.0, "r_scale"), "radius over which it falls"
        ),
    )

    @staticmethod
    def evaluate(radius, velocity_dispersion, dispersion_excess, r_dispersion):
        """Dispersion [km/s] at each radius [arcsec]."""
        return velocity_dispersion + dispersion_excess * ops.exp(-radius / r_dispersion)


@hookimpl
def kinematics_nn_rotation_curves():
    """Hand the rotation curves over."""
    return [Logarithmic]


@hookimpl
def kinematics_nn_dispersions():
    """Hand the dispersions over."""
    return [Floored]
