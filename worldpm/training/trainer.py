"""The training loop: steps, evaluations, checkpoints, and every way to end."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch

from worldpm.data.loader import Step, prefetch
from worldpm.data.packing import PackedBatch
from worldpm.log import logger, progress
from worldpm.modeling.checkpoint_io import save_portable
from worldpm.modeling.preference_model import PreferenceModel
from worldpm.run_record import CHECKPOINTS_DIRECTORY, MODEL_DIRECTORY, EvalRecord, eval_path
from worldpm.training import engine as distributed
from worldpm.training.architecture import describe_model
from worldpm.training.assembly import (
    RunData,
    build_model,
    count_steps,
    make_loader,
    make_packing,
    open_data,
)
from worldpm.training.checkpointing import (
    STATES_TAG,
    Checkpoint,
    CheckpointIdentity,
    CheckpointWriter,
    list_checkpoints,
    remove_unfinished,
)
from worldpm.training.config import TrainConfig, trajectory
from worldpm.training.deepspeed_config import to_deepspeed
from worldpm.training.engine import Engine, Ranks
from worldpm.training.evaluation import (
    PairScores,
    load_test_sets,
    score_test_set,
    summarise,
    write_evaluation,
)
from worldpm.training.flops import training_flops
from worldpm.training.monitor import (
    SpikeDetector,
    SpikeRecord,
    StepSpeed,
    peak_flops,
    peak_memory_bytes,
)
from worldpm.training.objective import batch_loss
from worldpm.training.run_directory import (
    RunDescription,
    check_same_run,
    describe_run,
    find_finished,
    write_config,
)
from worldpm.training.run_state import RunState
from worldpm.training.schedules import evaluation_steps, lr_factor
from worldpm.training.stopping import EXIT_DIVERGED, EXIT_INTERRUPTED, StopRequest, Watchdog
from worldpm.training.tracking import Tracker, open_trackers


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
    """One run on this rank."""

    def __init__(self, config: TrainConfig, data: RunData, ranks: Ranks) -> None:
        self.config = config
        self.data = data
        self.ranks = ranks
        self.architecture = describe_model(config.model, data.vocab_size)
        self.num_steps = count_steps(config, data.order)
        self.evaluations = set(
            evaluation_steps(
                self.num_steps,
                data.order.pairs_per_step,
                first_pairs=config.evaluation.first_pairs,
                points_per_doubling=config.evaluation.points_per_doubling,
            )
        )
        model = build_model(config, data, ranks.device)
        self.model_config = model.config
        self.run_description = self._describe(model)
        values = to_deepspeed(config, hidden_size=self.architecture["hidden_size"])
        self.engine = Engine(model, config, values)
        self.test_sets = load_test_sets(
            config, data.folder, data.encoder, data.shards.info.max_tokens
        )
        self.state = RunState()
        self.checkpoints = CheckpointWriter(
            config.output_dir / CHECKPOINTS_DIRECTORY,
            config.checkpoint,
            CheckpointIdentity(
                ranks.rank,
                ranks.world_size,
                self.engine.stage,
                trajectory(config),
                data.shards.info.fingerprint,
            ),
        )
        self.spikes = SpikeDetector(config.monitor)
        self.num_spikes = 0
        self.score_statistics: tuple[float, float] | None = None
        gpu = torch.cuda.get_device_name() if ranks.device.type == "cuda" else ""
        self.peak_flops = config.monitor.peak_flops or peak_flops(gpu)

    def _describe(self, model: PreferenceModel) -> RunDescription:
        total = sum(parameter.numel() for parameter in model.parameters())
        embedding = model.config.vocab_size * model.config.hidden_size
        return describe_run(
            self.config,
            model_name=self.architecture["name"],
            num_params=total,
            num_params_non_embedding=total - embedding,
            num_steps=self.num_steps,
            data_fingerprint=self.data.shards.info.fingerprint,
            world_size=self.ranks.world_size,
        )

    def run(self) -> int:
        """Train to the end, a request to stop, or a value that is no number."""
        stop = StopRequest()
        self._resume()
        self._write_record("running")
        if self.ranks.is_main:
            write_config(self.config)
        trackers = self._open_trackers()
        watchdog = Watchdog(self.config.monitor.watchdog_s)
        try:
            code = self._loop(stop, watchdog, trackers)
            if code == 0:
                self._finish()
            return code
        except BaseException as exc:
            self._write_record("failed", f"{type(exc).__name__}: {exc}")
            raise
        finally:
            watchdog.stop()
            for tracker in trackers:
                tracker.close()

    def _loop(self, stop: StopRequest, watchdog: Watchdog, trackers: list[Tracker]) -> int:
        loader = make_loader(self.config, self.data, self.architecture, self.ranks)
        first = self.state.step
        depth = self.config.data.prefetch_steps
        with (
            prefetch(loader, first, self.num_steps, depth) as steps,
            progress("training", self.num_steps - first) as bar,
        ):
            self._evaluate_if_due()
            while self.state.step < self.num_steps:
                watchdog.beat()
                step, stall_s = steps.next()
                metrics = self._train_step(step, stall_s)
                if metrics is None:
                    return EXIT_DIVERGED
                for tracker in trackers:
                    tracker.log(self.state.step, metrics)
                bar.advance()
                self._evaluate_if_due()
                if self._should_stop(stop):
                    self._save_checkpoint()
                    self.checkpoints.wait()
                    self._write_record("interrupted", "a signal asked to stop")
                    return EXIT_INTERRUPTED
                self._save_if_due(step.num_pairs)
        return 0

    def _train_step(self, step: Step, stall_s: float) -> dict[str, Any] | None:
        started_s = time.perf_counter()
        sums = self._accumulate(step)
        loss, bt_loss, accuracy = (float(value) / step.num_pairs for value in sums[:3])
        grad_norm = self.engine.gradient_norm()
        lr = self.config.optimizer.lr * lr_factor(self.config.schedule, step.number, self.num_steps)
        if not math.isfinite(loss) or (grad_norm is not None and not math.isfinite(grad_norm)):
            self._stop_diverged(step, loss, grad_norm, lr)
            return None
        self._record_spike(step, bt_loss, grad_norm, lr)
        reported_norm = self.engine.step(lr)
        wall_s = time.perf_counter() - started_s + stall_s
        flops = training_flops(
            self.architecture, num_tokens=step.num_tokens, num_attended=step.num_attended
        )
        self.state = self.state.advance(
            pair_ids=step.pair_ids,
            num_pairs=step.num_pairs,
            num_tokens=step.num_tokens,
            flops=flops,
            wall_s=wall_s,
        )
        speed = StepSpeed(
            num_tokens=step.num_tokens,
            num_pairs=step.num_pairs,
            num_computed_tokens=float(sums[3]),
            flops=flops,
            wall_s=wall_s,
            input_stall_s=stall_s,
            world_size=self.ranks.world_size,
            peak_flops=self.peak_flops,
        )
        return {
            "num_pairs": self.state.num_pairs,
            "num_tokens": self.state.num_tokens,
            "flops": self.state.flops,
            "loss": loss,
            "bt_loss": bt_loss,
            "accuracy": accuracy,
            "lr": lr,
            "grad_norm": reported_norm if grad_norm is None else grad_norm,
            "num_micro_batches": len(step.micro_batches),
            **speed.metrics(),
            "memory_bytes": self._memory_bytes(),
            "eta_s": self.state.wall_s / self.state.step * (self.num_steps - self.state.step),
            "wall_s": self.state.wall_s,
        }

    def _accumulate(self, step: Step) -> torch.Tensor:
        """Forward and backward of all micro-batches; sums over all ranks of loss and counts."""
        sums = torch.zeros(4, dtype=torch.float64, device=self.ranks.device)
        last = len(step.micro_batches) - 1
        for position, batch in enumerate(step.micro_batches):
            self.engine.begin_micro_batch(is_last=position == last)
            rewards_R = self._forward(batch)
            losses = batch_loss(rewards_R, batch, self.config.loss)
            # The pairs of the whole step normalise: a pair weighs the same wherever it is packed.
            self.engine.backward(losses.objective / step.num_pairs)
            parts = (losses.objective.detach(), losses.bt_loss, losses.num_correct)
            sums[:3] += torch.stack([part.double() for part in parts])
            sums[3] += batch.num_tokens
        return distributed.all_reduce_sum(sums)

    def _forward(self, batch: PackedBatch) -> torch.Tensor:
        device = self.ranks.device
        return self.engine.forward(
            torch.from_numpy(batch.input_ids).to(device),
            torch.from_numpy(batch.position_ids).to(device),
            torch.from_numpy(batch.segments),
            torch.from_numpy(batch.reward_index).to(device),
        )

    def _memory_bytes(self) -> int:
        if self.ranks.device.type == "cuda":
            return torch.cuda.max_memory_allocated()
        return peak_memory_bytes()

    def _evaluate_if_due(self) -> None:
        if self.state.step not in self.evaluations:
            return
        is_done = eval_path(self.config.output_dir, self.state.step).exists()
        # After a resume the files of this step may stand already; the final scores are needed.
        if is_done and self.state.step < self.num_steps:
            return
        self._evaluate()

    @torch.no_grad()
    def _evaluate(self) -> None:
        budget = self.config.evaluation.token_budget or self.config.batch.token_budget
        packing = make_packing(budget, self.architecture, self.ranks)
        scores: dict[str, PairScores] = {}
        results = {}
        for test_set in self.test_sets:
            found = score_test_set(test_set, self._forward, packing, self.ranks.device)
            scores[test_set.name] = found
            results[test_set.name] = summarise(test_set, found)
        self.score_statistics = _score_statistics(scores)
        if not self.ranks.is_main:
            return
        record = EvalRecord(
            step=self.state.step,
            num_pairs=self.state.num_pairs,
            num_tokens=self.state.num_tokens,
            flops=self.state.flops,
            test_sets=results,
        )
        write_evaluation(self.config.output_dir, record, scores)
        for name, result in results.items():
            logger.info(
                "after %d pairs, %s: BT loss %.4f ± %.4f, accuracy %.3f ± %.3f",
                self.state.num_pairs,
                name,
                result.bt_loss,
                result.bt_loss_standard_error,
                result.accuracy,
                result.accuracy_standard_error,
            )

    def _should_stop(self, stop: StopRequest) -> bool:
        return distributed.all_reduce_max(float(stop.is_set), self.ranks.device) > 0

    def _save_if_due(self, num_pairs: int) -> None:
        every = self.config.checkpoint.every_pairs
        if every is None or self.state.step == self.num_steps:
            return
        if self.state.num_pairs // every > (self.state.num_pairs - num_pairs) // every:
            self._save_checkpoint()

    def _save_checkpoint(self) -> None:
        stall_s = self.checkpoints.save(
            self.state,
            lambda folder, tag: self.engine.save(folder, tag, {}),
            distributed.barrier,
        )
        self._write_record("running")
        logger.info("checkpoint after step %d: training stood %.2f s", self.state.step, stall_s)

    def _resume(self) -> None:
        directory = self.config.output_dir / CHECKPOINTS_DIRECTORY
        if self.ranks.is_main:
            directory.mkdir(parents=True, exist_ok=True)
            remove_unfinished(directory)
        distributed.barrier()
        for checkpoint in reversed(list_checkpoints(directory)):
            if self._is_intact(checkpoint):
                self._load(checkpoint)
                return

    def _is_intact(self, checkpoint: Checkpoint) -> bool:
        damaged = checkpoint.damaged_files(self.ranks.rank, self.ranks.world_size)
        for name in damaged:
            logger.warning("%s: %s is damaged; using an older one", checkpoint.folder, name)
        return distributed.all_reduce_max(float(len(damaged)), self.ranks.device) == 0

    def _load(self, checkpoint: Checkpoint) -> None:
        check_same_run(
            self.config,
            self.data.shards.info.fingerprint,
            checkpoint.trajectory,
            checkpoint.data_fingerprint,
        )
        self.engine.load(checkpoint.folder, STATES_TAG)
        self.state = checkpoint.state
        logger.info("continuing after step %d of %d", self.state.step, self.num_steps)

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

    def _write_record(self, status: Any, message: str = "") -> None:
        if self.ranks.is_main:
            self.run_description.write_record(self.state, status, message)

    def _record_spike(self, step: Step, loss: float, grad_norm: float | None, lr: float) -> None:
        is_spike, loss_excess, norm_excess = self.spikes.observe(loss, grad_norm)
        if not is_spike or self.num_spikes >= self.config.monitor.max_spike_records:
            return
        self.num_spikes += 1
        self._write_spike(step, loss, grad_norm, lr, excess=(loss_excess, norm_excess))

    def _write_spike(
        self,
        step: Step,
        loss: float,
        grad_norm: float | None,
        lr: float,
        *,
        excess: tuple[float, float] = (0.0, 0.0),
        name: str = "step",
    ) -> None:
        norms = {key: float(value.norm()) for key, value in self.engine.full_gradients().items()}
        if not self.ranks.is_main:
            return
        record = SpikeRecord(
            step=step.number,
            num_pairs=self.state.num_pairs,
            loss=loss,
            grad_norm=grad_norm,
            loss_excess=excess[0],
            grad_norm_excess=excess[1],
            lr=lr,
            pair_ids=step.pair_ids,
            norms=norms,
        )
        path = record.write(self.config.output_dir, name)
        logger.warning(
            "step %d stands out (loss %s, norm %s): %s", step.number, loss, grad_norm, path
        )

    def _stop_diverged(self, step: Step, loss: float, grad_norm: float | None, lr: float) -> None:
        self._write_spike(step, loss, grad_norm, lr, name="diverged")
        self._write_record(
            "failed",
            f"loss {loss} or gradient norm {grad_norm} of step {step.number} is no number; look at "
            f"it with `worldpm train CONFIG --replay {step.number}`",
        )
        logger.error("step %d: loss %s, gradient norm %s: stopped", step.number, loss, grad_norm)

    def _finish(self) -> None:
        self._save_checkpoint()
        self.checkpoints.wait()
        state = self.engine.full_state()
        if self.ranks.is_main:
            self._write_model(state)
        self._write_record("completed")
        logger.info("done: %s", self.config.output_dir)

    def _write_model(self, state: Mapping[str, torch.Tensor]) -> None:
        mean, std = self.score_statistics or (None, None)
        save_portable(
            state,
            self.data.encoder,
            self.config.output_dir / MODEL_DIRECTORY,
            config=self.model_config,
            score_mean=mean,
            score_std=std,
            max_tokens=self.data.shards.info.max_tokens,
            provenance={
                "run": self.config.name,
                "num_pairs": self.state.num_pairs,
                "pair_chain": self.state.pair_chain,
                "data_fingerprint": self.data.shards.info.fingerprint,
            },
        )


def _score_statistics(scores: Mapping[str, PairScores]) -> tuple[float, float] | None:
    """Mean and standard deviation of the scores of the first (held-out) set's pairs."""
    for found in scores.values():
        values = [*found.chosen_score.tolist(), *found.rejected_score.tolist()]
        mean = sum(values) / len(values)
        std = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
        return mean, std
    return None
