"""What the command line says beside its output: one line at a time, on stderr."""

import re
import sys

__all__ = ["in_shell_words", "one_line", "say"]

_CALL = re.compile(r"\b(?:fit|fit_maps|simulate)\((\w+)=([^(),=]+)\)")
_TEXT = re.compile(r"\"([\w.]+)\"|'([\w.]+)'")
_NUMBER = re.compile(r"[\d._]+")
_QUANTITY = re.compile(r"([\d.]+) \* u\.(\w+)(?: / u\.(\w+))?")


def one_line(message):
    """A message without its line breaks."""
    return " ".join(str(message).split())


def in_shell_words(message, options):
    """A message of the Python doors with its calls as options of a command.

    Parameters
    ----------
    message : str
        Such as ``... Try: fit(distance=10 * u.Mpc)``.
    options : iterable of str
        Names that the command has, with underscores. Calls with others stay as they are.

    Returns
    -------
    str
        Such as ``... Try: --distance '10 Mpc'``.
    """

    def option(found):
        name, value = found.groups()
        if name not in options:
            return found.group()
        word = "NAME=QUANTITY" if name == "fixed" else _shell_value(value)
        return f"--{name.replace('_', '-')} {word}"

    message = message.replace("kinematics_nn.register(YourForm)", "install it as a plug-in")
    return _CALL.sub(option, message)


def _shell_value(value):
    """A value of an argument as the shell takes it, or dots."""
    if text := _TEXT.fullmatch(value):
        return text.group(1) or text.group(2)
    if quantity := _QUANTITY.fullmatch(value):
        number, unit, per = quantity.groups()
        return f"'{number} {unit}{f'/{per}' if per else ''}'"
    return value.replace("_", "") if _NUMBER.fullmatch(value) else "..."


def say(text):
    """Say something on stderr, under the program's name."""
    print(f"kinematics-nn: {text}", file=sys.stderr, flush=True)
