"""The class names of the corpora of an experiment's data."""

from ivjax.data_pipelines.load.mixture import mixtures_of
from ivjax.data_pipelines.store.clips import class_names, is_corpus


def classes_in_use(data: object) -> dict[str, tuple[str, ...]]:
    """Returns the class names of each corpus that has some, by its folder; trained ones come first."""
    mixtures = mixtures_of(data).values()
    corpora = [corpus for mixture in mixtures for corpus in mixture.corpora]
    corpora += [corpus for mixture in mixtures for corpus in mixture.eval_corpora]
    named = {corpus.path: class_names(corpus.path) for corpus in corpora if is_corpus(corpus.path)}
    return {folder: names for folder, names in named.items() if names}
