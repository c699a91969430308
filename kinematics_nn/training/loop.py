"""The training loop: one for every objective, with checkpoints from which it goes on as if it had never stopped."""

import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..errors import KinematicsError
from ..network.dropout import dropout_layers
from ..network.encoder import KinematicEncoder
from .objectives import simulated_posterior, target_floor
from .parallel import Processes

__all__ = ["FREEDOM", "Settings", "Trainer"]

FREEDOM = 5.0
"""Of the density's noise: one held-out galaxy in a thousand has hundreds of nat under normal noise.

Reconstruction is of the density's draws, and those of heavy tails would be all of its mean.
"""


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of a training.

    Attributes
    ----------
    samples : galaxies seen in all, each time in another mirror.
    batch : galaxies a step.
    rate : peak learning rate (AdamW, cosine to zero after a short warm-up).
    decay : weight decay.
    average : decay a step of the exponential average of the weights, which is what is kept.
    dropout : rate of the Monte-Carlo dropout.
    half_precision : convolutions in bfloat16, twice as fast on processors that have it.
    seed : of the initial weights, the order of galaxies, and the mirrors.
    begun_with : share of the galaxies that the training begins with, where others are made meanwhile.
    objective, galaxies, forms : what is minimised, over how many galaxies, and their forms where these are single; a
        record, so that no run goes on as another.
    """

    samples: int = 1_000_000
    batch: int = 64
    rate: float = 1.5e-3
    decay: float = 1e-4
    average: float = 0.999
    dropout: float = 0.05
    half_precision: bool = True
    seed: int = 0
    begun_with: float = 1.0
    objective: str = "posterior"
    galaxies: int = 0
    forms: str = ""


class Trainer:
    """Trains a `~kinematics_nn.network.encoder.KinematicEncoder`.

    Parameters
    ----------
    settings : Settings
    data : dict of Tensor
        ``image``, ``facts``, ``targets`` of all galaxies; `data` may later be set to what has more of them.
    objective : callable
        ``objective(encoder, batch, generator) -> loss``.
    device : optional
    processes : Processes, optional
        That share the work, and have met; by default this one alone.
    start : KinematicEncoder, optional
        To start from with its weights and scalings; by default new weights, and the scalings of ``data``.
    freedom : float, optional
        Of the density's noise, where there is no such start; normal by default.
    """

    def __init__(
        self, settings, data, objective=simulated_posterior, device="cpu", processes=None, start=None, freedom=None
    ):
        self.settings, self.objective, self.device = settings, objective, torch.device(device)
        self.processes = processes or Processes()
        self._rows = self.processes.rows(settings.batch)
        self.generator = torch.Generator(device=self.device).manual_seed(settings.seed)
        self.shuffle = torch.Generator().manual_seed(settings.seed)
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            like = {"facts": data["facts"].shape[1], "gated": True, "freedom": freedom}
            if start is not None:
                like = {name: start.settings[name] for name in like}
            self.encoder = KinematicEncoder(dropout=settings.dropout, **like).to(self.device)
        self.encoder.half_precision = settings.half_precision
        self.processes.normalise(self.encoder)
        for layer in dropout_layers(self.encoder):
            layer.generator = self.generator
        self.data = data
        if start is None:
            self.encoder.standardise(data["facts"], data["targets"], target_floor())
        self.average = AveragedModel(self.encoder, multi_avg_fn=_averaging(settings.average), use_buffers=True)
        self.optimiser = torch.optim.AdamW(self.encoder.parameters(), lr=settings.rate, weight_decay=settings.decay)
        self.step, self.seconds, self.curve = 0, 0.0, []
        self._order, self._ordered = torch.empty(0, dtype=torch.long), 0
        if start is not None:
            self.start_from(start)

    def start_from(self, encoder):
        """Start from another encoder's weights, and keep its scalings."""
        self.encoder.start_from(encoder)
        self.average.module.load_state_dict(self.encoder.state_dict())

    @property
    def steps(self):
        """Steps of the whole training."""
        return self.settings.samples // self.settings.batch

    def run(self, steps=None, progress=None):
        """Train for ``steps`` (default: to the end); ``progress(step, loss)`` is called after each. The mean loss."""
        stop = self.steps if steps is None else min(self.steps, self.step + steps)
        total, count, began = 0.0, 0, time.perf_counter()
        self.encoder.train()
        while self.step < stop:
            for group in self.optimiser.param_groups:
                group["lr"] = self.settings.rate * _schedule(self.step, self.steps)
            with self.processes.draws():
                loss = self.objective(self.encoder, self._batch(), self.generator)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            loss = self.processes.average(self.encoder.parameters(), loss)
            norm = torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 5.0)
            # A draw far out in the tails can overflow the reconstruction: such a step is left out, not taken.
            if torch.isfinite(norm):
                self.optimiser.step()
            self.average.update_parameters(self.encoder)
            self.step += 1
            total, count = total + loss, count + 1
            if progress:
                progress(self.step, total / count)
        self.seconds += time.perf_counter() - began
        mean = total / max(count, 1)
        if count:
            self.curve.append({"step": self.step, "loss": mean, "seconds": self.seconds, "galaxies": self._size})
        return mean

    @property
    def _size(self):
        return len(self.data["facts"])

    def _batch(self):
        if len(self._order) < self.settings.batch or self._ordered != self._size:
            self._ordered = self._size
            times = -(-self.settings.batch // self._size)  # more than once where they are fewer than a batch
            self._order = torch.cat([torch.randperm(self._size, generator=self.shuffle) for _ in range(times)])
        index, self._order = self._order[: self.settings.batch], self._order[self.settings.batch :]
        return {k: v[index[self._rows]].to(self.device) for k, v in self.data.items()}

    @torch.no_grad()
    def validate(self, data, objective=None, batch=512):
        """Mean loss of the averaged weights over held-out galaxies, dropout off; by default of the training's kind."""
        objective = objective or self.objective
        encoder = self.average.module.eval()
        generator = torch.Generator(device=self.device).manual_seed(0)
        losses = []
        for i in range(0, len(data["facts"]), batch):
            part = {k: v[i : i + batch].to(self.device) for k, v in data.items()}
            losses.append(float(objective(encoder, part, generator)) * len(part["facts"]))
        return sum(losses) / len(data["facts"])

    def save(self, path):
        """Write a checkpoint, whole or not at all."""
        state = {
            "settings": json.dumps(asdict(self.settings)),
            "encoder": self.encoder.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generators": (self.generator.get_state(), self.shuffle.get_state()),
            "order": self._order,
            "ordered": self._ordered,
            "device": self.device.type,
            "progress": {"step": self.step, "seconds": self.seconds, "curve": self.curve},
        }
        temporary = Path(path).with_suffix(".part")
        torch.save(state, temporary)
        os.replace(temporary, path)

    def load(self, path):
        """Go on from a checkpoint; nothing in the file is executed."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        if json.loads(state["settings"]) != asdict(self.settings):
            raise KinematicsError(
                f"{path} was made with the settings {state['settings']}, this run has {asdict(self.settings)}",
                "the same settings, to go on",
                "train --overwrite, to start anew",
            )
        if state.get("device", self.device.type) != self.device.type:  # whose random numbers are others
            raise KinematicsError(
                f"{path} was made on {state['device']}, this run is on {self.device.type}",
                "the same kind of device, to go on",
                f"train --device {state['device']}",
            )
        self.encoder.load_state_dict(state["encoder"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generators"][0].cpu())
        self.shuffle.set_state(state["generators"][1].cpu())
        self._order, self._ordered = state["order"].cpu(), state["ordered"]
        self.step, self.seconds, self.curve = (state["progress"][k] for k in ("step", "seconds", "curve"))


def _averaging(decay):
    """Exponential averaging of real numbers alone: torch's rounds an index i down where 0.9 i + 0.1 i is less."""
    average = get_ema_multi_avg_fn(decay)

    def update(averaged, current, count):
        if averaged[0].is_floating_point():
            average(averaged, current, count)
        else:
            for ours, theirs in zip(averaged, current, strict=True):
                ours.copy_(theirs)

    return update


def _schedule(step, steps):
    """Learning rate over its peak: a linear warm-up over 2 % of the training, then a cosine to zero."""
    warm = max(1, steps // 50)
    return min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
