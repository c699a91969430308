"""What training maximises: functions of the encoder and a batch that return a loss and need no hand-made label."""

import torch

from ..network.frame import FACTS, ODD_FACTS
from ..network.targets import LIGHT, SPEED, TARGETS

__all__ = ["mirrored", "simulated_posterior", "target_floor"]

_ODD_TARGETS = {"minor": ("pa", "w"), "major": ("pa", "u", "vsys")}


def target_floor():
    """Spread (len(TARGETS),) below which differences of a target do not matter.

    The density is of targets with this noise added: a thin disc, or a profile that is exactly exponential, would
    otherwise draw it towards an infinite peak.
    """
    floor = torch.full((len(TARGETS),), 0.01)
    floor[TARGETS.index("thickness")] = 0.1
    floor[SPEED], floor[LIGHT] = 0.015, 0.03
    return floor


def mirrored(facts, targets, generator=None):
    """Facts and targets as each galaxy would give them seen in one of the disc's mirrors, drawn at random.

    The image of the frame is even under the mirrors, so it does not change: four galaxies for the price of one.
    """
    facts, targets = facts.clone(), targets.clone()
    low, high = FACTS.index("band_low"), FACTS.index("band_high")
    for mirror in ("minor", "major"):
        turned = torch.rand(len(facts), device=facts.device, generator=generator) < 0.5
        sign = 1 - 2 * turned.to(facts.dtype)[:, None]
        odd = [FACTS.index(name) for name in ODD_FACTS[mirror]]
        facts[:, [k for k in odd if k < facts.shape[1]]] *= sign  # a store may be older than the last facts
        targets[:, [TARGETS.index(name) for name in _ODD_TARGETS[mirror]]] *= sign
        if mirror == "major":
            swapped = facts[:, [high, low]]
            facts[:, [low, high]] = torch.where(turned[:, None], swapped, facts[:, [low, high]])
    return facts, targets


def simulated_posterior(encoder, batch, generator=None):
    """Mean of -log q of the parameters that were drawn for the simulations (neural posterior estimation).

    ``batch`` is a dict of ``image``, ``facts`` and ``targets``. Its minimum over all densities is the exact posterior
    under the simulations' prior (Papamakarios & Murray 2016, arXiv:1605.06376, proposition 1).
    """
    facts, targets = mirrored(batch["facts"], batch["targets"], generator)
    noise = torch.randn(targets.shape, device=targets.device, generator=generator) * target_floor().to(targets.device)
    trunk = encoder.trunk(batch["image"].float(), facts)
    return -encoder.log_prob(targets + noise, trunk).mean()
