"""
The refined posterior against other samplers of the same: dynesty for means, widths and evidence, emcee for cost.

``python benchmarks/reference_sampler.py FOLDER`` takes five galaxies of `kinms_galaxies`. Both samplers are given
`kinematics_nn.inference.refined.Target`, flux and patches of light integrated out, as a function of the variates.
dynesty's live points start from normals ``--wide`` times as wide as the posterior, which leaves posterior and evidence
as they are (the change of measure is in the likelihood) and saves it the way there; ``--wide 0`` starts from the prior
itself, and takes ten times as long. Printed for each parameter are the differences of the means over the posterior's
standard deviation, and the ratios of the standard deviations; for each sampler, the models rendered for one effective
draw. Where emcee is installed, its autocorrelation time is that number, by definition.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from kinms_galaxies import make_galaxies, read_cube

from kinematics_nn.decoder import Forms
from kinematics_nn.forms import get_form
from kinematics_nn.inference.nested import nested_sample
from kinematics_nn.inference.realisations import network_samples
from kinematics_nn.inference.refined import find_modes, refined_posterior
from kinematics_nn.observation import observe

__all__ = ["compare", "moments"]

FORMS = Forms(
    get_form("arctan", "rotation_curve"),
    get_form("exponential", "surface_brightness"),
    get_form("constant", "velocity_dispersion"),
)
GALAXIES = (1, 4, 13, 19, 25)  # small ones, at peaks of 5 to 17 times the noise


def moments(values, weights):
    """Means and standard deviations (d,) of weighted draws (n, d)."""
    mean = weights @ values
    return mean, np.sqrt(weights @ (values - mean) ** 2)


def compare(cube, seed, min_ess, n_live, wide):
    """One galaxy: a dict of arrays over the parameters (flux among them), and what each sampler cost."""
    observation = observe(cube)
    draws = network_samples(observation, FORMS, 1000, seed=seed)
    start = time.perf_counter()
    _, ours, report, _ = refined_posterior(observation, FORMS, draws, n_samples=1000, min_ess=min_ess, seed=seed)
    seconds = time.perf_counter() - start
    target, _, _ = find_modes(observation, FORMS, draws)
    names = FORMS.parameter_names
    vectors = torch.as_tensor(np.stack([ours[name] for name in names], 1))
    mean, std = moments(target.space.variates(vectors).numpy(), ours["weight"])
    if wide == 0:
        turn = np.array([name == "pa" for name in target.space.free])
        centre, width = 0 * mean, np.where(turn, 36 / np.sqrt(12), 1.0)
    else:
        centre, width = mean, np.maximum(wide * std, 0.02)
    target.forget()
    before, start = target.calls, time.perf_counter()
    nested, order, evidence, error = nested_sample(target, centre, width, seed=seed, n_live=n_live)
    theirs = target.values(torch.as_tensor(order), torch.Generator().manual_seed(seed))
    both = [
        moments(np.stack([sample[name] for name in names], 1), weight)
        for sample, weight in ((ours, ours["weight"]), (theirs, nested.weights.numpy()))
    ]
    return {
        "names": names,
        "mean": (both[0][0] - both[1][0]) / both[1][1],
        "width": both[0][1] / both[1][1],
        "evidence": (report["log_evidence"], report["log_evidence_error"], evidence, error),
        "refined": (report["n_effective"], report["n_calls"], seconds),
        "dynesty": (nested.n_effective, target.calls - before, time.perf_counter() - start),
        "target": target,
        "start": (mean, std),
    }


def autocorrelation_time(target, mean, std, seed, steps=600):
    """emcee's, the longest of the parameters', from a vectorised run of 64 walkers begun within the posterior."""
    import emcee

    rng = np.random.default_rng(seed)
    sampler = emcee.EnsembleSampler(
        64, len(mean), lambda x: np.nan_to_num(target(torch.as_tensor(x)).numpy(), neginf=-1e300), vectorize=True
    )
    sampler.random_state = np.random.RandomState(seed).get_state()
    sampler.run_mcmc(mean + 0.5 * std * rng.standard_normal((64, len(mean))), steps)
    return float(np.max(sampler.get_autocorr_time(discard=steps // 4, quiet=True)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="made by kinms_galaxies.py, or filled now")
    parser.add_argument("--galaxy", type=int, nargs="+", default=GALAXIES, help="numbers in the set")
    parser.add_argument("--seed", type=int, default=1, help="of the set and of the samplers")
    parser.add_argument("--min-ess", type=int, default=2000)
    parser.add_argument("--n-live", type=int, default=250)
    parser.add_argument("--wide", type=float, default=4.0)
    parser.add_argument("--emcee", action="store_true", help="measure its autocorrelation time, too")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    paths, _ = make_galaxies(max(options.galaxy) + 1, options.seed, options.folder)
    means, widths, off = [], [], []
    for number in options.galaxy:
        found = compare(read_cube(paths[number]), options.seed, options.min_ess, options.n_live, options.wide)
        means.append(found["mean"])
        widths.append(found["width"])
        ours, our_error, theirs, their_error = found["evidence"]
        off.append((ours - theirs) / np.hypot(our_error, their_error))
        print(f"\n{paths[number].name}: log evidence {ours:.2f} ± {our_error:.2f}", end="")
        print(f", dynesty {theirs:.2f} ± {their_error:.2f}")
        for name in ("refined", "dynesty"):
            effective, calls, seconds = found[name]
            each = f"{calls / effective:.1f} models each"
            print(f"  {name}: {effective:.0f} effective draws of {calls} models, {each}, {seconds:.0f} s")
        if options.emcee:
            print(f"  emcee: {autocorrelation_time(found['target'], *found['start'], options.seed):.0f} models each")
        for name, mean, width in zip(found["names"], found["mean"], found["width"], strict=True):
            print(f"  {name:20s} mean {mean:+.2f} σ   width × {width:.2f}", flush=True)
    means, widths = np.abs(means), np.abs(np.log(widths))
    print(f"\n{means.size} means: median {np.median(means):.3f} σ, largest {means.max():.2f} σ")
    print(f"{widths.size} widths: median {np.expm1(np.median(widths)):.1%} off, largest {np.expm1(widths.max()):.1%}")
    print(f"evidences: off by {np.sqrt(np.mean(np.square(off))):.1f} of their errors (rms)")


if __name__ == "__main__":
    main()
