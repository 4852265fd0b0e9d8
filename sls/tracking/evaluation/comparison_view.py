"""The view of the tracking UI in which recipes stand side by side, kept in the store and opened by a link.

By itself the UI charts the ten newest runs, one by one and every metric of them. A view that is kept as a tag of the
experiment, which is how the UI's own "share" button does it, says which runs, which charts, and grouped by what.
"""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from sls.tracking.run import one_line
from sls.tracking.store import FINISHED, NEWEST_FIRST, find_active_run, find_first_run, tagged
from sls.tracking.tags import BORNE_TAG, EPOCHS_TAG, NOT_COMPARABLE_TAG

VIEW_TAG_PREFIX = "mlflow.sharedViewState."
LOCAL_PORT = 5000
"""On which `mlflow ui` listens by default."""
CHARTS = r"eer_percent(_by_epoch)?$|min_tdcf$|/loss$"
"""A pattern of the metrics that are charted; the UI makes a section of each track. Intervals stand in the reports."""
COLUMNS = r"/(eer_percent|min_tdcf)$"
"""A pattern of the metrics that are columns of its table, behind the parameters that differ."""
OTHER_KINDS = ("score", "score-shard", "register", "robustness")
# What trained the recipes, and evaluations for which no training stands, as of imported checkpoints. But not those of
# each epoch, which would enter the averages.
_WANTED = (
    "tags.recipe != ''",
    *(f"tags.kind != '{kind}'" for kind in OTHER_KINDS),
    f"tags.{BORNE_TAG} IS NULL",
    f"tags.{EPOCHS_TAG} IS NULL",
    f"tags.{NOT_COMPARABLE_TAG} IS NULL",
)
_GROUP_BY_RECIPE = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "recipe"}]}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compared:
    """Which runs of an experiment stand side by side: of one corpus, since error rates on others do not compare."""

    corpus: str
    main_run_id: str = ""
    """The run of the whole experiment whose recipes are compared; empty for all recipes."""

    @property
    def key(self) -> str:
        """The name of the view in the store and in the link."""
        return f"recipes-{self.main_run_id or re.sub('[^A-Za-z0-9_.-]', '_', self.corpus)}"


def share_comparison(
    client: MlflowClient, experiment: str, compared: Compared | None = None, port: int = LOCAL_PORT
) -> str:
    """Keeps the view of an experiment's recipes in the store and returns the link that opens it.

    Where there is nothing to compare, or the store refuses the view, which is a warning (one may only read it), the
    link is to all runs of the experiment, without a query.

    By default it shows what `find_newest_work` finds. The port is as of `ui_address`.
    """
    link = f"{ui_address(client.tracking_uri, port)}/#/experiments/{experiment}/runs"
    try:
        compared = compared or find_newest_work(client, experiment)
        if compared is None:
            return link
        _keep_view(client, experiment, compared)
    except MlflowException as error:
        logger.warning("the view of the recipes could not be made: %s", one_line(error))
        return link
    return f"{link}?viewStateShareKey={compared.key}&compareRunsMode=CHART&workflowType=machine_learning"


def _keep_view(client: MlflowClient, experiment: str, compared: Compared) -> None:
    wanted = [*_WANTED, tagged(corpus=compared.corpus)]
    if compared.main_run_id:
        wanted.append(tagged(main_run_id=compared.main_run_id))
    view = {
        "searchFilter": " and ".join(wanted),
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        "selectedColumns": _columns(client.search_runs([experiment], " and ".join(wanted), max_results=100)),
        "runsHiddenMode": "SHOW_ALL",
        "groupBy": _GROUP_BY_RECIPE,
        "chartsSearchFilter": CHARTS,
    }
    client.set_experiment_tag(experiment, VIEW_TAG_PREFIX + compared.key, json.dumps(view))


def _columns(runs: Sequence[Run]) -> list[str]:
    """Returns what the UI calls the columns of the parameters that differ, and of the results."""
    trained = [run.data.params for run in runs if run.data.params]
    names = sorted({name for params in trained for name in params})
    differing = [name for name in names if len({params.get(name) for params in trained}) > 1]
    metrics = sorted({name for run in runs for name in run.data.metrics if re.search(COLUMNS, name)})
    return [*(f"params.`{name}`" for name in differing), *(f"metrics.`{name}`" for name in metrics)]


def ui_address(tracking_uri: str, port: int = LOCAL_PORT) -> str:
    """Returns where the tracking UI is: at the tracking server, without the user of its URI, or on this machine."""
    if not tracking_uri.startswith(("http://", "https://")):
        return f"http://127.0.0.1:{port}"
    parts = urlsplit(tracking_uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")


def find_newest_work(client: MlflowClient, experiment: str) -> Compared | None:
    """Returns what the newest finished training or evaluation stands among; None where there is none.

    That is the whole experiment that asked for it, once it has finished, or else all recipes on that corpus.
    """
    conditions = (*_WANTED, "tags.corpus != ''", FINISHED)
    found = find_first_run(client, *conditions, experiments=[experiment], order_by=NEWEST_FIRST)
    if found is None:
        return None
    tags = found.data.tags
    main = find_active_run(client, tags.get("main_run_id", ""))
    is_whole = main is not None and main.info.status == "FINISHED"
    return Compared(tags["corpus"], tags["main_run_id"] if is_whole else "")
