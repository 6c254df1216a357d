"""Sentences for wrong declarations: what is wrong, and the remedy.

The catalog and the settings are checked by pydantic; its errors become `Misconfigured` here, all of one
pass together, so that a file is corrected once and not line by line.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import ErrorDetails, PydanticCustomError

from neverstale.errors import Misconfigured

Location = tuple[int | str, ...]

_USERINFO = re.compile(r"(://).*@")
_SECRET_OPTION = re.compile(
    r"([?&;](?:password|username|[a-z]*keyfilepassword|authmechanismproperties)=)[^&;]*", re.I
)


def together(problems: Sequence[Misconfigured]) -> Misconfigured:
    """One error that names every problem; each is named once."""
    first, *others = {str(problem): problem for problem in problems}.values()
    return Misconfigured(first.where, first.problem, first.remedy, *others)


def wrong(problem: str, remedy: str, field: str = "") -> PydanticCustomError:
    """For validators to raise; `field` names the culprit where the validator sees a whole section."""
    return PydanticCustomError("wrong", "{problem}; {remedy}", {"problem": problem, "remedy": remedy, "field": field})


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known word as a question, else all of them."""
    words = sorted(known)
    near = difflib.get_close_matches(word.lower(), words, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known: {', '.join(words)}" if words else "remove it"


def read_toml(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """The tables of a TOML file; `remedy` is for a file that is not there."""
    where = str(path)
    try:
        # Some editors begin a file with a byte order mark, which TOML does not allow.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise Misconfigured(where, f"there is no such {what}", remedy) from None
    except OSError as error:
        raise Misconfigured(where, f"cannot be read ({error.strerror})", "make it a readable file") from None
    except UnicodeDecodeError as error:
        raise Misconfigured(where, f"is not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(where, f"is not valid TOML: {error}", "correct that line") from None


def redacted(text: str) -> str:
    """A connection string without its credentials, fit for logs and tables.

    Everything up to the last `@` goes, because a password that was not percent-encoded may hold any character.
    """
    return _SECRET_OPTION.sub(r"\1***", _USERINFO.sub(r"\1***@", text))


def shown(value: Any) -> str:
    """A wrong value as it may be repeated in a message: short, and without credentials."""
    if isinstance(value, dict):
        return "a table"
    text = redacted(value) if isinstance(value, str) else value
    spelled = json.dumps(text, ensure_ascii=False, default=str)
    return spelled if len(spelled) <= 60 else spelled[:57] + "..."


def sentence(
    error: ErrorDetails, known: Callable[[Location], Iterable[str]], *, secret: bool = False
) -> tuple[str, str]:
    """Problem and remedy of one pydantic error. `known` lists the fields that exist beside a location."""
    context = error.get("ctx", {})
    value = "the value (hidden)" if secret else shown(error["input"])
    match error["type"]:
        case "wrong":
            return context["problem"], context["remedy"]
        case "missing":
            return "is missing", "add it"
        case "extra_forbidden":
            return "is not a known name", did_you_mean(str(error["loc"][-1]), known(error["loc"]))
        case "literal_error":
            choices = re.findall(r"'([^']*)'", context["expected"])
            return f"{value} is not one of {', '.join(choices)}", _nearest(error["input"], choices)
        case "string_pattern_mismatch":
            return f"{value} has characters or a length that are not allowed", _spelled(context["pattern"])
    return _by_type(error["type"], context, value) or (f"{value}: {error['msg']}", "correct it")


def _by_type(kind: str, context: dict[str, Any], value: str) -> tuple[str, str] | None:
    if kind in _BOUNDS:
        word, key = _BOUNDS[kind]
        bound = context[key]
        return f"{value} is out of range", f"use {word} {bound}"
    for prefix, expected in _EXPECTED.items():
        if kind.startswith(prefix):
            return f"{value} is not {expected}", f"use {expected}"
    return None


_BOUNDS = {
    "greater_than": ("a number above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("a number below", "lt"),
    "less_than_equal": ("at most", "le"),
    "string_too_short": ("characters, at least", "min_length"),
}
_EXPECTED = {
    "int_": "a whole number",
    "float_": "a number",
    "bool_": "true or false",
    "string_": "a text",
    "path_": "a path",
    "dict_": "a table",
    "model_": "a table",
}


def _nearest(value: Any, choices: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(value).lower(), choices, n=1)
    # A choice may differ in case only ("sasl_ssl"), which the first call cannot see.
    near = near or [choice for choice in choices if choice.lower() == str(value).lower()]
    return f"did you mean {near[0]}?" if near else f"use one of them, e.g. {choices[0]}"


def _spelled(pattern: str) -> str:
    simple = re.fullmatch(r"\^\[([^\]]*)\]\{1,(\d+)\}\$", pattern)
    if simple:
        return f"use 1 to {simple[2]} characters of {simple[1]}"
    return f"it must match {pattern}"
