"""What the columns of each public test set mean."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from ivjax.data_pipelines.sources.benchmarks.listed_question import KIND, SEVERAL, ListedQuestion
from ivjax.data_pipelines.sources.choices import parted
from ivjax.data_pipelines.sources.tables import Record

# whose columns the rows of a multiple-choice test have
QuestionLayout = Literal[
    "mvbench", "videomme", "perception_test", "longvideobench", "mlvu", "lvbench", "niah"
]

# Where the videos of MVBench's tasks lie below its folder `video`, by the name of the task's file.
_MVBENCH = {
    "action_sequence": "star/Charades_v1_480",
    "action_prediction": "star/Charades_v1_480",
    "action_antonym": "ssv2_video",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_v1_480",
    "object_shuffle": "perception/videos",
    "moving_direction": "clevrer/video_validation",
    "action_localization": "sta/sta_video",
    "scene_transition": "scene_qa/video",
    "action_count": "perception/videos",
    "moving_count": "clevrer/video_validation",
    "moving_attribute": "clevrer/video_validation",
    "state_change": "perception/videos",
    "fine_grained_pose": "nturgbd",
    "character_order": "perception/videos",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "counterfactual_inference": "clevrer/video_validation",
}
_MOST_OPTIONS = 26


def mvbench(record: Record, task: str, number: int) -> Iterator[ListedQuestion]:
    """Yields the question of a row of a task's file; start and end are what the video is trimmed to."""
    video = _words(record, "video")
    yield ListedQuestion(
        f"{task}/{number}",
        (f"{_MVBENCH.get(task, task)}/{video}", f"{task}/{video}", video),
        _words(record, "question"),
        record["candidates"],
        record.get("answer"),
        times={name: record[name] for name in ("start", "end") if record.get(name) is not None},
        attributes={KIND: task.replace("_", " ")},
    )


def videomme(record: Record, task: str, number: int) -> Iterator[ListedQuestion]:
    """Yields the question of a row; `duration` is short, medium or long."""
    name = _words(record, "videoID") or _words(record, "video_id")
    yield ListedQuestion(
        _words(record, "question_id") or f"{name}-{number}",
        (f"{name}.mp4", f"data/{name}.mp4"),
        _words(record, "question"),
        record["options"],
        record.get("answer"),
        name=name,
        attributes=_given(record, {KIND: "task_type", "duration": "duration", "domain": "domain"}),
    )


def perception_test(record: Record, task: str, number: int) -> Iterator[ListedQuestion]:
    """Yields the questions of a row: of one with `mc_question`, which has all of a video, or of a table's."""
    if "mc_question" in record:
        video = str(record["metadata"]["video_id"])
        for asked in record["mc_question"]:
            yield _perception(asked, video, f"{video}/{asked.get('id')}")
    else:
        video = _words(record, "video_name") or _words(record, "video_id")
        yield _perception(record, video, f"{video}/{record.get('question_id', number)}")


def _perception(record: Record, video: str, id: str) -> ListedQuestion:
    return ListedQuestion(
        id,
        (f"{video}.mp4", f"videos/{video}.mp4"),
        _words(record, "question"),
        record["options"],
        _number(record.get("answer_id")),
        name=video,
        attributes=_given(record, {KIND: "area", "reasoning": "reasoning"}),
    )


def longvideobench(record: Record, task: str, number: int) -> Iterator[ListedQuestion]:
    """Yields the question of a row, whose options are `candidates`, or option0, option1, ... of a table."""
    columns = (record.get(f"option{place}") for place in range(_MOST_OPTIONS))
    options = record.get("candidates") or [text for text in columns if text not in (None, "N/A")]
    path = _words(record, "video_path") or f"{_words(record, 'video_id')}.mp4"
    attributes = _given(record, {KIND: "question_category", "topic": "topic_category"})
    if record.get("duration_group") is not None:
        attributes["duration"] = f"{record['duration_group']} s"
    yield ListedQuestion(
        _words(record, "id") or f"{path}#{number}",
        (path, f"videos/{path}"),
        _words(record, "question"),
        options,
        _number(record.get("correct_choice")),
        name=path.rpartition(".")[0],
        attributes=attributes,
    )


def mlvu(record: Record, task: str, number: int) -> Iterator[ListedQuestion]:
    """Yields the question of a row; a task's videos lie in the folder of the task."""
    video = _words(record, "video") or _words(record, "video_name")
    kind = _words(record, "question_type") or _words(record, "task_type") or task
    text, inside = parted(_words(record, "question"))
    yield ListedQuestion(
        f"{kind}/{number}",
        (f"{task}/{video}", f"{kind}/{video}", video, f"video/{video}"),
        text,
        record.get("candidates") or list(inside),
        record.get("answer"),
        name=video.rpartition(".")[0],
        attributes={KIND: kind},
    )


def lvbench(record: Record, task: str, number: int) -> Iterator[ListedQuestion]:
    """Yields the questions of a video. Options stand in the question, which may be of several kinds."""
    video = str(record["key"])
    for asked in record["qa"]:
        text, options = parted(_words(asked, "question"))
        kinds = asked.get("question_type") or []
        kinds = [kinds] if isinstance(kinds, str) else kinds
        yield ListedQuestion(
            f"{video}/{asked.get('uid')}",
            (f"{video}.mp4", f"videos/{video}.mp4"),
            text,
            list(options),
            asked.get("answer"),
            name=video,
            attributes={KIND: SEVERAL.join(kinds)} if kinds else {},
        )


def niah(record: Record, task: str, number: int) -> Iterator[ListedQuestion]:
    """Yields the question about a needle of VideoChat-Flash, or the two about a chain of images."""
    if "image" in record:
        asked = [("needle", record["question"], record.get("answer"))]
    else:
        asked = [
            (kind, record[f"question{place}"], record.get(f"answer{place}"))
            for place, kind in ((1, "caption"), (2, "question"))
        ]
    first, *more = [record["image"]] if "image" in record else record["images"]
    for kind, words, answer in asked:
        # What the options end with belongs to the prompt, which writes it again.
        text, options = parted(words.partition(_ENDING)[0].replace(_OPTIONS, "\n", 1))
        id = f"{record.get('id', number)}/{kind}"
        yield ListedQuestion(
            id, (first,), text, list(options), answer, more=tuple(more), attributes={KIND: kind}
        )


_OPTIONS, _ENDING = "\nOptions: ", "\nOnly give the best option"

LAYOUTS: Mapping[QuestionLayout, Callable[[Record, str, int], Iterator[ListedQuestion]]] = {
    "mvbench": mvbench,
    "videomme": videomme,
    "perception_test": perception_test,
    "longvideobench": longvideobench,
    "mlvu": mlvu,
    "lvbench": lvbench,
    "niah": niah,
}


def layout_of(record: Record) -> QuestionLayout | None:
    """Returns the test set that a row is of, by its columns; None if it is of none."""
    names = set(record)
    if {"videoID", "options"} <= names:
        return "videomme"
    if "mc_question" in names or {"video_name", "answer_id", "options"} <= names:
        return "perception_test"
    if {"images", "question1", "answer1"} <= names or _is_needle(record):
        return "niah"
    if "correct_choice" in names:
        return "longvideobench"
    if {"key", "qa"} <= names:
        return "lvbench"
    if "candidates" in names and {"question_type", "task_type"} & names and "duration" in names:
        return "mlvu"
    return "mvbench" if {"video", "question", "candidates"} <= names else None


def _is_needle(record: Record) -> bool:
    question = record.get("question")
    return "image" in record and isinstance(question, str) and f"{_OPTIONS}(A)" in question


def _given(record: Record, columns: Mapping[str, str]) -> dict[str, str]:
    """Returns the filled ones of some columns, by the names that attributes have here."""
    return {name: str(record[column]) for name, column in columns.items() if record.get(column)}


def _number(value: Any) -> Any:
    """Returns a number that a table holds as text; anything else as it is."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _words(record: Record, name: str) -> str:
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"its {name} {value!r} is not text")
    return (value or "").strip()
