"""Recalibration: the ranks that truths take among the network's draws, measured on held-out simulations, put right.

A density that is a little too wide on average shows it: the truths of galaxies it never saw lie in the middle of its
draws too often. The distribution of their ranks says which quantile of the draws is the true one of each nominal
probability (Kuleshov, Fenner & Ermon 2018, arXiv:1807.00263, algorithm 1), target by target; ranks within a galaxy, and
with them the correlations between targets, stay.
"""

import torch

from .dropout import realisations
from .targets import TARGETS

__all__ = ["NODES", "measure_ranks", "recalibrated"]

NODES = 33
"""Nominal probabilities, evenly from 0 to 1, at which the ranks are kept."""

_DRAWS, _BATCH = 400, 50


@torch.no_grad()
def measure_ranks(encoder, data, floor, seed=0):
    """Ranks (len(TARGETS), NODES) that hold each nominal share of the truths of held-out simulations.

    Parameters
    ----------
    encoder : KinematicEncoder
    data : dict of Tensor
        ``image``, ``facts`` and ``targets`` of galaxies that were not trained on.
    floor : Tensor (len(TARGETS),)
        Noise on the targets in training. The thickness keeps it here too, for the atom of infinitely thin discs.
    seed : int
        Of the dropout masks and draws.
    """
    device = next(encoder.parameters()).device
    ranks = []
    for i in range(0, len(data["facts"]), _BATCH):
        image, facts, targets = (data[k][i : i + _BATCH].to(device) for k in ("image", "facts", "targets"))
        with realisations(encoder, seed + i, device) as generator:
            draws = encoder.sample(encoder.trunk(image.float(), facts), _DRAWS, generator)
            noise = torch.randn(targets.shape, generator=generator, device=device)
        thick = torch.zeros_like(floor)
        thick[TARGETS.index("thickness")] = floor[TARGETS.index("thickness")]
        targets = targets + noise * thick.to(device)
        ranks.append((draws < targets[:, None]).float().mean(1))
    nodes = torch.linspace(0, 1, NODES, device=device)
    return _smooth(torch.quantile(torch.cat(ranks), nodes, dim=0).T.contiguous(), nodes)


def _smooth(table, nodes):
    """The table as a polynomial of the fifth degree in normal deviates: noise of the counts makes posteriors lumpy."""
    nominal, found = (torch.special.ndtri(p.double()[..., 1:-1].clamp(1e-3, 1 - 1e-3)) for p in (nodes, table))
    powers = torch.stack([nominal**k for k in range(6)], 1)
    fitted = powers @ torch.linalg.lstsq(powers, found.T).solution  # (node, target)
    inner = torch.special.ndtr(fitted).cummax(0).values.T
    ends = [torch.full_like(inner[:, :1], value) for value in (0.0, 1.0)]
    return torch.cat([ends[0], inner, ends[1]], 1).to(table.dtype)


def recalibrated(draws, table):
    """Draws (n, target) of one galaxy with their quantiles put right by the ``table`` of `measure_ranks`."""
    n = len(draws)
    values, order = draws.sort(dim=0)
    share = (torch.arange(n, dtype=draws.dtype, device=draws.device) + 0.5) / n
    node = (share * (NODES - 1)).clamp(max=NODES - 1.001)
    low = node.long()
    part = (node - low)[:, None]
    wanted = table.T[low] * (1 - part) + table.T[low + 1] * part  # (n, target): ranks
    at = (wanted * n - 0.5).clamp(0, n - 1)
    below = at.long().clamp(max=n - 2)
    part = at - below
    quantile = values.gather(0, below) * (1 - part) + values.gather(0, below + 1) * part
    return torch.empty_like(draws).scatter_(0, order, quantile)
