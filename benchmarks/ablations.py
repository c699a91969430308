"""
What each choice of the network is worth: small trainings that differ in one of them, tested on the same galaxies.

``python benchmarks/ablations.py FOLDER`` simulates stores of cubes, of moment maps of the same galaxies, and of
galaxies of one form (arctan, exponential), trains a network on each, and one with a point head, and prints a table.
``--rows`` chooses among them; ``--store`` takes a store of cubes that is there. All are resumed where they stopped. The
trainings are small ones of one seed: differences are to be read, not the errors themselves.

The point head is the published kind of uncertainty: a mean trained by squared error, and as its error bar the spread of
passes with dropout on, at the published rate of 0.1. It has the same trunk, sees the same galaxies as often, and gives
the same whitened quantities. The network of one form gives curves too; it differs in that it has seen no other forms.

Errors are of the medians of 400 draws, against galaxies that none has trained on: inclination, position angle, the
projected speed at the half-light radius, that radius; ``in 68 %`` is how often the central interval holds the truth.
The test galaxies are as the simulations: many are faint, small, or nearly face-on.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from accuracy import median_error
from astropy.table import Table

from kinematics_nn.network.dropout import realisations
from kinematics_nn.network.targets import TARGETS
from kinematics_nn.network.weights import load_encoder, save_encoder
from kinematics_nn.training.loop import Settings, Trainer
from kinematics_nn.training.objectives import mirrored, simulated_posterior
from kinematics_nn.training.simulations import ranges_of_forms
from kinematics_nn.training.store import SHARD, Galaxies, shard_path, simulate_shards

__all__ = ["ROWS", "density_draws", "point_draws", "point_head", "score", "train"]

TEST = 1000  # galaxies of the last shard of a store, which is not trained on
DRAWS = 400
FORM = {"rotation_curve": "arctan", "surface_brightness": "exponential"}


def point_head(encoder, batch, generator=None):
    """Mean squared error of the whitened targets: an objective for `Trainer`."""
    facts, targets = mirrored(batch["facts"], batch["targets"], generator)
    white = (targets - encoder.target_mean) @ encoder.target_matrix.T
    return ((_point(encoder, encoder.trunk(batch["image"].float(), facts)) - white) ** 2).mean()


def _point(encoder, trunk):
    """Whitened targets: the mean of the density's affine map alone."""
    return encoder.density.mean(encoder.context(trunk))


def point_draws(encoder, image, facts, n, seed):
    """(galaxy, n, target): passes of a point head with dropout on."""
    with torch.no_grad(), realisations(encoder, seed):
        rows = encoder.trunk(image.float(), facts)[:, None].expand(-1, n, -1).flatten(0, 1)
        targets = torch.linalg.solve(encoder.target_matrix, _point(encoder, rows).T).T + encoder.target_mean
    return targets.unflatten(0, (len(image), n))


def density_draws(encoder, image, facts, n, seed):
    """(galaxy, n, target): draws of a density, each under a dropout mask of its own."""
    with torch.no_grad(), realisations(encoder, seed) as generator:
        return encoder.sample(encoder.trunk(image.float(), facts), n, generator)


# name -> (store to train on, objective, draws, stores to test on, dropout)
ROWS = {
    "cube": ("cubes", simulated_posterior, density_draws, ("cubes", "form"), 0.05),
    "point": ("cubes", point_head, point_draws, ("cubes",), 0.1),
    "maps": ("maps", simulated_posterior, density_draws, ("maps",), 0.05),
    "form": ("form", simulated_posterior, density_draws, ("form",), 0.05),
}
TITLES = {
    "cube": "cube, density, all forms",
    "point": "cube, point head and dropout",
    "maps": "moment maps of the same galaxies",
    "form": "cube, trained on one form",
}


def physical(targets):
    """Quantities (..., 4) to score of targets: inclination [deg], angle [deg], logarithms of speed and radius [%]."""
    at = {name: targets[..., TARGETS.index(name)] for name in ("inclination", "pa", "speed_1.0", "r50")}
    return torch.stack(
        [
            torch.rad2deg(torch.arccos(torch.sigmoid(at["inclination"]))),
            torch.rad2deg(0.05 * torch.sinh(at["pa"].clamp(-4.83, 4.83))),
            100 * at["speed_1.0"],
            100 * at["r50"],
        ],
        -1,
    )


QUANTITIES = ("i [deg]", "PA [deg]", "v sin i [%]", "r50 [%]")


def score(draws, truth):
    """Cells of a table row: draws (galaxy, n, target) against truths (galaxy, target)."""
    draws, truth = physical(draws), physical(truth)
    low, middle, high = torch.quantile(draws, torch.tensor([0.16, 0.5, 0.84]), dim=1)
    off = (middle - truth).abs().numpy()
    held = ((truth >= low) & (truth <= high)).float().mean(0)
    row = {}
    for k, name in enumerate(QUANTITIES):
        row[name] = f"{np.median(off[:, k]):.2f}±{median_error(off[:, k]):.2f}"
        row[f"in 68 %, {name.split(' [')[0]}"] = f"{100 * float(held[k]):.0f}"
    return row


def train(name, data, folder, samples, seed=0, every=100):
    """The encoder of a row, trained or read, and what its training took: seconds, galaxies."""
    path, checkpoint = folder / f"{name}.safetensors", folder / f"{name}.checkpoint"
    _, objective, _, _, dropout = ROWS[name]
    settings = Settings(samples, dropout=dropout, seed=seed, objective=name, galaxies=len(data["facts"]))
    if not path.exists():
        trainer = Trainer(settings, data, objective)
        if checkpoint.exists():
            trainer.load(checkpoint)
        while trainer.step < trainer.steps:
            began = time.process_time()
            loss = trainer.run(every)
            trainer.curve[-1]["cpu"] = time.process_time() - began
            trainer.save(checkpoint)
            print(f"{name}: {trainer.step} of {trainer.steps} steps, loss {loss:.2f}", flush=True)
        cost = {"cpu": sum(part["cpu"] for part in trainer.curve), "samples": samples, "galaxies": len(data["facts"])}
        save_encoder(trainer.average.module, path, {"cost": cost})
        checkpoint.unlink(missing_ok=True)
    from kinematics_nn.network.weights import weights_info

    return load_encoder(path), weights_info(path)["cost"]


def frames(kind, options):
    """Galaxies to train on and to test on, simulated where they are missing."""
    store = options.store if kind == "cubes" and options.store else options.folder / f"frames-{kind}"
    shards = -(-options.galaxies // SHARD) + 1
    if not options.store or kind != "cubes":
        ranges = ranges_of_forms(**FORM) if kind == "form" else None
        which = "maps" if kind == "maps" else "cubes"
        for path in simulate_shards(store, shards, seed=options.seed, ranges=ranges, input=which):
            print(f"simulated {path}", flush=True)
    missing = [index for index in range(shards) if not shard_path(store, index).exists()]
    if missing:
        raise SystemExit(f"no shard {missing[0]} in {store}, where {shards} are needed")
    galaxies = Galaxies(store, shards)
    data = {key: value[: options.galaxies] for key, value in galaxies.take(shards - 1).items()}
    trained = galaxies.count
    return data, {key: value[trained : trained + TEST] for key, value in galaxies.take(shards).items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of stores, weights and checkpoints")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--store", type=Path, help="of simulated cubes, in the place of one made here")
    parser.add_argument("--galaxies", type=int, default=16384, help="to train on")
    parser.add_argument("--samples", type=int, default=131072, help="galaxies seen in a training")
    parser.add_argument("--seed", type=int, default=0, help="of the stores")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    stores, rows = {}, []
    for name in options.rows:
        source, _, draw, tests, _ = ROWS[name]
        wanted = [source, *(test for test in tests if test == source or test in {ROWS[row][0] for row in options.rows})]
        stores |= {kind: frames(kind, options) for kind in wanted if kind not in stores}
        encoder, cost = train(name, stores[source][0], options.folder, options.samples)
        for test in dict.fromkeys(wanted):
            held_out = stores[test][1]
            draws = torch.cat(
                [
                    draw(encoder, image, facts, DRAWS, k)
                    for k, (image, facts) in enumerate(
                        zip(held_out["image"].split(50), held_out["facts"].split(50), strict=True)
                    )
                ]
            )
            title = {"network": TITLES[name], "tested on": test, "CPU s": round(cost["cpu"])}
            rows.append(title | score(draws, held_out["targets"]))
            print(json.dumps(rows[-1]), flush=True)
    Table(rows).pprint_all()


if __name__ == "__main__":
    main()
