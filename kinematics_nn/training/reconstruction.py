"""Self-supervision: encode, decode with the physics, compare with what was seen. No parameter is ever shown.

The published network's objective (Dawson et al. 2021, MNRAS 503, 574, section 2.2) for an encoder that gives a density:
the evidence lower bound, with the likelihood of the frame's voxels, the entropy of the density and the prior.
"""

import math

import torch

from ..decoder import BeamOperator, DiscDecoder, Forms, Quadrature, regular_grid
from ..forms import Dispersion, FormParameter, LogUniform, RotationCurve, SurfaceBrightness
from ..network.frame import CHANNELS, FACTS, PIXELS
from ..network.targets import LIGHT, LIGHT_FLOOR, MULTIPLES, SPEED, SPEED_FLOOR, TARGETS

__all__ = ["FreeCurve", "FreeLight", "Reconstruction"]

_FWHM = 2 * math.sqrt(2 * math.log(2))
_PAD = 6
_EXACT = 0.01  # of the brightest voxel: what the frame's own interpolation leaves, and no measured noise goes below


def _parameters(name, unit):
    prior = LogUniform(1e-3, 1e3)
    size = FormParameter("r50", "arcsec", 1.0, (1e-3, 1e5), prior, "half-light radius")
    return (
        size,
        *(FormParameter(f"{name}_{k}", unit, 1.0, (0, 1e4), prior, f"at {m} r50") for k, m in enumerate(MULTIPLES)),
    )


def _interpolated(x, nodes, values):
    """Piecewise linear through (nodes, values), constant beyond the last node; x (...), values a list of tensors."""
    result = values[0]
    for low, high, a, b in zip(nodes[:-1], nodes[1:], values[:-1], values[1:], strict=True):
        result = result + (b - a) / (high - low) * (x.clamp(low, high) - low)
    return result


class FreeCurve(RotationCurve):
    """Speeds at the multiples of r50 that the network knows, straight lines between, from zero at the centre."""

    name = "free_curve"
    parameters = _parameters("speed", "km/s")

    @staticmethod
    def evaluate(radius, r50, *speeds):  # noqa: D102 - documented in the base class
        return _interpolated(radius / r50, (0.0, *MULTIPLES), [0 * speeds[0], *speeds])


class FreeLight(SurfaceBrightness):
    """Light at the multiples of r50 over flux / (2 pi r50^2): straight lines in its logarithm."""

    name = "free_light"
    parameters = _parameters("light", "")

    @staticmethod
    def evaluate(radius, r50, *light):  # noqa: D102
        x = radius / r50
        log = [torch.log(value + LIGHT_FLOOR) for value in light]
        inside = _interpolated(x, MULTIPLES, log)
        return torch.exp(inside - 2.0 * (x - MULTIPLES[-1]).clamp(min=0)) - LIGHT_FLOOR * torch.exp(-x)

    @staticmethod
    def total(r50, *light):  # noqa: D102
        return 2 * math.pi * r50**2

    @staticmethod
    def half_light_radius(r50, *light):  # noqa: D102
        return r50


class _FrameDispersion(Dispersion):
    name = "frame_dispersion"
    uniform = True
    parameters = (FormParameter("velocity_dispersion", "km/s", 1.0, (0, 1e3), LogUniform(1e-3, 1e3), "constant"),)

    @staticmethod
    def evaluate(radius, velocity_dispersion):
        return velocity_dispersion + 0 * radius


class Reconstruction:
    """The negative evidence lower bound of mirror-averaged frames, as an objective of the training loop.

    The even half of the frame is compared voxel by voxel with the decoder's disc in frame units; the odd quantities
    (centre, velocity, angle) with the mirror step, whose formal errors are the Gaussian likelihood of the odd half. The
    voxels' correlation over the beam and between channels enters as their effective number. The prior is the Gaussian
    of the simulations' mean and covariance, which the encoder holds as its whitening.
    """

    def __init__(self, device="cpu"):
        # The frame is two units wide in every direction; u runs along the first sky axis, so the position angle is 90.
        shape, step = (CHANNELS, PIXELS, PIXELS), 2 / PIXELS
        self.grid = regular_grid(shape, step, 2 / CHANNELS, beam=(3 * step, 3 * step, 0.0), device=device)
        self.forms = Forms(FreeCurve, FreeLight, _FrameDispersion)
        self.decoder = DiscDecoder(self.grid, self.forms, Quadrature(5, 3), faint=1e-4, pad=_PAD)

    def __call__(self, encoder, batch, generator=None):
        """Mean over the batch of -ELBO, one draw a galaxy, up to the constants of prior and likelihood."""
        image, facts = batch["image"].float(), batch["facts"]
        context = encoder.context(encoder.trunk(image, facts))
        white = encoder.density.sample(context, generator)
        log_q = encoder.density.log_prob(white, context)
        targets = torch.linalg.solve(encoder.target_matrix, white.T).T + encoder.target_mean
        log_prior = -0.5 * (white**2).sum(1)
        return (log_q - log_prior - self.log_likelihood(targets, image, facts)).mean()

    def log_likelihood(self, targets, image, facts):
        """Log likelihood (batch,) of frames given targets (batch, len(TARGETS)), up to a constant."""
        fact = dict(zip(FACTS, facts.unbind(1), strict=False))  # a store may be older than the last facts
        seen = torch.sinh(image[:, : CHANNELS // 2])
        weight = image[:, -1:]
        model = self.render(targets, fact, seen)
        measured = torch.exp(fact["noise"]) / 2  # four mirror images averaged
        noise = torch.maximum(measured, _EXACT * seen.amax((1, 2, 3)))
        independent = self._voxels_a_sample(fact)
        even = -0.5 * (((seen - model) / noise[:, None, None, None]) ** 2 * (weight > 0.5)).sum((1, 2, 3)) / independent
        t = dict(zip(TARGETS, targets.unbind(1), strict=True))
        # The step's errors are those of independent voxels, and of the noise that was measured.
        wider = torch.sqrt(independent) * noise / measured
        odd = sum(
            -0.5 * (scale * torch.sinh(t[name].clamp(-8, 8)) / (wider * torch.exp(fact[error]))) ** 2
            for name, error, scale in (
                ("pa", "error_pa", 0.05), ("u", "error_u", 0.02), ("w", "error_w", 0.02), ("vsys", "error_v", 0.02),
            )
        )  # fmt: skip
        return even + odd

    def render(self, targets, fact, seen):
        """The quarter (batch, CHANNELS / 2, PIXELS / 2, PIXELS) of the frame that discs of these targets would give."""
        t = dict(zip(TARGETS, targets.unbind(1), strict=True))
        cosine = torch.sigmoid(t["inclination"])
        sine = torch.sqrt((1 - cosine**2).clamp(min=1e-6))
        r50 = torch.exp(t["r50"].clamp(-5, 2))
        flux = (
            4
            * seen.clamp(min=0).sum((1, 2, 3))
            * (2 / PIXELS) ** 2
            * (2 / CHANNELS)
            * torch.exp(t["flux"].clamp(-6, 3))
        )
        speed = (torch.exp(targets[:, SPEED].clamp(-7, 2)) - SPEED_FLOOR).clamp(min=0) / sine[:, None]
        light = (torch.exp(targets[:, LIGHT].clamp(-7, 4)) - LIGHT_FLOOR).clamp(min=0)
        zero = torch.zeros_like(r50)
        columns = {
            "inclination": torch.rad2deg(torch.acos(cosine)), "pa": zero + 90,
            "east": zero, "north": zero, "vsys": zero,
            "flux": flux, "thickness": (torch.exp(t["thickness"].clamp(-6, 0)) - 0.01).clamp(min=0) * r50,
            "velocity_dispersion": torch.sqrt(
                torch.exp(2 * t["dispersion"].clamp(-7, 1)) + torch.exp(2 * fact["channel"]) / 12
            ),
            "curve_r50": r50, "light_r50": r50,
            **{f"speed_{k}": speed[:, k] for k in range(len(MULTIPLES))},
            **{f"light_{k}": light[:, k] for k in range(len(MULTIPLES))},
        }  # fmt: skip
        sky = self.decoder.sky(torch.stack([columns[name] for name in self.forms.parameter_names], 1))
        step = 2 / PIXELS
        along_u, along_w = ((torch.exp(fact[k]) / step / _FWHM) ** 2 for k in ("beam_u", "beam_w"))
        pixel = torch.exp(2 * fact["pixel"]) / step**2 / 12
        covariance = torch.diag_embed(torch.stack([along_u + pixel, along_w + pixel], 1))
        cube = BeamOperator(covariance, (PIXELS, PIXELS), _PAD, integrate_pixels=True)(sky)
        # The receding side lies east, to the left: turn it to where the frame has it.
        return cube.flip(3)[:, CHANNELS // 2 :, PIXELS // 2 :]

    @staticmethod
    def _voxels_a_sample(fact):
        """Voxels of the frame that share one independent sample of the noise (beam, twice; channels)."""
        area = 2 * 1.133 * torch.exp(fact["beam_u"] + fact["beam_w"]) / (2 / PIXELS) ** 2
        return area.clamp(min=1) * (1 + 2 * fact["corr_v"].clamp(0, 0.9))
