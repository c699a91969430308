"""The encoder: frame in, a density over everything a disc has out."""

import torch
from torch import nn

from ..errors import KinematicsError
from .density import ConditionalDensity
from .dropout import MonteCarloDropout
from .frame import FACTS, PLANES
from .recalibration import NODES, TABLES
from .targets import TARGETS

__all__ = ["KinematicEncoder"]


class _Block(nn.Module):
    """A strided convolution and a residual one."""

    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.residual = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )

    def forward(self, x):
        x = self.down(x)
        return x + self.residual(x)


class KinematicEncoder(nn.Module):
    """Convolutional encoder with Monte-Carlo dropout whose output is a density, not a point.

    After Dawson et al. (2021, MNRAS 503, 574, section 2), with a density in place of point values and the network
    frame in place of moment maps. The trunk has no dropout, so it runs once a galaxy; only the head is realised anew.

    Parameters
    ----------
    widths : sequence of int
        Channels of the convolutional blocks; each block after the first halves the image.
    bottleneck, context : int
        Width before the first dropout, and of the density's context.
    dropout : float
        Dropout rate.
    couplings : int
        Couplings of the density.
    facts : int
        How many of the `~kinematics_nn.network.frame.FACTS` it is told, the first ones: weights that were trained
        before the last ones came serve as they did. All by default.
    gated : bool
        Whether the facts add to the density's mean directly too, each times a gate that the context sets: several are
        estimates of a target with the error beside them, and how far to believe one is a product. Weights of before
        have no gates, which is the default.
    freedom : float, optional
        Of the density's noise, see `~kinematics_nn.network.density.ConditionalDensity`; normal by default.

    Attributes
    ----------
    half_precision : bool
        Whether the convolutions run in bfloat16: twice the speed in training. Off by default.
    """

    def __init__(
        self,
        widths=(32, 64, 96, 128),
        bottleneck=256,
        context=128,
        dropout=0.05,
        couplings=4,
        facts=None,
        gated=False,
        freedom=None,
    ):
        super().__init__()
        facts = len(FACTS) if facts is None else facts
        self.settings = {
            "widths": list(widths), "bottleneck": bottleneck, "context": context, "dropout": dropout,
            "couplings": couplings, "facts": facts, "gated": gated, "freedom": freedom,
        }  # fmt: skip
        n = len(TARGETS)
        self.half_precision = False
        self.register_buffer("facts_mean", torch.zeros(facts))
        self.register_buffer("facts_std", torch.ones(facts))
        self.register_buffer("target_mean", torch.zeros(n))
        self.register_buffer("target_matrix", torch.eye(n))
        self.register_buffer("ranks", torch.linspace(0, 1, NODES).repeat(TABLES, n, 1))
        self.register_buffer("ranks_snr", torch.arange(TABLES).float())
        channels = [PLANES, *widths]
        self.image = nn.Sequential(
            *[_Block(a, b, 1 if i == 0 else 2) for i, (a, b) in enumerate(zip(channels, widths, strict=False))],
            nn.Flatten(),
        )
        self.facts = nn.Sequential(nn.Linear(facts, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.join = nn.Sequential(
            nn.Linear(widths[-1] * 8 + 64, bottleneck), nn.ReLU(), nn.Linear(bottleneck, bottleneck), nn.ReLU()
        )
        self.head = nn.Sequential(
            MonteCarloDropout(dropout),
            nn.Linear(bottleneck + facts, bottleneck),
            nn.ReLU(),
            MonteCarloDropout(dropout),
            nn.Linear(bottleneck, context),
            nn.ReLU(),
        )
        self.density = ConditionalDensity(n, context, couplings, estimates=facts if gated else 0, freedom=freedom)
        self.gate = nn.Linear(context, facts) if gated else None
        if gated:
            nn.init.ones_(self.gate.bias)

    def trunk(self, image, facts):
        """Everything before the first dropout: (batch, bottleneck + facts)."""
        if facts.shape[1] < len(self.facts_mean):
            found, needed = f"frames with {facts.shape[1]} facts", f"{len(self.facts_mean)}, as these weights are told"
            raise KinematicsError(found, needed, "train --store with a new folder")
        facts = facts[:, : len(self.facts_mean)]
        facts = ((facts - self.facts_mean) / self.facts_std).clamp(-6, 6)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.half_precision):
            features = self.image(image)
        joined = self.join(torch.cat([features.float(), self.facts(facts)], 1))
        # The facts reach the head directly too: the odd quantities hang on the last mirror step among them.
        return torch.cat([joined, facts], 1)

    def context(self, trunk):
        """What the density hangs on, from `trunk`; a dropout mask each time, where those are on."""
        context = self.head(trunk)
        if self.gate is None:
            return context
        return torch.cat([context, self.gate(context) * trunk[:, -len(self.facts_mean) :]], 1)

    def log_prob(self, targets, trunk):
        """Log density (batch,) of targets (batch, len(TARGETS)), up to the constant of the whitening."""
        return self.density.log_prob((targets - self.target_mean) @ self.target_matrix.T, self.context(trunk))

    def sample(self, trunk, n, generator=None):
        """Draws (batch, n, len(TARGETS)), each through the head once (with its own dropout masks if those are on)."""
        rows = trunk[:, None].expand(-1, n, -1).flatten(0, 1)
        white = self.density.sample(self.context(rows), generator)
        targets = torch.linalg.solve(self.target_matrix, white.T).T + self.target_mean
        return targets.unflatten(0, (len(trunk), n))

    @torch.no_grad()
    def standardise(self, facts, targets, floor):
        """Set the scalings of facts and targets from a sample of the prior.

        ``floor`` (len(TARGETS),) is the spread below which differences of a target do not matter; it keeps the
        whitening of nearly degenerate targets finite.
        """
        facts = facts[:, : len(self.facts_mean)]
        self.facts_mean.copy_(facts.mean(0))
        self.facts_std.copy_(facts.std(0).clamp(min=1e-3))
        self.target_mean.copy_(targets.mean(0))
        covariance = torch.cov(targets.T.double()) + torch.diag(floor.double() ** 2)
        values, vectors = torch.linalg.eigh(covariance)
        self.target_matrix.copy_((vectors / values.sqrt()).T)

    @torch.no_grad()
    def start_from(self, other):
        """Take another encoder's weights and scalings; facts and gates that it had not weigh nothing to begin with."""
        own = self.state_dict()
        for name, value in other.state_dict().items():
            if value.ndim > 1:  # what facts are multiplied by; they are the last columns
                own[name].zero_()
            own[name][tuple(slice(n) for n in value.shape)].copy_(value)
