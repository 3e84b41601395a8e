"""`worldpm doctor [CHECKPOINT]`: is the installation, or a checkpoint, what it should be?"""

from __future__ import annotations

from pathlib import Path

import click

from worldpm.errors import CheckpointError, WorldPMError


@click.command()
@click.argument("checkpoint", required=False, type=click.Path(path_type=Path))
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N, or auto.")
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True
)
@click.option("--record", is_flag=True, help="Measure the self-test scores anew and store them.")
@click.option("--dry-run", is_flag=True, help="Say what would be checked; stop.")
def command(
    checkpoint: Path | None, *, device: str, dtype: str, record: bool, dry_run: bool
) -> None:
    """Check the installation, or the folder CHECKPOINT.

    A checkpoint's tensors must all be accounted for, its tokenizer and chat template must be those
    it was trained with, transformers must render its conversations to the same tokens, and the
    conversations recorded with it must score what they scored then.

    Exit code 0 only if every check holds.
    """
    if dry_run:
        subject = "the installation" if checkpoint is None else str(checkpoint)
        click.echo(f"subject: {subject}\ndevice: {device}\ndtype: {dtype}\nrecord: {record}")
        click.echo("# checks the subject" + (" after recording its scores" if record else ""))
        return
    from worldpm.scoring.doctor import check_checkpoint, check_installation

    if checkpoint is not None and not checkpoint.is_dir():
        raise CheckpointError(f"there is no folder {checkpoint}")
    if record:
        _record(checkpoint)
    checks = (
        check_installation()
        if checkpoint is None
        else check_checkpoint(checkpoint, device=device, dtype=dtype)
    )
    failed: list[str] = []
    for check in checks:
        mark = click.style("ok  ", fg="green") if check.ok else click.style("FAIL", fg="red")
        click.echo(f"{mark} {check.name}: {check.detail}")
        if not check.ok:
            failed.append(check.name)
    if failed:
        raise WorldPMError(f"{len(failed)} checks failed: {', '.join(failed)}")


def _record(checkpoint: Path | None) -> None:
    from worldpm.modeling.checkpoint_io import record_self_test

    if checkpoint is None:
        raise CheckpointError("--record needs a CHECKPOINT")
    record_self_test(checkpoint)
