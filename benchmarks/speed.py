"""How long a fit takes, part by part, beside one KinMS model of the same cube on the same machine.

``python benchmarks/speed.py`` prints seconds (medians) and their ratio to KinMS's; only the ratios carry over to other
machines. ``--threads`` sets torch's.
"""

import argparse
import statistics
import subprocess
import sys
import time

import astropy.units as u
import numpy as np
import torch
from astropy.table import Table
from kinms_galaxies import draw_truth, render


def median_time(function, repeats):
    """Median wall time [s] of a call, after one that warms up."""
    function()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


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
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

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
    }
    seconds = {name: median_time(task, args.repeats) for name, task in tasks.items()}
    kinms = seconds["KinMS, 100,000 clouds"]
    rows = [(name, value, value / kinms) for name, value in seconds.items()]
    Table(rows=rows, names=["task", "seconds", "over KinMS"]).pprint_all()
    ours, theirs = import_time("kinematics_nn"), import_time("spectral_cube")
    print(f"import kinematics_nn / import spectral_cube = {ours / theirs:.2f}; torch threads: {args.threads}")


if __name__ == "__main__":
    main()
