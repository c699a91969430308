"""The model card of weights: what they were made of, how good they are, where they end, and how to make them again.

All of it comes from the metadata in the weights' file, and the scores from runs of ``kinematics-nn calibrate``.
"""

import re
import shlex
from pathlib import Path

from ..errors import KinematicsError
from ..network.weights import weights_info, weights_path
from ..results.calibration import WHOSE
from ..results.files import read_table, whole_file

__all__ = ["model_card", "without_folders", "write_card"]

_OBJECTIVES = {
    "posterior": "the log density of the parameters that were drawn for each simulation (posterior estimation)",
    "reconstruction": "the evidence lower bound: encode, decode with the physics, compare with what was seen",
    "fine-tune": "the log density of the refined posteriors' draws of the cubes above, and of simulated parameters",
}
_SETTINGS = {
    "samples": "galaxies seen, counting each time one is",
    "batch": "galaxies a step",
    "rate": "peak learning rate",
    "decay": "weight decay",
    "average": "decay of the averaged weights, a step",
    "dropout": "dropout rate",
    "half_precision": "convolutions in bfloat16",
    "seed": "seed",
    "galaxies": "galaxies trained on",
    "begun_with": "share of the galaxies that it began with, where others were made meanwhile",
}
_LIMITS = """\
- One galaxy in the field, and its emission that of a rotating disc. A merger, two galaxies in one, an outflow or a warp
  gets the disc that is nearest; `fit` flags `POOR_FIT` where its cube is unlike the data, and `method="refined"` weighs
  by the exact likelihood.
- The posterior is under the prior of the simulations above. A galaxy outside their ranges gets an extrapolation.
- The rotation curve and the light are known at {nodes} radii from {first:g} to {last:g} half-light radii, the
  dispersion as one number.
- Errors are as right as the scores say, on galaxies like those of the scores; `fit.verify()` tests those of one galaxy.
- A line-spread function, held parameters and a prior other than the simulations' need `method="refined"`.
"""


def write_card(name, scores=()):
    """Write the model card of weights beside them, with the ending .md; what was there is replaced.

    Parameters
    ----------
    name : str
        Of weights, or the path of a .safetensors file.
    scores : sequence of path
        Folders of ``kinematics-nn calibrate --out``, of runs with these weights.

    Returns
    -------
    `~pathlib.Path`

    Raises
    ------
    KinematicsError
        There are no such weights, or no report in a folder.
    """
    tables = [_coverage(folder) for folder in scores]
    path = weights_path(name).with_suffix(".md")
    with whole_file(path, overwrite=True) as partial:
        partial.write_text(model_card(weights_info(name), tables), encoding="utf-8")
    return path


def model_card(info, scores=()):
    """The model card as Markdown.

    Parameters
    ----------
    info : dict
        `~kinematics_nn.network.weights.weights_info` of the weights.
    scores : sequence of `~astropy.table.Table`
        As `~kinematics_nn.inference.calibration.report` gives them.

    Returns
    -------
    str
    """
    from ..network.targets import MULTIPLES

    limits = _LIMITS.format(nodes=len(MULTIPLES), first=MULTIPLES[0], last=MULTIPLES[-1])
    forms = info.get("forms")
    if forms:
        limits += f"- Of one form alone ({_pairs(forms)}): a fit of another form with them is refused.\n"
    taken, door = ("the moment maps", "fit_maps") if info.get("input") == "maps" else ("the cube", "fit")
    parts = [
        f"# {info['name']}: weights of kinematics_nn\n",
        f"A network that takes {taken} of a galaxy, in its own frame, to a density over everything that a rotating "
        f"disc has. It was made for `kinematics_nn.{door}`, and no label that anybody made entered.\n",
        _table(("", ""), [(key, f"`{info[key]}`") for key in ("sha256", "version", "torch") if key in info]),
        "## Data\n",
        _data(info),
        "## Training\n",
        _training(info),
        "## Scores\n",
        _scores(info, scores),
        "## Limits\n",
        limits,
        "## Making them again\n",
        _rebuilding(info),
    ]
    return "\n".join(parts)


def _data(info):
    tuned, ranges = info.get("fine_tune"), info.get("ranges")
    parts = []
    if tuned:
        rows = [(cube["name"], cube["role"], cube["n_draws"], f"{cube['n_effective']:.0f}") for cube in tuned["cubes"]]
        rows += [(cube["name"], f"left out: {cube['why']}", "", "") for cube in tuned["left_out"]]
        parts += [
            f"Fine-tuned on {sum(cube['role'] == 'trained on' for cube in tuned['cubes'])} cubes, fitted with "
            f"{_pairs(tuned['forms'])}; their refined posteriors are what was learnt.\n",
            _table(("cube", "role", "draws", "effective"), rows),
        ]
    if not ranges:
        parts.append("Simulated galaxies; the file does not record of what ranges.\n")
        return "\n".join(parts)
    said = "Simulated galaxies" if not tuned else "The simulations that the weights were made with before"
    rows = [(f"`{name}`", _value(value), _meanings().get(name, "")) for name, value in ranges.items()]
    parts += [
        f"{said}, drawn from the ranges below. A pixel is one of the simulated cube and a channel one of its channels; "
        "real cubes are binned to the like of them.\n",
        _table(("quantity", "range", "meaning"), rows),
    ]
    return "\n".join(parts)


def _training(info):
    settings = info.get("training", {})
    rows = [(text, _value(settings[key])) for key, text in _SETTINGS.items() if settings.get(key) is not None]
    if "seconds" in info:
        rows.append(("hours", f"{info['seconds'] / 3600:.2g}"))
    if info.get("processes", 1) > 1:
        rows.append(("processes", info["processes"]))
    objective = settings.get("objective", "")
    maximised = _OBJECTIVES.get(objective, objective or "not recorded")
    line = f"Maximised: {maximised}.\n"
    if "start" in info:
        line += f"\nStarted from the weights `{info['start']['name']}` (`{info['start']['sha256'][:12]}`).\n"
    return line + "\n" + _table(("", ""), rows)


def _scores(info, scores):
    parts = []
    draws = info.get("fine_tune", {}).get("held_out") == "draws"
    for key, text in {
        "held_out_loss": f"Loss of {'draws' if draws else 'galaxies'} not trained on, -log q",
        "held_out_loss_before": "The same before fine-tuning",
        "simulations_loss": "Loss of simulations not trained on",
        "simulations_loss_before": "The same before fine-tuning",
    }.items():
        if info.get(key) is not None:
            parts.append(f"{text}: {info[key]:.3f} nat.\n")
    for table in scores:
        run, rows = table.meta["run"], table[table["by"] == "all"]
        cells = [
            (f"`{r['parameter']}`", *(f"{100 * r[f'in_{k}']:.1f}" for k in (50, 68, 95)), f"{r['bias']:+.2f}",
             f"{r['scatter']:.2f}")
            for r in rows
        ]  # fmt: skip
        whose = WHOSE[run["galaxies"]]
        parts += [
            f'{table.meta["n_fitted"]} galaxies of {whose}, `method="{run["method"]}"`: how many truths [%] lie in '
            "intervals that say 50, 68 and 95 %, and bias and scatter of the medians in units of their errors.\n",
            _table(("parameter", "50", "68", "95", "bias", "scatter"), cells),
        ]
    if not scores:
        parts.append("Coverage and accuracy: not measured for this card; `kinematics-nn calibrate` measures them.\n")
    return "\n".join(parts)


def _rebuilding(info):
    commands, at, whole = [], info, True
    while at:
        whole = whole and "command" in at
        if "command" in at:
            commands.insert(0, _command(at["command"] | {"device": at.get("device", "cpu")}))
        at = at.get("start")
    if not whole:
        commands.insert(0, "# the file does not record how it began: see the user guide, Training")
    lines = "\n".join(commands)
    version = f" with version {info['version']}" if "version" in info else ""
    return (
        f"```\n{lines}\n```\n\nThe same seed gives the same simulations and steps{version}, on the same kind of "
        "device; numbers differ by the rounding of the machine, which a training amplifies.\n"
    )


def without_folders(command):
    """The arguments of a training, a dict, with files by their names: where they lay is nobody's business."""

    def name(given):
        return [Path(one).name for one in given] if isinstance(given, list) else Path(given).name

    paths = ("output", "store", "start", "draws", "fine_tune")
    return {key: name(value) if value and key in paths else value for key, value in command.items()}


def _command(given):
    words = ["kinematics-nn", "train", *([given["output"]] if given.get("output") else [])]
    names = {"start": "from"}
    for key, value in given.items():
        if key in ("command", "output", "overwrite") or value in (None, False) or (key, value) == ("device", "cpu"):
            continue
        words.append(f"--{names.get(key, key).replace('_', '-')}")
        words += map(str, [] if value is True else value if isinstance(value, list) else [value])
    return shlex.join(words)


def _coverage(folder):
    path = Path(folder) / "coverage.ecsv"
    if not path.exists():
        raise KinematicsError(
            f"no coverage.ecsv in {folder}", "the folder of a calibration", f"kinematics-nn calibrate --out {folder}"
        )
    return read_table(path)


def _meanings():
    """What each of `Ranges` means, from its own documentation."""
    from .simulations import Ranges

    found, within = {}, {}
    section = (Ranges.__doc__ or "").partition("Attributes")[2]
    for names, text in re.findall(r"^    (\w+(?:, \w+)*) : (.*(?:\n        .*)*)", section, re.MULTILINE):
        for name in names.split(", "):
            found[name] = " ".join(text.replace("``", "`").split())
        within |= dict.fromkeys(re.findall(r"``(\w+)``", text), f"see `{names}`")
    return within | found


def _value(value):
    if isinstance(value, dict):
        whole = sum(value.values()) or 1
        return ", ".join(f"{name} {100 * share / whole:.3g} %" for name, share in value.items())
    if isinstance(value, list | tuple):
        return " to ".join(_value(end) for end in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _pairs(forms):
    return ", ".join(f"{kind.replace('_', ' ')} {name}" for kind, name in forms.items())


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)
