"""The forms that are known: this package's own, those of installed plug-ins, and those registered in a session."""

from __future__ import annotations

import difflib
import warnings
import weakref
from functools import cache
from importlib.metadata import entry_points, version
from typing import NamedTuple

import pluggy

from ..errors import FormError, KinematicsWarning
from . import dispersion, hookspecs, moment0, rings, rotation_curves, surface_brightness
from .base import KINDS, Form
from .composite import sum_of_forms
from .contract import check_numpy, check_scaling, check_torch
from .contract_light import check_light
from .declaration import check_declaration

__all__ = ["FormRegistry", "RegisteredForm", "check_in_full", "get_form", "list_forms", "register"]

_KIND_OF_HOOK = {
    "kinematics_nn_rotation_curves": "rotation_curve",
    "kinematics_nn_surface_brightness": "surface_brightness",
    "kinematics_nn_dispersions": "velocity_dispersion",
}


class RegisteredForm(NamedTuple):
    """A form, and who brought it."""

    name: str
    kind: str
    provider: str
    form: type[Form]


class FormRegistry:
    """Forms by kind and name. A plug-in that breaks is warned of by name, and harms no other."""

    def __init__(self):
        self._forms = {}
        self._plugins = pluggy.PluginManager(hookspecs.PROJECT)
        self._plugins.add_hookspecs(hookspecs)

    def add_plugin(self, plugin, provider):
        """Take in the forms of one plug-in.

        Parameters
        ----------
        plugin : module or object
            What implements the hooks of `kinematics_nn.forms.hookspecs`.
        provider : str
            Distribution and version, named in warnings and by `list`.
        """
        self._plugins.register(plugin)
        self._warn_of_misspelt_hooks(plugin, provider)
        others = [known for known in self._plugins.get_plugins() if known is not plugin]
        for hook, kind in _KIND_OF_HOOK.items():
            try:
                answers = self._plugins.subset_hook_caller(hook, others)()
                forms = [form for answer in answers for form in answer]
            except (Exception, SystemExit) as error:  # a stranger's code: whatever it raises, the others go on
                _warn(f"{provider}: {hook} raises {type(error).__name__}: {error}. Its forms are left out.")
                continue
            for form in forms:
                try:
                    check_declaration(form)
                    if form.kind != kind:
                        raise FormError(f"{form.name!r} is a {form.kind}", f"a {kind} from {hook}")
                    check_numpy(form)  # torch stays unloaded: plug-in authors run the rest by testing.check_form
                    self._add(form, provider)
                except FormError as error:
                    _warn(f"{provider}: {error}. This form is left out.")
                except (Exception, SystemExit) as error:  # a declaration may be anything, and the others go on
                    _warn(f"{provider}: {form!r} raises {type(error).__name__}: {error}. This form is left out.")

    def load_entry_points(self):
        """Take in the plug-ins that installed distributions name under the group ``kinematics_nn``."""
        for entry in entry_points(group=hookspecs.PROJECT):
            provider = f"{entry.dist.name} {entry.dist.version}"
            try:
                plugin = entry.load()
                self.add_plugin(plugin, provider)
            except (Exception, SystemExit) as error:  # a stranger's code: whatever it raises, the others go on
                _warn(
                    f"{provider}: its plug-in {entry.value!r} raises {type(error).__name__}: {error}. It is left out."
                )

    def register(self, form):
        """Check a form in full and take it in; returns it, so that it serves as a decorator.

        Registering a class again from the same place (a notebook's cell run twice) replaces it.

        Raises
        ------
        FormError
            If it breaks the contract of forms, or another form of its kind has its name.
        """
        check_in_full(form)
        _CHECKED.add(form)
        self._add(form, form.__module__)
        return form

    def get(self, wanted, kind):
        """The form that a name, a form, or an astropy model (or its class) stands for; see `get_form`."""
        if kind not in KINDS:
            raise FormError(f"the kind {kind!r}", f"one of {', '.join(KINDS)}")
        if isinstance(wanted, str):
            if kind == "rotation_curve" and ":" in wanted:
                return self._sum(wanted)
            if (kind, wanted) in self._forms:
                return _checked(self._forms[kind, wanted].form)
            known = sorted(name for of_kind, name in self._forms if of_kind == kind)
            close = difflib.get_close_matches(wanted, known, n=1)
            remedy = f"{close[0]!r}" if close else "kinematics_nn.register(YourForm), if it is your own"
            raise FormError(f"no {kind} is called {wanted!r}", f"one of {', '.join(known)}", remedy)
        form = wanted if isinstance(wanted, type) and issubclass(wanted, Form) else getattr(wanted, "form", None)
        if not (isinstance(form, type) and issubclass(form, Form)):
            raise FormError(
                f"{wanted!r} is no {kind}",
                "a registered name, a form, or a model of kinematics_nn.models",
                "list_forms()",
            )
        if form.kind != kind:
            raise FormError(f"{form.name!r} is a {form.kind}", f"a {kind}")
        if not form.parameters:
            raise FormError(f"{form.__name__} is no form yet", "what it is made of", f"{form.__name__}(...)")
        return _checked(form)

    def _sum(self, text):
        """The sum in quadrature that its own name stands for: ``disc:freeman+halo:nfw``."""
        parts = [part.strip().partition(":") for part in text.split("+")]
        if not all(prefix.isidentifier() and name.isidentifier() for prefix, _, name in parts):
            raise FormError(f"the sum {text!r}", "prefix:name+prefix:name", "'disc:freeman+halo:nfw'")
        return sum_of_forms(tuple((prefix, self.get(name, "rotation_curve")) for prefix, _, name in parts))

    def list(self):
        """All forms, by kind and name."""
        return sorted(self._forms.values(), key=lambda known: (KINDS.index(known.kind), known.name))

    def _add(self, form, provider):
        known = self._forms.get((form.kind, form.name))
        if known is not None:
            same_place = (known.form.__module__, known.form.__qualname__) == (form.__module__, form.__qualname__)
            if not same_place:
                raise FormError(
                    f"{provider} and {known.provider} both bring a {form.kind} called {form.name!r}",
                    "one name a form",
                    f"another name in {form.__module__}.{form.__qualname__}",
                )
        self._forms[form.kind, form.name] = RegisteredForm(form.name, form.kind, provider, form)

    def _warn_of_misspelt_hooks(self, plugin, provider):
        """Name the hooks that no one calls: pluggy takes an unknown name, and one without its mark, in silence."""
        marked = {caller.name for caller in self._plugins.get_hookcallers(plugin) or ()}
        for name in sorted(marked | {name for name in dir(plugin) if name.startswith(f"{hookspecs.PROJECT}_")}):
            if name not in _KIND_OF_HOOK:
                close = difflib.get_close_matches(name, _KIND_OF_HOOK, n=1)
                hint = f"did it mean {close[0]}?" if close else f"the hooks are {', '.join(_KIND_OF_HOOK)}."
                _warn(f"{provider}: there is no hook {name}; {hint}")
            elif name not in marked:
                _warn(f"{provider}: {name} is not marked with kinematics_nn.forms.hookimpl, and is not called.")


def check_in_full(form):
    """Check what a fit needs of a form: its declaration, values, scaling, gradients, and of a light its integrals."""
    check_declaration(form)
    check_numpy(form)
    check_scaling(form)
    check_torch(form)
    if form.kind == "surface_brightness":
        check_light(form)


_CHECKED = weakref.WeakSet()


def _checked(form):
    """A form; one that is a stranger's, a plug-in's or a bare class, is checked in full when it is first used."""
    if form not in _CHECKED and form.__module__.partition(".")[0] != "kinematics_nn":
        check_in_full(form)
        _CHECKED.add(form)
    return form


def _warn(message):
    warnings.warn(message, KinematicsWarning, stacklevel=3)


@cache
def _registry():
    """The session's registry, filled when it is first asked for, so that an import runs no plug-in."""
    registry = FormRegistry()
    own = f"kinematics_nn {version('kinematics_nn')}"
    for module in (rotation_curves, surface_brightness, dispersion, rings, moment0):
        registry.add_plugin(module, own)
    registry.load_entry_points()
    return registry


def get_form(form, kind):
    """The form that is meant.

    Parameters
    ----------
    form : str, type or astropy.modeling.Model
        A registered name, or names as ``disc:freeman+halo:nfw`` for their sum in quadrature; a form; or a model of
        `kinematics_nn.models`, as instance or class.
    kind : {"rotation_curve", "surface_brightness", "velocity_dispersion"}
        What it must be.

    Returns
    -------
    type
        A subclass of `Form`.

    Raises
    ------
    FormError
        If there is none such, or it is of another kind.
    """
    return _registry().get(form, kind)


def list_forms():
    """All known forms: a list of (name, kind, provider, form)."""
    return _registry().list()


def register(form):
    """Make a form known by its name for the rest of the session; usable as a decorator. See `FormRegistry.register`."""
    return _registry().register(form)
