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
from dataclasses import asdict, dataclass
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
    curves: dict[str, Curves] = {}
    for spec in arguments.models:
        name, _, folder = spec.partition("=")
        started_s = time.process_time()
        scorer = Scorer.from_checkpoint(Path(folder))
        best, spread = _best_of_n(worlds, scorer, arguments.prompts, arguments.candidates)
        curves[name] = Curves(best, _grpo(worlds, scorer, arguments.steps), spread)
        _print(name, curves[name])
        cpu_s = round(time.process_time() - started_s, 1)
        results[name] = _summary(curves[name]) | {"cpu_s": cpu_s}
    if arguments.figure is not None:
        _draw(curves, arguments.figure)
    print(json.dumps(results))


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviations of the start's answers to one question: the units of the figure."""

    proxy: float
    gold: float


@dataclass(frozen=True, slots=True)
class Curves:
    """Both optimisations against one model."""

    best: list[CurvePoint]
    path: list[GrpoPoint]
    spread: Spread


def _best_of_n(
    worlds: tuple[SiteWorld, ...], scorer: Scorer, num_prompts: int, num_candidates: int
) -> tuple[list[CurvePoint], Spread]:
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
    scores_NK = np.array([one.scores for one in candidates])
    gold_NK = np.array([[answer.quality for answer in sampled] for sampled in answers])
    spread = Spread(*(float(values.std(axis=1).mean()) for values in (scores_NK, gold_NK)))
    return best_of_n_curve(candidates, default_sizes(num_candidates)), spread


def _grpo(worlds: tuple[SiteWorld, ...], scorer: Scorer, num_steps: int) -> list[GrpoPoint]:
    def reward(groups: Sequence[Group]) -> list[tuple[float, ...]]:
        return [scored.scores for scored in scorer.score(groups)]

    return list(optimise(worlds, reward, GrpoConfig(num_steps=num_steps)))


def _print(name: str, curves: Curves) -> None:
    best, path = curves.best, curves.path
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


def _summary(curves: Curves) -> dict[str, Any]:
    """Means of the first and last tenth of GRPO, with the standard error of gold's change."""
    tenth = max(1, len(curves.path) // 10)
    parts = curves.path[:tenth], curves.path[-tenth:]
    gold = [float(np.mean([point.gold for point in part])) for part in parts]
    variance = sum(point.gold_standard_error**2 for part in parts for point in part) / tenth**2
    smooth = _smooth(curves)
    return {
        "best_of_n": [asdict(point) for point in (curves.best[0], curves.best[-1])],
        "grpo_proxy": [float(np.mean([point.proxy for point in part])) for part in parts],
        "grpo_gold": gold,
        "gold_change": [gold[1] - gold[0], variance**0.5],
        "gold_highest": [float(smooth["gold"].max()), float(smooth["kl"][smooth["gold"].argmax()])],
        "grpo_kl": curves.path[-1].kl,
    }


def _draw(curves: dict[str, Curves], path: Path) -> None:
    """Gold and proxy against the distance, both as gains in the start's standard deviations."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    size = {"figsize": (3.2 * len(curves) + 0.6, 5.4), "layout": "constrained"}
    figure, axes = plt.subplots(2, len(curves), sharey=True, sharex=True, squeeze=False, **size)
    for column, (name, one) in enumerate(curves.items()):
        start = one.best[0]
        assert start.gold is not None
        series = (_best_series(one), _smooth(one))
        for row, (values, title) in enumerate(zip(series, ("best of n", "GRPO"), strict=True)):
            axis, root_kl = axes[row][column], values["kl"] ** 0.5
            gold = (values["gold"] - start.gold.mean) / one.spread.gold
            proxy = (values["proxy"] - start.score.mean) / one.spread.proxy
            error = values["gold_error"] / one.spread.gold
            axis.fill_between(root_kl, gold - error, gold + error, color="C1", alpha=0.25, lw=0)
            axis.plot(root_kl, gold, color="C1", label="true quality (gold)")
            axis.plot(root_kl, proxy, color="C0", ls="--", label="preference model (proxy)")
            axis.axhline(0, color="0.7", lw=0.6, zorder=0)
            axis.set_title(f"{name}: {title}", fontsize=10)
    figure.supxlabel("√KL from the start (best of n: its bound), nats", fontsize=10)
    figure.supylabel("gain, standard deviations of the start's answers", fontsize=10)
    axes[0][0].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _best_series(curves: Curves) -> dict[str, np.ndarray]:
    points = [(point, point.gold) for point in curves.best if point.gold is not None]
    return {
        "kl": np.array([point.kl_bound for point, _ in points]),
        "proxy": np.array([point.score.mean for point, _ in points]),
        "gold": np.array([gold.mean for _, gold in points]),
        "gold_error": np.array([gold.standard_error or 0.0 for _, gold in points]),
    }


def _smooth(curves: Curves, width: int = 9) -> dict[str, np.ndarray]:
    """Means over `width` steps: each step has questions of its own."""
    width = min(width, len(curves.path))
    kernel = np.full(width, 1 / width)

    def mean(values: list[float]) -> np.ndarray:
        return np.convolve(values, kernel, "valid")

    return {
        "kl": mean([point.kl for point in curves.path]),
        "proxy": mean([point.proxy for point in curves.path]),
        "gold": mean([point.gold for point in curves.path]),
        "gold_error": (mean([p.gold_standard_error**2 for p in curves.path]) / width) ** 0.5,
    }


if __name__ == "__main__":
    main()
