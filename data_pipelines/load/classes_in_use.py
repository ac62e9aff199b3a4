"""The classes of the corpora of an experiment's data."""

from ivjax.data_pipelines.fields import Tags
from ivjax.data_pipelines.load.mixture import mixtures_of
from ivjax.data_pipelines.store.clips import class_names, is_corpus, label_count


def classes_in_use(data: object) -> dict[str, tuple[str, ...]]:
    """Returns the class names of each corpus that has some, by its folder; trained ones come first.

    Where tags are learned, the words of the tags.
    """
    if tags := _tags(data):
        return tags
    named = {folder: class_names(folder) for folder in _folders(data)}
    return {folder: names for folder, names in named.items() if names}


def labels_in_use(data: object) -> dict[str, int]:
    """Returns one more than the highest class number of each corpus, by its folder; 0 if not known."""
    return {} if _tags(data) else {folder: label_count(folder) for folder in _folders(data)}


def _tags(data: object) -> dict[str, tuple[str, ...]]:
    """Returns the words of each field of tags, by its path."""
    return {
        f"{path}.fields.{name}": field.words
        for path, mixture in mixtures_of(data).items()
        for name, field in mixture.fields.items()
        if isinstance(field, Tags)
    }


def _folders(data: object) -> list[str]:
    mixtures = mixtures_of(data).values()
    corpora = [corpus for mixture in mixtures for corpus in mixture.corpora]
    corpora += [corpus for mixture in mixtures for corpus in mixture.eval_corpora]
    return [corpus.path for corpus in corpora if is_corpus(corpus.path)]
