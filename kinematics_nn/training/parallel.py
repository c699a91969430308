"""Training by several processes that ``torchrun`` started: each takes its rows of every batch.

A run does not depend on their number. All draw the random numbers of the whole batch and keep their own rows of them,
the batch normalisation is over the rows of all, and losses and gradients are averaged. What differs is rounding.
"""

import os
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.overrides import TorchFunctionMode

from ..errors import KinematicsError

__all__ = ["Processes"]

_WAIT = timedelta(days=30)  # what the first process simulates alone, the others wait for


@dataclass(frozen=True)
class Processes:
    """The processes of a training; by default this one alone.

    Attributes
    ----------
    rank, count : int
        Number of this process, from 0, and of all.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def started(cls):
        """Those that ``torchrun`` started, or this one alone."""
        return cls(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))

    @property
    def first(self):
        """Whether this process is the one that writes and says what there is to be written and said."""
        return self.rank == 0

    def join(self, device):
        """Meet the others. Returns this process's `torch.device`: of several GPUs, the one that is its own."""
        device = torch.device(device)
        if self.count > 1:
            if device.type == "cuda":
                device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
                torch.cuda.set_device(device)
            if not distributed.is_initialized():
                distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_WAIT)
        return device

    def leave(self):
        """End what `join` began."""
        if self.count > 1 and distributed.is_initialized():
            distributed.destroy_process_group()

    def wait(self):
        """Wait until every process is here."""
        if self.count > 1:
            distributed.barrier()

    def shared(self, value):
        """The first process's value, in every process; those that come early wait."""
        held = [value]
        if self.count > 1:
            distributed.broadcast_object_list(held)
        return held[0]

    def rows(self, batch):
        """Which rows, a slice, of a batch of that many are for this process.

        Raises
        ------
        KinematicsError
            The processes cannot share it evenly.
        """
        share, rest = divmod(batch, self.count)
        if rest or not share:
            raise KinematicsError(
                f"batches of {batch} for {self.count} processes",
                "the same number of galaxies for each",
                f"train --batch {max(1, share) * self.count}",
            )
        return slice(self.rank * share, (self.rank + 1) * share)

    def draws(self):
        """A context in which what is drawn at random for this process's rows is what the whole batch would get."""
        return _WholeBatch(self) if self.count > 1 else nullcontext()

    def normalise(self, module):
        """Have the batch normalisations in ``module`` count the rows of all processes."""
        if self.count == 1:
            return
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, _SharedBatchNorm.like(child))
            self.normalise(child)

    def average(self, parameters, loss):
        """The loss's mean over the processes, a float; the gradients of ``parameters`` become their means, too."""
        if self.count == 1:
            return float(loss.detach())
        gradients = [p.grad for p in parameters if p.grad is not None]
        whole = torch.cat([*(g.flatten() for g in gradients), loss.detach().flatten()])
        distributed.all_reduce(whole)
        whole /= self.count
        for gradient, part in zip(gradients, whole[:-1].split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
        return float(whole[-1])


class _WholeBatch(TorchFunctionMode):
    """`torch.rand` and `torch.randn` for rows of a batch draw for all of it, and keep the rows."""

    def __init__(self, processes):
        super().__init__()
        self.processes = processes

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function not in (torch.rand, torch.randn):
            return function(*args, **kwargs)
        rows, *rest = args if isinstance(args[0], int) else args[0]
        whole = rows * self.processes.count
        return function(whole, *rest, **kwargs)[self.processes.rows(whole)]


class _Sum(torch.autograd.Function):
    """The sum of a tensor over processes."""

    @staticmethod
    def forward(ctx, x):
        x = x.clone()
        distributed.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone()
        distributed.all_reduce(gradient)
        return gradient


class _SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the rows of all processes; torch's own of that kind needs GPUs."""

    @classmethod
    def like(cls, other):
        """One with the parameters and buffers of another."""
        self = cls(other.num_features, other.eps, other.momentum)
        for name, parameter in other.named_parameters():
            setattr(self, name, parameter)
        for name, buffer in other.named_buffers():
            setattr(self, name, buffer)
        return self.train(other.training)

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        given, x = x.dtype, x.float()
        n = x.numel() // x.shape[1] * distributed.get_world_size()
        mean = _Sum.apply(x.sum((0, 2, 3))) / n
        x = x - mean[:, None, None]
        variance = _Sum.apply((x**2).sum((0, 2, 3))) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (x * scale[:, None, None] + self.bias[:, None, None]).to(given)
