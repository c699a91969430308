"""Weights of sums, without those that are next to nothing."""

import torch

__all__ = ["significant"]

_LEAST = {torch.float64: 1e-15}
_LEAST_SINGLE = 1e-9  # a fiftieth of its precision; products of four, and of light, are normal numbers still


def significant(weights):
    """Weights of a sum, with zeros for those that it cannot see in their precision.

    The tails of a Gaussian are denormal numbers, with which some processors multiply a hundred times as slowly: a beam
    of 64 x 64 x 40 voxels took 11 ms with them and 1 ms without.

    Parameters
    ----------
    weights : Tensor
        Of a sum of about one.
    """
    return torch.where(weights.abs() > _LEAST.get(weights.dtype, _LEAST_SINGLE), weights, 0.0)
