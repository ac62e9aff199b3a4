"""What a run puts into its folder at its start, so that it can be opened and continued anywhere."""

from collections.abc import Sequence
from pathlib import Path

from ivjax.convert.origins import keep_frozen
from ivjax.data_pipelines.load.tokenizers_in_use import vocabularies_of
from ivjax.experiment.experiment import Experiment
from ivjax.experiment.kept_files import check_kept_files, keep_classes, keep_files, with_kept_files
from ivjax.experiment.run_folder import checkpoint_steps
from ivjax.stages.objective import Objective


def continued(experiment: Experiment, folder: Path) -> Experiment:
    """Returns the experiment as a run in its folder goes on with it: with the vocabularies of its start.

    Raises UserError if a vocabulary has changed since then.
    """
    # Without a checkpoint nothing has been learnt with the copies, and they are replaced.
    if not checkpoint_steps(folder):
        return experiment
    check_kept_files(experiment, folder)
    return with_kept_files(experiment, folder)


def keep(experiment: Experiment, folder: Path, objective: Objective, classes: Sequence[str]) -> None:
    """Copies vocabularies, class names and the frozen parameters of the model into a run folder."""
    if not checkpoint_steps(folder):
        keep_files(folder, vocabularies_of(experiment))
    keep_classes(folder, classes)
    keep_frozen(folder, objective, experiment)
