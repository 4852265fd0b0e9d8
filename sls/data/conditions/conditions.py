"""A condition: a degradation with its settings and a name, as configs/conditions.yaml lists them."""

import hashlib
import inspect
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sls.config import PROJECT_ROOT, SAMPLE_RATE_HZ
from sls.data.audio.containers import AudioError
from sls.data.audio.decoders import UNREADABLE, one_line
from sls.data.conditions import channels, surroundings, timing
from sls.data.conditions.settings import Degradation, Setting, read_settings, show
from sls.data.corpora.track_schema import Entry, read_yaml_entry
from sls.quotation import did_you_mean, shorten

BUILT_IN_CONDITIONS = PROJECT_ROOT / "configs" / "conditions.yaml"
CLEAN = "clean"
"""What recordings are called that no condition has changed; no condition may be called so."""
KINDS: Mapping[str, Degradation] = {
    "band": channels.limit_band,
    "codec": channels.code,
    "packet-loss": channels.lose_packets,
    "gain": channels.change_gain,
    "clipping": channels.clip_peaks,
    "white-noise": surroundings.add_white_noise,
    "pink-noise": surroundings.add_pink_noise,
    "recorded-noise": surroundings.add_recorded_noise,
    "reverberation": surroundings.reverberate,
    "recorded-reverberation": surroundings.reverberate_by_recording,
    "silence-trimmed": timing.trim_silence,
    "silence-alone": timing.keep_silence,
    "silence-added": timing.add_silence,
    "offset": timing.begin_later,
    "speed": timing.change_speed,
}
_CONDITION_STREAM = 3
"""First word of the seeds of conditions: 1 and 2 are those of `sls.data.loading.training_batches`."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Condition:
    """One way to degrade recordings."""

    name: str
    kind: str
    """Of `KINDS`."""
    settings: Mapping[str, Setting]
    """All that its kind takes, by name."""

    def apply(self, waveform: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Degrades a recording.

        Args:
            waveform: Mono at `SAMPLE_RATE_HZ`, finite, at least one sample. Shape: `(num_samples,)`, float32.
            generator: Decides whatever is drawn, see `trial_generator`.

        Returns:
            A new array of at least one sample. Shape: `(num_samples_then,)`, float32.

        Raises:
            AudioError: it is too loud to be computed with, or a recording of a folder cannot be read.
        """
        degradation = KINDS[self.kind]
        drawn = (generator,) if "generator" in inspect.signature(degradation).parameters else ()
        with np.errstate(over="ignore"):  # which is looked at below
            degraded = np.array(degradation(waveform, *drawn, **self.settings), np.float32)
        if not np.isfinite(degraded).all():
            raise AudioError(f"{self.name}: found samples too large, expected full scale at 1")
        return degraded

    @property
    def description(self) -> str:
        """What it does, in one line."""
        told = ", ".join(f"{name} {show(value)}" for name, value in self.settings.items())
        return f"{self.kind}: {told}" if told else self.kind

    @property
    def fingerprint(self) -> str:
        """Kind and settings in one line, with the content of a folder in place of its name."""
        settings = dict(self.settings)
        if "folder" in settings:
            settings["folder"] = surroundings.digest_folder(str(settings["folder"]))
        return json.dumps({"kind": self.kind, **settings}, sort_keys=True)


def trial_generator(seed: int, condition_name: str, trial: str) -> np.random.Generator:
    """Returns the generator of one trial under one condition, the same whoever degrades it, and after what."""
    name = hashlib.sha256(f"{condition_name}\n{trial}".encode()).digest()
    return np.random.default_rng([_CONDITION_STREAM, seed, int.from_bytes(name)])


def read_conditions(path: Path | None, names: Sequence[str] = ()) -> list[Condition]:
    """Reads the built-in conditions and those of a file of one's own; those that are returned are tried once.

    Args:
        path: A YAML file of `name: {kind: ..., setting: ...}`, where a name that is built in replaces that; None for
            the built-in ones alone.
        names: Which to return; all where empty.

    Returns:
        The conditions, in the order of `names` or of the files.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an unknown name, kind or setting, or a value out of range; names file and condition.
    """
    entries = read_yaml_entry(BUILT_IN_CONDITIONS).entries()
    if path is not None:
        own = read_yaml_entry(path).entries()
        for name in (name for name in own if name in entries):
            logger.warning("%s: %s replaces the built-in condition of that name", path, name)
        entries |= own
    conditions = {name: _parse(name, entry) for name, entry in entries.items()}
    for name in names:
        if name not in conditions:
            hint = did_you_mean(name, conditions, f"; known: {', '.join(conditions)}")
            raise ValueError(f"conditions: found {shorten(name)}, which is in no file of conditions{hint}")
    picked = list(dict.fromkeys(names or conditions))
    for name in picked:
        try:
            conditions[name].apply(np.zeros(SAMPLE_RATE_HZ // 10, np.float32), trial_generator(0, name, ""))
        except UNREADABLE as error:
            raise ValueError(f"{entries[name].where}: {one_line(error)}") from None
    return [conditions[name] for name in picked]


def _parse(name: str, entry: Entry) -> Condition:
    if not _NAME.fullmatch(name) or name == CLEAN:
        raise ValueError(
            f"{entry.where}: found this name, expected up to 40 of letters, digits, '.', '_' and '-', and not {CLEAN}"
        )
    kind = entry.text("kind")
    if kind not in KINDS:
        hint = did_you_mean(kind, KINDS, f", expected one of {', '.join(KINDS)}")
        raise ValueError(f"{entry.where}.kind: found {shorten(kind)}{hint}")
    return Condition(name, kind, read_settings(KINDS[kind], entry))
