"""``kinematics-nn train``: its options, and what it refuses before anything is made."""

import re
from pathlib import Path

from ..errors import KinematicsError

__all__ = ["add_arguments", "run"]

_DEFAULTS = {"samples": 2_000_000, "batch": 64, "rate": 1.5e-3, "dropout": 0.05}
_FINE_DEFAULTS = {"samples": 100 * 32, "batch": 32, "rate": 3e-5, "start": "default"}


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
    add("--device", help="of the training, and of the simulations of a new store; a GPU if there is one")
    add("--overwrite", action="store_true", help="replace the output, and start anew rather than from its checkpoint")


def run(args):
    """Train as the arguments say; a run that was stopped goes on from its checkpoint."""
    import torch

    from ..network.weights import weights_folder
    from .parallel import Processes
    from .runs import train_on_cubes, train_on_simulations
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
            said = train_on_cubes(args, forms, output, device, processes)
        else:
            said = train_on_simulations(args, forms, ranges, title, output, device, processes)
    finally:
        processes.leave()
    if said:
        print(said)


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
