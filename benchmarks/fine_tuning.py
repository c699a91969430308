"""
Does fine-tuning on cubes without labels help on others like them, and are the error bars still right?

``python benchmarks/fine_tuning.py FOLDER --cubes 24 --held-out 100 --store STORE`` makes a survey that no simulation of
the training is like: beams of axis ratio 0.2 to 0.3 (the training has 0.4 and rounder), Hanning-smoothed noise averaged
by two channels, correlated as the beam, and discs with a bar, a stretch of light at one angle that the training has
none of. The network is fine-tuned on the refined posteriors of the first cubes, of which it is told no truth, and what
it says of the held-out ones before and after is held against their truths: the log density of the truth and how often
intervals of 68 % hold it. What is there is not made again. ``--store`` mixes simulations in, half and half.
"""

import argparse
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from astropy.io import fits
from astropy.table import Table

from kinematics_nn.cli import main as command
from kinematics_nn.decoder import DiscDecoder, Forms
from kinematics_nn.forms import get_form
from kinematics_nn.inference.coverage import rank_row
from kinematics_nn.inference.mock import Skies, draw_mock, mock_grid, observe_mock
from kinematics_nn.inference.realisations import NEAREST, form_samples, network_draws
from kinematics_nn.network.frame import make_frame
from kinematics_nn.network.prepare import prepare
from kinematics_nn.network.targets import encode_targets
from kinematics_nn.network.weights import load_encoder
from kinematics_nn.observation import observe, opened
from kinematics_nn.training.fine_tune import disc_of
from kinematics_nn.training.morphology import disc_plane
from kinematics_nn.training.objectives import target_floor

__all__ = ["FORMS", "barred", "draw_strange", "make_cube", "score"]

FORMS = Forms(
    get_form("arctan", "rotation_curve"),
    get_form("exponential", "surface_brightness"),
    get_form("constant", "velocity_dispersion"),
)
SKIES = Skies(snr=(8.0, 30.0), beams=(4.0, 12.0), line_channels=(8.0, 20.0), beam_pixels=(3.0, 4.0), pixels=72)
AXIS_RATIO, BAR = (0.2, 0.3), 0.5
SCORED = ("inclination", "pa", "x", "y", "vsys", "flux", "velocity_dispersion", "vmax", "r_scale", "v22", "v22_sini")


def draw_strange(rng):
    """A mock whose beam and noise the training has not."""
    mock = draw_mock(rng, FORMS, "own", SKIES)
    size, ratio = np.sqrt(mock.beam[0] * mock.beam[1]), rng.uniform(*AXIS_RATIO)
    beam = (size / np.sqrt(ratio), size * np.sqrt(ratio), mock.beam[2])
    return replace(mock, beam=beam, noise="beam", spectral="hanning, averaged by two")


def barred(disc, field, shape, r50, angle):
    """What a bar multiplies the light by, over a field of a shape (y, x): 1 ± BAR within half of r50, 1 far out."""
    radius, azimuth = (of[0].reshape(shape) for of in disc_plane(disc, field))
    return 1 + BAR * torch.exp(-0.5 * (radius / (0.5 * r50)) ** 2) * torch.cos(2 * (azimuth - angle))


def make_cube(path, seed):
    """A strange galaxy's cube at ``path``, with its truth in a table: both are made once."""
    if path.exists():
        return
    rng = np.random.default_rng(seed)
    mock = draw_strange(rng)
    decoder = DiscDecoder(mock_grid(mock), FORMS)
    truth = torch.tensor([[mock.truth[name] for name in FORMS.parameter_names]])
    disc = torch.tensor([[mock.truth[name] for name in ("inclination", "pa", "east", "north")]])
    light = barred(disc, decoder.field, decoder.field.shape, mock.truth["r50"], rng.uniform(0, np.pi))
    with torch.no_grad():
        bar = decoder.beam(decoder.sky(truth, light[None]))[0] - decoder(truth)[0]
    cube, _ = observe_mock(mock, rng, FORMS)
    data = (cube.unitless_filled_data[:] + bar.numpy()).astype(np.float32)
    names = list(mock.truth)
    table = fits.BinTableHDU.from_columns([fits.Column(name, "D", array=[mock.truth[name]]) for name in names])
    partial = path.with_suffix(".part")
    fits.HDUList([fits.PrimaryHDU(data, cube.header), table]).writeto(partial, overwrite=True)
    partial.rename(path)


def score(path, weights, seed):
    """What weights say of a cube: log density of its truth, and the rank and width of every parameter of `SCORED`."""
    with fits.open(path) as file:
        truth = {name: float(file[1].data[name][0]) for name in file[1].data.names}
    observation = observe(opened(str(path)))
    targets, frame = network_draws(observation, NEAREST * 2000, seed=seed, weights=weights)
    samples = form_samples(observation, FORMS, targets, frame)
    # Offsets count from the observation's own reference: the truth's, and pixels of the cube for what was found.
    _, (y0, _), (x0, _) = observation.header["crop"]
    first, matrix = np.array([observation.xi[0, 0], observation.eta[0, 0]]), observation.pixel_matrix
    truth["east"], truth["north"] = (first + matrix @ [truth["x"] - x0, truth["y"] - y0]).tolist()
    x, y = np.linalg.solve(matrix, np.stack([samples["east"], samples["north"]]) - first[:, None])
    samples |= {"x": x + x0, "y": y + y0}
    row = rank_row(samples, {name: truth[name] for name in SCORED}, np.random.default_rng(seed))
    return row | {"log_q": _log_density(observation, truth, weights)}


def _log_density(observation, truth, weights):
    """Mean log density of the truth's targets, with the noise that the training puts on them, dropout off."""
    encoder = load_encoder(weights)
    cubes, unit = prepare(observation)
    values = {name: torch.tensor([value], dtype=torch.float64) for name, value in truth.items()}
    disc = disc_of(FORMS, values, observation.header)
    with torch.no_grad():
        frame = make_frame(cubes)
        targets = encode_targets(replace(disc, flux=disc.flux / unit), frame).float()
        noise = torch.randn((64, targets.shape[1]), generator=torch.Generator().manual_seed(0)) * target_floor()
        trunk = encoder.trunk(frame.image, frame.facts)
        return float(encoder.log_prob(targets + noise, trunk.expand(64, -1)).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cubes", type=int, default=24)
    parser.add_argument("--held-out", type=int, default=100)
    parser.add_argument("--steps", type=int, default=100, help="of 32 draws")
    parser.add_argument("--weights", default="default", help="to start from")
    parser.add_argument("--store", help="of simulations to mix in")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    options.folder.mkdir(parents=True, exist_ok=True)
    paths = [options.folder / f"strange{k:04d}.fits" for k in range(options.cubes + options.held_out)]
    for number, path in enumerate(paths):
        make_cube(path, [17, number])
    after = options.folder / "tuned.safetensors"
    began = time.process_time()
    if not after.exists():
        words = ["train", after, "--from", options.weights, "--samples", 32 * options.steps]
        words += ["--draws", options.folder / "draws", "--fine-tune", *paths[: options.cubes]]
        words += ["--store", options.store, "--galaxies", 4096] if options.store else []
        if command([str(word) for word in words]):
            raise SystemExit("the fine-tuning failed")
    print(f"fits and fine-tuning: {time.process_time() - began:.0f} s of the processor, but for what was there")
    table, densities = [], []
    for name, weights in (("before", options.weights), ("after", after)):
        rows = []
        for number, path in enumerate(paths[options.cubes :]):
            try:
                rows.append(score(path, weights, number) | {"path": path.name})
            except ValueError as error:  # a galaxy that is refused is none of either
                print(f"{path.name}: {error}")
        densities.append({row["path"]: row["log_q"] for row in rows})
        for parameter in SCORED:
            ranks, sigma = (np.array([row[f"{parameter}_{part}"] for row in rows]) for part in ("rank", "sigma"))
            held = np.mean(abs(ranks - 0.5) < 0.34)
            off = np.array([row[f"{parameter}_p50"] - row[f"{parameter}_true"] for row in rows])
            table.append(
                {
                    "weights": name, "parameter": parameter, "n": len(rows),
                    "in 68 %": f"{100 * held:.0f}±{100 * np.sqrt(0.68 * 0.32 / len(rows)):.0f}",
                    "median error": f"{np.median(abs(off)):.3g}", "median sigma": f"{np.median(sigma):.3g}",
                }
            )  # fmt: skip
    Table(table).pprint_all()
    gains = np.array([densities[1][path] - value for path, value in densities[0].items() if path in densities[1]])
    means = [np.mean(list(values.values())) for values in densities]
    error = gains.std() / np.sqrt(len(gains))
    print(f"log density of the truth: {means[0]:.2f} before, {means[1]:.2f} after: {gains.mean():+.2f}±{error:.2f}")


if __name__ == "__main__":
    main()
