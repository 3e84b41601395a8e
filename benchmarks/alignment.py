"""Optimise answers of the generated world against preference models, and watch the true quality.

python benchmarks/alignment.py NAME=RUN/model [NAME=RUN/model …] --figure docs/figures/alignment.svg

The models are trained on the dump of `worldpm data generate` with its default seed. Best-of-n picks
among answers of the unoptimised policy; GRPO moves the policy. Prints both curves, and one JSON
object as the last line.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from data_pipeline.sources.generated.config import GenerateConfig
from data_pipeline.sources.generated.world import SiteWorld, make_worlds
from worldpm.schema import Group
from worldpm.scoring import Scorer
from worldpm.scoring.best_of_n import Candidates, CurvePoint, best_of_n_curve, default_sizes
from worldpm.training.alignment.grpo import GrpoConfig, GrpoPoint, optimise, sample_batch
from worldpm.training.alignment.policy import start_logits


def main() -> None:
    """Run both optimisations against every model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--prompts", type=int, default=40, help="questions of best-of-n")
    parser.add_argument("--candidates", type=int, default=64, help="answers a question")
    parser.add_argument("--steps", type=int, default=80, help="updates of GRPO")
    parser.add_argument("--figure", type=Path, default=None, help="where to draw the curves")
    arguments = parser.parse_args()
    worlds = make_worlds(
        GenerateConfig(output_dir=Path()).world, GenerateConfig(output_dir=Path()).seed
    )
    results: dict[str, Any] = {}
    curves: dict[str, tuple[list[CurvePoint], list[GrpoPoint]]] = {}
    for spec in arguments.models:
        name, _, folder = spec.partition("=")
        started_s = time.process_time()
        scorer = Scorer.from_checkpoint(Path(folder))
        best = _best_of_n(worlds, scorer, arguments.prompts, arguments.candidates)
        path = _grpo(worlds, scorer, arguments.steps)
        curves[name] = (best, path)
        _print(name, best, path)
        results[name] = _summary(best, path) | {"cpu_s": round(time.process_time() - started_s, 1)}
    if arguments.figure is not None:
        _draw(curves, arguments.figure)
    print(json.dumps(results))


def _best_of_n(
    worlds: tuple[SiteWorld, ...], scorer: Scorer, num_prompts: int, num_candidates: int
) -> list[CurvePoint]:
    config = GrpoConfig(num_prompts=num_prompts, group_size=num_candidates)
    answers, groups = sample_batch(worlds, start_logits(), config, Random("best-of-n"))
    candidates = [
        Candidates(
            np.asarray(scored.scores),
            np.asarray(scored.num_response_tokens, np.float64),
            np.array([answer.quality for answer in sampled]),
        )
        for scored, sampled in zip(scorer.score(groups), answers, strict=True)
    ]
    return best_of_n_curve(candidates, default_sizes(num_candidates))


def _grpo(worlds: tuple[SiteWorld, ...], scorer: Scorer, num_steps: int) -> list[GrpoPoint]:
    def reward(groups: Sequence[Group]) -> list[tuple[float, ...]]:
        return [scored.scores for scored in scorer.score(groups)]

    return list(optimise(worlds, reward, GrpoConfig(num_steps=num_steps)))


def _print(name: str, best: list[CurvePoint], path: list[GrpoPoint]) -> None:
    print(f"\n{name}: best of n\n     n  KL bound   proxy            gold             tokens")
    for point in best:
        assert point.gold is not None
        print(
            f"{point.n:6d}  {point.kl_bound:8.2f}  {point.score.mean:6.2f} ± "
            f"{point.score.standard_error or 0:.2f}   {point.gold.mean:6.2f} ± "
            f"{point.gold.standard_error or 0:.2f}   {point.length.mean:6.1f}"
        )
    print(f"{name}: GRPO\n  step      KL   proxy    gold             style   words")
    for point in path[:: max(1, len(path) // 10)]:
        print(
            f"{point.step:6d}  {point.kl:6.2f}  {point.proxy:6.2f}  {point.gold:6.2f} ± "
            f"{point.gold_standard_error:.2f}   {point.style:6.2f}  {point.words:6.1f}"
        )


def _summary(best: list[CurvePoint], path: list[GrpoPoint]) -> dict[str, Any]:
    tenth = max(1, len(path) // 10)
    first, last = path[:tenth], path[-tenth:]
    return {
        "best_of_n": [asdict(point) for point in (best[0], best[-1])],
        "grpo_gold": [float(np.mean([p.gold for p in part])) for part in (first, last)],
        "grpo_proxy": [float(np.mean([p.proxy for p in part])) for part in (first, last)],
        "grpo_kl": path[-1].kl,
    }


def _draw(curves: dict[str, tuple[list[CurvePoint], list[GrpoPoint]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for color, (name, (best, grpo)) in zip(("C0", "C1", "C2", "C3"), curves.items(), strict=False):
        root_kl = [point.kl_bound**0.5 for point in best]
        gold = [point.gold.mean for point in best if point.gold]
        error = [point.gold.standard_error or 0 for point in best if point.gold]
        axes[0].errorbar(root_kl, gold, error, color=color, marker="o", label=name)
        kl, smooth = _smooth(grpo)
        axes[1].plot(kl, smooth, color=color, label=name)
    axes[0].set(title="best of n", xlabel="√KL bound (nats)", ylabel="true quality (gold)")
    axes[1].set(title="GRPO (mean of 9 steps)", xlabel="√KL from the start (nats)")
    axes[0].legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _smooth(path: list[GrpoPoint], width: int = 9) -> tuple[list[float], list[float]]:
    means = [
        (
            float(np.mean([point.kl for point in path[start : start + width]])) ** 0.5,
            float(np.mean([point.gold for point in path[start : start + width]])),
        )
        for start in range(len(path) - width + 1)
    ]
    return [kl for kl, _ in means], [gold for _, gold in means]


if __name__ == "__main__":
    main()
