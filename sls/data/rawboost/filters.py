"""The random multi-notch FIR filters of RawBoost, in closed form, and their application by FFT.

A filter is a series of notches, each a Hamming-windowed band-stop filter. Each has an odd number of
coefficients and is symmetric, so the series has a real response once its delay is taken away, and that is
the product of the responses of its notches: no window is designed alone and nothing is convolved.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft

from sls.config import RawBoostConfig

RandomSource = np.random.Generator | np.random.RandomState

BAND_EDGE_MARGIN_HZ = 0.001
"""A band edge at or beyond 0 Hz or half the sampling rate is moved this far inside."""
BAND_SIDES = np.array([-0.5, 0.5])[:, None, None]
PEAK_POINTS = 512
"""Frequencies from 0 up to, without, half the sampling rate at which the peak is looked for (as `freqz`)."""
MIN_FFT_LENGTH = 2 * PEAK_POINTS
FFT_LENGTHS_PER_HALF_FILTER = 6
"""Least ratio of the FFT length to half a filter: shorter blocks waste more of themselves on overlap."""
BYTES_AT_A_TIME = 2**17
"""Size of the blocks that are filtered together: what a core keeps close, with their spectra."""


@dataclass(frozen=True)
class FilterDraws:
    """What was drawn for some multi-notch filters."""

    centre_hz: np.ndarray
    """Centre of each band, shape `(filters, bands)`."""
    width_hz: np.ndarray
    """Width of each band, shape `(filters, bands)`."""
    half_taps: np.ndarray
    """Coefficients of each band on either side of its middle one, shape `(filters, bands)`, int64."""
    gain_db: np.ndarray
    """Gain of each filter at its peak, shape `(filters,)`."""

    @property
    def half_length(self) -> int:
        """Coefficients of the longest filter on either side of its middle one."""
        return int(self.half_taps.sum(axis=-1).max())


def draw_filters(
    params: RawBoostConfig, lowest_db: np.ndarray, highest_db: np.ndarray, rng: RandomSource
) -> FilterDraws:
    """Draws one filter for each pair of bounds of the gain.

    Args:
        params: Bounds of the centre, width and number of coefficients of a band, and the number of bands.
        lowest_db: One bound of each filter's gain, dB, shape `(filters,)`.
        highest_db: The other bound; it may be the lower one.
        rng: The generator. Per filter and band: centre, width, coefficients; then the gain.
    """
    uniform = rng.random(len(lowest_db) * (3 * params.nBands + 1)).reshape(len(lowest_db), -1)
    bands = uniform[:, :-1].reshape(len(lowest_db), params.nBands, 3)
    taps = params.minCoeff + (params.maxCoeff - params.minCoeff) * bands[..., 2]
    return FilterDraws(
        centre_hz=params.minF + (params.maxF - params.minF) * bands[..., 0],
        width_hz=params.minBW + (params.maxBW - params.minBW) * bands[..., 1],
        half_taps=taps.astype(np.int64) // 2,  # an even number is made odd by one more: 2 * half + 1
        gain_db=lowest_db + (highest_db - lowest_db) * uniform[:, -1],
    )


def zero_phase_response(draws: FilterDraws, sample_rate_hz: int) -> np.ndarray:
    """Returns the real responses of the filters without their delay, the peak of each being 1.

    Returns:
        The response from 0 Hz to half the sampling rate, shape `(filters, num_points // 2 + 1)`, float64:
        wide notches leave little of a filter before its peak is made 1, too little for float32. `num_points` is
        the length of the blocks in which to apply the filters, a multiple of 1,024.
    """
    least = max(MIN_FFT_LENGTH, FFT_LENGTHS_PER_HALF_FILTER * draws.half_length)
    num_points = 1 << (least - 1).bit_length()
    # A symmetric sequence has a real DFT: the real part of that of its middle and twice its right half.
    bands = np.fft.rfft(_band_taps(draws, sample_rate_hz), num_points).real
    response = bands.prod(axis=1)
    grid = slice(0, num_points // 2, num_points // MIN_FFT_LENGTH)
    peak = np.abs(response[:, grid]).max(axis=-1, keepdims=True)
    return response / np.where(peak > 0, peak, 1)


def filter_powers(signal: np.ndarray, responses: np.ndarray, half_length: int) -> np.ndarray:
    """Filters the powers 1, 2, ... of a signal, each by a filter of its own, and sums what comes out.

    Without delay and one sample early, because the original pads by the filter's length plus one and cuts
    half of that from either side. Works in blocks (overlap-save), some at a time: FFTs of many short rows are
    faster than one of a long one, and stay in the cache.

    Args:
        signal: `(num_samples,)`, float32 or float64.
        responses: `zero_phase_response` of the filters, `(filters, num_points // 2 + 1)`.
        half_length: `FilterDraws.half_length`.

    Returns:
        The sum, shape `(num_samples,)`, in the precision of `signal`.
    """
    num_points = 2 * (responses.shape[-1] - 1)
    half_length = max(half_length, 1)  # room for the one sample
    responses = responses.astype(signal.dtype)
    blocks = _overlapping_blocks(signal, num_points, half_length)
    summed = np.empty((len(blocks), num_points - 2 * half_length), signal.dtype)
    rows = max(BYTES_AT_A_TIME // (num_points * signal.itemsize), 1)
    for start in range(0, len(blocks), rows):
        power = block = blocks[start : start + rows]
        total = fft.rfft(power, workers=1)
        total *= responses[0]
        for response in responses[1:]:
            power = power * block
            spectrum = fft.rfft(power, workers=1)
            spectrum *= response
            total += spectrum
        filtered = fft.irfft(total, num_points, workers=1, overwrite_x=True)
        summed[start : start + rows] = filtered[:, half_length : num_points - half_length]
    return summed.reshape(-1)[: signal.size]


def _overlapping_blocks(signal: np.ndarray, num_points: int, half_length: int) -> np.ndarray:
    """Returns blocks of the padded signal, `(blocks, num_points)`, each `2 * half_length` into the next."""
    step = num_points - 2 * half_length
    num_blocks = -(-signal.size // step)
    padded = np.zeros((num_blocks - 1) * step + num_points, signal.dtype)
    padded[half_length - 1 : half_length - 1 + signal.size] = signal
    # Not as_strided, which is slow for so small a thing and does not check bounds.
    return np.ndarray(
        (num_blocks, num_points), padded.dtype, padded, strides=(padded.itemsize * step, padded.itemsize)
    )


def _band_taps(draws: FilterDraws, sample_rate_hz: int) -> np.ndarray:
    """Returns the middle and twice the right half of every band's `firwin`, `(filters, bands, half)`.

    The ideal band-stop of the window method is a unit impulse without `f2 sinc(f2 m) - f1 sinc(f1 m)`, edges
    as parts of half the sampling rate. `firwin` then divides by the sum of the coefficients; the peak is made
    1 later, so the sign of the sum, at times negative, is all that matters. Padded with zeros.
    """
    nyquist_hz = sample_rate_hz / 2
    edges = (draws.centre_hz + BAND_SIDES * draws.width_hz)[..., None]
    edges = edges.clip(BAND_EDGE_MARGIN_HZ, nyquist_hz - BAND_EDGE_MARGIN_HZ) * (np.pi / nyquist_hz)
    half_taps = draws.half_taps[..., None]
    lag = np.arange(half_taps.max() + 1)
    sines = np.sin(edges * lag)
    taps = sines[0] - sines[1]
    taps[..., 1:] /= np.pi / 2 * lag[1:]
    taps[..., 0] = 1 - (edges[1] - edges[0])[..., 0] / np.pi
    taps *= 0.54 + 0.46 * np.cos(np.pi / np.maximum(half_taps, 1) * lag)
    taps *= lag <= half_taps
    # A notch as wide as the spectrum leaves 1e-7 of itself, and a product of many would underflow.
    taps /= np.copysign(np.abs(taps).max(axis=-1, keepdims=True), taps.sum(axis=-1, keepdims=True))
    return taps
