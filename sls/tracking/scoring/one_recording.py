"""One recording, scored as a tracked run: its score, what the countermeasure listened to, and its curve over time."""

from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from sls.config import ComputeConfig
from sls.data.audio.recording import read_recording
from sls.data.audio.windows import check_hop, combine_scores, cut_windows, window_starts
from sls.data.tables.protocols import Label
from sls.engine.compute.device import arithmetic, resolve_device
from sls.engine.evaluation.calibration import load_calibration
from sls.engine.scoring.forward_pass import prepared_for_scoring, resolve_batch_size
from sls.engine.scoring.settings import settings_of
from sls.metrics.calibration import describe_calibration, warn_of_llr
from sls.metrics.dcf import DetectionCosts, decide
from sls.models.checkpoints import LoadedCheckpoint, load_checkpoint
from sls.quotation import count_of, make_visible
from sls.reports.figure_style import GRID_COLOUR, SPOOF_COLOUR, SYSTEM_COLOURS, new_figure, set_title, to_png
from sls.tracking.registry.calibrations import CALIBRATION_FILE
from sls.tracking.registry.checkpoints import ModelSource
from sls.tracking.registry.parent_run import place_under_origin
from sls.tracking.run import TrackedRun
from sls.tracking.scoring.scoring_run import ScoringOptions

RECORDING_KIND = "score-recording"
RECORDING_DIRECTORY = "recording"


@dataclass(frozen=True)
class ScoredWindow:
    """One stretch of a recording."""

    start_s: float
    end_s: float
    score: float
    """log P(bona fide)."""


@dataclass(frozen=True)
class ScoredRecording:
    """What the countermeasure says of a recording."""

    recording: str
    model: str
    duration_s: float
    heard_s: float
    """Seconds of it that the score is of; a recording shorter than a window was repeated."""
    warnings: str
    """What makes the score less sure (silent, clipped, ...), separated by commas; empty where nothing does."""
    score: float
    combination: str
    """How the scores of several windows became one."""
    windows: tuple[ScoredWindow, ...]
    layer_weights: tuple[float, ...]
    """How much the countermeasure listened to each layer of XLS-R, 0 to 1, meant over the windows."""
    decision: dict[str, Any]
    """Likelihood ratio, probability and decision; empty without a calibration, or where more than one window was
    heard, since a calibration is of scores of single windows."""

    @property
    def lowest(self) -> ScoredWindow:
        """The most suspicious window."""
        return min(self.windows, key=lambda window: window.score)


def track_recording(
    run: TrackedRun, model: ModelSource, path: Path, options: ScoringOptions
) -> ScoredRecording:
    """Scores one recording and records what comes of it: JSON, a table of its windows, and their curve.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no recording, its score is not finite, or a hop longer than a window.
    """
    run.set_tags({"kind": RECORDING_KIND, "recording": path, **model.tags()})
    place_under_origin(run, "score", model.tags(), path.name)
    checkpoint = load_checkpoint(model.path, backend=options.compute.backend, place=model.uri)
    scored = _score(checkpoint, model, path, options)
    run.set_tags({"checkpoint_sha256": checkpoint.digest, **settings_of(options.compute, options.scoring)})
    run.log_metrics({"score/score": scored.score, "score/lowest_window": scored.lowest.score})
    with run.artifacts(RECORDING_DIRECTORY) as directory:
        rows = [f"{item.start_s:.4f}\t{item.end_s:.4f}\t{item.score:.9g}\n" for item in scored.windows]
        (directory / "windows.tsv").write_text("start_s\tend_s\tscore\n" + "".join(rows), encoding="utf-8")
        if len(rows) > 1:
            (directory / "curve.png").write_bytes(to_png(curve_figure(scored)))
    run.log_json(asdict(scored), f"{RECORDING_DIRECTORY}/score.json")
    return scored


def _score(
    checkpoint: LoadedCheckpoint, model: ModelSource, path: Path, options: ScoringOptions
) -> ScoredRecording:
    info, compute, scoring = checkpoint.info, options.compute, options.scoring
    rate_hz, hop = info.sample_rate_hz, scoring.window_hop
    check_hop(hop, info.num_samples)
    device = resolve_device(compute.device)
    recording = read_recording(path, rate_hz, resampler=scoring.resampler)
    waveform = recording.waveform
    num_heard = len(waveform) if hop else min(len(waveform), info.num_samples)
    starts_s = window_starts(len(waveform), info.num_samples, hop) / rate_hz
    duration_s = len(waveform) / rate_hz
    ends_s = np.minimum(starts_s + info.num_samples / rate_hz, duration_s)
    values, layer_weights = _score_windows(
        checkpoint, cut_windows(waveform, info.num_samples, hop), compute, device
    )
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: the score is not finite")
    score, is_single = combine_scores(values, scoring.window_combination), len(values) == 1
    decision, doubts = _decide(model, score) if is_single else ({}, [])
    return ScoredRecording(
        str(path),
        model.uri,
        duration_s,
        num_heard / rate_hz,
        ", ".join(filter(None, [recording.warnings(num_heard), *doubts])),
        score,
        "none" if is_single else scoring.window_combination,
        tuple(map(ScoredWindow, starts_s.tolist(), ends_s.tolist(), values.tolist())),
        tuple(layer_weights.tolist()),
        decision,
    )


def _score_windows(
    checkpoint: LoadedCheckpoint, windows: np.ndarray, compute: ComputeConfig, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the score of each window, and the weight of each layer, meant over the windows.

    Shapes: `(windows,)` and `(layers,)`, of windows of shape `(windows, samples)`, a batch of them at a time.
    """
    size = resolve_batch_size(checkpoint.model, checkpoint.info.num_samples, compute, device)
    countermeasure = checkpoint.model.to(device).eval()
    scores, weights = [], []
    with (
        prepared_for_scoring(countermeasure, compute, device),
        torch.inference_mode(),
        arithmetic(compute.precision, device),
    ):
        for part in torch.from_numpy(windows).split(size):
            explanation = countermeasure.explain(part.to(device))
            scores.append(explanation.log_probs[:, Label.BONAFIDE].float().cpu())
            weights.append(explanation.layer_weights.float().cpu())
    return torch.cat(scores).numpy(), torch.cat(weights).mean(dim=0).numpy()


def curve_figure(scored: ScoredRecording) -> Figure:
    """Draws the score of each window over the time that it covers, and marks the lowest."""
    figure, axes = new_figure(9.0, 4.2)
    starts_s, ends_s, scores = zip(*map(astuple, scored.windows), strict=True)
    centres_s = np.mean([starts_s, ends_s], axis=0)
    axes.plot(centres_s, scores, "o-", color=SYSTEM_COLOURS[0], markersize=4)
    axes.hlines(scores, starts_s, ends_s, color=SYSTEM_COLOURS[0], alpha=0.25)
    lowest = scored.lowest
    axes.axvspan(lowest.start_s, lowest.end_s, color=SPOOF_COLOUR, alpha=0.12)
    axes.axhline(scored.score, color=SPOOF_COLOUR, linestyle="--", linewidth=1)
    axes.set_xlim(0, scored.duration_s)
    axes.set_xlabel("time in the recording, s")
    axes.set_ylabel("score, log P(bona fide)")
    axes.grid(color=GRID_COLOUR, linewidth=0.6)
    subtitle = (
        f"{count_of(len(scored.windows), 'window')}; dashed: their {scored.combination}, {scored.score:.4f}; "
        f"shaded: the most suspicious, {lowest.start_s:.2f} to {lowest.end_s:.2f} s"
    )
    set_title(figure, axes, make_visible(Path(scored.recording).name), subtitle, "")
    return figure


def _decide(model: ModelSource, score: float) -> tuple[dict[str, Any], list[str]]:
    """Decides by the calibration that the registered version was given, at the prior and costs of ASVspoof 5.

    Returns the decision, and what warns of it; both empty where there is none.
    """
    path = model.path.with_name(CALIBRATION_FILE)
    if not (model.version and path.is_file()):
        return {}, []
    calibration = load_calibration(path)
    decision = asdict(decide(float(calibration.apply(score)), DetectionCosts()))
    told = {**decision, "calibration": describe_calibration(calibration)}
    return told, warn_of_llr(calibration, score)
