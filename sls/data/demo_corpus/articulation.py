"""What the demo corpus says: syllables of a vowel between consonants, as tracks of synthesis parameters.

The tables are rounded from the classic measurements of American English (Peterson and Barney, JASA 1952)
and from the parameters of Klatt's synthesizer (JASA 1980). The "texts" are drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

FRAME_S = 0.005

VOWELS_HZ = np.array(
    [
        (280, 2250, 2900),
        (400, 1950, 2550),
        (450, 2050, 2600),
        (550, 1800, 2500),
        (690, 1660, 2400),
        (710, 1100, 2450),
        (560, 850, 2410),
        (440, 1020, 2240),
        (310, 870, 2250),
        (620, 1200, 2400),
        (480, 1350, 1690),
    ],
    dtype=float,
)
SONORANTS_HZ = np.array(
    [(250, 1100, 2200), (270, 1600, 2500), (360, 1100, 2600), (330, 1150, 1500), (300, 650, 2200)],
    dtype=float,
)
# Centre and bandwidth in Hz, and level, of s, sh, f, th, x.
FRICATIVES = np.array(
    [(5600, 1700, 0.9), (3100, 1300, 1.0), (4500, 5000, 0.35), (5200, 4500, 0.3), (1900, 900, 0.6)]
)


@dataclass
class _Segment:
    duration_s: float
    formants_hz: np.ndarray
    voicing: float = 0.0
    aspiration: float = 0.0
    frication: float = 0.0
    fricative: np.ndarray | None = None
    accent: float = 0.0


@dataclass(frozen=True)
class Articulation:
    """Parameters by frame of `FRAME_S`: formants `(frames, 3)` in Hz, the rest `(frames,)`."""

    formants_hz: np.ndarray
    voicing: np.ndarray
    aspiration: np.ndarray
    frication: np.ndarray
    fricative_hz: np.ndarray
    fricative_bandwidth_hz: np.ndarray
    pitch_semitones: np.ndarray


def articulate(num_frames: int, pace: float, rng: np.random.Generator) -> Articulation:
    """Draws an utterance of exactly `num_frames`; `pace` multiplies the length of every sound."""
    segments: list[_Segment] = []
    remaining = num_frames * FRAME_S
    since_pause = 0
    while remaining > 0:
        added = _syllable(rng)
        since_pause += 1
        if since_pause >= 3 and rng.random() < 0.2 and remaining > 0.8:
            added.append(_pause(added[-1].formants_hz, rng))
            since_pause = 0
        for segment in added:
            segment.duration_s *= pace
            remaining -= segment.duration_s
        segments += added
    return _to_tracks(segments, num_frames, rng)


def _syllable(rng: np.random.Generator) -> list[_Segment]:
    vowel_hz = VOWELS_HZ[rng.integers(len(VOWELS_HZ))] * rng.normal(1, 0.04, 3)
    vowel = _Segment(
        rng.uniform(0.07, 0.2), vowel_hz, voicing=rng.uniform(0.8, 1.1), accent=rng.normal(0.5, 1.5)
    )
    onset = _consonant(vowel_hz, rng)
    coda = _consonant(vowel_hz, rng) if rng.random() < 0.35 else []
    return [*onset, vowel, *coda]


def _consonant(vowel_hz: np.ndarray, rng: np.random.Generator) -> list[_Segment]:
    kind = rng.choice(["fricative", "plosive", "sonorant", "h", "none"], p=[0.27, 0.28, 0.3, 0.07, 0.08])
    if kind == "fricative":
        fricative = FRICATIVES[rng.integers(len(FRICATIVES))]
        voicing = 0.5 if rng.random() < 0.3 else 0.0
        level = float(fricative[2] * rng.uniform(0.6, 1.2))
        return [_Segment(rng.uniform(0.06, 0.13), vowel_hz, voicing, frication=level, fricative=fricative)]
    if kind == "plosive":
        burst = FRICATIVES[rng.integers(len(FRICATIVES))]
        closure_voicing = 0.25 if rng.random() < 0.4 else 0.0
        return [
            _Segment(rng.uniform(0.03, 0.08), vowel_hz * [0.6, 1, 1], closure_voicing),
            _Segment(0.012, vowel_hz, frication=rng.uniform(0.5, 1.0), fricative=burst),
            _Segment(rng.uniform(0.01, 0.05), vowel_hz, aspiration=0.6),
        ]
    if kind == "sonorant":
        target = SONORANTS_HZ[rng.integers(len(SONORANTS_HZ))] * rng.normal(1, 0.03, 3)
        return [_Segment(rng.uniform(0.04, 0.09), target, voicing=rng.uniform(0.4, 0.7))]
    if kind == "h":
        return [_Segment(rng.uniform(0.04, 0.08), vowel_hz, aspiration=0.9)]
    return []


def _pause(formants_hz: np.ndarray, rng: np.random.Generator) -> _Segment:
    is_breath = rng.random() < 0.4
    return _Segment(rng.uniform(0.12, 0.35), formants_hz, aspiration=rng.uniform(0.03, 0.15) * is_breath)


def _to_tracks(segments: list[_Segment], num_frames: int, rng: np.random.Generator) -> Articulation:
    lengths = [max(1, round(segment.duration_s / FRAME_S)) for segment in segments]

    def track(values: list, smoothing_s: float) -> np.ndarray:
        frames = np.repeat(np.asarray(values, dtype=float), lengths, axis=0)[:num_frames]
        frames = np.pad(frames, [(0, num_frames - len(frames))] + [(0, 0)] * (frames.ndim - 1), mode="edge")
        return gaussian_filter1d(frames, smoothing_s / FRAME_S, axis=0, mode="nearest")

    silent = np.array([4000.0, 3000.0, 0.0])
    fricatives = [silent if item.fricative is None else item.fricative for item in segments]
    declination = np.linspace(2.0, -2.5, num_frames)
    drift = gaussian_filter1d(rng.normal(0, 1, num_frames), 0.1 / FRAME_S) * 4
    return Articulation(
        formants_hz=track([item.formants_hz for item in segments], 0.018),
        voicing=track([item.voicing for item in segments], 0.008),
        aspiration=track([item.aspiration for item in segments], 0.006),
        frication=track([item.frication for item in segments], 0.005),
        fricative_hz=track([item[0] for item in fricatives], 0.01),
        fricative_bandwidth_hz=track([item[1] for item in fricatives], 0.01),
        pitch_semitones=declination + drift + track([item.accent for item in segments], 0.04),
    )
