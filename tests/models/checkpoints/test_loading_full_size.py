"""Tests of `loading` with files of the size of XLS-R 300M: how much memory they take."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sls.models.checkpoints.names import encoder_shapes, fairseq_names
from sls.models.encoder_config import NAMED_ENCODERS

pytestmark = pytest.mark.slow

MOST_EXTRA_MEMORY = 1.3  # times the size of the file
CHILD = """
import sys
from pathlib import Path
from sls.models.checkpoints import build_countermeasure

def peak_bytes():
    # Of this process alone: what getrusage gives begins with the peak of the parent.
    return 1024 * int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])

before = peak_bytes()
model = build_countermeasure(sys.argv[1], 64_600, seed=1)
read = sum(float(tensor.sum()) for tensor in model.state_dict().values())  # brings every weight into memory
print(peak_bytes() - before, model.classifier.fc1.in_features)
"""
XLS_R_300M: dict[str, Any] = {
    "_name": "wav2vec2",
    "extractor_mode": "layer_norm",
    "conv_bias": True,
    "encoder_layers": 24,
    "encoder_embed_dim": 1024,
    "encoder_ffn_embed_dim": 4096,
    "encoder_attention_heads": 16,
    "layer_norm_first": True,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_the_300m_file_takes_little_more_memory_than_its_size(tmp_path: Path) -> None:
    encoder = NAMED_ENCODERS["300m"]
    shapes = encoder_shapes(encoder)
    state = {theirs: torch.full(shapes[ours], 0.01) for ours, theirs in fairseq_names(encoder).items()}
    path = tmp_path / "xlsr2_300m.pt"
    torch.save({"args": None, "cfg": {"model": XLS_R_300M}, "model": state}, path)
    del state
    done = subprocess.run([sys.executable, "-c", CHILD, path], capture_output=True, text=True, check=True)
    extra_bytes, fc1_inputs = map(int, done.stdout.split())
    size_bytes = path.stat().st_size
    path.unlink()
    assert size_bytes > 1.2e9
    assert fc1_inputs == 22_847
    assert extra_bytes < MOST_EXTRA_MEMORY * size_bytes
