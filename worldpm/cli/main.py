"""The command line: finds the verb, and turns a user's mistake into one message and exit code 2."""

from __future__ import annotations

import errno
import importlib
import os
import sys

import click

from worldpm import __version__
from worldpm.errors import WorldPMError
from worldpm.log import configure_logging

# A verb's module is imported only when the verb is called: the help stays fast.
VERBS: dict[str, tuple[str, str]] = {
    "data": ("worldpm.cli.data", "Turn StackExchange dumps into preference pairs."),
    "train": ("worldpm.cli.train", "Train a preference model."),
    "plan": ("worldpm.cli.plan", "Say what a training run takes: memory, hours, cost."),
    "finetune": ("worldpm.cli.finetune", "Fine-tune a checkpoint on a preference set."),
    "sweep": ("worldpm.cli.sweep", "Plan and launch many runs of one ladder."),
    "eval": ("worldpm.cli.eval", "Measure a model on preference benchmarks."),
    "score": ("worldpm.cli.score", "Score responses with a checkpoint."),
    "best-of-n": ("worldpm.cli.best_of_n", "Pick the best of many candidates; over-optimisation."),
    "scaling": ("worldpm.cli.scaling", "Fit scaling laws and write the report."),
    "serve": ("worldpm.cli.serve", "Score over HTTP."),
    "convert": ("worldpm.cli.convert", "Bring a reward model of another layout into ours."),
    "doctor": ("worldpm.cli.doctor", "Check the installation or a checkpoint."),
}

OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)


class LazyGroup(click.Group):
    """A group whose commands stand in a table and are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order of a project's work."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb's module and return its `command`."""
        if cmd_name not in VERBS:
            return None
        return importlib.import_module(VERBS[cmd_name][0]).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="worldpm")
def cli() -> None:
    """Preference models pre-trained at scale.

    A StackExchange dump becomes preference pairs (data), the pairs a trained model (train, sweep),
    the model numbers (eval), the numbers a scaling report (scaling).

    Every verb: --help explains, --dry-run shows what would happen; exit code 0 is done, 2 the
    user's mistake, 1 a bug.
    """


def main() -> None:
    """Run the command line."""
    # Threads that wait by spinning slow one another many times over on a shared machine: a training
    # step of a tiny model took 8 times as long. The variable is read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    configure_logging()
    try:
        cli(prog_name="worldpm")
    except WorldPMError as exc:
        sys.exit(_fail(str(exc)))
    except OSError as exc:
        if exc.errno not in OUT_OF_SPACE:
            raise
        place = f" while writing {exc.filename}" if exc.filename else ""
        sys.exit(_fail(f"the disk is full{place}: free some space and run the same command again"))


def _fail(message: str) -> int:
    click.echo(f"error: {message}", err=True)
    return 2


if __name__ == "__main__":
    main()
