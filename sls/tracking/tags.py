"""The tags by which runs, checkpoints and versions are told apart, each spelled once."""

import re

from sls.data.corpora.corpus import PUBLISHED_CORPORA

MODEL_ID_TAG, TRAIN_RUN_TAG = "model_id", "train_run_id"
"""Of what a checkpoint scored, and of its evaluations: its LoggedModel, and the run that trained it."""
MODEL_TAGS = ("model", TRAIN_RUN_TAG, "epoch", "recipe", MODEL_ID_TAG, "model_version")
"""All that these say of their model."""
SCORE_RUN_TAG = "score_run_id"
"""Of an evaluation: the run that scored."""
CHECKPOINT_TAG = "checkpoint_model_id"
"""Of a version: the LoggedModel of its checkpoint."""
BUNDLE_TAG = "bundle_sha256"
"""Of the LoggedModel that versions serve: the digest of what it holds."""
AVERAGE_TAG = "average_of"
"""Of a checkpoint that is the mean of some epochs: which."""
WEIGHTS_TAG, WEIGHTS_DELETED = "weights", "deleted"
NOT_COMPARABLE_TAG = "not_comparable"
"""Of an evaluation of another subset, some trials, windows, degraded or calibrated: why the view leaves it out."""
EVALUATED_BY = "evaluated_by."
"""The beginning of the tags of a training run that name, by track, the evaluation whose figures it bears."""
BORNE_TAG = "figures_on"
"""Of an evaluation of a training's checkpoint, once that chose: the training, which stands for it in comparisons."""
DECISIONS_TAG = "decisions_of"
"""Of a training run: the checkpoint whose decisions on other tracks its figures tell."""
ROBUSTNESS_TAG, ROBUSTNESS_PREFIX = "robustness_of", "robustness/"
"""Of a training run: the checkpoint whose losses under conditions its figures tell, and how their names begin."""
EPOCHS_METRIC = "/eer_percent_by_epoch"
"""The end of the name of what a chart of epochs logs on a training run; in front of it stands the track."""
EPOCHS_TAG = "epochs_run_id"
"""Of what the chart of epochs scored and evaluated: the run of the chart that asked for it."""
MAIN_TAG = "main_run_id"
"""Of all that a run of the whole experiment asked for: that run."""
STUDY_TAG = "study"
"""Of trainings that differ by their seed, and of what was made of them: the run that asked for them."""
STUDY_KIND, SEEDS_TAG = "study", "seeds"
"""Of the run of a study: its kind, and its seeds as they were typed; of one of `main`, those of each recipe."""
SEED_PARAM, RECIPE_PARAM = "cfg/seed", "cfg/recipe"
"""Parameters of a training run by which one of a study is found."""
CHOSEN_EPOCH_TAG = "chosen_epoch"
CHOSEN_BY_TAG = "chosen_by"
CONDITION_TAG = "condition"
"""Of what scored degraded recordings, and of its evaluations: the name of what degraded them."""
PARENT_TAG = "mlflow.parentRunId"
"""MLflow's own: the run under which the tracking UI shows this one."""
STAGE_TAG = "stage"
CORPUS_TAG = "corpus"
"""Of a version: the corpus that it was trained on, where that is known."""
EER_ENDING, KEY_ENDING = ".eer_percent", ".key_sha256"
"""Of a version, behind an `evaluated_place`: its EER in percent there, and the key on which that was measured."""
COST_ENDING, COST_SOURCE_ENDING, COST_KEY_ENDING = ".act_dcf", ".act_dcf_from", ".act_dcf_on"
"""The actual DCF of its decisions there, the track on which their calibration was fitted, and the key."""
NOTE_TAG = "mlflow.note.content"
KEY_TAG = "scoring_key"
JOURNAL_TAG = "journal"
"""The id by which a run was known before the server had made it."""
WRITER_TAG = "writer"
PROCESS_TAG = "process"
"""Which process opened the run last, for those on its machine to see whether it is gone."""
ENDED_TAG = "ended_as"
"""Which of all runs of the store this one was to end, by twelve digits: clocks of machines do not agree."""
REFUSED_TAG = "refused"
"""Of a run: which of its recordings are not there, as the server refused them or they were damaged on the way."""


def over_seeds(metric: str, statistic: str, recipe: str) -> str:
    """Returns what the run of a study calls a statistic over the seeds of a recipe: `LA/eer_percent_mean.v1`."""
    return f"{metric}_{statistic}.{recipe}"


def evaluated_place(corpus: str, track: str, precision: str = "fp32") -> str:
    """Returns what the tags of a version call a track: `DF`, or `demo.DF.bf16` of another corpus and precision.

    An EER of one place does not take that of another.
    """
    name = track if corpus in ("", PUBLISHED_CORPORA) else f"{corpus}.{track}"
    name += "" if precision in ("", "fp32") else f".{precision}"
    return re.sub(r"[^\w ./-]", "_", name, flags=re.ASCII)


def robustness_metric(place: str, condition: str, figure: str) -> str:
    """Returns what a figure of a condition is called on a track: `robustness/LA/opus-16/eer_diff_percent`."""
    return f"{ROBUSTNESS_PREFIX}{place}/{condition}/{figure}"
