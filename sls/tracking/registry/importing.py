"""Checkpoints that others trained, brought into the tracking store and the registry."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from sls.files import scratch_directory
from sls.models.checkpoints import load_checkpoint
from sls.tracking.registry.checkpoint_recording import log_checkpoint
from sls.tracking.registry.checkpoints import resolve_model
from sls.tracking.registry.versions import RegisteredVersion, register
from sls.tracking.run import TrackedRun


@dataclass(frozen=True)
class ImportRequest:
    """A foreign checkpoint and what its owner says of it."""

    checkpoint: str
    """A file or a hub reference, hf://owner/repo/file."""
    recipe: str
    stage: str
    xlsr: str = ""
    """The pre-trained XLS-R that it started from, for its configuration, where the shapes do not tell."""
    source: str = ""
    """Where it comes from; the checkpoint's own name if empty."""
    licence: str = ""


def track_import(run: TrackedRun, request: ImportRequest) -> RegisteredVersion:
    """Reads a published checkpoint, records it as ours and registers it as a version of `xlsr-sls`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no SLS countermeasure, or its weights do not fit.
    """
    loaded = load_checkpoint(request.checkpoint, xlsr=request.xlsr or None)
    tags = {
        "source": request.source or request.checkpoint,
        "source_sha256": loaded.digest,
        "licence": request.licence or "unknown",
    }
    run.set_tags({"recipe": request.recipe, **tags})
    info = dataclasses.replace(
        loaded.info,
        recipe=request.recipe,
        run_id=run.run_id,
        provenance={**loaded.info.provenance, **tags},
    )
    model_id = log_checkpoint(run, loaded.model, info, tags)
    with scratch_directory() as directory:
        source = resolve_model(run.client, f"models:/{model_id}", directory)
        return register(run.client, run.experiment_id, source, request.stage, request.recipe, tags)
