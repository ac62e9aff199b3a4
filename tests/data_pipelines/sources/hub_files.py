"""Datasets as the package `datasets` and the Hub store them, written without it."""

import json

import pyarrow
import pyarrow.ipc
import pyarrow.parquet

VIDEO = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
VIDEO_FEATURE = {"_type": "Video"}
CLASSES = ("walk", "a run", "archery")  # in no order of text


def class_feature(names=CLASSES):
    return {"names": list(names), "_type": "ClassLabel"}


def value_feature(dtype):
    return {"dtype": dtype, "_type": "Value"}


def videos(*cells):
    """A column of videos: (bytes or None, path or None) each, or None."""
    return pyarrow.array([cell and {"bytes": cell[0], "path": cell[1]} for cell in cells], VIDEO)


def table_of(columns, features=None):
    """A table with what `datasets` says of its columns."""
    table = pyarrow.table(columns)
    if features is None:
        return table
    about = json.dumps({"info": {"features": features}})
    return table.replace_schema_metadata({"huggingface": about})


def small_table(names="abc", labels=(2, 0, 1)):
    """Videos that are their own names, two captions each, and a class of `datasets`."""
    features = {
        "video": VIDEO_FEATURE,
        "caption": {"feature": value_feature("string"), "_type": "List"},
        "label": class_feature(),
    }
    columns = {
        "video": videos(*((f"video {name}".encode(), f"{name}.mp4") for name in names)),
        "caption": [[f"this is {name}", f"{name} again"] for name in names],
        "label": list(labels)[: len(names)],
    }
    return table_of(columns, features)


def write_parquet(path, table, rows=10**6):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path, row_group_size=rows)
    return path


def write_arrow(path, table, rows=10**6, stream=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    new = pyarrow.ipc.new_stream if stream else pyarrow.ipc.new_file
    with new(str(path), table.schema) as file:
        file.write_table(table, rows)
    return path


def save_to_disk(folder, *tables, split=None):
    """A folder as `Dataset.save_to_disk` writes it, one file for each table."""
    names = [f"data-{number:05d}-of-{len(tables):05d}.arrow" for number in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        write_arrow(folder / name, table, rows=2)
    state = {"_data_files": [{"filename": name} for name in names], "_split": split}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder
