"""``kinematics-nn train``: simulate, train, write weights with their metadata."""

import hashlib
import math
import re
import warnings
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from ..errors import KinematicsError

__all__ = ["add_arguments", "run"]

_CHECKPOINT_STEPS = 500
_FINE_STEPS = 10  # between the checkpoints of a fine-tuning
_HELD_OUT = 2000
_BEGUN_WITH = 0.125  # of the galaxies, where the others are made meanwhile
_DEFAULTS = {"samples": 2_000_000, "batch": 64, "rate": 1.5e-3, "dropout": 0.05}
_FINE_DEFAULTS = {"samples": 100 * 32, "batch": 32, "rate": 3e-5, "start": "default"}
_FINE_AVERAGE = 0.95  # a step: of tens of steps, not of thousands


def add_arguments(parser):
    """Declare the options of ``kinematics-nn train``."""
    add = parser.add_argument
    add("output", nargs="?", help="name of the weights, which `fit --weights` then finds, or a .safetensors file; by "
        "default the name of the forms. Beside them go the losses (.ecsv, .png) and a model card (.md)")  # fmt: skip
    add("--rotation-curve", metavar="FORM", help="train for this one alone: its answers are narrower")
    add("--surface-brightness", metavar="FORM", help="likewise")
    add("--input", choices=("cubes", "maps"), default="cubes", help="maps: moment maps, for `fit-maps`")
    add("--store", help="folder of simulated frames; what is there is used, what is missing made [frames, and with "
        "maps or a form frames-maps, frames-FORM]")  # fmt: skip
    add("--galaxies", type=int, default=400_000, help="galaxies to simulate, in whole shards of 4096")
    add("--meanwhile", action="store_true", help="begin to train when an eighth of them are there, and take in the "
        "others as they are made")  # fmt: skip
    add("--samples", type=int, help="galaxies to train on, counting each time one is seen [2000000; fine-tuning 3200]")
    add("--batch", type=int, help="galaxies a step, of all processes [64; fine-tuning 32, and as many simulations]")
    add("--rate", type=float, help="peak learning rate [1.5e-3; fine-tuning 3e-5]")
    add("--dropout", type=float, help="rate of Monte-Carlo dropout [0.05; fine-tuning that of --from]")
    add("--objective", choices=("posterior", "reconstruction"), default="posterior",
        help="log density of the simulated parameters, or reconstruction through the physics")  # fmt: skip
    add("--from", dest="start", help="weights to start from: a name or a .safetensors file")
    add("--fine-tune", nargs="+", metavar="CUBE", help="cubes without labels, whose refined posteriors are learnt; "
        "--store is then of simulations to mix in, and the forms are those of the fits")  # fmt: skip
    add("--draws", default="draws", metavar="FOLDER", help="of the cubes' posteriors; what is there is used [draws]")
    add("--workers", type=int, default=1, help="processes that simulate, or fit")
    add("--seed", type=int, default=0)
    add("--device", help="of the training, and of the simulations; a GPU if there is one")
    add("--overwrite", action="store_true", help="replace the output, and start anew rather than from its checkpoint")


def run(args):
    """Train as the arguments say; a run that was stopped goes on from its checkpoint."""
    import torch

    from ..network.weights import weights_folder
    from .parallel import Processes
    from .simulations import ranges_of_forms

    for name, value in (_FINE_DEFAULTS if args.fine_tune else _DEFAULTS).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    given = {"rotation_curve": args.rotation_curve, "surface_brightness": args.surface_brightness}
    forms = {kind: name for kind, name in given.items() if name}
    ranges = None if args.fine_tune else ranges_of_forms(**forms)
    words = [re.sub(r"[^\w+-]", "_", name) for name in forms.values()]  # a sum's name has colons
    title = "-".join(words if args.input == "cubes" else [args.input, *words])
    output = _output(args.output or ("" if args.fine_tune else title), weights_folder())
    if output.exists() and not args.overwrite:
        raise KinematicsError(f"{output} exists", "another name, or leave to replace it", "train --overwrite")
    if args.galaxies < 1:
        raise KinematicsError(f"--galaxies {args.galaxies}", "a shard of galaxies or more", "train --galaxies 400000")
    if args.meanwhile and args.fine_tune:
        raise KinematicsError(
            "--meanwhile with --fine-tune, which simulates nothing",
            "a store that is there",
            "train --fine-tune CUBE --store FOLDER",
        )
    if args.samples < args.batch:
        raise KinematicsError(
            f"--samples {args.samples}", f"at least one batch, {args.batch}", "train --samples 2000000"
        )
    if args.input == "maps" and (args.objective != "posterior" or args.fine_tune):
        given = "--fine-tune" if args.fine_tune else f"--objective {args.objective}"
        raise KinematicsError(
            f"{given} with --input maps, which are no cubes to render", "the posterior", "train --input maps"
        )
    processes = Processes.started()
    processes.rows(args.batch)
    device = processes.join(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if args.overwrite and processes.first:
            output.with_suffix(".checkpoint").unlink(missing_ok=True)
        if args.fine_tune:
            _fine_tune(args, forms, output, device, processes)
        else:
            _train(args, forms, ranges, title, output, device, processes)
    finally:
        processes.leave()


def _train(args, forms, ranges, title, output, device, processes):
    """Train on simulations, which the first process has made by others."""
    from ..network.weights import load_encoder
    from .store import SHARD, Galaxies, shards_to_come

    start = load_encoder(args.start) if args.start else None  # what is not there is known before hours of simulations
    shards = -(-args.galaxies // SHARD)
    store = args.store or "-".join(filter(None, ["frames", title]))
    made = {"seed": args.seed, "workers": args.workers, "ranges": ranges, "input": args.input, "device": device}
    with ExitStack() as stack:
        coming = stack.enter_context(shards_to_come(store, shards, **made)) if processes.first else {}
        facts = {"input": args.input} | ({"forms": forms} if forms else {}) | {"ranges": asdict(ranges)}
        listed = _listed(forms, args.input)
        _train_on(args, Galaxies(store, shards, coming), start, output, device, processes, listed, facts)


def _train_on(args, galaxies, start, output, device, processes, forms, facts):
    """Train on galaxies that are there, or still to come."""
    import torch
    from tqdm import tqdm

    from .loop import FREEDOM, Settings, Trainer
    from .objectives import simulated_posterior
    from .reconstruction import Reconstruction
    from .store import SHARD

    total = len(galaxies.paths)
    bar = tqdm(total=total, desc="simulated", unit="shard", disable=not processes.first)

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

    _steps(trainer, output, _CHECKPOINT_STEPS, lambda: {"held_out": trainer.validate(held_out)}, grow)
    bar.close()
    if processes.first:
        encoder = trainer.average.module.eval()
        _recalibrate(encoder, held_out, args.seed)
        _finish(args, trainer, output, facts | {"held_out_loss": trainer.curve[-1]["held_out"]})


def _fine_tune(args, forms, output, device, processes):
    """Train on the posteriors of cubes."""
    from tqdm import tqdm

    from ..network.weights import load_encoder, weights_info
    from .fine_tune import FineTuning, fit_cubes, load_survey
    from .loop import Settings, Trainer
    from .objectives import simulated_posterior
    from .store import SHARD

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
        return
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
    _finish(args, trainer, output, facts)


def _recalibrate(encoder, simulations, seed):
    """Measure the ranks of held-out simulations, and keep them with the weights."""
    from ..network.recalibration import measure_ranks
    from .objectives import target_floor

    ranks, snr = measure_ranks(encoder, simulations, target_floor(), seed)
    encoder.ranks.copy_(ranks)
    encoder.ranks_snr.copy_(snr)


def _simulations(store, shards):
    """Simulated galaxies of a store to train on, and to hold out."""
    from .store import Galaxies

    data = Galaxies(store, shards).take()
    if not data:
        raise KinematicsError(f"no simulations in {store}", "a store", f"train NAME --store {store}, to make one")
    return _parted(data)


def _parted(data):
    """Galaxies to train on, and to hold out."""
    return ({key: v[_HELD_OUT:] for key, v in data.items()}, {key: v[:_HELD_OUT] for key, v in data.items()})


def _steps(trainer, output, every, measure, grow=lambda: None):
    """All steps there are still to take; galaxies ``grow`` before ``every`` so many, and a checkpoint comes after."""
    from tqdm import tqdm

    from .curves import write_curve

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
    """Write the weights with their metadata, and their card."""
    import torch

    from .. import __version__
    from ..network.weights import list_weights, save_encoder
    from .card import without_folders, write_card

    command = {key: value for key, value in vars(args).items() if isinstance(value, str | int | float | list)}
    common = {
        **({"start": _origin(args.start)} if args.start else {}),
        "command": without_folders(command),
        "training": asdict(trainer.settings),
        "seconds": round(trainer.seconds),
        "processes": trainer.processes.count,
        "version": __version__,
        "torch": torch.__version__,
    }
    save_encoder(trainer.average.module, output, facts | common)
    write_card(output)
    output.with_suffix(".checkpoint").unlink(missing_ok=True)
    named = list_weights().get(output.stem) == output
    command = "fit-maps VELOCITY.fits" if facts.get("input") == "maps" else "fit CUBE.fits"
    print(f"{output}: kinematics-nn {command} --weights {output.stem if named else output}")


def _listed(forms, input="cubes"):
    return ", ".join([*([] if input == "cubes" else [input]), *(f"{kind} {name}" for kind, name in forms.items())])


def _origin(name):
    """What the metadata say of the weights that a training began with, so far as they can be made again."""
    from ..network.weights import weights_info

    kept = ("name", "sha256", "command", "training", "held_out_loss", "version", "start")
    return {key: value for key, value in weights_info(name).items() if key in kept}


def _output(given, folder):
    """The file to write: a name's is in the user's folder of weights."""
    from ..network.weights import list_weights

    path = Path(given)
    if path.suffix == ".safetensors":
        return path
    if not given or path.suffix or path.name != given:
        raise KinematicsError(
            f"output {given!r}", "a name, or a file that ends in .safetensors", f"train {path.stem or 'mine'}"
        )
    path = folder / f"{given}.safetensors"
    if list_weights().get(given, path) != path:
        raise KinematicsError(f"output {given!r}, the name of shipped weights", "a name of your own", "train mine")
    return path
