"""`worldpm serve`: a checkpoint behind HTTP."""

from __future__ import annotations

from pathlib import Path

import click

from worldpm.config import load_config, to_yaml
from worldpm.errors import CheckpointError


@click.command(name="serve")
@click.argument("checkpoint", metavar="CHECKPOINT", type=click.Path(path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY.PATH=VALUE]...")
@click.option("--port", type=int, help="Listen here (default 8000; 0 takes a free one).")
@click.option("--host", help="Listen on this address (default 127.0.0.1: this machine only).")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path),
    help="A configuration such as configs/serve/base.yaml.",
)
@click.option("--dry-run", is_flag=True, help="Show the configuration and the plan; stop.")
def command(
    checkpoint: Path,
    overrides: tuple[str, ...],
    port: int | None,
    host: str | None,
    config_path: Path | None,
    *,
    dry_run: bool,
) -> None:
    """Score over HTTP with CHECKPOINT, a model folder such as RUN/model.

    The server listens on this machine only; `--host 0.0.0.0` opens it, and then a key should be
    set: in the variable WORLDPM_API_KEY or in a file (api_key_file=PATH). `GET /health` answers 200
    as soon as the model has passed its self-test. SIGTERM finishes accepted requests and stops.

    \b
      worldpm serve RUN/model --port 8000
      worldpm serve RUN/model --config configs/serve/gpu.yaml queue.batch_tokens=65536

    \b
    Endpoints
      POST /v1/score                    groups: {"groups": [{"id", "prompt", "responses"}]}
      POST /get_reward                  OpenRLHF's remote reward
      POST /classify, /pooling          vLLM; SGLang's /classify with "text"
      POST /v1/embeddings               SGLang
      POST /remote_rm                   slime
      POST …/submit_task, GET …/task_result   ROLL, below /apis/custom/reward-system/v1
      GET  /health /metrics /openapi.json /v1/models, and a page to try it at /
    """
    from worldpm.serving.config import ServerConfig

    given = [f"port={port}"] if port is not None else []
    given += [f"host={host}"] if host is not None else []
    config = load_config(ServerConfig, config_path, [*overrides, *given])
    if dry_run:
        click.echo(to_yaml(config), nl=False)
        click.echo(f"# would serve {checkpoint} at http://{config.host}:{config.port}")
        return
    if not (checkpoint / "config.json").is_file():
        raise CheckpointError(
            f"{checkpoint} is no model folder: name one with a config.json, such as RUN/model"
        )
    from worldpm.serving.run import serve

    serve(checkpoint, config)
