"""Keys and scores made in memory, for tests of evaluation and comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sls.data.tables.asv_scores import AsvScores, Role
from sls.data.tables.columns import Columns, Texts
from sls.data.tables.protocols import Protocol
from sls.data.tables.score_files import Coverage, JoinedScores, ScoreTable

CODECS = ("none", "alaw")
ATTACKS = ("A10", "A9", "A11")
ENOUGH_ATTACKS = (*ATTACKS, "A12", "A13", "A14", "A15", "A16")
"""As many as a verdict over attacks needs, though they are not of one size."""


def make_joined(
    scores: np.ndarray,
    labels: np.ndarray,
    fields: dict[str, np.ndarray] | None = None,
    names: list[str] | None = None,
    source: str = "scores.txt",
) -> JoinedScores:
    names = names or [f"T_{number:05d}" for number in range(len(scores))]
    trials = Texts.encode(names)
    columns = Columns.encode(fields or {})
    key = Protocol(Path("key.txt"), "k" * 64, trials, labels.astype(np.int8), columns)
    table = ScoreTable(trials, scores, Path(source), "s" * 64)
    return JoinedScores(scores, key, Coverage(len(scores), len(scores), len(scores)), table)


def make_corpus(
    seed: int = 1, size: int = 1_200, shift: float = 2.0, attacks: tuple[str, ...] = ATTACKS
) -> JoinedScores:
    """A third bona fide; 10 speakers, attacks of which A11 is the hardest, 2 codecs, 2 subsets."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(size) < 1 / 3).astype(int)
    attack = np.array(attacks, dtype=object)[rng.integers(len(attacks), size=size)]
    codecs = np.array(CODECS, dtype=object)[rng.integers(2, size=size)]
    scores = rng.normal(size=size) + shift * labels + (attack == "A11") * (labels == 0) * 0.8
    fields = {
        "speaker": np.array([f"S{number}" for number in rng.integers(10, size=size)], dtype=object),
        "attack": np.where(labels == 1, "bonafide", attack),
        "codec": codecs,
        "subset": np.array(["eval", "progress"], dtype=object)[(rng.random(size) < 0.2).astype(int)],
    }
    return make_joined(scores, labels, fields)


def make_asv(seed: int = 2, size: int = 3_000) -> AsvScores:
    rng = np.random.default_rng(seed)
    roles = rng.integers(3, size=size)
    means = {Role.TARGET: 3.0, Role.NONTARGET: -1.0, Role.SPOOF: 2.0}
    scores = rng.normal(size=size) + np.array([means[role] for role in roles.tolist()])
    attacks = np.array(ATTACKS, dtype=object)[rng.integers(3, size=size)]
    fields = {
        "attack": np.where(roles == Role.SPOOF, attacks, "bonafide"),
        "codec": np.array(CODECS, dtype=object)[rng.integers(2, size=size)],
    }
    return AsvScores(Path("asv.txt"), "a" * 64, scores, roles, Columns.encode(fields))
