"""``kinematics-nn train``: simulate, train, write weights with their metadata."""

import re
from dataclasses import asdict
from pathlib import Path

import astropy.units as u
from astropy.table import QTable

from ..errors import KinematicsError

__all__ = ["add_arguments", "run"]

_CHECKPOINT_STEPS = 500
_HELD_OUT = 2000


def add_arguments(parser):
    """Declare the options of ``kinematics-nn train``."""
    add = parser.add_argument
    add("output", nargs="?", help="name of the weights, which `fit --weights` then finds, or a .safetensors file; by "
        "default the name of the forms. A table of losses goes beside it (.ecsv)")  # fmt: skip
    add("--rotation-curve", metavar="FORM", help="train for this one alone: its answers are narrower")
    add("--surface-brightness", metavar="FORM", help="likewise")
    add("--input", choices=("cubes", "maps"), default="cubes", help="maps: moment maps, for `fit-maps`")
    add("--store", help="folder of simulated frames; what is there is used, what is missing made [frames, and with "
        "maps or a form frames-maps, frames-FORM]")  # fmt: skip
    add("--galaxies", type=int, default=400_000, help="galaxies to simulate")
    add("--samples", type=int, default=2_000_000, help="galaxies to train on, counting each time one is seen")
    add("--batch", type=int, default=64)
    add("--rate", type=float, default=1.5e-3, help="peak learning rate")
    add("--dropout", type=float, default=0.05)
    add("--objective", choices=("posterior", "reconstruction"), default="posterior",
        help="log density of the simulated parameters, or reconstruction through the physics")  # fmt: skip
    add("--from", dest="start", help="weights to start from: a name or a .safetensors file")
    add("--workers", type=int, default=1, help="processes that simulate")
    add("--seed", type=int, default=0)
    add("--device", help="of the training; a GPU if there is one")
    add("--overwrite", action="store_true", help="replace the output, and start anew rather than from its checkpoint")


def run(args):
    """Train as the arguments say; a run that was stopped goes on from its checkpoint."""
    import torch
    from tqdm import tqdm

    from .. import __version__
    from ..network.recalibration import measure_ranks
    from ..network.weights import load_encoder, save_encoder, weights_folder
    from .loop import Settings, Trainer
    from .objectives import simulated_posterior, target_floor
    from .reconstruction import Reconstruction
    from .simulations import ranges_of_forms
    from .store import SHARD, load_shards, simulate_shards

    given = {"rotation_curve": args.rotation_curve, "surface_brightness": args.surface_brightness}
    forms = {kind: name for kind, name in given.items() if name}
    ranges = ranges_of_forms(**forms)
    words = [re.sub(r"[^\w+-]", "_", name) for name in forms.values()]  # a sum's name has colons
    title = "-".join(words if args.input == "cubes" else [args.input, *words])
    output = _output(args.output or title, weights_folder())
    checkpoint = output.with_suffix(".checkpoint")
    if output.exists() and not args.overwrite:
        raise KinematicsError(f"{output} exists", "another name, or leave to replace it", "train --overwrite")
    if args.galaxies < 1:
        raise KinematicsError(f"--galaxies {args.galaxies}", "a shard of galaxies or more", "train --galaxies 400000")
    if args.samples < args.batch:
        raise KinematicsError(
            f"--samples {args.samples}", f"at least one batch, {args.batch}", "train --samples 2000000"
        )
    if args.input == "maps" and args.objective != "posterior":
        raise KinematicsError(
            f"--objective {args.objective} with --input maps, which are no cubes to render",
            "the posterior",
            "train --input maps",
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    if args.overwrite:
        checkpoint.unlink(missing_ok=True)
    shards = -(-args.galaxies // SHARD)
    store = args.store or "-".join(filter(None, ["frames", title]))
    made = simulate_shards(store, shards, seed=args.seed, workers=args.workers, ranges=ranges, input=args.input)
    for _ in tqdm(made, total=shards, desc="simulated", unit="shard"):
        pass
    parts = list(load_shards(store, shards).values())
    data = {key: torch.cat([part.pop(key) for part in parts]) for key in list(parts[0])}
    held_out = {key: value[:_HELD_OUT] for key, value in data.items()}
    data = {key: value[_HELD_OUT:] for key, value in data.items()}
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    objective = simulated_posterior if args.objective == "posterior" else Reconstruction(device)
    settings = Settings(
        args.samples,
        args.batch,
        args.rate,
        dropout=args.dropout,
        seed=args.seed,
        objective=args.objective,
        galaxies=len(data["facts"]),
        forms=", ".join([*([] if args.input == "cubes" else [args.input]), *(f"{k} {n}" for k, n in forms.items())]),
    )
    trainer = Trainer(settings, data, objective, device)
    if args.start:
        trainer.start_from(load_encoder(args.start))
    if checkpoint.exists():
        trainer.load(checkpoint)
    with tqdm(total=trainer.steps, initial=trainer.step, desc="trained", unit="step") as bar:
        while trainer.step < trainer.steps:
            loss = trainer.run(_CHECKPOINT_STEPS, progress=lambda *_: bar.update())
            trainer.curve[-1]["held_out"] = trainer.validate(held_out)
            trainer.save(checkpoint)
            bar.set_postfix(loss=f"{loss:.2f}", held_out=f"{trainer.curve[-1]['held_out']:.2f}")
    encoder = trainer.average.module.eval()
    encoder.ranks.copy_(measure_ranks(encoder, held_out, target_floor(), args.seed))
    table = QTable(rows=trainer.curve)
    table["seconds"].unit = u.s
    table.write(output.with_suffix(".ecsv"), overwrite=True)
    save_encoder(
        encoder,
        output,
        {
            "input": args.input,
            **({"forms": forms} if forms else {}),
            "ranges": asdict(ranges),
            "command": {key: value for key, value in vars(args).items() if isinstance(value, str | int | float)},
            "training": asdict(settings),
            "held_out_loss": trainer.curve[-1]["held_out"],
            "seconds": round(trainer.seconds),
            "version": __version__,
            "torch": torch.__version__,
        },
    )
    checkpoint.unlink(missing_ok=True)


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
