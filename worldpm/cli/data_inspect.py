"""`worldpm data inspect`: look at groups in the terminal or on a local web page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command("inspect")
@click.argument("build_dir", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--site", help="A host, such as coffee.stackexchange.com.")
@click.option("--tag", help="A tag of the question.")
@click.option("--margin", help="A bucket of score differences: 1-2, 3-5, 6-10 or 11+.")
@click.option("--split", help="train, validation or test.")
@click.option("--text", help="Words that stand in the question or an answer.")
@click.option("--limit", default=3, show_default=True, help="How many groups to print.")
@click.option("--web", is_flag=True, help="Serve a page with search on this machine instead.")
@click.option(
    "--port", default=8765, show_default=True, help="The page's port; 0 takes a free one."
)
@click.option("--dry-run", is_flag=True, help="Say what would be shown; stop.")
def command(
    build_dir: Path, *, limit: int, web: bool, port: int, dry_run: bool, **filters: str | None
) -> None:
    """Look at groups of OUT, the output_dir of a data build.

    \b
    worldpm data inspect OUT --site coffee.stackexchange.com --margin 11+
    worldpm data inspect OUT --web
    """
    from data_pipeline.browse import Filters, find_groups

    chosen = Filters(**filters)
    if dry_run:
        where = "on a local page" if web else f"as text, {limit} at most"
        set_filters = {name: value for name, value in filters.items() if value}
        click.echo(f"# would show groups of {build_dir} {where}, with {set_filters or 'no filter'}")
        return
    if web:
        _serve(build_dir, port)
        return
    groups = find_groups(build_dir, chosen, limit=limit)
    for group in groups:
        _print_group(group)
    if not groups:
        click.echo("no group fits")


def _serve(build_dir: Path, port: int) -> None:
    from data_pipeline.browse_page import make_server

    with make_server(build_dir, port) as server:
        click.echo(f"http://127.0.0.1:{server.server_address[1]}  (Ctrl-C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("ended")


def _print_group(group: dict[str, Any]) -> None:
    tags = " ".join(f"[{tag}]" for tag in group["tags"] or [])
    click.secho(f"{group['group_id']}  {tags}  {group['split']}", bold=True)
    for turn in group["prompt"]:
        click.echo(_printable(turn["content"]))
    responses = group["responses"]
    for pair, bucket in zip(group["pairs"], group["margin_buckets"], strict=True):
        for side, colour in (("chosen", "green"), ("rejected", "red")):
            response = responses[pair[side]]
            accepted = ", accepted" if response["is_accepted"] else ""
            title = f"--- {side} (score {response['score']}{accepted}; margin {bucket})"
            click.secho(title, fg=colour)
            click.echo(_printable(response["content"]))
    in_pairs = {pair[side] for pair in group["pairs"] for side in ("chosen", "rejected")}
    others = [str(r["score"]) for i, r in enumerate(responses) if i not in in_pairs]
    if others:
        click.echo(f"--- not in a pair: answers with scores {', '.join(others)}")
    click.echo()


def _printable(text: str) -> str:
    """Without control characters: a post must not steer the terminal."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
