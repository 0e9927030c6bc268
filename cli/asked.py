"""How a command line is read and its help written: each option once, no name of a Python type, nothing heavy loaded.

A base for what typer makes of a command.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from typer.core import TyperCommand

from cli.context import Misuse


class Plain:
    """Takes as it is what needs no conversion: for converting typer imports pydantic, slower than all else here.

    Arguments are told by their names alone. An option that takes one value is taken once: of two the former would go unseen.
    """

    def get_params(self, ctx: Any) -> Any:
        """Return the parameters, --help among them."""
        params = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if not param.required and "process_value" not in vars(param):
                param.process_value = partial(_unconverted, param, param.process_value)
            if param.param_type_name == "argument" and "get_usage_pieces" not in vars(param):
                param.get_usage_pieces = partial(_pieces, param)
                param.get_help_record = partial(_record, param, param.get_help_record)
        return params

    def make_parser(self, ctx: Any) -> Any:
        """Return what takes the arguments apart."""
        parser = super().make_parser(ctx)  # type: ignore[misc]
        if not ctx.resilient_parsing:  # a line that is being completed isn't right yet
            parser.parse_args = partial(_each_once, parser.parse_args)
        return parser


class Command(Plain, TyperCommand):
    """One command."""


def _unconverted(param: Any, convert: Callable[[Any, Any], Any], ctx: Any, value: Any) -> Any:
    kind = getattr(getattr(param, "type_descriptor", None), "annotation", None)
    if value is not None and not (isinstance(kind, type) and isinstance(value, kind)):
        return convert(ctx, value)
    return value if param.callback is None else param.callback(ctx, param, value)


def _each_once(parse: Callable[..., Any], args: list[str]) -> Any:
    values, rest, order = parse(args=args)
    for param, times in Counter(order).items():
        if times > 1 and param.param_type_name == "option" and not (param.multiple or param.is_flag):
            raise Misuse(f"{param.opts[0]}: given {times} times; it takes one value")
    return values, rest, order


def _pieces(param: Any, _ctx: Any) -> list[str]:
    name = param.metavar or param.name.upper()
    more = "" if param.nargs == 1 else "..."
    return [f"{name}{more}" if param.required else f"[{name}]{more}"]


def _record(param: Any, told: Callable[[Any], tuple[str, str] | None], ctx: Any) -> tuple[str, str] | None:
    record = told(ctx)
    return None if record is None else (param.metavar or param.name.upper(), record[1])
