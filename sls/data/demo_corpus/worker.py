"""One process of several that make the demo corpus; a line on standard output for every recording."""

from __future__ import annotations

import sys
from pathlib import Path

from sls.data.demo_corpus.build import write_shard
from sls.data.demo_corpus.plan import plan_corpus


def main(root: str, seed: str, scale: str, shard: str, num_shards: str) -> None:
    """Makes every `num_shards`-th recording, from `shard` on."""
    trials = plan_corpus(int(seed), float(scale))[int(shard) :: int(num_shards)]
    write_shard(Path(root), trials, int(seed), _report)


def _report() -> None:
    sys.stdout.write(".\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
