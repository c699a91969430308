"""Forms that are made at run time, and how they pickle."""

import copyreg

__all__ = ["make_form"]


class _MadeForm(type):
    """The class of forms that are made at run time: no module holds them, and they pickle as the call that makes them.

    Found by `copyreg`, which pickle asks about a class's own class before it looks for the class by name.
    """


def _recipe(form):
    return vars(form).get("_recipe") or form.__qualname__


copyreg.pickle(_MadeForm, _recipe)


def make_form(base, recipe, **members):
    """A form that is made at run time.

    Parameters
    ----------
    base : type
        The form to derive it from.
    recipe : tuple
        A function of a module, cached, and a tuple of the arguments for which it returns this very form: what pickle
        keeps.
    **members
        Attributes of the class.

    Returns
    -------
    type
    """
    members |= {"__module__": base.__module__, "__qualname__": base.__qualname__}
    members["__doc__"] = base.__doc__.split("\n\n")[0]  # what follows is of the making, not of what is made
    return _MadeForm(base.__name__, (base,), members | {"_recipe": recipe})
