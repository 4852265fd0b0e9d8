"""The view of the tracking UI in which recipes stand side by side, kept in the store and opened by a link.

By itself the UI charts the ten newest runs, one by one and every metric of them. A view that is kept as a tag of the
experiment, which is how the UI's own "share" button does it, says which runs, which charts, and grouped by what.
"""

from __future__ import annotations

import json

from mlflow import MlflowClient

VIEW_TAG_PREFIX = "mlflow.sharedViewState."
LOCAL_UI = "http://127.0.0.1:5000"
CHARTS = r"eer_percent(_by_epoch)?$|min_tdcf$|/loss$"
"""A pattern of the metrics that are charted; the UI makes a section of each track. Intervals stand in the reports."""
OTHER_KINDS = ("score", "register")
_GROUP_BY_RECIPE = {
    "aggregateFunction": "average",
    "groupByKeys": [{"mode": "tag", "groupByData": "recipe"}],
}


def share_comparison(
    client: MlflowClient, experiment: str, main_run_id: str = "", address: str = LOCAL_UI
) -> str:
    """Keeps the view of an experiment's recipes in the store and returns the link that opens it.

    Args:
        client: the tracking store.
        experiment: the id of the experiment.
        main_run_id: the run of the whole experiment whose recipes are compared; empty for all recipes.
        address: of the tracking UI.
    """
    # What trained and what evaluated the recipes; not the evaluations of each epoch, which would enter the averages.
    wanted = [
        "tags.recipe != ''",
        *(f"tags.kind != '{kind}'" for kind in OTHER_KINDS),
        "tags.epochs_run_id IS NULL",
    ]
    if main_run_id:
        wanted.append(f"tags.main_run_id = '{main_run_id}'")
    view = {
        "searchFilter": " and ".join(wanted),
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        "runsHiddenMode": "SHOW_ALL",
        "groupBy": _GROUP_BY_RECIPE,
        "chartsSearchFilter": CHARTS,
    }
    key = f"recipes-{main_run_id or 'all'}"
    client.set_experiment_tag(experiment, VIEW_TAG_PREFIX + key, json.dumps(view))
    return (
        f"{address}/#/experiments/{experiment}/runs"
        f"?viewStateShareKey={key}&compareRunsMode=CHART&workflowType=machine_learning"
    )


def newest_main_run(client: MlflowClient, experiment: str) -> str:
    """Returns the id of the newest finished run of the whole experiment, or an empty string."""
    found = client.search_runs(
        [experiment],
        "tags.kind = 'main' and attributes.status = 'FINISHED'",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return str(found[0].info.run_id) if found else ""
