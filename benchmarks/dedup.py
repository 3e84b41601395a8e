"""Speed and quality of near-duplicate search, on planted copies whose similarity is known.

    .venv/bin/python benchmarks/dedup.py
    .venv/bin/python benchmarks/dedup.py --grouping-documents 25000000

Prints tables, and as the last line one JSON object with the ratios. Times are CPU seconds of one
core; the two signers get the same texts in the same process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from random import Random

import numpy as np
import xxhash
from datasketch import MinHash

from data_pipeline.benchmark_overlap import NgramIndex
from data_pipeline.candidate_pairs import connected_components, pairs_of_band, unique_pairs
from data_pipeline.keyed_hash import mix
from data_pipeline.minhash import band_keys, sign
from data_pipeline.ngrams import batches_of_texts, jaccard, shingle, words

NGRAM, NUM_BANDS, ROWS, THRESHOLD = 5, 20, 6, 0.8
# Words replaced in a copy of about 120: similarities from 0.95 down to 0.4.
REPLACED = (1, 2, 3, 4, 6, 8, 10)
COPIES_PER_ORIGINAL = 2
BUCKET = 500_000


def cpu_and_wall(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def planted_texts(count: int, seed: int) -> list[str]:
    """Texts of 60 to 180 words of a skewed vocabulary; one in three has two looser copies."""
    rng = Random(seed)
    vocabulary = [f"w{number}" for number in range(30_000)]
    texts: list[str] = []
    while len(texts) < count:
        length = rng.randrange(60, 180)
        text = [vocabulary[int(30_000 * rng.random() ** 3)] for _ in range(length)]
        texts.append(" ".join(text))
        if rng.random() < 0.33:
            for _ in range(COPIES_PER_ORIGINAL):
                copy = list(text)
                for _ in range(rng.choice(REPLACED)):
                    copy[rng.randrange(length)] = f"x{rng.randrange(10**6)}"
                texts.append(" ".join(copy))
    rng.shuffle(texts)
    return texts[:count]


def our_keys(texts: list[str]) -> np.ndarray:
    """Band keys of all texts."""
    parts = [
        band_keys(sign(shingle(batch, NGRAM), NUM_BANDS * ROWS), NUM_BANDS)
        for batch in batches_of_texts(texts)
    ]
    return np.concatenate(parts, axis=1)


def datasketch_signatures(texts: list[str]) -> None:
    """What datasketch does for as many permutations, with its fastest hash function here."""
    for text in texts:
        found = words(text)
        grams = {" ".join(found[i : i + NGRAM]) for i in range(max(1, len(found) - NGRAM + 1))}
        minhash = MinHash(num_perm=NUM_BANDS * ROWS, hashfunc=xxhash.xxh32_intdigest)
        minhash.update_batch([gram.encode() for gram in grams])


def measure_signers(num_texts: int) -> dict[str, float]:
    texts = planted_texts(num_texts, seed=1)
    few = texts[: max(500, num_texts // 10)]
    ours_s, ours_wall_s = cpu_and_wall(lambda: our_keys(texts))
    theirs_s, theirs_wall_s = cpu_and_wall(lambda: datasketch_signatures(few))
    ours, theirs = len(texts) / ours_s, len(few) / theirs_s
    print("\nsigner               texts   CPU s  wall s  texts/CPU s")
    print(f"ours, band keys   {len(texts):8,} {ours_s:7.2f} {ours_wall_s:7.2f} {ours:12,.0f}")
    print(f"datasketch, xxh32 {len(few):8,} {theirs_s:7.2f} {theirs_wall_s:7.2f} {theirs:12,.0f}")
    return {
        "signatures_per_cpu_s": ours,
        "datasketch_per_cpu_s": theirs,
        "times_datasketch": ours / theirs,
    }


def measure_quality(num_texts: int) -> dict[str, float]:
    texts = planted_texts(num_texts, seed=2)
    keys = our_keys(texts)
    found = unique_pairs(
        [
            pairs_of_band(lambda band=band: [keys[band]], len(texts), documents_at_once=10**7)
            for band in range(NUM_BANDS)
        ]
    )
    sets = [s for b in batches_of_texts(texts) for s in _sets(b)]
    truth = {pair: value for pair, value in _similarities(sets) if value >= 0.3}
    candidates = {(int(i), int(j)) for i, j in found}
    print("\nJaccard      pairs   found   recall")
    for low in np.arange(0.3, 1.0, 0.1):
        inside = [pair for pair, value in truth.items() if low <= value < low + 0.1]
        hits = len(candidates.intersection(inside))
        share = hits / len(inside) if inside else float("nan")
        print(f"{low:.1f} to {low + 0.1:.1f} {len(inside):7,} {hits:7,} {share:8.3f}")
    similar = {pair for pair, value in truth.items() if value >= THRESHOLD}
    checked = {p for p in candidates if jaccard(sets[p[0]], sets[p[1]]) >= THRESHOLD}
    recall = len(similar & checked) / len(similar)
    before = len(similar & candidates) / len(candidates)
    after = len(similar & checked) / len(checked)
    print(f"recall at J >= {THRESHOLD}: {recall:.4f} of {len(similar):,} pairs")
    print(f"precision: {before:.3f} of candidates, {after:.4f} after the exact check")
    return {"recall": recall, "precision_before_check": before, "precision": after}


def _sets(batch: list[str]) -> Iterator[np.ndarray]:
    shingles = shingle(batch, NGRAM)
    return (shingles.set_of(text) for text in range(len(batch)))


def _similarities(sets: list[np.ndarray]) -> Iterator[tuple[tuple[int, int], float]]:
    """All pairs that share an n-gram, by an index of n-grams: exact, and no MinHash."""
    owners: dict[int, list[int]] = {}
    for number, grams in enumerate(sets):
        for gram in grams.tolist():
            owners.setdefault(gram, []).append(number)
    pairs = {pair for numbers in owners.values() for pair in combinations(numbers, 2)}
    for first, second in pairs:
        yield (first, second), jaccard(sets[first], sets[second])


def group_one_band(folder: Path, num_documents: int, memory_mb: int) -> dict[str, float]:
    """Find the pairs of one band whose keys lie in files, and report CPU seconds and memory."""
    files = sorted(folder.glob("*.npy"))
    start_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cpu = time.process_time()
    pairs = pairs_of_band(
        lambda: (np.load(path, mmap_mode="r") for path in files),
        num_documents,
        documents_at_once=memory_mb * 1_000_000 // 48,
    )
    band_s = time.process_time() - cpu
    cpu = time.process_time()
    connected_components(pairs)
    return {
        "pairs": len(pairs),
        "cpu_s_per_band": band_s,
        "cpu_s_components": time.process_time() - cpu,
        "start_mb": start_mb,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure_grouping(num_documents: int, memory_mb: int) -> dict[str, float]:
    """One band of random keys of which 7 % are shared, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        distinct = int(num_documents * 0.93)
        for first in range(0, num_documents, BUCKET):
            numbers = np.arange(first, min(first + BUCKET, num_documents), dtype=np.uint64)
            np.save(folder / f"{first:012d}.npy", mix(numbers % np.uint64(distinct)))
        command = [sys.executable, __file__, "--group", name, str(num_documents), str(memory_mb)]
        result = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    print("\ndocuments      pairs  CPU s a band  CPU s components  peak MB")
    print(
        f"{num_documents:,} {result['pairs']:10,} {result['cpu_s_per_band']:13.1f} "
        f"{result['cpu_s_components']:17.1f} {result['peak_mb']:8.0f}"
    )
    return {f"grouping_{key}": value for key, value in result.items()}


def measure_overlap(num_texts: int) -> dict[str, float]:
    """Look-up of 13-grams against 3 million of a benchmark."""
    texts = planted_texts(num_texts, seed=3)
    index = NgramIndex({"random": np.sort(mix(np.arange(3_000_000, dtype=np.uint64)))})

    def look_up() -> None:
        for batch in batches_of_texts(texts):
            index.hits(shingle(batch, 13, whole_if_shorter=False))

    cpu_s, wall_s = cpu_and_wall(look_up)
    rate = len(texts) / cpu_s
    print("\n13-gram look-up: texts   CPU s  wall s  texts/CPU s")
    print(f"               {len(texts):8,} {cpu_s:7.2f} {wall_s:7.2f} {rate:12,.0f}")
    return {"overlap_texts_per_cpu_s": rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--grouping-documents", type=int, default=25_000_000)
    parser.add_argument("--grouping-memory-mb", type=int, default=400)
    parser.add_argument("--group", nargs=3, metavar=("FOLDER", "DOCUMENTS", "MB"), default=None)
    arguments = parser.parse_args()
    if arguments.group:
        folder, documents, memory_mb = arguments.group
        print(json.dumps(group_one_band(Path(folder), int(documents), int(memory_mb))))
        return
    results = measure_signers(arguments.texts)
    results |= measure_quality(arguments.texts // 4)
    results |= measure_grouping(arguments.grouping_documents, arguments.grouping_memory_mb)
    results |= measure_overlap(arguments.texts)
    print(json.dumps({key: round(value, 4) for key, value in results.items()}))


if __name__ == "__main__":
    main()
