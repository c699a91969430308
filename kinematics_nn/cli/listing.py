"""The commands that tell what there is: info and forms."""

from ..forms.base import KINDS

__all__ = ["forms", "info"]


def info(args):
    """Print version, weights, default priors and devices."""
    import torch

    from .. import __version__
    from ..forms import get_form
    from ..network.weights import list_weights, weights_info

    print(f"kinematics_nn {__version__}")
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
        card = path.with_suffix(".md")
        if card.exists():
            print(f"    card: {card}")
        _print_nested(weights_info(name), indent=4)


def forms(args):
    """List the functional forms and who brought them."""
    from ..forms import list_forms

    last = None
    for known in list_forms():
        if known.kind != last:
            print(("" if last is None else "\n") + known.kind)
        last = known.kind
        print(f"  {known.name:<22} {known.provider}")
        for p in known.form.parameters:
            default = f"{p.default:g} {p.unit}".strip()
            print(f"      {p.name:<18} {default:<12} {p.description}; {_prior(p.prior)}")


def _prior(prior):
    ends = (f"{end:g} {scale or ''}".strip() for end, scale in zip((prior.lo, prior.hi), prior.scales, strict=True))
    return f"{type(prior).__name__} {' to '.join(ends)}"


def _print_nested(values, indent=2):
    for key, value in values.items():
        if isinstance(value, dict):
            print(f"{' ' * indent}{key}")
            _print_nested(value, indent + 2)
        else:
            print(f"{' ' * indent}{key}: {value}")
