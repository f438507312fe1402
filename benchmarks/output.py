"""The output of each benchmark: tables to read, then one line of JSON."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print only the JSON line.")]
WIDTH = 200  # columns of the tables if the output is not a terminal


def print_results(line: Mapping[str, Any], json_only: bool, *tables: Table) -> None:
    """Print tables (unless `json_only`), then the JSON line; without tables, print the line as one too."""
    if not json_only:
        console = Console()
        console = console if console.is_terminal else Console(width=WIDTH)
        console.print(*(tables or [_as_table(line)]))
    typer.echo(json.dumps(_rounded(line)))


def _as_table(line: Mapping[str, Any]) -> Table:
    table = Table(show_header=False)
    for name, value in line.items():
        table.add_row(name, str(value))
    return table


def _rounded(value: Any) -> Any:
    """Round numbers to 6 digits: more are noise, and make the line long."""
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
