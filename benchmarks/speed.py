"""How long a fit takes, part by part, beside one KinMS model of the same cube on the same machine.

``python benchmarks/speed.py`` prints seconds (medians) and their ratio to KinMS's; only the ratios carry over to other
machines. ``--threads`` sets torch's. A second table is of many galaxies at once, on the processor and on a GPU where
there is one: of their frames through the encoder, with 100 realisations each, and of the frames themselves.
``--cpu-time`` counts the processor's time in the place of the clock's, for a machine with other work on it.
"""

import argparse
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import astropy.units as u
import numpy as np
import torch
from astropy.table import Table
from kinms_galaxies import draw_truth, render

BATCH, REALISATIONS = 256, 100  # galaxies at once, and draws of each


def median_time(function, repeats, clock=time.perf_counter):
    """Median time [s] of a call, after one that warms up."""
    function()
    times = []
    for _ in range(repeats):
        began = clock()
        function()
        times.append(clock() - began)
    return statistics.median(times)


def of_many(observation, repeats, clock, device="cpu"):
    """Rows of a table: galaxies a second on a device through the parts of the network, ``BATCH`` at once."""
    from kinematics_nn.inference.realisations import encoder_draws
    from kinematics_nn.network.frame import make_frame
    from kinematics_nn.network.prepare import prepare
    from kinematics_nn.network.weights import load_encoder

    encoder = load_encoder(device=device)
    cubes, _ = prepare(observation)
    with torch.no_grad():
        frame = make_frame(cubes)
    # One galaxy's frame many times: the time doesn't hang on what is in it.
    image, facts = (
        getattr(frame, name).expand(BATCH, *getattr(frame, name).shape[1:]).contiguous().to(device)
        for name in ("image", "facts")
    )
    many = replace(
        cubes,
        **{
            field: value.expand(32, *value.shape[1:]).to(device)
            for field, value in vars(cubes).items()
            if torch.is_tensor(value)
        },
    )

    def waited(function):
        def call():
            function()
            if device != "cpu":
                torch.cuda.synchronize()

        return call

    def framed():
        with torch.no_grad():
            make_frame(many)

    tasks = {
        f"encoder, {REALISATIONS} realisations each": (
            BATCH,
            lambda: encoder_draws(encoder, image, facts, REALISATIONS, 1),
        ),
        "the same, each with a seed of its own": (
            BATCH,
            lambda: encoder_draws(encoder, image, facts, REALISATIONS, range(BATCH)),
        ),
        "10,000 realisations of one": (1, lambda: encoder_draws(encoder, image[:1], facts[:1], 10_000, 1)),
        "make_frame() of 32 of equal size": (32, framed),
    }
    rows = []
    for name, (galaxies, task) in tasks.items():
        seconds = median_time(waited(task), repeats, clock)
        rows.append((device, name, galaxies, seconds, galaxies / seconds))
    return rows


def import_time(module, repeats=5):
    """Median wall time [s] of importing a module in a fresh interpreter."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    times = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(repeats)]
    return statistics.median(times)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--cpu-time", action="store_true", help="of all threads together, in the place of the clock's")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.cpu_time else time.perf_counter

    import kinematics_nn
    from kinematics_nn.decoder import Forms
    from kinematics_nn.forms import get_form
    from kinematics_nn.inference.realisations import network_draws, network_samples
    from kinematics_nn.observation import observe

    cube = kinematics_nn.simulate(rms=1 * u.mJy / u.beam, seed=1)
    observation = observe(cube)
    forms = Forms(
        get_form("arctan", "rotation_curve"),
        get_form("exponential", "surface_brightness"),
        get_form("constant", "velocity_dispersion"),
    )
    truth = draw_truth(np.random.default_rng(0))
    tasks = {
        "KinMS, 100,000 clouds": lambda: render(truth, seed=1, n_clouds=100_000),
        "simulate() of 64 x 64 x 40": lambda: kinematics_nn.simulate(),
        "observe() of 64 x 64 x 40": lambda: observe(cube),
        "10,000 realisations": lambda: network_draws(observation, 10_000, seed=1),
        "10,000 realisations, fitted by forms": lambda: network_samples(observation, forms, 10_000, seed=1),
        "fit(method='network')": lambda: cube.kinematics.fit(method="network", seed=1),
        "fit()": lambda: cube.kinematics.fit(seed=1),
    }
    seconds = {name: median_time(task, args.repeats, clock) for name, task in tasks.items()}
    kinms = seconds["KinMS, 100,000 clouds"]
    rows = [(name, value, value / kinms) for name, value in seconds.items()]
    Table(rows=rows, names=["task", "seconds", "over KinMS"]).pprint_all()
    rows = of_many(observation, args.repeats, clock)
    if torch.cuda.is_available():
        rows += of_many(observation, args.repeats, time.perf_counter, "cuda")
    Table(rows=rows, names=["device", "many at once", "galaxies", "seconds", "galaxies a second"]).pprint_all()
    ours, theirs = import_time("kinematics_nn"), import_time("spectral_cube")
    print(f"import kinematics_nn / import spectral_cube = {ours / theirs:.2f}; torch threads: {args.threads}")


if __name__ == "__main__":
    main()
