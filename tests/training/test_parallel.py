"""Training by two processes is the training of one: the same losses, masks, mirrors, statistics and weights."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from astropy.table import QTable
from safetensors.torch import load_file
from shared import OBJECTIVES, command, train
from torch import nn

from kinematics_nn.errors import KinematicsError
from kinematics_nn.network.weights import weights_info
from kinematics_nn.training import runs
from kinematics_nn.training.parallel import Processes, _WholeBatch

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def by_two(shard, tmp_path_factory):
    """Where two gloo processes wrote their losses and weights, and what they said."""
    folder = tmp_path_factory.mktemp("two")
    store = folder / "frames"
    store.mkdir()
    os.link(shard, store / shard.name)
    command = [*TORCHRUN, Path(__file__).with_name("shared.py"), store / shard.name, folder]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_two_processes_have_the_losses_and_weights_of_one(by_two, frames, objective):
    trainer, losses = train(frames, objective)
    folder, _ = by_two
    # Sums in another order: float32 gave 3e-7 of the losses and 9e-6 of the weights; it grows tenfold in two steps.
    for rank in (0, 1):
        assert json.loads((folder / f"{objective}{rank}.json").read_text()) == pytest.approx(losses, rel=1e-5)
    weights = load_file(folder / f"{objective}0.safetensors")
    # Where a gradient is of the size of its rounding, Adam goes anywhere within its steps: 1e-3 in all six. A third of
    # that was enough for the worst weight twice over; the losses are what says that the two are one training.
    for name, tensor in trainer.average.module.state_dict().items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-4, atol=3e-4, msg=name)
    other = load_file(folder / f"{objective}1.safetensors")
    assert all(torch.equal(weights[name], tensor) for name, tensor in other.items()), "the processes stay together"
    assert max(losses) - min(losses) > 1e-2 * abs(losses[0]), "something was there to differ"


def test_only_the_first_process_of_the_command_writes_and_says(by_two, shard, tmp_path, monkeypatch, capsys):
    folder, said = by_two
    store = tmp_path / "frames"
    store.mkdir()
    os.link(shard, store / shard.name)
    monkeypatch.setattr(runs, "_HELD_OUT", runs._HELD_OUT)  # puts it back
    command(tmp_path / "mine.safetensors", store)
    assert said.count("shards:") == capsys.readouterr().err.count("shards:") > 0
    one, two = (QTable.read(at / "mine.ecsv") for at in (tmp_path, folder))
    # Convolutions in bfloat16, of three digits, in a training that begins at the full rate.
    assert list(two["loss"]) == pytest.approx(list(one["loss"]), rel=0.01)
    assert weights_info(str(folder / "mine.safetensors"))["processes"] == 2
    assert not [path for path in folder.iterdir() if path.suffix in (".part", ".checkpoint")]


def test_python_runs_the_package_as_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["kinematics_nn", "train", "--help"])
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("kinematics_nn", run_name="__main__")
    assert "--objective" in capsys.readouterr().out


def test_rows_of_a_batch_have_the_random_numbers_of_the_whole():
    def drawn(*shape):
        generator = torch.Generator().manual_seed(4)
        return torch.rand(*shape, generator=generator), torch.randn((shape[0], 3), generator=generator)

    whole = drawn(8, 5)
    parts = []
    for rank in (0, 1):
        with _WholeBatch(Processes(rank, 2)):
            parts.append(drawn(4, 5))
    for both, one, other in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([one, other]), both)


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(KinematicsError, match=r"batches of 15 for 2 processes.*--batch 14"):
        Processes(0, 2).rows(15)


def test_one_process_is_left_as_it_is():
    module = nn.Sequential(nn.BatchNorm2d(3))
    Processes().normalise(module)
    assert type(module[0]) is nn.BatchNorm2d
