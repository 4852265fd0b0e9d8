"""Registers a published checkpoint: `mlflow run . -e import_checkpoint -P checkpoint=epoch_2.pth -P recipe=v1`."""

from entrypoints.door import door_command, say
from entrypoints.options import text_option
from sls.config import check_name
from sls.tracking.registry.versions import track_import
from sls.tracking.run import TrackedRun


@door_command("import_checkpoint")
@text_option("checkpoint", "a published SLS file, or hf://owner/repo/file[@revision]")
@text_option("xlsr", "the fairseq file that it started from, where its shapes are not those of a known XLS-R")
@text_option("recipe", "name of the recipe that it was trained by")
@text_option("stage", "staging, production or archived [default: staging]")
@text_option("source", "where it comes from [default: the checkpoint's own name]")
@text_option("licence", "its licence [default: unknown]")
def import_checkpoint(
    run: TrackedRun, checkpoint: str, xlsr: str, recipe: str, stage: str, source: str, licence: str
) -> None:
    """Bring a published checkpoint into the registry, to be scored, evaluated and served without training."""
    if not checkpoint:
        raise ValueError("checkpoint: found nothing, expected a published SLS file or hf://owner/repo/file")
    check_name("recipe", recipe)
    version = track_import(
        run, checkpoint, recipe, stage or "staging", xlsr=xlsr, source=source, licence=licence
    )
    say(f"Registered {checkpoint} as {version.uri} (recipe {recipe})")


if __name__ == "__main__":
    import_checkpoint()
