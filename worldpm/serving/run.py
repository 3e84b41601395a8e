"""Run the server of one checkpoint until it is told to stop."""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path

import uvicorn

from worldpm.errors import ConfigError, ServerError
from worldpm.log import logger
from worldpm.scoring import Scorer
from worldpm.scoring.doctor import check_scores
from worldpm.scoring.heap import keep_freed_memory
from worldpm.serving.app import create_app
from worldpm.serving.config import ServerConfig

API_KEY_VARIABLE = "WORLDPM_API_KEY"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def load_scorer(checkpoint: Path, config: ServerConfig) -> Scorer:
    """Load a checkpoint and hold it to its recorded scores.

    Raises:
        CheckpointError: it cannot be loaded exactly, or scores its self-test differently.
        ConfigError: normalized scores are asked for, and the checkpoint has no mean and deviation.
    """
    scorer = Scorer.from_checkpoint(
        checkpoint,
        device=config.device,
        dtype=config.dtype,
        max_tokens=config.max_tokens,
        token_budget=config.queue.batch_tokens,
    )
    if config.scores == "normalized" and not (scorer.score_mean is not None and scorer.score_std):
        raise ConfigError(
            f"scores is normalized, but {checkpoint} records no mean and standard deviation"
        )
    logger.info("self-test: %s", check_scores(scorer, config.dtype))
    return scorer


def read_api_key(path: Path | None) -> str | None:
    """The key of the file, or of the variable WORLDPM_API_KEY; None where there is neither.

    Raises:
        ConfigError: the file is missing, empty, or readable by everyone.
    """
    if path is None:
        return os.environ.get(API_KEY_VARIABLE) or None
    if not path.is_file():
        raise ConfigError(f"api_key_file: there is no file {path}")
    if path.stat().st_mode & stat.S_IROTH:
        raise ConfigError(f"api_key_file: everyone may read {path}; run: chmod 600 {path}")
    key = path.read_text(encoding="utf-8").strip()
    if not key:
        raise ConfigError(f"api_key_file: {path} is empty")
    return key


def serve(checkpoint: Path, config: ServerConfig) -> None:
    """Serve a checkpoint until SIGINT or SIGTERM; what was accepted is finished first.

    Raises:
        CheckpointError: the model cannot be loaded, or fails its self-test.
        ServerError: the address is not free.
    """
    keep_freed_memory()
    failure: list[BaseException] = []
    api_key = read_api_key(config.api_key_file)
    if api_key is None and config.host not in LOOPBACK:
        logger.warning("%s is open to other machines, and no key is set", config.host)

    def stop(error: BaseException) -> None:
        failure.append(error)
        server.should_exit = True

    app = create_app(
        lambda: load_scorer(checkpoint, config),
        config,
        model_name=config.model_name or str(checkpoint),
        api_key=api_key,
        on_failure=stop,
    )
    options = uvicorn.Config(
        app,
        host=config.host,
        port=config.port,
        log_level="warning",
        access_log=False,
        # Longer than clients keep an idle connection (httpx: 5 s): the one who closes it must not
        # be the server, or a request that is just being sent is lost.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=config.queue.shutdown_timeout_s,
    )
    server = uvicorn.Server(options)
    listener = _listen(options)
    # uvicorn stops on these and then sends itself the signal again: a clean stop shall exit with 0.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    with listener:
        port = listener.getsockname()[1]
        logger.info("loading %s for http://%s:%d", checkpoint, config.host, port)
        server.run(sockets=[listener])
    if failure:
        raise failure[0]


def _listen(options: uvicorn.Config) -> socket.socket:
    try:
        return options.bind_socket()
    except SystemExit as exc:
        raise ServerError(
            f"cannot listen on {options.host}:{options.port}: choose another --port or --host"
        ) from exc
