"""The training loop: steps, evaluations, checkpoints, and every way to end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from worldpm.data.loader import Step, prefetch
from worldpm.log import logger, progress
from worldpm.modeling.checkpoint_io import save_portable, save_qwen2_rm
from worldpm.modeling.preference_model import as_dtype
from worldpm.run_record import CHECKPOINTS_DIRECTORY, MODEL_DIRECTORY, RunStatus, read_evals
from worldpm.training import engine as distributed
from worldpm.training.adapters import merge_adapter
from worldpm.training.architecture import describe_model
from worldpm.training.assembly import (
    RunData,
    build_model,
    count_steps,
    describe_run,
    make_evaluator,
    make_loader,
    open_data,
)
from worldpm.training.best_model import is_best_so_far
from worldpm.training.checkpointing import CheckpointIdentity, CheckpointWriter
from worldpm.training.collectives import all_reduce_max, barrier
from worldpm.training.config import TrainConfig
from worldpm.training.deepspeed_config import to_deepspeed
from worldpm.training.engine import Engine, Ranks
from worldpm.training.evaluation import Evaluator
from worldpm.training.flops import training_flops
from worldpm.training.gradients import accumulate, forward
from worldpm.training.incidents import IncidentRecorder, StepValues
from worldpm.training.random_state import save_random_state
from worldpm.training.resuming import find_resume_point
from worldpm.training.run_directory import find_finished, write_config
from worldpm.training.run_state import RunState
from worldpm.training.schedules import lr_factor
from worldpm.training.speed import Speedometer
from worldpm.training.stopping import EXIT_DIVERGED, EXIT_INTERRUPTED, StopRequest, Watchdog
from worldpm.training.tracking import Tracker, open_trackers
from worldpm.training.trajectory import trajectory


def train(config: TrainConfig) -> int:
    """Run, or continue, a training run; returns the process's exit code.

    Raises:
        WorldPMError: the configuration, the data and what `output_dir` holds do not fit together.
    """
    ranks = distributed.start_ranks(config.monitor.watchdog_s)
    try:
        data = open_data(config)
        finished = find_finished(config, data.shards.info.fingerprint)
        if finished is not None:
            logger.info("%s is complete: %d steps; nothing to do", config.output_dir, finished.step)
            return 0
        return Trainer(config, data, ranks).run()
    finally:
        distributed.stop_ranks()


class Trainer:
    """One run on this rank: `run` goes from where the run stopped to its end."""

    def __init__(
        self, config: TrainConfig, data: RunData, ranks: Ranks, *, up_to_step: int | None = None
    ) -> None:
        self.config = config
        self.data = data
        self.ranks = ranks
        self.state = RunState()
        self.architecture = describe_model(config.model, data.vocab_size)
        self.num_steps = count_steps(config, data.order)
        directory = config.output_dir / CHECKPOINTS_DIRECTORY
        fingerprint = data.shards.info.fingerprint
        # Read once, before any rank can write: all ranks must agree on what is left to measure.
        self.measured_before = {record.step for record in read_evals(config.output_dir)}
        resume = find_resume_point(config, fingerprint, directory, ranks, up_to_step=up_to_step)
        values = to_deepspeed(
            config,
            hidden_size=self.architecture["hidden_size"],
            universal=resume is not None and resume.universal,
        )
        model = build_model(config, data, ranks.device, values)
        self.model_config = model.config
        self.engine = Engine(model, config, values)
        self.description = describe_run(config, data, model, self.architecture, ranks)
        if resume is not None:
            resume.load(self.engine, ranks)
            self.state = resume.checkpoint.state
            logger.info("continuing after step %d of %d", self.state.step, self.num_steps)
        self.checkpoints = CheckpointWriter(
            directory,
            config.checkpoint,
            CheckpointIdentity(
                ranks.rank, ranks.world_size, self.engine.stage, trajectory(config), fingerprint
            ),
        )
        self.speedometer = Speedometer(config.monitor.peak_flops, ranks)

    def run(self) -> int:
        """Train to the end, a request to stop, or a value that is no number."""
        stop = StopRequest()
        self._write_record("running")
        if self.ranks.is_main:
            write_config(self.config)
        trackers = self._open_trackers()
        watchdog = Watchdog(self.config.monitor.watchdog_s)
        try:
            return self._loop(stop, watchdog, trackers)
        except BaseException as exc:
            self._write_record("failed", f"{type(exc).__name__}: {exc}")
            raise
        finally:
            watchdog.stop()
            for tracker in trackers:
                tracker.close()

    def _loop(self, stop: StopRequest, watchdog: Watchdog, trackers: list[Tracker]) -> int:
        loader = make_loader(self.config, self.data, self.architecture, self.ranks)
        evaluator = make_evaluator(self.config, self.data, self.architecture, self.ranks)
        recorder = IncidentRecorder(
            self.config.monitor,
            self.config.output_dir,
            self.engine,
            self.ranks,
            save_snapshot=lambda: self._save_checkpoint(keep=True),
        )
        first, depth = self.state.step, self.config.data.prefetch_steps
        with (
            prefetch(loader, first, self.num_steps, depth) as steps,
            progress("training", self.num_steps - first) as bar,
        ):
            self._evaluate_if_due(evaluator)
            while self.state.step < self.num_steps:
                watchdog.beat()
                step, stall_s = steps.next()
                metrics = self.take_step(step, stall_s, recorder)
                if metrics is None:
                    return self._diverge(step)
                for tracker in trackers:
                    tracker.log(self.state.step, metrics)
                bar.advance()
                self._evaluate_if_due(evaluator)
                if all_reduce_max(float(stop.is_set), self.ranks.device):
                    return self._interrupt()
                self._save_if_due(step.num_pairs)
        self._finish(evaluator.statistics)
        return 0

    def take_step(
        self, step: Step, stall_s: float, recorder: IncidentRecorder | None = None
    ) -> dict[str, Any] | None:
        """One optimizer step; returns its metrics, or None if a value is no number."""
        started_s = time.perf_counter()
        sums = accumulate(self.engine, step, self.config.loss, self.ranks.device)
        lr = self.config.optimizer.lr * lr_factor(self.config.schedule, step.number, self.num_steps)
        grad_norm = self.engine.gradient_norm()
        values = StepValues(sums.objective, grad_norm, lr)
        if recorder is not None and not recorder.observe(step, self.state, values):
            return None
        reported_norm = self.engine.step(lr)
        wall_s = time.perf_counter() - started_s + stall_s
        flops = training_flops(
            self.architecture,
            num_tokens=step.num_tokens,
            num_attended=step.num_attended,
            adapter=self.config.model.adapter,
        )
        self.state = self.state.advance(
            pair_ids=step.pair_ids,
            num_pairs=step.num_pairs,
            num_tokens=step.num_tokens,
            flops=flops,
            wall_s=wall_s,
        )
        return {
            "num_pairs": self.state.num_pairs,
            "num_tokens": self.state.num_tokens,
            "flops": self.state.flops,
            "loss": sums.objective,
            "bt_loss": sums.bt_loss,
            "accuracy": sums.accuracy,
            "lr": lr,
            "grad_norm": reported_norm if grad_norm is None else grad_norm,
            "num_micro_batches": len(step.micro_batches),
            **self.speedometer.read(step, sums.num_computed_tokens, flops, wall_s, stall_s),
            "eta_s": self.state.wall_s / self.state.step * (self.num_steps - self.state.step),
            "wall_s": self.state.wall_s,
        }

    def _evaluate_if_due(self, evaluator: Evaluator) -> None:
        is_last = self.state.step == self.num_steps
        if self.state.step not in evaluator.steps:
            return
        keep_best = self.config.evaluation.keep_best
        # After a resume this step may be measured already; its model may not be written.
        measured = self.state.step in self.measured_before
        if measured and not is_last and keep_best is None:
            return
        evaluator.measure(lambda batch: forward(self.engine, batch, self.ranks.device), self.state)
        barrier()
        if keep_best and is_best_so_far(self.config.output_dir, keep_best, self.state.step):
            self._write_model(evaluator.statistics)

    def _save_if_due(self, num_pairs: int) -> None:
        every = self.config.checkpoint.every_pairs
        if every is None or self.state.step == self.num_steps:
            return
        if self.state.num_pairs // every > (self.state.num_pairs - num_pairs) // every:
            self._save_checkpoint()
            self._write_record("running")

    def _save_checkpoint(self, *, keep: bool = False) -> str:
        stall_s = self.checkpoints.save(self.state, self._save_states, barrier, keep=keep)
        if self.ranks.is_main:
            logger.info("checkpoint after step %d; stood %.2f s", self.state.step, stall_s)
        return f"{CHECKPOINTS_DIRECTORY}/step-{self.state.step:08d}"

    def _save_states(self, folder: Path, tag: str) -> None:
        self.engine.save(folder, tag)
        save_random_state(folder / tag, self.ranks.rank)

    def _interrupt(self) -> int:
        self._save_checkpoint()
        self.checkpoints.wait()
        self._write_record("interrupted", "a signal asked to stop")
        return EXIT_INTERRUPTED

    def _diverge(self, step: Step) -> int:
        self.checkpoints.wait()
        self._write_record(
            "failed",
            f"loss or gradient norm of step {step.number + 1} is no number; look at it with "
            f"`worldpm train CONFIG --replay {step.number + 1}`",
        )
        return EXIT_DIVERGED

    def _finish(self, statistics: tuple[float, float] | None) -> None:
        self._save_checkpoint()
        self.checkpoints.wait()
        if self.config.evaluation.keep_best is None:
            self._write_model(statistics)
        if self.ranks.is_main:
            logger.info("done: %s", self.config.output_dir)
        self._write_record("completed")

    def _write_model(self, statistics: tuple[float, float] | None) -> None:
        state = self._whole_state()
        if not self.ranks.is_main:
            return
        mean, std = statistics or (None, None)
        # The layout is that of the head: one linear layer, or the released models' two.
        save = save_portable if "score.weight" in state else save_qwen2_rm
        save(
            state,
            self.data.encoder,
            self.config.output_dir / MODEL_DIRECTORY,
            config=self.model_config,
            score_mean=mean,
            score_std=std,
            max_tokens=self.data.shards.info.max_tokens,
            provenance={
                "run": self.config.name,
                "step": self.state.step,
                "num_pairs": self.state.num_pairs,
                "pair_chain": self.state.pair_chain,
                "data_fingerprint": self.data.shards.info.fingerprint,
                "head_before_training": self.description.head_state,
            },
        )
        logger.info("model after %d steps written", self.state.step)

    def _whole_state(self) -> Mapping[str, torch.Tensor]:
        trained = self.engine.full_state()
        section = self.config.model
        if section.adapter is None or not self.ranks.is_main:
            return trained
        assert section.init_from is not None, "the configuration was checked"
        return merge_adapter(
            trained, section.init_from, section.adapter, as_dtype(section.precision)
        )

    def _open_trackers(self) -> list[Tracker]:
        if not self.ranks.is_main:
            return []
        return open_trackers(
            self.config.tracking,
            self.config.output_dir,
            last_step=self.state.step,
            run_name=self.config.name,
            run_config=self.config.model_dump(mode="json"),
        )

    def _write_record(self, status: RunStatus, message: str = "") -> None:
        if self.ranks.is_main:
            self.description.write_record(self.state, status, message)
