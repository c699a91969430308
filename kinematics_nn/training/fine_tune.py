"""Fine-tuning on a survey's own cubes, which nobody labelled: their refined posteriors are what the network learns.

The weighted draws of a refined fit cover the posterior of that cube under the exact likelihood. Maximising the sum of
weight times log q over them draws the network's density towards that posterior, in the noise, beam and morphology of
this survey. Draws are kept in a folder, a file a cube, so that a survey that grows has only its new cubes fitted.
"""

import hashlib
import json
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..errors import KinematicsError, KinematicsWarning
from ..network.targets import MULTIPLES, Disc, encode_targets, possible
from .objectives import simulated_posterior

__all__ = ["FineTuning", "Survey", "disc_of", "fit_cubes", "load_survey", "refined_targets"]

_UNTRUSTED = ("POOR_FIT", "LOW_EFFICIENCY")
_VERSION = 2  # of what is in a file of draws


@dataclass
class Survey:
    """Cubes to learn from.

    Attributes
    ----------
    data : dict of Tensor
        ``image`` (cube, plane, minor, major), ``facts`` (cube, fact), ``targets`` (cube, draw, target) and ``weight``
        (cube, draw), of sum one over draws; the weight of what only fills up is 0.
    cubes, left_out : list of dict
        What each is, in that order; and the ones that are not trained on, with ``why``.
    """

    data: dict
    cubes: list
    left_out: list

    def __len__(self):
        return len(self.cubes)

    def split(self):
        """The `Survey` to train on and the one to hold out; ``role`` of the cubes says which is which.

        A fifth of the cubes is held out, chosen by their contents, so that a cube keeps its side as the survey grows.
        Of fewer than five cubes, every second draw is.
        """
        if len(self) < 5:
            odd = torch.arange(self.data["weight"].shape[1]) % 2 == 1
            return tuple(
                Survey(self.data | {"weight": _normalised(self.data["weight"] * side)}, self.cubes, self.left_out)
                for side in (~odd, odd)
            )
        numbers = [int(cube["digest"], 16) for cube in self.cubes]
        held = [number % 5 == 0 for number in numbers]
        if all(held) or not any(held):
            held = [number == min(numbers) for number in numbers]
        for cube, out in zip(self.cubes, held, strict=True):
            cube["role"] = "held out" if out else "trained on"
        return tuple(self._part([k for k, out in enumerate(held) if out == side]) for side in (False, True))

    def _part(self, index):
        return Survey({k: v[index] for k, v in self.data.items()}, [self.cubes[k] for k in index], self.left_out)

    def drawn(self, n, seed=0):
        """Equally weighted draws, ``n`` a cube, as the galaxies that other objectives take: dict of Tensor."""
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(self.data["weight"], n, replacement=True, generator=generator)
        rows = torch.arange(len(self)).repeat_interleave(n)
        targets = self.data["targets"][rows, chosen.flatten()]
        return {"image": self.data["image"][rows], "facts": self.data["facts"][rows], "targets": targets}


class FineTuning:
    """Mean of -log q over draws of the cubes' posteriors, and over as many simulations.

    An objective of `~kinematics_nn.training.loop.Trainer` for the data of a `Survey`. In each step a cube shows one of
    its draws, chosen by weight, in a mirror: over the steps that is the sum of weight times log q. The statistics of
    the batch normalisation stay, for those of a few cubes would be no network's.

    Parameters
    ----------
    simulations : dict of Tensor, optional
        ``image``, ``facts``, ``targets`` to mix in half and half, against forgetting.
    """

    def __init__(self, simulations=None):
        self.simulations = simulations

    def __call__(self, encoder, batch, generator=None):
        """The loss of a batch of cubes."""
        for layer in encoder.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
        device, n = batch["facts"].device, len(batch["facts"])
        share = torch.rand((n, 2), device=device, generator=generator)
        ends = batch["weight"].cumsum(1)
        # The share of a last draw of no weight is 0, but rounding may leave the sum short of one.
        chosen = torch.searchsorted(ends, share[:, :1] * ends[:, -1:]).clamp(max=ends.shape[1] - 1)
        targets = batch["targets"][torch.arange(n, device=device), chosen[:, 0]]
        rows = {"image": batch["image"], "facts": batch["facts"], "targets": targets}
        if self.simulations is not None:
            index = (share[:, 1] * len(self.simulations["facts"])).long().cpu()
            # In turn, so that a part of the cubes' rows is followed by the simulations of the same part.
            # A store may be of another time than the cubes' frames: the facts that both have.
            told = min(some["facts"].shape[1] for some in (rows, self.simulations))
            rows["facts"] = rows["facts"][:, :told]
            pairs = {k: (v, self.simulations[k][index, : v.shape[1]].to(device)) for k, v in rows.items()}
            rows = {k: torch.stack(pair, 1).flatten(0, 1) for k, pair in pairs.items()}
        return simulated_posterior(encoder, rows, generator)


def fit_cubes(paths, folder, *, workers=1, seed=0, progress=None, **options):
    """Fit cubes that have no draws in ``folder`` yet with ``method="refined"``, and keep the draws there.

    Parameters
    ----------
    paths : sequence of path
    folder : path
    workers : int, optional
        Processes that fit.
    seed : int, optional
        Of the fits.
    progress : callable, optional
        Called with every path when it is done.
    **options
        Of `kinematics_nn.fit`: forms, weights, and what to read from the cubes.

    Returns
    -------
    kept : dict
        Path of a cube to that of its draws.
    refused : dict
        Path of a cube to why it could not be fitted.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kept = {str(path): _kept(path, folder, options) for path in paths}
    missing = [(path, at, seed, options) for path, at in kept.items() if not at.exists()]
    refused = {}
    for path, why in _run(missing, workers):
        if why:
            refused[path] = why
            del kept[path]
        if progress:
            progress(path)
    return kept, refused


def load_survey(kept, refused=None):
    """The `Survey` of fitted cubes; those with a flag that says not to trust the fit are left out, with a warning.

    Parameters
    ----------
    kept, refused : dict
        As `fit_cubes` gives them.

    Raises
    ------
    KinematicsError
        No cube is left.
    """
    from safetensors import safe_open

    parts, cubes = [], []
    left_out = [{"name": Path(path).name, "why": why} for path, why in (refused or {}).items()]
    for path, at in kept.items():
        with safe_open(at, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            why = [flag for flag in about["flags"] if flag in _UNTRUSTED]
            if why:
                left_out.append({"name": Path(path).name, "why": ", ".join(why)})
                continue
            parts.append({name: file.get_tensor(name) for name in file.keys()})
            cubes.append(about | {"name": Path(path).name, "digest": at.stem[-16:], "role": "trained on"})
    if left_out:
        named = "; ".join(f"{cube['name']} ({cube['why']})" for cube in left_out)
        warnings.warn(f"not fine-tuned on: {named}", KinematicsWarning, stacklevel=2)
    if not parts:
        raise KinematicsError("no cube with a posterior to learn from", "one or more", "kinematics-nn fit, to see why")
    longest = max(len(part["weight"]) for part in parts)
    told = min(len(part["facts"]) for part in parts)  # those that were kept earlier may have fewer
    for part in parts:
        part["facts"] = part["facts"][:told]
        fill = longest - len(part["weight"])
        part["targets"] = nn.functional.pad(part["targets"], (0, 0, 0, fill))
        part["weight"] = nn.functional.pad(part["weight"], (0, fill))
    return Survey({name: torch.stack([part[name] for part in parts]) for name in parts[0]}, cubes, left_out)


def refined_targets(fit):
    """What a refined fit says of its cube, as the network would: frame, draws as targets, weights.

    Parameters
    ----------
    fit : `~kinematics_nn.results.KinematicFit`
        Of ``method="refined"``.

    Returns
    -------
    frame : `~kinematics_nn.network.frame.Frame`
        Of a batch of one.
    targets : Tensor (draw, target)
    weight : Tensor (draw,)
        Of sum one. Draws that no disc in the frame has are left out, and those of no weight.
    """
    from ..network.frame import make_frame
    from ..network.prepare import prepare

    cubes, unit = prepare(fit.observation)
    with torch.no_grad():
        frame = make_frame(cubes)
    table = fit.weighted_samples
    weight = np.asarray(table["weight"], dtype=np.float64)
    heavy = weight > 1e-6 * weight.max()
    values = {name: torch.as_tensor(np.asarray(table[name])[heavy], dtype=torch.float64) for name in table.colnames}
    disc = disc_of(fit.forms, values, fit.observation.header)
    targets = encode_targets(replace(disc, flux=disc.flux / unit), frame).float()
    good = possible(targets)
    if not good.any():
        raise KinematicsError(
            "a posterior of which no disc fits into the cube's frame", "one that does", "fit(region=...)"
        )
    weight = torch.as_tensor(weight[heavy])[good]
    return frame, targets[good], (weight / weight.sum()).float()


def _normalised(weight):
    return weight / weight.sum(1, keepdim=True)


def disc_of(forms, values, header):
    """The `Disc` of parameters, a dict of Tensor (n,) in arcsec, km/s and degrees, as a cube's own axis shows it."""
    from ..decoder.geometry import axis_scale

    light, curve, own = (
        [values[name][:, None] for name in forms.slots[slot]]
        for slot in ("surface_brightness", "rotation_curve", "velocity_dispersion")
    )
    # Of the profile, as a simulation has it, and not of all light.
    r50 = forms.surface_brightness.half_light_radius(*(column[:, 0] for column in light))
    flux = values["flux"] * header["brightness_per_flux"]
    scale = axis_scale(values["vsys"], header["convention"])
    radii = r50[:, None] * torch.as_tensor(MULTIPLES, dtype=r50.dtype)
    profile = forms.surface_brightness.evaluate(radii, *light) / forms.surface_brightness.total(*light)
    return Disc(
        inclination=torch.deg2rad(values["inclination"]),
        pa=torch.deg2rad(values["pa"]),
        east=values["east"],
        north=values["north"],
        vsys=values["vsys"],
        flux=flux,
        dispersion=forms.velocity_dispersion.evaluate(r50[:, None], *own)[:, 0] * scale,
        thickness=values["thickness"],
        r50=r50,
        speed=forms.rotation_curve.evaluate(radii, *curve) * scale[:, None],
        light=profile * 2 * torch.pi * r50[:, None] ** 2,
    )


def _kept(path, folder, options):
    """Where the draws of a cube lie: named after what is in the file, and how it is fitted.

    The weights are where a refined fit begins, and no part of its posterior.
    """
    said = {name: repr(value) for name, value in sorted(options.items()) if name not in ("weights", "device")}
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps([_VERSION, said]).encode())
    return folder / f"{Path(path).stem}-{digest.hexdigest()[:16]}.safetensors"


def _run(tasks, workers):
    """The answers of `_fit` to tasks, as they come."""
    if workers == 1 or len(tasks) < 2:
        yield from map(_fit, tasks)
        return
    limits = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), **limits) as pool:
        yield from pool.map(_fit, tasks)


def _fit(task):
    """Fit a cube and keep its draws, whole or not at all. Returns its path, and why not."""
    from safetensors.torch import save_file

    from ..fitting import fit
    from ..results.files import whole_file

    path, at, seed, options = task
    try:
        fitted = fit(path, method="refined", seed=seed, **options)
        frame, targets, weight = refined_targets(fitted)
    except KinematicsError as error:
        return path, " ".join(str(error).split())
    except Exception as error:  # a file among hundreds that brings down a library is no reason to stop at it
        return path, f"{type(error).__name__}: {' '.join(str(error).split())}"
    about = {
        "flags": list(fitted.flags),
        "n_draws": len(weight),
        "n_effective": float(fitted.meta["n_effective"]),
        "forms": fitted.meta["forms"],
        "versions": fitted.meta["versions"],
        "sampler": fitted.meta["sampler"],
    }
    tensors = {"image": frame.image[0].half(), "facts": frame.facts[0], "targets": targets, "weight": weight}
    with whole_file(at, overwrite=True) as partial:
        save_file({k: v.contiguous() for k, v in tensors.items()}, partial, metadata={"about": json.dumps(about)})
    return path, ""
