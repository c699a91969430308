"""The two kinds of training from beginning to end: on simulations, and on the posteriors of cubes."""

import hashlib
import math
import warnings
from contextlib import ExitStack
from dataclasses import asdict

import torch
from tqdm import tqdm

from .. import __version__
from ..errors import KinematicsError
from ..network.recalibration import measure_ranks
from ..network.weights import list_weights, load_encoder, save_encoder, weights_info
from .card import without_folders, write_card
from .curves import write_curve
from .fine_tune import FineTuning, fit_cubes, load_survey
from .loop import FREEDOM, Settings, Trainer
from .objectives import simulated_posterior, target_floor
from .reconstruction import Reconstruction
from .store import SHARD, Galaxies, shards_to_come

__all__ = ["train_on_cubes", "train_on_simulations"]

_CHECKPOINT_STEPS = 500
_FINE_STEPS = 10  # between the checkpoints of a fine-tuning
_HELD_OUT = 2000
_BEGUN_WITH = 0.125  # of the galaxies, where the others are made meanwhile
_GROWTHS = 16  # times, at the least, that there may be more
_FINE_AVERAGE = 0.95  # a step: of tens of steps, not of thousands


def train_on_simulations(args, forms, ranges, title, output, device, processes):
    """Train on simulations, which the first process has made by others.

    Parameters
    ----------
    args
        What ``kinematics-nn train`` was given.
    forms : dict
        Those of a training of one form alone.
    ranges : Ranges
    title : str
        What a store without a name of its own is called after.
    output : path
    device : torch.device
    processes : Processes

    Returns
    -------
    str or None
        What was written and the next call to make, of the first process.
    """
    start = load_encoder(args.start) if args.start else None  # what is not there is known before hours of simulations
    shards = -(-args.galaxies // SHARD)
    store = args.store or "-".join(filter(None, ["frames", title]))
    made = {"seed": args.seed, "workers": args.workers, "ranges": ranges, "input": args.input, "device": device}
    with ExitStack() as stack:
        coming = stack.enter_context(shards_to_come(store, shards, **made)) if processes.first else {}
        facts = {"input": args.input} | ({"forms": forms} if forms else {}) | {"ranges": asdict(ranges)}
        listed = _listed(forms, args.input)
        bar = stack.enter_context(tqdm(total=shards, desc="shards", disable=not processes.first))
        galaxies = Galaxies(store, shards, coming)
        return _train_on(args, galaxies, bar, start, output, device, processes, listed, facts)


def _train_on(args, galaxies, bar, start, output, device, processes, forms, facts):
    """Train on galaxies that are there, or still to come."""
    total = len(galaxies.paths)

    def available(shards):
        """What the first shards hold, to train on and to hold out, as soon as they are there."""
        while processes.first and galaxies.shards < shards:
            galaxies.take(galaxies.shards + 1)
            bar.update()
        processes.wait()
        return _parted(galaxies.take(shards))

    def due(step):
        """Shards that are trained on from a step on: all of them, from half of the training on."""
        share = begun_with + (1 - begun_with) * 2 * step / trainer.steps
        return math.ceil(total * min(1.0, share))

    begun_with = _BEGUN_WITH if args.meanwhile else 1.0
    data, held_out = available(math.ceil(begun_with * total))
    settings = Settings(
        args.samples,
        args.batch,
        args.rate,
        dropout=args.dropout,
        seed=args.seed,
        begun_with=begun_with,
        objective=args.objective,
        galaxies=total * SHARD if args.meanwhile else len(data["facts"]),
        forms=forms,
    )
    objective = simulated_posterior if args.objective == "posterior" else Reconstruction(torch.device(device))
    freedom = FREEDOM if start is None else start.settings["freedom"]
    if args.objective == "reconstruction":  # whose mean far draws of heavy tails would be all of
        freedom = None
    trainer = Trainer(settings, data, objective, device, processes, freedom=freedom)
    if start is not None:
        trainer.start_from(start)

    def grow():
        trainer.data = available(due(trainer.step))[0]

    every = min(_CHECKPOINT_STEPS, -(-trainer.steps // _GROWTHS)) if args.meanwhile else _CHECKPOINT_STEPS
    _steps(trainer, output, every, lambda: {"held_out": trainer.validate(held_out)}, grow)
    if processes.first:
        encoder = trainer.average.module.eval()
        _recalibrate(encoder, held_out, args.seed)
        return _finish(args, trainer, output, facts | {"held_out_loss": trainer.curve[-1]["held_out"]})
    return None


def train_on_cubes(args, forms, output, device, processes):
    """Train on the posteriors of cubes; as `train_on_simulations` otherwise."""
    data, simulations = _simulations(args.store, -(-args.galaxies // SHARD)) if args.store else (None, None)
    start, info = load_encoder(args.start), weights_info(args.start)
    if args.dropout is None:
        args.dropout = start.settings["dropout"]
    fitted = None
    if processes.first:
        options = forms | {"weights": args.start} | ({"device": args.device} if args.device else {})
        with tqdm(total=len(args.fine_tune), desc="fitted", unit="cube") as bar:
            fitted = fit_cubes(
                args.fine_tune,
                args.draws,
                workers=args.workers,
                seed=args.seed,
                progress=lambda *_: bar.update(),
                **options,
            )
    fitted = processes.shared(fitted)
    with warnings.catch_warnings():
        if not processes.first:
            warnings.simplefilter("ignore")
        survey = load_survey(*fitted)
    mine, others = survey.split()
    held_out = others.drawn(max(1, _HELD_OUT // len(others)))
    record = hashlib.sha256(" ".join(sorted(cube["digest"] for cube in mine.cubes)).encode()).hexdigest()[:16]
    settings = Settings(
        args.samples,
        args.batch,
        args.rate,
        average=_FINE_AVERAGE,
        dropout=args.dropout,
        seed=args.seed,
        objective="fine-tune",
        galaxies=len(mine),
        forms=f"{_listed(forms)}; cubes {record}; from {info['sha256'][:16]}",
    )
    trainer = Trainer(settings, mine.data, FineTuning(data), device, processes, start)

    def measure():
        losses = {"held_out": trainer.validate(held_out, simulated_posterior)}
        if simulations:
            losses["simulations"] = trainer.validate(simulations, simulated_posterior)
        return losses

    before = measure()
    _steps(trainer, output, _FINE_STEPS, measure)
    if not processes.first:
        return None
    encoder = trainer.average.module.eval()
    if simulations:
        _recalibrate(encoder, simulations, args.seed)
    kept = ("name", "digest", "role", "flags", "n_draws", "n_effective")
    facts = {key: info[key] for key in ("forms", "ranges") if key in info}
    facts["fine_tune"] = {
        "cubes": [{key: cube[key] for key in kept} for cube in survey.cubes],
        "left_out": survey.left_out,
        "held_out": "cubes" if others.cubes != survey.cubes else "draws",
        "forms": survey.cubes[0]["forms"],
        "simulations": len(data["facts"]) if data else 0,
    }
    names = {"held_out": "held_out_loss", "simulations": "simulations_loss"}
    for name, value in before.items():
        facts |= {names[name]: trainer.curve[-1][name], f"{names[name]}_before": value}
    return _finish(args, trainer, output, facts)


def _recalibrate(encoder, simulations, seed):
    """Measure the ranks of held-out simulations, and keep them with the weights."""
    ranks, snr = measure_ranks(encoder, simulations, target_floor(), seed)
    encoder.ranks.copy_(ranks)
    encoder.ranks_snr.copy_(snr)


def _simulations(store, shards):
    """Simulated galaxies of a store to train on, and to hold out."""
    data = Galaxies(store, shards).take()
    if not data:
        raise KinematicsError(f"no simulations in {store}", "a store", f"train NAME --store {store}, to make one")
    return _parted(data)


def _parted(data):
    """Galaxies to train on, and to hold out."""
    return ({key: v[_HELD_OUT:] for key, v in data.items()}, {key: v[:_HELD_OUT] for key, v in data.items()})


def _steps(trainer, output, every, measure, grow=lambda: None):
    """All steps there are still to take; galaxies ``grow`` before ``every`` so many, and a checkpoint comes after."""
    checkpoint, first = output.with_suffix(".checkpoint"), trainer.processes.first
    if checkpoint.exists():
        trainer.load(checkpoint)
    trainer.processes.wait()  # before the first writes another
    with tqdm(total=trainer.steps, initial=trainer.step, desc="trained", unit="step", disable=not first) as bar:
        while trainer.step < trainer.steps:
            grow()
            loss = trainer.run(every, progress=lambda *_: bar.update())
            trainer.curve[-1] |= measure()
            if first:
                trainer.save(checkpoint)
                write_curve(trainer.curve, trainer.settings.batch, output)
            bar.set_postfix(loss=f"{loss:.2f}", held_out=f"{trainer.curve[-1]['held_out']:.2f}")


def _finish(args, trainer, output, facts):
    """Write the weights with their metadata, and their card. The next call to make."""
    command = {key: value for key, value in vars(args).items() if isinstance(value, str | int | float | list)}
    common = {
        **({"start": _origin(args.start)} if args.start else {}),
        "command": without_folders(command),
        "training": asdict(trainer.settings) | {"galaxies": trainer.curve[-1]["galaxies"]},
        "seconds": round(trainer.seconds),
        "processes": trainer.processes.count,
        "device": trainer.device.type,
        "version": __version__,
        "torch": torch.__version__,
    }
    save_encoder(trainer.average.module, output, facts | common)
    write_card(output)
    output.with_suffix(".checkpoint").unlink(missing_ok=True)
    named = list_weights().get(output.stem) == output
    command = "fit-maps VELOCITY.fits" if facts.get("input") == "maps" else "fit CUBE.fits"
    return f"{output}: kinematics-nn {command} --weights {output.stem if named else output}"


def _listed(forms, input="cubes"):
    return ", ".join([*([] if input == "cubes" else [input]), *(f"{kind} {name}" for kind, name in forms.items())])


def _origin(name):
    """What the metadata say of the weights that a training began with, so far as they can be made again."""
    kept = ("name", "sha256", "command", "training", "held_out_loss", "device", "version", "start")
    return {key: value for key, value in weights_info(name).items() if key in kept}
