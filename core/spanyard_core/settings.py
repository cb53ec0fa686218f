"""Settings: a frozen dataclass per component, filled from flags, environment, file, defaults.

Each field says its help, unit and limits once, by `setting(...)`; flag, variable, `--help`, the
errors and the table in `docs/configuration.md` follow from it. For a field `flush_interval`:
`--flush-interval` beats `SPANYARD_FLUSH_INTERVAL` beats `flush_interval` in the TOML file of
`--config` (or `SPANYARD_CONFIG`) beats the default. An empty variable counts as not set, because
that is how Kubernetes and shells say "none". Unknown flags and unknown keys in the file are refused.
"""

import argparse
import dataclasses
import difflib
import math
import os
import re
import sys
import textwrap
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

from spanyard_core import __version__, faults
from spanyard_core.errors import SettingError
from spanyard_core.quantities import (
    DURATION_HELP,
    SIZE_HELP,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

PREFIX = "SPANYARD_"
CONFIG_VARIABLE = PREFIX + "CONFIG"
HIDDEN = "(not shown)"
"""Stands for the value of a secret, in errors too."""

_PASSWORD = re.compile(r"(://[^/:@\s]*:)[^/\s]*@")

_MISSING: Any = dataclasses.MISSING
_KEY = "spanyard"
_Settings = TypeVar("_Settings")


@dataclass(frozen=True)
class _Meta:
    help: str
    unit: Literal["", "duration", "size"]
    secret: bool
    choices: tuple[str, ...]
    least: float | None
    most: float | None
    group: str


def setting(
    default: Any = _MISSING,
    *,
    help: str,  # noqa: A002 - reads best where settings are declared
    unit: Literal["", "duration", "size"] = "",
    required: bool = False,
    secret: bool = False,
    choices: Sequence[str] = (),
    least: float | None = None,
    most: float | None = None,
    group: str = "",
) -> Any:
    """A field of a settings class (`@dataclass(frozen=True, kw_only=True)`).

    `unit="duration"` makes a float of seconds, `unit="size"` an int of bytes; `least` and `most`
    are inclusive and in the same unit. A `secret` is never printed, not even in an error; its help
    should point to the variable, because flags show in the process list. `group` is a heading in
    `--help`.
    """
    if required != (default is _MISSING):
        raise TypeError("a setting has either a default or required=True")
    meta = {_KEY: _Meta(help, unit, secret, tuple(choices), least, most, group)}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=meta)
    return dataclasses.field(default=default, metadata=meta, repr=not secret)


def _without_password(text: str) -> str:
    """A URL (or a text with some) as it may stand in a log."""
    return _PASSWORD.sub(r"\1…@", text)


class Setting:
    """One field as everything here sees it."""

    def __init__(self, field: "dataclasses.Field[Any]", annotation: Any) -> None:
        meta = field.metadata.get(_KEY)
        if not isinstance(meta, _Meta):
            raise TypeError(f"field {field.name} is not declared by setting(...)")
        self.name = field.name
        self.help = meta.help
        self.unit = meta.unit
        self.secret = meta.secret
        self.choices = meta.choices
        self.least = meta.least
        self.most = meta.most
        self.group = meta.group
        self.flag = "--" + field.name.replace("_", "-")
        self.variable = PREFIX + field.name.upper()
        factory: Any = field.default_factory
        self.default = field.default if factory is _MISSING else factory()
        self.required = self.default is _MISSING
        self.optional = False
        if typing.get_origin(annotation) in {types.UnionType, typing.Union}:
            inner = [a for a in typing.get_args(annotation) if a is not types.NoneType]
            if len(inner) != 1:
                raise TypeError(f"field {field.name}: only `X | None` is understood")
            self.optional, annotation = True, inner[0]
        self.is_list = annotation == list[str]
        if not self.is_list and annotation not in {str, int, float, bool, Path}:
            raise TypeError(f"field {field.name}: type {annotation} is not understood")
        if meta.unit and annotation is not {"duration": float, "size": int}[meta.unit]:
            raise TypeError(f"field {field.name}: a duration is a float, a size an int")
        self.type: Any = annotation

    @property
    def allowed(self) -> str:
        """What may stand here, in words."""
        limits = "" if self.choices else self.limits
        return f"{self._kind()}, {limits}" if limits else self._kind()

    @property
    def limits(self) -> str:
        """The range or the choices, in words; empty when there are none."""
        if self.choices:
            return ", ".join(self.choices)
        show = self.show
        if self.least is not None and self.most is not None:
            return f"{show(self.least)} to {show(self.most)}"
        if self.least is not None:
            return f"at least {show(self.least)}"
        return "" if self.most is None else f"at most {show(self.most)}"

    def _kind(self) -> str:
        if self.choices:
            start = "a comma-separated list of " if self.is_list else "one of "
            return start + ", ".join(self.choices)
        if self.is_list:
            return "a comma-separated list"
        if self.unit == "duration":
            return DURATION_HELP
        if self.unit == "size":
            return SIZE_HELP
        names = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
        return names.get(self.type, "a path")

    def show(self, value: Any) -> str:
        """The value as one would write it; nothing of a secret."""
        if value is None or value in ("", []):
            return ""
        if self.secret:
            return HIDDEN
        if self.is_list:
            return ",".join(value)
        if isinstance(value, str):
            return _without_password(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if self.unit == "duration":
            return format_duration(value)
        if self.unit == "size":
            return format_size(int(value))
        return str(value)

    def error(self, value: object, source: str) -> SettingError:
        """What to raise for a bad value; `source` says where it was read."""
        shown = HIDDEN if self.secret else _without_password(repr(value))[:200]
        return SettingError(
            f"{self.name}: {shown} (from {source}) is not {self.allowed}. "
            f"Set {self.flag}, {self.variable}, or {self.name} in the file of --config."
        )

    def parse(self, raw: object, source: str) -> Any:
        """The value behind a text (flag, variable) or a TOML value. Raises SettingError."""
        try:
            value = self._from_text(raw) if isinstance(raw, str) else self._from_toml(raw)
        except ValueError:
            # Python's own text would repeat the value, which may be a secret.
            raise self.error(raw, source) from None
        if value is None:
            return None
        if isinstance(value, (int, float)) and (
            not math.isfinite(value)
            or (self.least is not None and value < self.least)
            or (self.most is not None and value > self.most)
        ):
            raise self.error(raw, source)
        if self.choices and not set(value if self.is_list else [value]) <= set(self.choices):
            raise self.error(raw, source)
        return value

    def _from_text(self, text: str) -> Any:
        if self.optional and not text.strip():
            return None
        if self.is_list:
            return [part.strip() for part in text.split(",") if part.strip()]
        if self.unit == "duration":
            return parse_duration(text)
        if self.unit == "size":
            return parse_size(text)
        if self.type is bool:
            lowered = text.strip().lower()
            if lowered in {"true", "1", "yes", "on"}:
                return True
            if lowered in {"false", "0", "no", "off"}:
                return False
            raise ValueError("not true or false")
        if self.required and not text.strip():
            raise ValueError("it is empty")
        return self.type(text)

    def _from_toml(self, raw: object) -> Any:
        number = isinstance(raw, (int, float)) and not isinstance(raw, bool)
        if self.is_list and isinstance(raw, list) and all(isinstance(item, str) for item in raw):
            return list(raw)
        if self.type is bool and isinstance(raw, bool):
            return raw
        if self.type is float and number:
            return float(raw)  # type: ignore[arg-type]  # number says it is one
        if self.type is int and isinstance(raw, int) and number:
            return raw
        raise ValueError("")


def settings_of(settings_class: type) -> list[Setting]:
    """The fields of a settings class, in order."""
    annotations = typing.get_type_hints(settings_class)
    return [Setting(f, annotations[f.name]) for f in dataclasses.fields(settings_class)]


def refuse(settings: object, name: str, why: str) -> SettingError:
    """The error for a field whose value clashes with others; for `__post_init__`."""
    field = next(s for s in settings_of(type(settings)) if s.name == name)
    shown = HIDDEN if field.secret else repr(field.show(getattr(settings, name)))
    return SettingError(
        f"{name}: {shown} {why}. Set {field.flag}, {field.variable}, or {name} in the file of "
        "--config."
    )


def shown_settings(settings: Any) -> dict[str, str]:
    """All values as text without secrets; for the log at start."""
    return {s.name: s.show(getattr(settings, s.name)) for s in settings_of(type(settings))}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingError(f"{message}. See {self.prog} --help.")


def _parser(fields: Sequence[Setting], prog: str, description: str) -> _Parser:
    parser = _Parser(
        prog=prog,
        description=description,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=textwrap.fill(
            f"Every setting can also be a variable ({PREFIX}…, shown in brackets) or a key in the "
            "TOML file of --config: flags beat variables, variables beat the file.",
            width=90,
        ),
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("--list-fault-points", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--config", metavar="FILE", help=f"TOML file with settings [{CONFIG_VARIABLE}]"
    )
    groups = {"": parser.add_argument_group("settings")}
    for field in fields:
        group = groups.get(field.group)
        if group is None:
            group = groups[field.group] = parser.add_argument_group(field.group)
        text = _help(field).replace("%", "%%")
        if field.type is bool:
            yes_no = argparse.BooleanOptionalAction
            group.add_argument(field.flag, dest=field.name, action=yes_no, help=text)
        else:
            group.add_argument(field.flag, dest=field.name, metavar=_metavar(field), help=text)
    return parser


def _metavar(field: Setting) -> str:
    if field.choices:
        return "{" + ",".join(field.choices) + "}"
    if field.unit:
        return field.unit.upper()
    names = {int: "N", float: "N", Path: "PATH"}
    return "A,B,…" if field.is_list else names.get(field.type, "TEXT")


def _help(field: Setting) -> str:
    default = "required" if field.required else f"default {field.show(field.default) or 'none'}"
    return f"{field.help} [{default}; {field.variable}]"


def _read_file(path: str, fields: Sequence[Setting]) -> dict[str, Any]:
    try:
        text = Path(path).read_text("utf-8")
        found = tomllib.loads(text)
    except OSError as error:
        raise SettingError(f"config: cannot read {path!r}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"config: {path!r} is not TOML: {error}") from error
    names = [field.name for field in fields]
    for key in found:
        if key not in names:
            near = difflib.get_close_matches(key.replace("-", "_"), names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}."
            raise SettingError(f"{key}: there is no such setting (in {path!r}); {hint}")
    return found


def load_settings(
    settings_class: type[_Settings],
    *,
    prog: str,
    description: str,
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> _Settings:
    """The settings from flags, environment, file and defaults.

    Raises SettingError naming the field, its flag and variable, the value got and what is allowed.
    `--help`, `--version` and `--list-fault-points` print and leave by SystemExit(0).
    """
    argv = sys.argv[1:] if argv is None else argv
    environ = os.environ if environ is None else environ
    fields = settings_of(settings_class)
    given = vars(_parser(fields, prog, description).parse_args(list(argv)))
    if given.pop("list_fault_points", False):
        print(faults.list_fault_points())
        raise SystemExit(0)
    path = given.pop("config", None) or environ.get(CONFIG_VARIABLE, "")
    in_file = _read_file(path, fields) if path else {}
    values: dict[str, Any] = {}
    for field in fields:
        if field.name in given:
            raw, source = given[field.name], field.flag
        elif environ.get(field.variable):
            raw, source = environ[field.variable], field.variable
        elif field.name in in_file:
            raw, source = in_file[field.name], repr(path)
        elif field.required:
            raise SettingError(
                f"{field.name}: is required ({field.help}). Set {field.flag}, {field.variable}, "
                f"or {field.name} in the file of --config."
            )
        else:
            continue
        values[field.name] = field.parse(raw, source)
    return settings_class(**values)


def settings_or_exit(
    settings_class: type[_Settings],
    *,
    prog: str,
    description: str,
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> _Settings:
    """`load_settings` for a `main`: a wrong setting is one line on stderr and exit code 2."""
    try:
        return load_settings(
            settings_class, prog=prog, description=description, argv=argv, environ=environ
        )
    except SettingError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
