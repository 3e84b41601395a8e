"""All benchmarks by name. To add one: write its file, and add its source to `SOURCES`."""

from eval.benchmark import Benchmark, Source
from eval.benchmarks import (
    autoj,
    evalbiasbench,
    generated,
    helpsteer2,
    hh_rlhf,
    humanevalpack,
    ifbench,
    judgebench,
    judgement_bias,
    llmbar,
    offsetbias,
    pandalm,
    ppe,
    rewardbench,
    rewardbench2,
    rm_bench,
    rmb,
)

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        llmbar.SOURCE,
        evalbiasbench.SOURCE,
        offsetbias.SOURCE,
        judgement_bias.SOURCE,
        rm_bench.SOURCE,
        judgebench.SOURCE,
        humanevalpack.SOURCE,
        ifbench.SOURCE,
        *ppe.SOURCES,
        helpsteer2.SOURCE,
        rmb.SOURCE,
        autoj.SOURCE,
        pandalm.SOURCE,
        hh_rlhf.SOURCE,
        rewardbench.SOURCE,
        rewardbench2.SOURCE,
        generated.SOURCE,
    )
}
BENCHMARKS: dict[str, tuple[Source, Benchmark]] = {
    benchmark.name: (source, benchmark)
    for source in SOURCES.values()
    for benchmark in source.benchmarks
}

__all__ = ["BENCHMARKS", "SOURCES"]
