"""Trains a countermeasure, by one seed or by several: `mlflow run . -e train -P patience=1`."""

from collections.abc import Sequence

from entrypoints.door import console, door_command, say
from entrypoints.experiment_tables import seeds_table
from entrypoints.options import (
    DEFAULT_CONFIG,
    SEEDS_TEXT,
    config_options,
    find_corpus,
    given,
    read_config,
    text_option,
    with_seeds,
)
from entrypoints.progress import TrainingProgress, train_seed
from sls.config import Config
from sls.data.corpora.corpus import Corpus
from sls.engine.compute.training_processes import join_processes
from sls.tracking.run import TrackedRun
from sls.tracking.tags import SEEDS_TAG, STUDY_KIND, STUDY_TAG
from sls.tracking.training.study import (
    Study,
    choose_seed,
    describe_shortage,
    log_summary,
    read_seed,
    read_seeds,
)
from sls.tracking.training.training_run import resumed_config, track_training


@door_command("train", journal=True)
@text_option("config", "YAML file with the recipe [default: configs/v1.yaml]")
@text_option("seeds", SEEDS_TEXT)
@text_option(
    "resume", "id of a training run, or of a study of several seeds, to go on with where it was stopped"
)
@config_options()
def train(run: TrackedRun, config: str, seeds: str, resume: str, **options: str) -> None:
    """Train a countermeasure. What is typed wins over the YAML file, which wins over the defaults."""
    if resume and (config or seeds):
        name, value = ("config", config) if config else ("seeds", seeds)
        raise ValueError(f"{name}: found {value} beside resume, expected none: the run has its own")
    # The first process of a launch comes here when it has sent what was left of the run's journal.
    ranks = join_processes()
    run.run_id = ranks.share(run.run_id)
    with ranks.tell_failure():
        seeds = read_seeds(run.client, resume) if resume else seeds
        settings = (
            resumed_config(resume, given(options))
            if resume
            else read_config(config or DEFAULT_CONFIG, options)
        )
        by_seed = with_seeds(settings, seeds, "" if resume else options["seed"])
        if len(by_seed) > 1 and ranks.world_size > 1:
            raise ValueError(
                f"seeds: found {len(by_seed)} in a launch of {ranks.world_size} processes, expected a launch for "
                "each (--seed)"
            )
        corpus = find_corpus(settings.data)
    ranks.wait_for_all()
    if len(by_seed) > 1:
        if not resume:
            # First: a run with a configuration and no seeds would go on as a training of its own.
            run.set_tags({"kind": STUDY_KIND, SEEDS_TAG: seeds, "corpus": corpus.name})
            run.log_config(settings)
        _train_seeds(run, Study(run.client, {STUDY_TAG: run.run_id}, bool(resume)), by_seed, corpus)
        return
    with TrainingProgress(settings.training) as progress:
        trained = track_training(run, by_seed[0], corpus, progress.on_step, progress.on_epoch, resume=resume)
    say(f"Chose {trained.told}: {trained.uri}")


def _train_seeds(run: TrackedRun, study: Study, by_seed: Sequence[Config], corpus: Corpus) -> None:
    """Trains by each seed, on a run of its own; this one is that of their study."""
    recipe = by_seed[0].training.recipe
    run.suggest_name(f"train {recipe} by {len(by_seed)} seeds")
    say(f"Study {run.run_id}; if it is stopped: mlflow run . -e train -P resume={run.run_id}")
    shortage = describe_shortage(len(by_seed))
    if shortage:
        say(shortage)
    run_ids = [train_seed(study, config, corpus, is_one=False) for config in by_seed]
    trained = [read_seed(run.client, run_id) for run_id in run_ids]  # which the server must have by now
    best = choose_seed(trained)
    log_summary(run, recipe, [item.metrics for item in trained])
    console.print(seeds_table(recipe, corpus.name, trained, best))
    for item in trained:
        say(f"Seed {item.seed} chose {item.model.told}: {item.model.uri}")
    compare = f"Compare this study with another: studies={run.run_id}"
    say(f"Lowest {best.monitored}: seed {best.seed}. {compare}{f' ({shortage})' if shortage else ''}")


if __name__ == "__main__":
    train()
