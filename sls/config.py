"""The configuration of an experiment, as frozen dataclasses.

Every default is the published recipe of the paper (Zhang, Wen and Hu, ACM Multimedia 2024). All fields
live in one flat namespace, `lr` and not `optimizer.lr`, so that a YAML file is a plain list of names;
`sls.config_file` fills them.
"""

import dataclasses
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from sls.quotation import quote, shorten

MAX_NAME_LENGTH = 100
NAME_RULE = f"a name of letters, digits, _ and -, {MAX_NAME_LENGTH} characters at most"
MAX_SEED = 2**63 - 1
"""What PyTorch's generators take."""
PROJECT_ROOT = Path(__file__).resolve().parents[1]


def find_work_root(project: Path, tracking_uri: str) -> Path:
    """Returns where `outputs/` lies: what the doors make on this disk.

    That is the project's root; but a temporary directory, into which `mlflow run GIT_ADDRESS` clones the project, is
    soon gone and another one each time. Then it is the directory of the local tracking store, which MLflow puts where
    the command was typed, or with a tracking server, whose URI it hands on too, `~/.xlsr-sls`.
    """
    temporary = Path(tempfile.gettempdir()).resolve()
    is_clone = any(
        path.parent == temporary and re.fullmatch(r"tmp\w{8}", path.name)
        for path in (project, *project.parents)
    )
    if not is_clone or not tracking_uri:
        return project
    _, is_local, database = tracking_uri.partition("sqlite:///")
    return Path(unquote(database)).resolve().parent if is_local else Path.home() / ".xlsr-sls"


WORK_ROOT = find_work_root(PROJECT_ROOT, os.environ.get("MLFLOW_TRACKING_URI", ""))
SAMPLE_RATE_HZ = 16_000
NUM_SAMPLES = 64_600
"""Samples that the published countermeasure hears: 4.0375 s at 16 kHz."""
Resampler = Literal["soxr", "kaiser_best"]

Precision = Literal["fp32", "tf32", "bf16", "int8"]


@dataclass(frozen=True)
class DataConfig:
    """Where the corpora lie."""

    data_root: str = ""
    """Directory under which the corpora lie as they unpack. Empty: the embedded demo corpus."""
    tracks: str = ""
    """A tracks file, for a corpus of one's own. Empty: configs/tracks.yaml."""


@dataclass(frozen=True)
class AudioConfig:
    """What the countermeasure hears of a recording."""

    sample_rate: int = SAMPLE_RATE_HZ
    """Sampling rate in Hz; recordings at other rates are resampled."""
    audio_max_len: int = NUM_SAMPLES
    """Samples given to the countermeasure: longer recordings are cut, shorter ones repeated."""
    random_crop: bool = False
    """Train on a random stretch of a recording, repeated where it is short, instead of its beginning."""

    def __post_init__(self) -> None:
        require_at_least(1, self, "sample_rate")
        require_at_least(400, self, "audio_max_len")


@dataclass(frozen=True)
class RawBoostConfig:
    """RawBoost augmentation (Tak et al., Odyssey 2022), with the names of the original implementation."""

    algo: int = 3
    """0 none, 1 LnL, 2 ISD, 3 SSI; in series 4 = 1+2+3, 5 = 1+2, 6 = 1+3, 7 = 2+3; 8 = 1, 2 in parallel."""
    nBands: int = 5
    """Notch filters in one FIR filter."""
    minF: float = 20
    """Lowest centre frequency of a notch, Hz."""
    maxF: float = 8000
    """Highest centre frequency of a notch, Hz."""
    minBW: float = 100
    """Least width of a notch, Hz."""
    maxBW: float = 1000
    """Greatest width of a notch, Hz."""
    minCoeff: int = 10
    """Least number of FIR coefficients of a notch."""
    maxCoeff: int = 100
    """Greatest number of FIR coefficients of a notch."""
    minG: float = 0
    """Least gain of the linear component, dB."""
    maxG: float = 0
    """Greatest gain of the linear component, dB."""
    minBiasLinNonLin: float = 5
    """Least difference of gain between the linear and the non-linear components, dB."""
    maxBiasLinNonLin: float = 20
    """Greatest difference of gain between the linear and the non-linear components, dB."""
    N_f: int = 5
    """Order of the non-linearity of LnL; 1 is linear."""
    P: float = 10
    """Greatest share of samples that ISD disturbs, percent."""
    g_sd: float = 2
    """Gain of the ISD noise."""
    SNRmin: float = 10
    """Least signal-to-noise ratio of SSI, dB."""
    SNRmax: float = 40
    """Greatest signal-to-noise ratio of SSI, dB."""

    def __post_init__(self) -> None:
        """Check ranges and the order of each pair of bounds."""
        require(0 <= self.algo <= 8, "algo", self.algo, "a RawBoost algorithm from 0 to 8")
        require_at_least(1, self, "nBands", "N_f", "minCoeff")
        require_at_least(0, self, "minF")
        require(self.minBW > 0, "minBW", self.minBW, "a bandwidth above 0 Hz")
        require(0 <= self.P <= 100, "P", self.P, "a percentage from 0 to 100")
        for low in ("minF", "minBW", "minCoeff", "minG", "minBiasLinNonLin", "SNRmin"):
            high = low.replace("min", "max")
            value, bound = getattr(self, low), getattr(self, high)
            require(value <= bound, low, value, f"at most {high}, which is {bound}")


@dataclass(frozen=True)
class ModelConfig:
    """The countermeasure before training."""

    xlsr_model: str = "xlsr2_300m.pt"
    """A pre-trained XLS-R: a fairseq file, a Hugging Face safetensors file, a hub reference
    (hf://owner/repo/file), or random:NAME for a random start of a named shape (random:tiny, random:300m);
    random:tiny:mel starts the tiny one from filters on the mel scale."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam and the loss that it minimises."""

    lr: float = 1e-6
    """Learning rate of Adam."""
    head_lr: float = 0
    """Learning rate of the SLS classifier, where it is to differ from that of XLS-R; 0 for the same."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Course of the learning rate: constant, or falling to 0 over num_epochs."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    weight_decay: float = 1e-4
    """Weight decay of Adam (added to the gradient)."""
    loss_weights: tuple[float, float] = (0.1, 0.9)
    """Class weights of the cross entropy: spoof, bona fide."""
    accumulation_steps: int = 1
    """Batches whose gradients are averaged into one step of Adam."""
    clip_norm: float = 0
    """Greatest norm of the gradient, to which a longer one is cut; 0 for none."""

    def __post_init__(self) -> None:
        require(self.lr > 0, "lr", self.lr, "a positive learning rate")
        require_at_least(0, self, "warmup_steps", "head_lr", "weight_decay", "clip_norm")
        require_at_least(1, self, "accumulation_steps")
        require(min(self.loss_weights) > 0, "loss_weights", self.loss_weights, "two positive weights")


@dataclass(frozen=True)
class TrainingConfig:
    """The training loop: its length, what it watches, and what it keeps."""

    recipe: str = "v1"
    """Name of the recipe, by which runs and registered versions are grouped."""
    seed: int = 1234
    """Seed of initial weights, order of trials and augmentation."""
    batch_size: int = 5
    """Utterances in a batch; the last, incomplete batch of an epoch is dropped."""
    num_epochs: int = 50
    """Epochs at most; they count from 0."""
    monitor: Literal["train_loss", "val_loss"] = "train_loss"
    """What early stopping and the choice of the epoch watch."""
    patience: int = 1
    """Stop once the monitored loss has not improved for this many epochs."""
    validation: str = "none"
    """Trials on which to validate: none, dev, or a track of the tracks file as NAME or NAME:SUBSET."""
    validation_rawboost: bool = False
    """Apply RawBoost to the validation trials too, as the published v2 experiment does."""
    log_every_steps: int = 100
    """Steps between two points of the running loss."""
    ema_decay: float = 0
    """Judge and save the exponential moving average of the weights over steps, with this decay; 0 for none."""
    average_epochs: int = 1
    """Judge and save the mean of the weights after this many last epochs; 1 for none."""
    average: int = 1
    """At the end, choose the mean of the weights of this many epochs of lowest monitored loss; 1: the best alone."""
    freeze_layers: int = 0
    """Lowest transformer layers that are not trained, with the convolutions below; -1: the whole encoder."""
    keep: Literal["all", "best_and_last", "best"] = "best_and_last"
    """Whose epochs' weights are kept: all, or those of the lowest monitored loss (as many as `average` says) and, to
    resume, the last."""
    save_every_steps: int = 0
    """Steps within an epoch after which the state to resume from is kept; 0: at the end of an epoch alone."""

    def __post_init__(self) -> None:
        """Check ranges and what the monitor needs."""
        require_at_least(1, self, "batch_size", "num_epochs", "patience", "log_every_steps", "average_epochs")
        require_at_least(1, self, "average")
        require_at_least(0, self, "save_every_steps")
        require(0 <= self.seed <= MAX_SEED, "seed", self.seed, f"0 to {MAX_SEED}")
        check_name("recipe", self.recipe)
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "0, or a decay below 1")
        require(self.freeze_layers >= -1, "freeze_layers", self.freeze_layers, "-1, 0, or a number of layers")
        if self.ema_decay and self.average_epochs > 1:
            raise ValueError(
                f"average_epochs: found {self.average_epochs} beside ema_decay {self.ema_decay:g}, "
                "expected one of the two"
            )
        if self.monitor == "val_loss" and self.validation == "none":
            raise ValueError("monitor: val_loss needs validation, and validation is none; set validation=dev")
        if self.validation_rawboost and self.validation == "none":
            raise ValueError("validation_rawboost: found true, but validation is none; set validation=dev")


@dataclass(frozen=True)
class ComputeConfig:
    """Where the work is done, and how wide."""

    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, or cuda:N."""
    num_workers: int = 2
    """Processes that read and augment audio; 0 works in the main process."""
    eval_batch_size: int = 8
    """Utterances in a batch of scoring or validation; 0: of scoring, what fits into the memory of a GPU, and of
    validation batch_size."""
    precision: Precision = "fp32"
    """Arithmetic: fp32, tf32 (matrix products on a GPU), bf16 by autocast, or int8 (linear layers,
    for scoring on a CPU with VNNI). The weights of a checkpoint are fp32."""
    compile: bool = False
    """Let PyTorch compile the encoder for training and scoring (on a CPU its transformer layers alone): a minute at
    the start, and other last digits."""
    cuda_graph: bool = True
    """On one GPU, launch the forward and backward pass of a training step as one CUDA graph."""
    backend: Literal["torchaudio", "fairseq"] = "torchaudio"
    """Whose implementation runs the encoder; fairseq, the reference, must be installed for its own."""
    max_failures: int = 0
    """Unreadable recordings that a scoring run leaves out before it stops. It then ends FAILED with their
    list, and without a score file, but the scores of the others are kept. Each process of a launch counts its own."""

    def __post_init__(self) -> None:
        require_at_least(0, self, "num_workers", "max_failures", "eval_batch_size")
        if self.compile and self.backend == "fairseq":
            raise ValueError("compile: found true with backend fairseq, expected backend=torchaudio")
        if self.precision == "int8" and (self.compile or self.backend == "fairseq"):
            raise ValueError(
                f"precision: found int8 with compile {str(self.compile).lower()} and backend {self.backend}, "
                "expected compile=false and backend=torchaudio"
            )


@dataclass(frozen=True)
class ScoringConfig:
    """What of a recording is scored: how it is resampled, and what of one longer than is heard at once."""

    resampler: Resampler = "soxr"
    """How recordings at other rates are resampled to be scored: by soxr HQ, or by kaiser_best, the default of
    librosa 0.9.1, which the published system pins."""
    window_hop: int = 0
    """Samples from one window of a long recording to the next; 0 hears its first audio_max_len samples alone,
    as published."""
    window_combination: Literal["mean", "median", "min", "log-mean"] = "mean"
    """How the scores of its windows become one: log-mean is the logarithm of their mean probability."""

    def __post_init__(self) -> None:
        """Check the range, and that what is combined is there."""
        require_at_least(0, self, "window_hop")
        if not self.window_hop and self.window_combination != ScoringConfig.window_combination:
            raise ValueError(
                f"window_combination: found {self.window_combination}, but window_hop is 0 and there is one window; "
                "set window_hop=32300"
            )


@dataclass(frozen=True)
class Config:
    """The whole configuration of one experiment; each function takes the part it needs."""

    data: DataConfig = field(default_factory=DataConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    rawboost: RawBoostConfig = field(default_factory=RawBoostConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    scoring: ScoringConfig = field(default_factory=ScoringConfig)

    def to_flat(self) -> dict[str, Any]:
        """Returns every field by its name, in the order of declaration."""
        return {
            item.name: getattr(getattr(self, section.name), item.name)
            for section in dataclasses.fields(self)
            for item in dataclasses.fields(getattr(self, section.name))
        }


def check_name(field_name: str, name: str) -> None:
    """Raises ValueError for a name that the tracking server would refuse when all the work is done, or a long one."""
    is_name = re.fullmatch(rf"[A-Za-z0-9_-]{{1,{MAX_NAME_LENGTH}}}", name) is not None
    require(is_name, field_name, name or "nothing", NAME_RULE)


def require_at_least(least: int, settings: Any, *names: str) -> None:
    """Refuses the first field of some settings that is below a number, as `require` does."""
    for name in names:
        value = getattr(settings, name)
        require(value >= least, name, value, f"at least {least}" if least else "0 or more")


def require(holds: bool, name: str, found: Any, expected: str) -> None:
    """Raises ValueError unless a condition holds: with the setting, what was found, and what was expected."""
    if not holds:
        told = shorten(found) if isinstance(found, str) else quote(found)
        raise ValueError(f"{name}: found {told}, expected {expected}")
