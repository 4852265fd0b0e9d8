"""What the processes of a launch do that are not the first."""

from pathlib import Path
from typing import Any

import pytest

from sls.config import ComputeConfig
from sls.data.loading.trial_lists import TrialList
from sls.engine.compute.ranks import Ranks
from sls.tracking.registry.checkpoints import ModelSource
from sls.tracking.scoring.scoring_run import ScoringOptions, follow_scoring


class SecondRank(Ranks):
    """A process that is told the plan of a first one on another machine."""

    def share(self, value: Any) -> Any:
        model = ModelSource("m", path=Path("m.safetensors"))
        trials = TrialList("t", "c", [], None)
        return model, trials, ScoringOptions(ComputeConfig()), Path("/nowhere/df.txt"), "process 7 on first"


def test_a_machine_that_does_not_see_the_output_of_the_first_stops_before_it_scores() -> None:
    expected = r"df\.txt: found no lock .*process 7 on first, expected .*directory"
    with pytest.raises(ValueError, match=expected):
        follow_scoring(SecondRank())
