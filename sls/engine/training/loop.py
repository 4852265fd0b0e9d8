"""The training loop: a generator of epochs that records nothing itself.

for epoch in Training(model, train, validation, config, accelerator).epochs():
    record(epoch)
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.nn.utils import clip_grad_norm_, get_total_norm

from sls.config import Config
from sls.data.loading.dataset import TrialDataset
from sls.data.loading.loader import load_batches
from sls.data.loading.training_batches import Batch, EpochBatches
from sls.engine.compute.device import (
    arithmetic,
    fitting_threads,
    full_memory_raises,
    peak_memory_gib,
    read_later,
    reset_peak_memory,
)
from sls.engine.compute.training_processes import expect_unused_weights
from sls.engine.training.averaging import make_average
from sls.engine.training.captured import GradientPass, can_capture
from sls.engine.training.optimizer import make_optimizer, make_schedule
from sls.engine.training.results import EpochResult, StepResult
from sls.engine.training.state import (
    Progress,
    check_trials,
    generator_states,
    read_state,
    restore_generators,
    trial_digests,
    write_state,
)
from sls.engine.training.stopping import MONITORED_METRICS, EarlyStopping
from sls.engine.training.validation import validate
from sls.models.compiling import compile_encoder
from sls.models.countermeasure import Countermeasure


class Training:
    """A training that can be stopped after any step, kept, and taken up again with the same losses."""

    def __init__(
        self,
        model: Countermeasure,
        train: TrialDataset,
        validation: TrialDataset | None,
        config: Config,
        accelerator: Accelerator,
    ) -> None:
        """Prepares a training.

        Args:
            model: Waveforms `(batch, num_samples)` to log-probabilities `(batch, 2)`. Trained in place.
            train: The training trials, augmented as the dataset says.
            validation: The validation trials, or None.
            config: The experiment's configuration.
            accelerator: The processes and their devices; see `open_accelerator`.

        Raises:
            ValueError: Fewer training trials than one batch has, a batch that the processes cannot share
                equally, or more layers to freeze than there are.
        """
        self.train, self.validation, self.config, self.accelerator = train, validation, config, accelerator
        self.num_batches = len(self._batches(epoch=0))
        # Dropout and layer drop, where a checkpoint's configuration has them.
        torch.manual_seed(config.training.seed + accelerator.process_index)
        self.model = model.to(accelerator.device)
        _prepare_model(model, config, accelerator)
        self.trained = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = make_optimizer(model, config.optimizer)
        self.average = make_average(model, config.training)
        self.parallel, self.optimizer = accelerator.prepare(model, optimizer)
        self.num_steps = math.ceil(self.num_batches / config.optimizer.accumulation_steps)
        self.schedule = make_schedule(
            optimizer, config.optimizer, self.num_steps * config.training.num_epochs
        )
        self.stopping = EarlyStopping(config.training.patience)
        self.progress = Progress()
        is_captured = config.compute.cuda_graph and can_capture(model, accelerator)
        self.gradient = GradientPass(self.parallel, accelerator, config.optimizer, is_captured)

    def epochs(
        self,
        on_step: Callable[[StepResult], None] | None = None,
        on_validation_batch: Callable[[], None] | None = None,
    ) -> Iterator[EpochResult]:
        """Trains until patience or `num_epochs` is at its end, and yields after each epoch.

        While the caller holds an epoch, `save` keeps the state that follows it.

        Args:
            on_step: Called after each step of the optimizer, when `save` may be called; what it raises ends
                the training.
            on_validation_batch: Called before each batch of validation, likewise.

        Raises:
            FloatingPointError: The loss is not finite; the message names the epoch, the step and the trials.
            MemoryError: The device's memory is too small; the message says what to lower.
        """
        # Of all epochs: a graph allocates in the first steps alone.
        reset_peak_memory(self.accelerator.device)
        with fitting_threads(self.model):
            while not self.progress.is_ended:
                yield self._next_epoch(on_step, on_validation_batch)

    def save(self, directory: Path, *, with_weights: bool) -> None:
        """Writes the state that follows the last step into a directory, by the first process.

        Args:
            directory: An existing directory.
            with_weights: Whether the weights are part of it. Otherwise they are those of the checkpoint of
                the epoch before, and the model that `load` is called on must have them.
        """
        generators = generator_states(self.accelerator)
        if not self.accelerator.is_main_process:
            return
        state: dict[str, Any] = {
            "progress": self.progress.state_dict(),
            "stopping": self.stopping.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.state_dict(),
            "generators": generators,
            **trial_digests(self.train, self.validation),
        }
        if with_weights:
            state["weights"] = self.model.state_dict()
        write_state(directory, state)

    def load(self, directory: Path) -> None:
        """Goes on from a state; the configuration must be the same, apart from where things are.

        Raises:
            FileNotFoundError: There is no state.
            ValueError: The file is cut, of other trials or of another number of processes, or the processes
                do not read the same one.
        """
        state = read_state(directory)
        check_trials(state, trial_digests(self.train, self.validation))
        if "weights" in state:
            self.model.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.average.load_state_dict(state["average"])
        self.stopping.load_state_dict(state["stopping"])
        self.progress.load_state_dict(state["progress"])
        restore_generators(state["generators"], self.accelerator)
        places = gather_object([(self.progress.epoch, self.progress.batch, self.progress.tally.loss_sum)])
        if len(set(places)) > 1:
            raise ValueError(f"resume: the processes read different states of the run: {places}; start again")

    def _next_epoch(
        self, on_step: Callable[[StepResult], None] | None, on_validation_batch: Callable[[], None] | None
    ) -> EpochResult:
        epoch = self.progress.epoch
        metrics = self._train_epoch(on_step)
        if not self.progress.is_averaged:
            self.average.after_epoch()
            self.progress.is_averaged = True
        model = self.average.result
        if self.validation is not None:
            with self._arithmetic():
                metrics |= validate(
                    model, self.validation, self.config, epoch, self.accelerator, on_validation_batch
                )
        is_best = self.stopping.update(metrics[MONITORED_METRICS[self.config.training.monitor]])
        self.progress.start_next_epoch()
        self.progress.is_ended = (
            self.stopping.should_stop or self.progress.epoch == self.config.training.num_epochs
        )
        return EpochResult(epoch, metrics, is_best, self.progress.is_ended, model)

    def _train_epoch(self, on_step: Callable[[StepResult], None] | None) -> dict[str, float]:
        """Trains to the end of the epoch and returns its metrics, with means over its trials."""
        self.model.train()
        progress, tally = self.progress, self.progress.tally
        every = self.config.optimizer.accumulation_steps
        if progress.batch == 0:
            tally.learning_rate = self.optimizer.param_groups[0]["lr"]
        loader = self._loader()
        asked_s = time.perf_counter()
        for batch in loader:
            started_s = time.perf_counter()
            index = progress.batch
            is_step = (index + 1) % every == 0 or index + 1 == self.num_batches
            with self._arithmetic(), full_memory_raises(self._memory_error):
                figures = self._learn(batch, is_step)
                if is_step:
                    self._step()
                # Once the device has all of the step to do.
                loss, num_correct, gradient_norm = figures().tolist()
                self._require_finite("loss", loss, batch)
                self._require_finite("norm of the gradient", gradient_norm, batch)
            progress.batch += 1
            tally.add(loss, int(num_correct), self.config.training.batch_size)
            tally.note_memory(peak_memory_gib(self.accelerator.device))
            tally.wait_s += started_s - asked_s
            tally.duration_s += time.perf_counter() - asked_s
            asked_s = time.perf_counter()
            if is_step and on_step is not None:
                step = progress.epoch * self.num_steps + index // every
                on_step(StepResult(progress.epoch, step, self.num_steps, loss))
                asked_s = time.perf_counter()
        return tally.metrics()

    def _learn(self, batch: Batch, is_step: bool) -> Callable[[], torch.Tensor]:
        """Adds a batch to the gradient, and clips it where a step follows.

        Returns what waits for its loss and correct decisions, over all processes, and the norm of the gradient
        before clipping, or 0 where no step follows.
        """
        batch = batch.to(self.accelerator.device)
        wait = contextlib.nullcontext() if is_step else self.accelerator.no_sync(self.parallel)
        with wait:
            own = self.gradient.add(batch.waveforms, batch.labels, self._group_size())
        shared = self.accelerator.reduce(own, "sum")
        gradient_norm = self._clip_gradient() if is_step else shared.new_zeros(())
        return read_later(torch.cat((shared, gradient_norm.to(shared.dtype)[None])))

    def _clip_gradient(self) -> torch.Tensor:
        if self.config.optimizer.clip_norm:
            return clip_grad_norm_(self.trained, self.config.optimizer.clip_norm)
        # Measured without clipping too: after a broken last step nothing else would look at the weights.
        return get_total_norm([weight.grad for weight in self.trained if weight.grad is not None])

    def _group_size(self) -> int:
        """Batches that share the current step; at the end of an epoch they can be fewer."""
        every = self.config.optimizer.accumulation_steps
        first = self.progress.batch - self.progress.batch % every
        return min(every, self.num_batches - first)

    def _step(self) -> None:
        self.optimizer.step()
        self.gradient.clear(self.optimizer)
        self.schedule.step()
        self.average.after_step()

    def _batches(self, epoch: int) -> EpochBatches:
        return EpochBatches(
            self.train,
            batch_size=self.config.training.batch_size,
            epoch=epoch,
            shuffle=True,
            drop_last=True,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
        )

    def _loader(self) -> Iterator[Batch]:
        return load_batches(
            self._batches(self.progress.epoch),
            range(self.progress.batch, self.num_batches),
            self.config.compute.num_workers,
            pin_memory=self.accelerator.device.type == "cuda",
        )

    def _arithmetic(self) -> contextlib.AbstractContextManager[None]:
        # bf16 is autocast by accelerate, around the forward pass alone.
        is_tf32 = self.config.compute.precision == "tf32"
        return arithmetic("tf32" if is_tf32 else "fp32", self.accelerator.device)

    def _require_finite(self, what: str, value: float, batch: Batch) -> None:
        if math.isfinite(value):
            return
        indices = gather_object(batch.indices.tolist())
        names = ", ".join(self.train.name(index) for index in indices)
        raise FloatingPointError(
            f"the {what} is {value} in epoch {self.progress.epoch}, step {self.progress.batch}; "
            f"trials of the batch: {names}"
        )

    def _memory_error(self) -> MemoryError:
        return MemoryError(
            f"out of memory on {self.accelerator.device} in epoch {self.progress.epoch}, step "
            f"{self.progress.batch}: lower batch_size, now {self.config.training.batch_size} (and raise "
            "accumulation_steps to make up for it), or freeze_layers=-1, or set precision=bf16 on a GPU"
        )


def _prepare_model(model: Countermeasure, config: Config, accelerator: Accelerator) -> None:
    model.freeze_lower_layers(config.training.freeze_layers)
    if config.compute.compile:
        compile_encoder(model)
    if accelerator.num_processes > 1:
        model.classifier.first_bn.num_processes = accelerator.num_processes
        expect_unused_weights(accelerator, model)
