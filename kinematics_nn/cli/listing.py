"""The commands that tell what there is: info and forms."""

from ..forms.base import KINDS

__all__ = ["forms", "info"]

_MANY = 5  # numbered parameters that are rings, and no coefficients


def info(args):
    """Print version, weights, default priors and devices."""
    import torch

    from .. import __version__
    from ..forms import get_form
    from ..inference.space import DISC_PRIORS
    from ..network.weights import list_weights, weights_info

    print(f"kinematics_nn {__version__}")
    print("\npriors of the disc")
    for name, text in DISC_PRIORS.items():
        print(f"  {name:<20} {text}")
    print("\npriors of the default forms (all forms: kinematics-nn forms)")
    for kind, name in zip(KINDS, ("arctan", "exponential", "constant"), strict=True):
        for parameter in get_form(name, kind).parameters:
            print(f"  {parameter.name:<20} {parameter.unit:<8} {_prior(parameter.prior)}")
    print(f"\ndevices\n  cpu ({torch.get_num_threads()} threads)")
    for index in range(torch.cuda.device_count()):
        print(f"  cuda:{index} ({torch.cuda.get_device_name(index)})")
    if torch.backends.mps.is_available():
        print("  mps")
    print("\nweights")
    for name, path in list_weights().items():
        print(f"  {name} ({path})")
        card, known = path.with_suffix(".md"), weights_info(name)
        if card.exists():
            print(f"    card, with ranges and history: {card}")
        for key in ("sha256", "version", "torch", "input", "forms", "held_out_loss"):
            if key in known:
                print(f"    {key}: {known[key]}")
        print(f"    galaxies seen: {known.get('training', {}).get('samples', 'unknown')}")
        if known.get("start"):
            print(f"    started from: {known['start']['name']} ({known['start']['sha256'][:12]})")


def forms(args):
    """List the functional forms and who brought them."""
    from ..forms import list_forms

    last = None
    for known in list_forms():
        if known.kind != last:
            print(("" if last is None else "\n") + known.kind)
        last = known.kind
        print(f"  {known.name:<22} {known.provider}")
        for name, described, p in _lines(known.form.parameters):
            default = f"{p.default:g} {p.unit}".strip()
            print(f"      {name:<18} {default:<12} {described}; {_prior(p.prior)}")
    print("\na sum of rotation curves is disc:freeman+halo:nfw: each prefix, a colon, a name from above")
    print("a measured curve is kinematics_nn.forms.Tabulated, in Python alone")


def _lines(parameters):
    """Name, description and parameter of each line: one for all rings, whose number and radii a cube decides."""
    stems = [p.name.rpartition("_")[0] for p in parameters if p.name.rpartition("_")[2].isdecimal()]
    for p in parameters:
        stem, _, number = p.name.rpartition("_")
        if stems.count(stem) < _MANY or not number.isdecimal():
            yield p.name, p.description, p
        elif number == "1":
            yield f"{p.name}, ...", f"{p.description.partition(',')[0]}, 2, ...", p


def _prior(prior):
    ends = (f"{end:g} {scale or ''}".strip() for end, scale in zip((prior.lo, prior.hi), prior.scales, strict=True))
    return f"{type(prior).__name__} {' to '.join(ends)}".replace(" 1/", "/")
