"""The job scripts for Slurm do what they say, with stand-ins for `srun` and `scontrol`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from entrypoints.join import join
from entrypoints.score import score
from entrypoints.train import train
from sls.config import PROJECT_ROOT
from tests.entrypoints.scoring_work import make_checkpoint

EXAMPLES = PROJECT_ROOT / "examples"
# Runs its command once for each node, one after the other, as `srun` does with one task for each.
SRUN = '#!/bin/bash\nfor node in $(seq 0 $((SLURM_NNODES - 1))); do SLURM_NODEID=$node "$@"; done\n'


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def run_job(script: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a job script where `.venv` holds what the test has put there."""
    write_program(directory / "bin" / "srun", SRUN)
    write_program(directory / "bin" / "scontrol", "#!/bin/bash\nprintf 'node-a\\nnode-b\\n'\n")
    return subprocess.run(
        ["bash", str(EXAMPLES / script)],
        cwd=directory,
        env={
            **os.environ,
            "PATH": f"{directory / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT_ROOT),
            "SLS_DATA_ROOT": str(directory),
            "MLFLOW_TRACKING_URI": f"sqlite:///{directory}/mlflow.db",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("given", [{}, {"CONFIG": "configs/v2.yaml"}, {"RESUME": "a b"}])
def test_training_starts_on_every_node_with_one_head(tmp_path: Path, given: dict[str, str]) -> None:
    write_program(
        tmp_path / ".venv/bin/torchrun", "#!/bin/bash\nprintf '%s|' \"$@\" >> calls; echo >> calls\n"
    )
    nodes = {"SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node-[a-b]", "SLURM_GPUS_ON_NODE": "4"}
    result = run_job("train.sbatch", tmp_path, **nodes, **given)
    assert result.returncode == 0, result.stderr
    calls = [line.strip("|\n").split("|") for line in (tmp_path / "calls").read_text().splitlines()]
    assert len(calls) == 2
    options = [dict(zip(call[::2], call[1::2], strict=True)) for call in calls]
    assert [each["--node-rank"] for each in options] == ["0", "1"]
    assert {each["--master-addr"] for each in options} == {"node-a"}
    assert {(each["--nnodes"], each["--nproc-per-node"]) for each in options} == {("2", "4")}
    ours = calls[0][calls[0].index("entrypoints.train") + 1 :]
    assert set(ours[::2]) <= {option for parameter in train.params for option in parameter.opts}
    named = {"--config": given.get("CONFIG", "configs/v1.yaml")}
    assert (
        dict(zip(ours[::2], ours[1::2], strict=True)).items()
        >= ({"--resume": given["RESUME"]} if "RESUME" in given else named).items()
    )


@pytest.mark.parametrize("script", ["train.sbatch", "score.sbatch"])
def test_job_without_a_tracking_server_ends_at_once(tmp_path: Path, script: str) -> None:
    result = run_job(script, tmp_path, MLFLOW_TRACKING_URI="")
    assert result.returncode != 0
    assert "MLFLOW_TRACKING_URI" in result.stderr


@pytest.mark.slow
def test_array_of_shards_joins_to_the_scores_of_one_process(tmp_path: Path, small_corpus: Path) -> None:
    write_program(tmp_path / ".venv/bin/python", f'#!/bin/bash\nexec "{sys.executable}" "$@"\n')
    model, joined = make_checkpoint(tmp_path / "model.safetensors"), tmp_path / "joined.txt"
    for number in ("1", "2"):
        array = {"SLURM_ARRAY_TASK_ID": number, "SLURM_ARRAY_TASK_COUNT": "2"}
        work = {
            "MODEL": str(model),
            "TRACK": "dev",
            "OUTPUT": str(joined),
            "SLS_DATA_ROOT": str(small_corpus),
        }
        result = run_job("score.sbatch", tmp_path, **array, **work)
        assert result.returncode == 0, result.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        assert CliRunner().invoke(join, ["--output", str(joined)]).exit_code == 0
        alone = tmp_path / "alone.txt"
        places = [
            "--model",
            str(model),
            "--track",
            "dev",
            "--data_root",
            str(small_corpus),
            "--output",
            str(alone),
        ]
        assert CliRunner().invoke(score, places).exit_code == 0
    assert joined.read_bytes() == alone.read_bytes()
