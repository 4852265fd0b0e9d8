"""Coding of samples in memory, by FFmpeg."""

import io

import av
import numpy as np


def encode(pcm: np.ndarray, codec: str, container: str, rate_hz: int, bit_rate: int = 0) -> bytes:
    """Returns the content of a file of one channel.

    Args:
        pcm: Shape `(num_samples,)`, int16.
        codec: FFmpeg's name of an encoder.
        container: FFmpeg's name of a format that can hold it.
        rate_hz: The rate of the samples.
        bit_rate: Bits per second; 0 for a codec that has one alone.

    Raises:
        FFmpegError: this build of FFmpeg lacks the encoder, or it does not take the rates.
    """
    memory = io.BytesIO()
    with av.open(memory, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate_hz, layout="mono")
        assert isinstance(stream, av.AudioStream)  # of an encoder of audio
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(pcm[None, :], format="s16", layout="mono")
        frame.sample_rate = rate_hz
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    return memory.getvalue()
