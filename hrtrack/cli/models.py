"""`hrtrack models`: what can be named after --model and --detector, and fetching it."""

from __future__ import annotations

import click

from ..errors import ModelError


@click.group(invoke_without_command=True, short_help="List models that have a name; fetch them.")
@click.pass_context
def models(ctx: click.Context) -> None:
    """List the models that have a name; `hrtrack models fetch NAME` downloads one."""
    if ctx.invoked_subcommand is not None:
        return
    from ..models.zoo import entries

    rows = [("NAME", "TASK", "FROM", "SHA-256", "LICENCE")]
    for entry in entries():
        origin = "package" if entry.bundled else "download"
        known = "-" if entry.bundled else (entry.sha256 or "not published")
        rows.append((entry.name, entry.task, origin, known, entry.licence))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[4]]))


@models.command()
@click.argument("name")
@click.option("--trust-unhashed", is_flag=True, help="Take a file whose hash is not published.")
@click.option("--again", is_flag=True, help="Download it anew if it is there.")
def fetch(name: str, trust_unhashed: bool, again: bool) -> None:
    """Download NAME into the user's cache, check it, and print where it lies."""
    from ..models import zoo

    found = next((entry for entry in zoo.entries() if entry.name == name), None)
    if found is None:
        raise ModelError(f"no model is called '{name}'; `hrtrack models` lists all")
    folder = zoo.cache_folder()
    click.echo(zoo.fetch(found, folder, trust_unhashed=trust_unhashed, again=again))
