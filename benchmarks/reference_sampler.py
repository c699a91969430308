"""
The refined posterior against other samplers of the same: dynesty for means, widths and evidence, emcee for cost.

``python benchmarks/reference_sampler.py FOLDER --emcee`` takes five galaxies of `kinms_galaxies`. All samplers are
given `kinematics_nn.inference.target.Target`, flux and patches of light integrated out, as a function of the variates.
dynesty's live points start from normals ``--wide`` times as wide as the posterior, which leaves posterior and evidence
as they are (the change of measure is in the likelihood) and saves it the way there; ``--wide 0`` starts from the prior
itself, and takes ten times as long. emcee (``pip install emcee``; no other part of the package asks for it) has 64
walkers, vectorised, begun within the posterior: it is spared its burn-in.

Printed for each parameter are the differences of the means over the reference's standard deviation, and the ratios of
the standard deviations; each sampler's own noise is the inverse root of its effective draws for a mean, and 0.7 of that
for a width. For each sampler follow the models rendered, and the processor's seconds, for one effective draw: of a
refined fit all are counted, its descent too, a Jacobian as six models. emcee's models for a draw are by definition its
autocorrelation time; too short a run underestimates it, in its favour.

Every sampler of a galaxy leaves a small table in ``FOLDER/reference``. What is there is not run again, unless the
posterior at its mean is no longer what it was; ``--again refined`` runs a sampler anew. dynesty renders one model at a
time, 40,000 of them with ``--n-live 120 --wide 2.5`` and two to three times as many by default: minutes of a processor
for a small galaxy, and emcee's default 64,000 are no fewer.
"""

import argparse
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from astropy.table import Table
from kinms_galaxies import make_galaxy, read_cube

from kinematics_nn.decoder import Forms
from kinematics_nn.forms import get_form
from kinematics_nn.inference.likelihood import CubeLikelihood
from kinematics_nn.inference.modes import find_modes
from kinematics_nn.inference.nested import nested_sample
from kinematics_nn.inference.realisations import network_samples
from kinematics_nn.inference.refined import refined_posterior
from kinematics_nn.observation import observe

__all__ = ["compare", "counted", "moments", "run_dynesty", "run_emcee", "run_refined"]

FORMS = Forms(
    get_form("arctan", "rotation_curve"),
    get_form("exponential", "surface_brightness"),
    get_form("constant", "velocity_dispersion"),
)
GALAXIES = (1, 4, 13, 19, 25)  # small ones, at peaks of 5 to 17 times the noise
JACOBIAN = 6  # models that the derivatives by ten parameters cost: benchmarks/decoder.py
WALKERS = 64
SAME = 0.5  # in log posterior: another likelihood, and not other rounding


def moments(values, weights):
    """Means and standard deviations (d,) of weighted draws (n, d)."""
    mean = weights @ values
    return mean, np.sqrt(weights @ (values - mean) ** 2)


@contextmanager
def counted():
    """Count what is rendered: a dict of ``models`` and ``jacobians``, which grows."""
    count = {"models": 0, "jacobians": 0}
    own = CubeLikelihood.white, CubeLikelihood.white_jacobian

    def white(self, parameters):
        count["models"] += len(parameters)
        return own[0](self, parameters)

    def white_jacobian(self, parameters):
        count["jacobians"] += len(parameters)
        return own[1](self, parameters)

    CubeLikelihood.white, CubeLikelihood.white_jacobian = white, white_jacobian
    try:
        yield count
    finally:
        CubeLikelihood.white, CubeLikelihood.white_jacobian = own


class Galaxy:
    """An observation, the network's draws of it, and the posterior as all samplers have it."""

    def __init__(self, cube, seed):
        self.observation, self.seed = observe(cube), seed
        self.draws = network_samples(self.observation, FORMS, 1000, seed=seed)
        self.target, _, _ = find_modes(self.observation, FORMS, self.draws)
        self.names = FORMS.parameter_names

    def variates(self, values):
        """(n, free) of a dict of parameters."""
        vectors = torch.as_tensor(np.stack([np.asarray(values[name]) for name in self.names], 1))
        return self.target.space.variates(vectors).numpy()

    def table(self, values, weights, **meta):
        """Moments of draws by parameter, and in ``meta`` those of the variates with what else is known of the run."""
        mean, std = moments(np.stack([values[name] for name in self.names], 1), weights)
        at, width = moments(self.variates(values), weights)
        meta |= {"at": at.tolist(), "width": width.tolist(), "log_posterior": self.height(at)}
        return Table({"parameter": list(self.names), "mean": mean, "std": std}, meta=meta)

    def height(self, at):
        """Log posterior at variates (free,)."""
        return float(self.target(torch.as_tensor(np.asarray(at))[None])[0])


def run_refined(galaxy, min_ess):
    """The refined posterior: the table of `Galaxy.table`."""
    with counted() as count:
        start = time.process_time()
        _, draws, report, _ = refined_posterior(
            galaxy.observation,
            FORMS,
            galaxy.draws,
            n_samples=1000,
            min_ess=min_ess,
            seed=galaxy.seed,
            curve_is_free=False,
        )
        seconds = time.process_time() - start
    meta = {name: report[name] for name in ("n_effective", "pareto_k", "log_evidence", "log_evidence_error")}
    meta["log_evidence"] -= report["summation_correction"]  # which the others' does not have
    calls = count["models"] + JACOBIAN * count["jacobians"]
    return galaxy.table(draws, draws["weight"], calls=calls, seconds=seconds, **count, **meta)


def run_dynesty(galaxy, at, width, n_live, wide):
    """dynesty on the same, begun about variates ``at`` of standard deviations ``width``; or from the prior."""
    target = galaxy.target
    if wide == 0:
        turn = np.array([name == "pa" for name in target.space.free])
        centre, spread = np.zeros(len(at)), np.where(turn, 36 / np.sqrt(12), 1.0)
    else:
        centre, spread = np.asarray(at), np.maximum(wide * np.asarray(width), 0.02)
    target.forget()
    before, start = target.calls, time.process_time()
    draws, order, evidence, error = nested_sample(target, centre, spread, seed=galaxy.seed, n_live=n_live)
    calls, seconds = target.calls - before, time.process_time() - start
    values = target.values(*target.recorded(torch.as_tensor(order)), torch.Generator().manual_seed(galaxy.seed))
    target.forget()
    meta = {"n_effective": draws.n_effective, "log_evidence": evidence, "log_evidence_error": error}
    return galaxy.table(values, draws.weights.numpy(), calls=calls, seconds=seconds, n_live=n_live, wide=wide, **meta)


def run_emcee(galaxy, at, width, steps):
    """64 walkers of emcee on the same, begun within the posterior."""
    try:
        import emcee
    except ImportError as error:
        raise SystemExit("--emcee needs emcee: pip install emcee") from error
    target = galaxy.target
    target.forget()

    def log_prob(x):
        first = sum(len(logs) for logs in target.logs)
        logs = np.nan_to_num(target(torch.as_tensor(x)).numpy(), neginf=-1e300)
        return [(value, np.int64(first + k)) for k, value in enumerate(logs)]

    start = np.asarray(at) + 0.5 * np.asarray(width) * np.random.default_rng(galaxy.seed).standard_normal(
        (WALKERS, len(at))
    )
    sampler = emcee.EnsembleSampler(WALKERS, len(at), log_prob, vectorize=True, blobs_dtype=[("call", np.int64)])
    sampler.random_state = np.random.RandomState(galaxy.seed).get_state()
    before, began = target.calls, time.process_time()
    sampler.run_mcmc(start, steps)
    calls, seconds = target.calls - before, time.process_time() - began
    burnt = steps // 5
    tau = sampler.get_autocorr_time(discard=burnt, quiet=True)
    order = sampler.get_blobs(discard=burnt, flat=True)["call"]
    values = target.values(*target.recorded(torch.as_tensor(order)), torch.Generator().manual_seed(galaxy.seed))
    target.forget()
    meta = {"n_effective": calls / float(tau.max()), "tau": tau.tolist(), "steps": steps}
    return galaxy.table(values, np.full(len(order), 1 / len(order)), calls=calls, seconds=seconds, **meta)


def compare(table, reference):
    """Differences of the means in the reference's standard deviations, and ratios of the widths, (parameter,) each."""
    return (table["mean"] - reference["mean"]) / reference["std"], table["std"] / reference["std"]


def _kept(path, again, galaxy, run):
    """A run's table: as it is on disk where its posterior is the present one, else run and written."""
    if path.exists() and not again:
        table = Table.read(path)
        if abs(galaxy.height(table.meta["at"]) - table.meta["log_posterior"]) < SAME:
            return table
        print(f"  {path.name} is of another posterior: run again", flush=True)
    table = run()
    table.write(path, overwrite=True)
    return table


def _noise(table):
    return f"{table.meta['n_effective'] ** -0.5:.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="made by kinms_galaxies.py, or filled now")
    parser.add_argument("--galaxy", type=int, nargs="+", default=GALAXIES, help="numbers in the set")
    parser.add_argument("--seed", type=int, default=1, help="of the set and of the samplers")
    parser.add_argument("--min-ess", type=int, default=2000, help="of the refined fit whose moments are compared")
    parser.add_argument("--cost-ess", type=int, default=500, help="of the refined fit whose cost is")
    parser.add_argument("--n-live", type=int, default=250)
    parser.add_argument("--wide", type=float, default=4.0)
    parser.add_argument("--emcee", action="store_true", help="run it, too")
    parser.add_argument("--steps", type=int, default=1000, help="of emcee")
    parser.add_argument("--again", nargs="+", default=(), choices=("refined", "dynesty", "emcee"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    paths = {number: make_galaxy(number, options.seed, options.folder) for number in options.galaxy}
    kept = options.folder / "reference"
    kept.mkdir(exist_ok=True)
    samplers = ("refined", "dynesty", *(["emcee"] if options.emcee else []))
    means, widths, off, costs = {}, {}, [], []
    for number in options.galaxy:
        galaxy = Galaxy(read_cube(paths[number]), options.seed)

        def of(name, run, sampler, galaxy=galaxy, number=number):
            path = kept / f"{name}_{options.seed}_{number:04d}.ecsv"
            return _kept(path, sampler in options.again, galaxy, run)

        cheap = of(f"cost{options.cost_ess}", lambda: run_refined(galaxy, options.cost_ess), "refined")  # noqa: B023
        ours = of(f"refined{options.min_ess}", lambda: run_refined(galaxy, options.min_ess), "refined")  # noqa: B023
        begin = ours.meta["at"], ours.meta["width"]
        tables = {"refined": ours}
        tables["dynesty"] = of("dynesty", lambda: run_dynesty(galaxy, *begin, options.n_live, options.wide), "dynesty")  # noqa: B023
        if options.emcee:
            tables["emcee"] = of("emcee", lambda: run_emcee(galaxy, *begin, options.steps), "emcee")  # noqa: B023
        nested = tables["dynesty"]
        values = [(table.meta["log_evidence"], table.meta["log_evidence_error"]) for table in (ours, nested)]
        off.append((values[0][0] - values[1][0]) / np.hypot(values[0][1], values[1][1]))
        print(f"\n{paths[number].name}: log evidence {values[0][0]:.2f} ± {values[0][1]:.2f}", end="")
        print(f", dynesty {values[1][0]:.2f} ± {values[1][1]:.2f}")
        costs.append({})
        for name, table in {"refined": cheap, **tables}.items():
            meta = cheap.meta if name == "refined" else table.meta
            each = meta["calls"] / meta["n_effective"], 1e3 * meta["seconds"] / meta["n_effective"]
            costs[-1][name] = each
            print(f"  {name}: {meta['n_effective']:.0f} effective of {meta['calls']} models", end="")
            print(f" ({meta['jacobians']} Jacobians among them)" if name == "refined" else "", end="")
            print(f": {each[0]:.1f} models, {each[1]:.0f} ms each; noise of a mean {_noise(table)} σ")
        if options.emcee:
            tau = np.array(tables["emcee"].meta["tau"])
            print(
                f"  autocorrelation times {tau.min():.0f} to {tau.max():.0f}, of {tables['emcee'].meta['steps']} steps"
            )
        for name in samplers[1:]:
            found = compare(ours, tables[name])
            means.setdefault(name, []).append(found[0])
            widths.setdefault(name, []).append(found[1])
            print(f"  refined less {name}:")
            for parameter, mean, width in zip(ours["parameter"], *found, strict=True):
                print(f"    {parameter:20s} mean {mean:+.2f} σ   width × {width:.2f}", flush=True)
    for name in samplers[1:]:
        mean, width = np.abs(means[name]), np.abs(np.log(widths[name]))
        print(f"\nrefined against {name}: {mean.size} means: median {np.median(mean):.3f} σ", end="")
        print(f", largest {mean.max():.2f} σ, {np.mean(mean <= 0.15):.0%} within 0.15 σ")
        print(f"{width.size} widths: median {np.expm1(np.median(width)):.1%} off", end="")
        print(f", largest {np.expm1(width.max()):.1%}, {np.mean(width <= np.log(1.1)):.0%} within 10 %")
        ratio = np.array([np.array(cost[name]) / cost["refined"] for cost in costs])
        print(f"{name}'s models and seconds for an effective draw over refined's, median: ", end="")
        print(f"{np.median(ratio[:, 0]):.0f} and {np.median(ratio[:, 1]):.0f}, least {ratio[:, 0].min():.0f}", end="")
        print(f" and {ratio[:, 1].min():.0f}")
    print(f"evidences: off by {np.sqrt(np.mean(np.square(off))):.1f} of their errors (rms)")


if __name__ == "__main__":
    main()
