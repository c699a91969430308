"""What the processes of `test_parallel` run: a training that writes down the loss of each step."""

import json
import sys
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from kinematics_nn.network.encoder import KinematicEncoder
from kinematics_nn.training import cli, runs
from kinematics_nn.training.fine_tune import FineTuning
from kinematics_nn.training.loop import Settings, Trainer
from kinematics_nn.training.objectives import simulated_posterior
from kinematics_nn.training.parallel import Processes
from kinematics_nn.training.reconstruction import Reconstruction

# Within the warm-up of a training of 1000 steps: Adam's first steps at full rate are of the size of that rate whatever
# the gradient, so that a perturbation of one part in 2^24 of the weights grows a thousandfold in four of them.
SETTINGS = Settings(
    samples=1000 * 16, batch=16, rate=1e-3, average=0.8, dropout=0.1, half_precision=False, seed=3
)  # fmt: skip
OBJECTIVES = {
    "posterior": lambda frames: simulated_posterior,
    "reconstruction": lambda frames: Reconstruction(),
    "fine-tune": FineTuning,
}


def train(frames, objective, processes=None, steps=6):
    """The trainer at its end, and the loss of each step."""
    data, start = frames, None
    if objective == "fine-tune":
        draws = torch.stack([frames["targets"], frames["targets"] + 0.5], 1)
        data, start = frames | {"targets": draws, "weight": torch.tensor([[0.3, 0.7]]).repeat(len(draws), 1)}, _start()
    settings = replace(SETTINGS, objective=objective)
    trainer = Trainer(settings, data, OBJECTIVES[objective](frames), processes=processes, start=start)
    losses = []

    def note(step, mean):
        losses.append(mean * (len(losses) + 1) - sum(losses))

    trainer.run(steps, progress=note)
    return trainer, losses


def _start():
    with torch.random.fork_rng():
        torch.manual_seed(8)
        return KinematicEncoder()


def command(output, store):
    """``kinematics-nn train`` with 16 galaxies held out, for there are 64."""
    runs._HELD_OUT = 16
    parser = ArgumentParser()
    cli.add_arguments(parser)
    given = ["--galaxies", "64", "--samples", "64", "--batch", "16", "--device", "cpu", "--seed", "1"]
    cli.run(parser.parse_args([str(output), "--store", str(store), *given]))


if __name__ == "__main__":
    shard, folder = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    processes = Processes.started()
    processes.join("cpu")
    for objective in OBJECTIVES:
        trainer, losses = train(load_file(shard), objective, processes)
        (folder / f"{objective}{processes.rank}.json").write_text(json.dumps(losses))
        save_file(trainer.average.module.state_dict(), folder / f"{objective}{processes.rank}.safetensors")
    command(folder / "mine.safetensors", Path(shard).parent)
