"""Weights of sums, without those that are next to nothing."""

import torch

__all__ = ["significant"]

_LEAST = 1e-15  # products of three larger ones are normal numbers in single precision


def significant(weights):
    """Weights of a sum in single precision, with zeros for those that it cannot see.

    The tails of a Gaussian are denormal numbers, with which some processors multiply a hundred times as slowly: a beam
    of 64 x 64 x 40 voxels took 11 ms with them and 1 ms without.

    Parameters
    ----------
    weights : Tensor
        Of a sum of about one.
    """
    return torch.where(weights.abs() > _LEAST, weights, 0.0)
