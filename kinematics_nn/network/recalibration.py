"""Recalibration: the ranks that truths take among the network's draws, measured on held-out simulations, put right.

A density that is a little too wide on average shows it: the truths of galaxies it never saw lie in the middle of its
draws too often. The distribution of their ranks says which quantile of the draws is the true one of each nominal
probability (Kuleshov, Fenner & Ermon 2018, arXiv:1807.00263, algorithm 1), target by target; ranks within a galaxy, and
with them the correlations between targets, stay. Faint galaxies and bright ones are measured apart, and those between
are between them: a density may be too narrow for the ones and too wide for the others.
"""

import torch

from .dropout import realisations
from .frame import FACTS
from .targets import TARGETS

__all__ = ["NODES", "TABLES", "measure_ranks", "recalibrated", "table_at"]

NODES = 33
"""Nominal probabilities, evenly from 0 to 1, at which the ranks are kept."""

TABLES = 3
"""Tables of ranks, of as many galaxies each, from faint to bright ones."""

_DRAWS, _BATCH = 400, 50
_SNR = FACTS.index("snr")


@torch.no_grad()
def measure_ranks(encoder, data, floor, seed=0):
    """Ranks that hold each nominal share of the truths of held-out simulations.

    Parameters
    ----------
    encoder : KinematicEncoder
    data : dict of Tensor
        ``image``, ``facts`` and ``targets`` of galaxies that were not trained on.
    floor : Tensor (len(TARGETS),)
        Noise on the targets in training. The thickness keeps it here too, for the atom of infinitely thin discs.
    seed : int
        Of the dropout masks and draws.

    Returns
    -------
    ranks : Tensor (TABLES, len(TARGETS), NODES)
    snr : Tensor (TABLES,)
        The fact of that name, of the median galaxy of each table.
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
    ranks, snr = torch.cat(ranks), data["facts"][:, _SNR].to(device)
    parts = torch.tensor_split(snr.argsort(), TABLES)
    tables = [_smooth(torch.quantile(ranks[part], nodes, dim=0).T.contiguous(), nodes) for part in parts]
    return torch.stack(tables), torch.stack([snr[part].median() for part in parts])


def table_at(ranks, ranks_snr, facts):
    """Tables (galaxy, len(TARGETS), NODES) for galaxies with ``facts`` (galaxy, n), from those of `measure_ranks`."""
    # A galaxy whose facts are not finite spoils no other of its batch.
    snr = facts[:, _SNR].nan_to_num().clamp(ranks_snr[0], ranks_snr[-1])
    above = torch.searchsorted(ranks_snr, snr).clamp(1, len(ranks_snr) - 1)
    low, high = ranks_snr[above - 1], ranks_snr[above]
    part = ((snr - low) / (high - low).clamp(min=1e-6))[:, None, None]
    return ranks[above - 1] * (1 - part) + ranks[above] * part


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
