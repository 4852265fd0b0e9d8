"""What a machine does during a run: CPU, memory, disk, network, GPUs and their power, sampled by MLflow's monitor.

MLflow starts its monitor in `mlflow.start_run`, by which no run is opened here, and ends it when the server is away
or does not know the run yet.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from mlflow.environment_variables import MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from sls.engine.compute.launch import Launch
from sls.tracking.run import TrackedRun, one_line
from sls.tracking.writer import RunTakenOver

KINDS = ("train", "score")
"""The runs that keep a machine at work."""
LAST_SAMPLE_S = 1.0
"""How long the end of a run waits for a sample that is on its way."""

logger = logging.getLogger(__name__)


@contextmanager
def system_metrics(run: TrackedRun, kind: str, is_resumed: bool = False) -> Iterator[None]:
    """Records on a run what this machine does, where MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING is true.

    Of the processes on a machine the first one does it, since its figures are of the whole machine. In a launch over
    several machines the figures of each have its name in front, `system/node_1/...`. Whatever goes wrong with them is
    one warning, and neither stops the run nor delays its end. A run that is resumed goes on with its steps.
    """
    monitor = None
    if kind in KINDS and MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING.get() and Launch.read().local_rank == 0:
        try:
            monitor = _RunMonitor(run, is_resumed)
            monitor.start()
        except (
            Exception
        ) as error:  # a library that is missing or out of order, or a variable without a number
            logger.warning("system metrics are not recorded: %s", one_line(error))
    try:
        yield
    finally:
        if monitor is not None:
            monitor.finish()


class _RunMonitor(SystemMetricsMonitor):
    """MLflow's monitor, recording as the run does: with a journal, also while the server is away."""

    def __init__(self, run: TrackedRun, is_resumed: bool) -> None:
        uri = run.client.tracking_uri
        super().__init__(run.run_id, resume_logging=is_resumed, node_id=_node(), tracking_uri=uri)
        self._run = run
        torch = sys.modules.get("torch")
        has_monitor = any(isinstance(item, (GPUMonitor, ROCMMonitor)) for item in self.monitors)
        if torch is not None and torch.cuda.is_available() and not has_monitor:
            logger.warning("system metrics are without the GPUs: NVML does not answer (AMD needs pyrsmi)")

    def monitor(self) -> None:
        """Samples until the run ends."""
        # The first answer in a thread is 0; that of a sample is then the mean since the one before.
        psutil.cpu_percent()
        num_samples = 0
        try:
            while not self._shutdown_event.wait(self.sampling_interval):
                self.collect_metrics()
                num_samples += 1
                if num_samples % self.samples_before_logging == 0:
                    self.publish_metrics(self.aggregate_metrics())
        except RunTakenOver:  # which ends the run itself
            return
        except Exception as error:
            logger.warning("system metrics are no longer recorded: %s", one_line(error))

    def publish_metrics(self, metrics: dict[str, float]) -> None:
        """Records a sample, unless this machine does not know the run yet."""
        run = self._run
        if run.run_id:
            prefix = f"system/{self.node_id}/" if self.node_id else "system/"
            # What the first process of a launch records itself, further machines hand to the server.
            target = TrackedRun(run.client, run.run_id) if run.is_silent else run
            target.log_metrics({prefix + name: value for name, value in metrics.items()}, self._logging_step)
            self._logging_step += 1
        for monitor in self.monitors:
            monitor.clear_metrics()

    def finish(self) -> None:
        """Stops sampling."""
        self._shutdown_event.set()
        if self._process is not None:
            self._process.join(LAST_SAMPLE_S)


def _node() -> str | None:
    """Returns this machine's name in a launch over several, by the variables of torchrun; None in any other."""
    per_machine = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    is_alone = Launch.read().world_size <= per_machine
    return None if is_alone else f"node_{os.environ.get('GROUP_RANK', '0')}"
