"""Looks at what lies under a data_root: `mlflow run . -e check_data -P data_root=DIR`."""

import os
from dataclasses import asdict

from entrypoints.console_tables import inventory_lines, inventory_tables
from entrypoints.door import console, door_command
from entrypoints.options import (
    config_options,
    find_corpus,
    parse_choice,
    parse_count,
    split_list,
    text_option,
    typed_config,
)
from entrypoints.progress import open_ended_bar
from sls.data.corpora.inventory import Depth, describe_use, take_inventory
from sls.quotation import count_of
from sls.tracking.run import TrackedRun

ALL_TRACKS = "all"
DEPTHS: tuple[Depth, ...] = ("headers", "names", "decode")


@door_command("check_data")
@text_option("track", "tracks, separated by commas [default: all, of those of which something is there]")
@text_option(
    "depth",
    "names: is each file there; headers: rates and durations; decode: every sample [default: headers]",
)
@text_option("num_workers", "threads that look into recordings [default: one for each core]")
@config_options("data")
def check_data(run: TrackedRun, track: str, depth: str, num_workers: str, **options: str) -> None:
    """Report what of each track is there, missing or unreadable, and what can be run."""
    named = [] if track == ALL_TRACKS else split_list(track)
    chosen_depth = parse_choice("depth", depth, DEPTHS)
    threads = parse_count("num_workers", num_workers, os.cpu_count() or 1)
    corpus = find_corpus(typed_config(options).data, wanted=named)
    tracks = [corpus.track(name) for name in named or corpus.tracks]
    run.set_tags({"corpus": corpus.name, "data_root": corpus.data_root})
    with open_ended_bar() as show:
        inventories = take_inventory(
            tracks,
            corpus.data_root,
            depth=chosen_depth,
            num_workers=threads,
            show=lambda name, checked, total: show(f"check {name}", checked, total),
        )
    run.log_json([asdict(inventory) for inventory in inventories], "check_data.json")
    for table in inventory_tables(inventories):
        console.print(table)
    for line in (*inventory_lines(inventories, named), *describe_use(inventories)):
        console.print(line, highlight=False, soft_wrap=True)
    # A track that nobody asked for by name, and of which nothing is there, is absent and not broken.
    asked = [inventory for inventory in inventories if named or not inventory.is_absent]
    unusable = [inventory.track for inventory in asked if not inventory.is_usable]
    if not asked:
        raise ValueError(f"data_root: found no track of {len(inventories)} in {corpus.data_root}")
    if unusable:
        raise ValueError(f"not usable: {', '.join(unusable)} (of {count_of(len(asked), 'track')})")


if __name__ == "__main__":
    check_data()
