"""Measures how much memory and time it takes to load files of full size.

    OMP_NUM_THREADS=2 python -m benchmarks.model_loading

Writes a pre-training file of the shape of XLS-R 300M with random, seeded weights, built and saved by fairseq (or
with --shape tiny, to try the script), then a published SLS file and one of our own. Each is loaded in a process of
its own, and then all its weights are read once, because a mapped file comes into memory when it is used.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

SHAPES = {
    "300m": {
        "extractor_mode": "layer_norm",
        "conv_bias": True,
        "encoder_layers": 24,
        "encoder_embed_dim": 1024,
        "encoder_ffn_embed_dim": 4096,
        "encoder_attention_heads": 16,
        "layer_norm_first": True,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "quantize_targets": True,
        "final_dim": 768,
    },
}
SHAPES["tiny"] = SHAPES["300m"] | {"encoder_layers": 2, "encoder_embed_dim": 64, "encoder_ffn_embed_dim": 128}
MIB = 2**20
WAYS = ("ours", "plain")


def write_files(directory: Path, shape: str, seed: int = 1234) -> list[Path]:
    """Writes the three files, and returns their paths; runs in a process of its own, for it takes much memory."""
    import torch
    from fairseq.checkpoint_utils import torch_persistent_save
    from fairseq.models.wav2vec.wav2vec2 import Wav2Vec2Config, Wav2Vec2Model
    from omegaconf import OmegaConf

    from benchmarks.published_weights import write_published
    from sls.models.checkpoints import CheckpointInfo, build_countermeasure, save_checkpoint

    torch.manual_seed(seed)
    config = Wav2Vec2Config(**SHAPES[shape])
    fields = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    state = Wav2Vec2Model.build_model(config).state_dict()
    paths = [directory / name for name in ("xlsr.pt", "published.pth", "ours.safetensors")]
    torch_persistent_save({"args": None, "cfg": {"model": fields}, "model": state}, str(paths[0]))
    del state
    model = build_countermeasure(paths[0], 64_600, seed)
    write_published(paths[1], model)
    save_checkpoint(paths[2], model, CheckpointInfo(model.encoder, model.num_samples))
    return paths


def load(path: Path, way: str, xlsr: Path) -> None:
    """Loads one file, then reads all its weights, and prints the extra MiB and the seconds of both."""
    import torch

    from sls.models.checkpoints import build_countermeasure, load_checkpoint
    from sls.models.countermeasure import Countermeasure

    before, start = _peak_mib(), time.perf_counter()
    if way == "plain":  # what one would write without care
        content = torch.load(path, map_location="cpu", weights_only=True)
        model = Countermeasure(build_countermeasure(xlsr, 64_600, 1).encoder)
        kept = [content, model]
    elif path.name == "xlsr.pt":
        kept = [build_countermeasure(path, 64_600, 1)]
    else:
        kept = [load_checkpoint(path, xlsr=xlsr if path.suffix == ".pth" else None).model]
    seconds = time.perf_counter() - start
    loaded = _peak_mib() - before
    for tensor in kept[-1].state_dict().values():
        tensor.sum()
    print(f"{loaded:.0f} {_peak_mib() - before:.0f} {seconds:.2f} {time.perf_counter() - start:.2f}")


@click.command()
@click.option("--shape", type=click.Choice(sorted(SHAPES)), default="300m", show_default=True)
@click.option("--child", hidden=True, nargs=3, type=str)
def main(shape: str, child: tuple[str, str, str] | None) -> None:
    """Prints a table: one row for each file and way of loading."""
    if child:
        path, way, xlsr = child
        if way == "write":
            write_files(Path(path), shape)
        else:
            load(Path(path), way, Path(xlsr))
        return
    with tempfile.TemporaryDirectory() as name:
        _run_child(shape, name, "write", "-")
        files = sorted(Path(name).iterdir())
        xlsr = Path(name) / "xlsr.pt"
        print(f"{'file':<18}{'way':<7}{'size MiB':>9}{'loaded':>8}{'read':>8}{'s loaded':>10}{'s read':>8}")
        for path, way in [(path, "ours") for path in files] + [(xlsr, "plain")]:
            size = path.stat().st_size / MIB
            loaded, used, s_loaded, s_used = map(float, _run_child(shape, str(path), way, str(xlsr)).split())
            ratios = f"{loaded / size:>7.2f}x{used / size:>7.2f}x"
            print(f"{path.name:<18}{way:<7}{size:>9.0f}{ratios}{s_loaded:>10.1f}{s_used:>8.1f}")


def _run_child(shape: str, path: str, way: str, xlsr: str) -> str:
    command = [sys.executable, "-m", "benchmarks.model_loading", "--shape", shape, "--child", path, way, xlsr]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _peak_mib() -> float:
    """The most memory that this process has held, mapped pages of files included."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024  # in KiB there


if __name__ == "__main__":
    main()
