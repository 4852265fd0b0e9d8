"""Scoring and training as the doors do it and as the seed system does; for `benchmarks.gpu`."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_pace import OnBatch, Options, Row, Way, build, corpus, measure, top_kernels
from benchmarks.scoring import SEED_BATCH_SIZE, score_batch_as_seed
from benchmarks.training import SeedWay
from sls.config import NUM_SAMPLES, AudioConfig, ComputeConfig, Config, ScoringConfig
from sls.config_file import build_config
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.loader import load_batches
from sls.data.loading.scoring_batches import ScoringBatches
from sls.data.tables.protocols import Trial
from sls.engine.compute.device import arithmetic, peak_memory_gib, reset_peak_memory
from sls.engine.compute.training_processes import open_accelerator
from sls.engine.scoring.forward_pass import resolve_batch_size
from sls.engine.scoring.loop import ScoringJob, score
from sls.engine.training.loop import Training
from sls.models.countermeasure import Countermeasure

RECIPE_BATCH_SIZE = 5
LARGER_BATCHES = (32, 64, 128)


def scoring(options: Options) -> Iterator[Row]:
    """Yields the paces of scoring."""
    with corpus(options) as trials:
        model = build(options)
        size = SEED_BATCH_SIZE
        pace = measure(partial(_score_as_seed, model, trials, options), options, options.unmeasured)
        yield {
            "way": "seed system's",
            "precision": "fp32",
            "batch": size,
            "utt/s": pace.utterances_per_second,
        }
        yield {
            "way": "ours, files read alone",
            "batch": 64,
            "utt/s": measure(
                partial(_read_alone, trials, options),
                options,
                8 * options.workers if options.is_on_gpu else 1,
            )[0],
        }
        for precision in options.precisions:
            compute = ComputeConfig(num_workers=options.workers, eval_batch_size=0, precision=precision)
            yield _scoring_row(model, trials, options, compute)


def _scoring_row(model: Countermeasure, trials: list[Trial], options: Options, compute: ComputeConfig) -> Row:
    device = torch.device(options.device)
    size = resolve_batch_size(model, NUM_SAMPLES, compute, device)
    compute = replace(compute, eval_batch_size=size)
    waits: list[float] = []
    unmeasured = 4 if options.is_on_gpu else 1

    def way(on_batch: OnBatch) -> None:
        data = ScoringBatches(TrialDataset(trials, AudioConfig()), size)
        job = ScoringJob(model, data, compute, ScoringConfig(), device, Path("scores.txt"), {})
        for batch in score(job, range(len(data))):
            waits.append(batch.times.wait_s)
            on_batch(len(batch.scores))

    reset_peak_memory(device)
    pace = measure(way, options, unmeasured)
    return {
        "way": "ours, compiled" if compute.compile else "ours",
        "precision": compute.precision,
        "batch": size,
        "utt/s": pace.utterances_per_second,
        "start s": pace.start_s,
        "wait": f"{sum(waits[unmeasured:]) / options.seconds:.0%}",
        "peak GiB": peak_memory_gib(device),
    }


def _score_as_seed(model: Countermeasure, trials: list[Trial], options: Options, on_batch: OnBatch) -> None:
    model.eval()
    for start in range(0, len(trials), SEED_BATCH_SIZE):
        part = trials[start : start + SEED_BATCH_SIZE]
        on_batch(len(score_batch_as_seed(model, part, torch.device(options.device))))


def _read_alone(trials: list[Trial], options: Options, on_batch: OnBatch) -> None:
    data = ScoringBatches(TrialDataset(trials, AudioConfig()), 64)
    for batch in load_batches(data, range(len(data)), options.workers, pin_memory=options.is_on_gpu):
        on_batch(len(batch.trials))


def training(options: Options) -> Iterator[Row]:
    """Yields the paces of training, at the recipe's batch and at larger ones; on a GPU steps are captured."""
    with corpus(options) as trials:
        model = build(options)
        config = _training_config(options, RECIPE_BATCH_SIZE, "fp32")
        seed = SeedWay(copy.deepcopy(model), trials, config, torch.device(options.device))
        yield _training_row("seed system's", config, seed.train, options)
        del seed
        for precision in options.precisions:
            config = _training_config(options, RECIPE_BATCH_SIZE, precision)
            yield _training_row(
                "ours", config, partial(_train, copy.deepcopy(model), trials, config), options
            )
        if not options.is_on_gpu:
            return
        config = _training_config(options, RECIPE_BATCH_SIZE, "bf16", cuda_graph=False)
        launched = partial(_train, copy.deepcopy(model), trials, config)
        yield _training_row("ours, kernel by kernel", config, launched, options)
        best_rate, best = 0.0, RECIPE_BATCH_SIZE
        for size in LARGER_BATCHES:
            config = _training_config(options, size, "bf16")
            row = _training_row(
                "ours", config, partial(_train, copy.deepcopy(model), trials, config), options
            )
            if row["utt/s"] > 1.02 * best_rate:
                best_rate, best = row["utt/s"], size
            yield row
        for precision in ("fp32", "tf32"):
            config = _training_config(options, best, precision)
            way = partial(_train, copy.deepcopy(model), trials, config)
            yield _training_row("ours", config, way, options)


def _training_config(options: Options, batch_size: int, precision: str, **values: Any) -> Config:
    return build_config(
        {
            "device": options.device,
            "batch_size": batch_size,
            "num_workers": options.workers,
            "precision": precision,
            **values,
        }
    )


def _training_row(name: str, config: Config, way: Way, options: Options) -> Row:
    gc.collect()  # of the way before
    reset_peak_memory(torch.device(options.device))
    pace = measure(way, options, options.unmeasured)
    row = {
        "way": name,
        "precision": config.compute.precision,
        "batch": config.training.batch_size,
        "utt/s": pace.utterances_per_second,
        "ms a step": 1000 * config.training.batch_size / pace.utterances_per_second,
        "start s": pace.start_s,
        "peak GiB": peak_memory_gib(torch.device(options.device)),
    }
    del way
    if options.is_on_gpu:
        torch.cuda.empty_cache()
    return row


def _train(model: Countermeasure, trials: list[Trial], config: Config, on_batch: OnBatch) -> None:
    """Trains with the loop of the train door."""
    data = TrialDataset(trials, config.audio, config.rawboost)
    job = Training(model, data, None, config, open_accelerator(config.compute))
    for _ in job.epochs(on_step=lambda _: on_batch(config.training.batch_size)):
        pass


def loading(options: Options) -> Iterator[Row]:
    """Yields the paces of training by the number of workers."""
    few = replace(options, seconds=options.seconds / 2)
    size = LARGER_BATCHES[0] if options.is_on_gpu else RECIPE_BATCH_SIZE
    with corpus(options) as trials:
        model = build(options)
        for workers in dict.fromkeys(min(count, options.workers) for count in (1, 2, 4, options.workers)):
            config = _training_config(replace(few, workers=workers), size, "bf16")
            pace = measure(partial(_train, copy.deepcopy(model), trials, config), few, few.unmeasured)
            yield {"workers": workers, "batch": size, "utt/s": pace.utterances_per_second}


def profiled(options: Options) -> Iterator[Row]:
    """Yields the kernels that take longest, of training and of scoring."""
    with corpus(options) as trials:
        model = build(options)
        config = _training_config(options, RECIPE_BATCH_SIZE, "bf16", compile=options.is_on_gpu)
        steps = partial(_train, copy.deepcopy(model), trials, config)
        yield from top_kernels(f"a step of {RECIPE_BATCH_SIZE}", steps, options)
        del steps
        if options.is_on_gpu:
            torch.compiler.reset()  # or the next program would be one for all sizes
            config = _training_config(options, LARGER_BATCHES[1], "bf16", compile=True)
            steps = partial(_train, copy.deepcopy(model), trials, config)
            yield from top_kernels(f"a step of {LARGER_BATCHES[1]}", steps, options)
            del steps
        size = 64 if options.is_on_gpu else 2
        windows = torch.randn(size, NUM_SAMPLES, device=options.device)
        model.eval()

        def forward(on_batch: OnBatch) -> None:
            with torch.inference_mode(), arithmetic("bf16", torch.device(options.device)):
                while True:
                    on_batch(len(model(windows)))

        yield from top_kernels(f"scoring {size}", forward, options)


def compiled(options: Options) -> Iterator[Row]:
    """Yields the paces with compiled layers."""
    with corpus(options) as trials:
        model = build(options)
        # On a CPU they take most of a minute to compile.
        for size in (RECIPE_BATCH_SIZE, LARGER_BATCHES[1]) if options.is_on_gpu else ():
            config = _training_config(options, size, "bf16", compile=True)
            steps = partial(_train, copy.deepcopy(model), trials, config)
            yield {"work": "training", **_training_row("ours, compiled", config, steps, options)}
            torch.compiler.reset()  # or the next program would be one for all sizes
        compute = ComputeConfig(
            num_workers=options.workers, eval_batch_size=0, precision="bf16", compile=True
        )
        yield {"work": "scoring", **_scoring_row(model, trials, options, compute)}
