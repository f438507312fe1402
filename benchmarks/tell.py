"""What each benchmark ends with: tables to read, then one line of JSON."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="The JSON line only.")]
WIDTH = 200  # columns of the tables where the output is no terminal


def tell(line: Mapping[str, Any], json_only: bool, *tables: Table) -> None:
    """Print tables, unless only JSON is asked for, then the line; without tables the line is one, too."""
    if not json_only:
        console = Console()
        console = console if console.is_terminal else Console(width=WIDTH)
        console.print(*(tables or [_listed(line)]))
    typer.echo(json.dumps(_rounded(line)))


def _listed(line: Mapping[str, Any]) -> Table:
    table = Table(show_header=False)
    for name, value in line.items():
        table.add_row(name, str(value))
    return table


def _rounded(value: Any) -> Any:
    """Give numbers with 6 digits: more are noise, and make the line long."""
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
