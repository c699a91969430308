"""Dropout that can stay on after training: realisations of the network from a seeded generator of its own."""

import threading
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["MonteCarloDropout", "dropout_layers", "realisations"]

_ONE_AT_A_TIME = threading.RLock()


class MonteCarloDropout(nn.Module):
    """Dropout as a variational posterior over weights (Gal & Ghahramani 2016, ICML, PMLR 48, 1050).

    Active in training and inside `realisations`; the identity otherwise.
    """

    def __init__(self, rate):
        super().__init__()
        self.rate = rate
        self.realising = False
        self.generator = None

    def forward(self, x):
        """The input with units dropped and the rest scaled up, or as it is."""
        if not (self.training or self.realising) or self.rate == 0:
            return x
        kept = torch.rand(x.shape, dtype=x.dtype, device=x.device, generator=self.generator) >= self.rate
        return x * kept / (1 - self.rate)

    def extra_repr(self):
        """What `repr` shows."""
        return f"rate={self.rate}"


def dropout_layers(module):
    """The `MonteCarloDropout` layers of a module."""
    return [layer for layer in module.modules() if isinstance(layer, MonteCarloDropout)]


@contextmanager
def realisations(module, seed, device="cpu"):
    """Within, every dropout layer of ``module`` draws masks from one local generator; all else is in evaluation mode.

    The module's mode and torch's global random state are as before afterwards. One thread at a time: the weights are
    shared by the fits of a process, and the state of dropout is on them.
    """
    layers = dropout_layers(module)
    generator = torch.Generator(device=device).manual_seed(seed)
    with _ONE_AT_A_TIME:
        was_training = module.training
        module.eval()
        try:
            for layer in layers:
                layer.realising, layer.generator = True, generator
            yield generator
        finally:
            for layer in layers:
                layer.realising, layer.generator = False, None
            module.train(was_training)
