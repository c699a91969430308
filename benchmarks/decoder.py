"""How fast the decoder is: beside KinMS on the same cube, beside its floor, and as cubes grow.

``python benchmarks/decoder.py --threads 2`` prints the tables; with ``--rst`` they are what the documentation holds as
``docs/accuracy/decoder_speed.inc``. All tasks of a table run in turn, round after round, timed by
`torch.utils.benchmark.Timer`; a ratio is the median over rounds of ratios within a round, and only ratios carry over to
other machines. The disc is the thin one of 60 degrees in ``benchmarks/decoder_exactness.py``, or the same with a scale
height of a pixel: 64 x 64 x 40 voxels, beam 4 pixels, float32, pixels integrated, the decoder's defaults: what is timed
is what is compared there. A decoder, or a KinMS, is built once an observation and is not timed; nor are gradients kept,
but for the Jacobian.

The floor of a cube, with as many threads, is one `torch.erf` for each channel edge of each pixel of the field in which
the cube has more than 1e-4 of the light of its brightest, into memory that is there already, and one pass over the cube
that reads and writes it once. Beside it stands the floor whose pass is a beam indeed: two products with a matrix, one
an axis. Nothing of a disc (geometry, curve, sub-pixels, padding, taking differences) is in either.
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from astropy.table import Table
from decoder_exactness import DISCS, FORMS
from kinms import KinMS
from torch.utils.benchmark import Timer, timer

from kinematics_nn.decoder import DiscDecoder, regular_grid

__all__ = ["THIN", "THICK", "time_in_turn", "setting", "kinms_task", "floor_tasks", "peak_memory"]

THIN = DISCS[5]
THICK = THIN | {"thickness": 1.0}
SHAPE, CHANNEL, BEAM = (40, 64, 64), 10.0, (4.0, 4.0, 0.0)
TURNED = (5.0, 3.5, 30.0)
BATCH = 32
LARGE = (200, 512, 512)


def time_in_turn(tasks, threads, rounds, least=0.1, clock=timer):
    """Seconds a call, (rounds,) for each of a dict of callables; each runs for at least ``least`` seconds a round."""
    timers = {
        name: Timer("task()", timer=clock, globals={"task": task}, num_threads=threads) for name, task in tasks.items()
    }
    for task in timers.values():
        task.timeit(3)
    calls = {name: max(1, round(least / task.timeit(3).mean)) for name, task in timers.items()}
    seconds = [{name: task.timeit(calls[name]).mean for name, task in timers.items()} for _ in range(rounds)]
    return {name: np.array([times[name] for times in seconds]) for name in tasks}


def ratio(above, below):
    """Median over rounds, and half the range that holds 68 % of them."""
    low, middle, high = np.percentile(above / below, [16, 50, 84])
    return f"{middle:.3g} ± {(high - low) / 2:.1g}"


def milliseconds(seconds):
    return f"{1e3 * np.median(seconds):.3g}"


def setting(disc=THIN, shape=SHAPE, beam=BEAM, batch=1, dtype=torch.float32, device=None):
    """A decoder for cubes whose field and band are those of `SHAPE` in units of the disc's, and parameters (batch, n).

    Galaxies of a batch differ in position angle: no two are the same work twice.
    """
    finer = shape[1] / SHAPE[1]  # the disc grows with the field, the beam stays as it is in pixels
    disc = disc | {name: finer * disc[name] for name in ("thickness", "r_scale", "r_turn", "east", "north")}
    grid = regular_grid(shape, 1.0, CHANNEL * SHAPE[0] / shape[0], beam, dtype=dtype, device=device)
    decoder = DiscDecoder(grid, FORMS, integrate_pixels=True)
    parameters = torch.tensor([[disc[name] for name in decoder.names]], dtype=dtype, device=device).repeat(batch, 1)
    parameters[:, decoder.names.index("pa")] += torch.arange(batch, dtype=dtype, device=device) * 137.508
    return decoder, parameters


def forward(*args, **kwargs):
    """The task of one call of the decoder of a `setting`, without gradients."""
    decoder, parameters = setting(*args, **kwargs)

    @torch.no_grad()
    def task():
        return decoder(parameters)

    return task


def kinms_task(disc, n_clouds):
    """The task of one KinMS model of the same cube; None are as many clouds as KinMS takes by itself (5e5)."""
    n_channels, ny, nx = SHAPE
    simulator = KinMS(nx, ny, n_channels * CHANNEL, 1.0, CHANNEL, list(BEAM), nSamps=n_clouds)
    radius = np.linspace(0, 15 * disc["r_scale"], 300)
    curve = disc["vmax"] * 2 / np.pi * np.arctan(radius / disc["r_turn"])

    def task():
        return simulator.model_cube(
            disc["inclination"], disc["pa"], gasSigma=disc["velocity_dispersion"], diskThick=disc["thickness"],
            sbProf=np.exp(-radius / disc["r_scale"]), sbRad=radius, velRad=radius, velProf=curve,
            intFlux=disc["flux"], phaseCent=[-disc["east"], disc["north"]], vOffset=disc["vsys"],
        )  # fmt: skip

    return task


def floor_tasks(cube):
    """The two floors of a cube (channel, y, x): with a pass over it, and with two products for the beam."""
    light = cube.sum(0)
    lit = int((light > 1e-4 * light.max()).sum())
    n_channels, ny, nx = cube.shape
    edges = torch.linspace(-4, 4, n_channels + 1, dtype=cube.dtype).repeat(lit, 1)
    function = torch.empty_like(edges)
    sky = cube.permute(1, 2, 0).contiguous()
    rows, seen = torch.empty_like(sky), torch.empty_like(sky)
    along_y, along_x = (torch.ones(n, n, dtype=cube.dtype) for n in (ny, nx))

    def one_pass():
        torch.erf(edges, out=function)
        torch.mul(sky, 0.5, out=seen)

    def two_products():
        torch.erf(edges, out=function)
        torch.matmul(along_y, sky.flatten(1), out=rows.flatten(1))
        torch.matmul(along_x, rows, out=seen)

    return one_pass, two_products


def beside_kinms_and_floor(threads, rounds):
    """Thin and thick, alone and in a batch, with a round beam and a turned one."""
    rows = []
    for name, disc in (("thin", THIN), ("thick", THICK)):
        single = forward(disc)
        tasks = {"1": single, f"1 of {BATCH}": forward(disc, batch=BATCH), "turned": forward(disc, beam=TURNED)}
        others = {"1e5": kinms_task(disc, 100_000), "default": kinms_task(disc, None)}
        others |= dict(zip(("floor", "products"), floor_tasks(single()[0]), strict=True))
        seconds = time_in_turn(tasks | others, threads, rounds)
        seconds[f"1 of {BATCH}"] /= BATCH
        labels = (f"{name}", f"{name}, one of {BATCH}", f"{name}, beam turned")
        for label, task in zip(labels, tasks, strict=True):
            rows.append({
                "64 x 64 x 40 cube": label,
                "ms": milliseconds(seconds[task]),
                "KinMS 1e5 / it": ratio(seconds["1e5"], seconds[task]),
                "KinMS default / it": ratio(seconds["default"], seconds[task]),
                "it / floor": ratio(seconds[task], seconds["floor"]),
                "it / floor with products": ratio(seconds[task], seconds["products"]),
            })  # fmt: skip
    return Table(rows)


def jacobian_beside_forward(threads, rounds):
    """All parameters at once, against one forward."""
    rows = []
    for name, disc in (("thin", THIN), ("thick", THICK)):
        decoder, parameters = setting(disc)
        tasks = {"forward": forward(disc), "jacobian": lambda d=decoder, p=parameters: d.jacobian(p)}
        seconds = time_in_turn(tasks, threads, rounds)
        rows.append({
            "64 x 64 x 40 cube": name,
            "parameters": len(decoder.names),
            "jacobian, ms": milliseconds(seconds["jacobian"]),
            "jacobian / forward": ratio(seconds["jacobian"], seconds["forward"]),
        })  # fmt: skip
    return Table(rows)


def growth(threads, rounds):
    """Time a cube against pixels (the disc grows with them), channels (of the same band) and batch; thin."""
    n_channels, side, _ = SHAPE
    series = {
        "pixels a side": {n: {"shape": (n_channels, n, n)} for n in (32, 64, 128, 256)},
        "channels": {n: {"shape": (n, side, side)} for n in (20, 40, 80, 160)},
        "batch": {n: {"batch": n} for n in (1, 4, 16, 64)},
    }
    rows = []
    for name, cases in series.items():
        seconds = time_in_turn({n: forward(**case) for n, case in cases.items()}, threads, rounds)
        if name == "batch":
            seconds = {n: times / n for n, times in seconds.items()}
        base = next(n for n, case in cases.items() if case in ({"shape": SHAPE}, {"batch": 1}))
        exponent, _ = np.polyfit(np.log(list(cases)), np.log([np.median(times) for times in seconds.values()]), 1)
        for n, times in seconds.items():
            rows.append({
                "of": name, "n": n, "ms a cube": milliseconds(times), "over 64 x 64 x 40": ratio(times, seconds[base]),
                "exponent": f"{exponent:.2f}",
            })  # fmt: skip
    return Table(rows)


def precision(threads, rounds):
    """float32 beside float64: time, and the largest difference."""
    rows = []
    for name, disc in (("thin", THIN), ("thick", THICK)):
        tasks = {dtype: forward(disc, dtype=dtype) for dtype in (torch.float32, torch.float64)}
        seconds = time_in_turn(tasks, threads, rounds)
        single, double = (task() for task in tasks.values())
        rows.append({
            "64 x 64 x 40 cube": name,
            "float64 / float32, time": ratio(seconds[torch.float64], seconds[torch.float32]),
            "largest difference / peak": f"{float(abs(single - double).max() / double.max()):.1e}",
        })  # fmt: skip
    return Table(rows)


def peak_memory(disc, shape):
    """Peak resident memory [GiB] of a new process that renders one cube, what it imports included; on Linux."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_render, disc, shape).result()


def _render(disc, shape):
    forward(disc, shape)()
    # Not getrusage: its ru_maxrss begins with what the process had that started this one.
    (peak,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    return int(peak) / 2**20


def memory():
    """Of a large cube."""
    n_channels, ny, nx = LARGE
    cases = (("thin", THIN), ("thick", THICK))
    return Table([
        {f"{ny} x {nx} x {n_channels} cube": name, "peak GiB": f"{peak_memory(disc, LARGE):.2f}",
         "the cube itself, GiB": f"{4 * np.prod(LARGE) / 2**30:.2f}"}
        for name, disc in cases
    ])  # fmt: skip


def on_gpu(rounds, batch=256):
    """Cubes a second in a batch, and the share of memory bandwidth if a cube is written once, read and written again.

    The bandwidth is that of a copy of 1 GiB, read and written, in the same rounds.
    """
    large = torch.empty(2**28, device="cuda")
    copied = torch.empty_like(large)
    tasks = {disc["thickness"]: forward(disc, batch=batch, device="cuda") for disc in (THIN, THICK)}
    seconds = time_in_turn(tasks | {"copy": lambda: copied.copy_(large)}, 1, rounds)
    bandwidth = 2**31 / seconds.pop("copy")
    return Table([
        {"64 x 64 x 40 cube": "thick" if thickness else "thin", "cubes a second": f"{np.median(batch / times):.3g}",
         "of bandwidth": ratio(3 * 4 * np.prod(SHAPE) * batch / times, bandwidth)}
        for thickness, times in seconds.items()
    ])  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="of torch; KinMS uses one")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--rst", action="store_true", help="as tables of reStructuredText")
    options = parser.parse_args()

    def show(title, table):
        print("", title, "~" * len(title), "", sep="\n", flush=True)
        if options.rst:
            table.write(sys.stdout, format="ascii.rst")
        else:
            table.pprint_all()

    how = options.threads, options.rounds
    show("Beside KinMS and the floor", beside_kinms_and_floor(*how))
    show("Jacobian", jacobian_beside_forward(*how))
    show("Growth", growth(*how))
    show("Precision", precision(*how))
    show("Memory", memory())
    if torch.cuda.is_available():
        show(torch.cuda.get_device_name(), on_gpu(options.rounds))
    print(f"\ntorch {torch.__version__}, {options.threads} threads, {options.rounds} rounds")
    if not torch.cuda.is_available():
        print("no GPU was there: cubes per second on one are not measured")


if __name__ == "__main__":
    main()
