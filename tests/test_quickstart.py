"""The quickstart: its commands exist, it goes on where it was stopped, and its screen says what happens."""

import io
import json
from dataclasses import replace

import pytest

from ivjax.cli import _parser, main
from ivjax.quickstart import results, walkthrough
from ivjax.quickstart.commands import FAST, PAGE, WHOLE, QuickstartStep, steps_of
from ivjax.quickstart.screen import RunningLine, last_lines, logged_progress
from tests.docs.pages import blocks, lines


@pytest.fixture
def started(monkeypatch):
    """Commands that were started, in place of starting them; those in `broken` fail."""
    commands, broken = [], set()

    def steps(scale, seed):
        return tuple(replace(step, result=lambda folder, log: "well") for step in steps_of(scale, seed))

    def start(step, folder, xla_flags, log):
        commands.append(step.command[:2])
        if log is not None:
            log.write_text(f"$ {step.line}\nivjax: it is broken\n")
        return int(step.command[:2] in broken)

    monkeypatch.setattr(walkthrough, "steps_of", steps)
    monkeypatch.setattr(walkthrough, "_run", start)
    return commands, broken


def names(scale=FAST, seed=0):
    return [step.command[:2] for step in steps_of(scale, seed)]


@pytest.mark.parametrize("scale", [FAST, WHOLE])
def test_every_command_of_the_quickstart_is_valid(scale, capsys):
    for step in steps_of(scale, 0):
        options, rest = _parser().parse_known_args(step.command)
        assert callable(options.run) and all("=" in word for word in rest)
        if step.command[0] == "train":
            assert main([*step.command[:-2], "--print"]) == 0


def test_the_page_has_all_commands_in_their_order():
    # `.ci/run` runs the first, which runs all others on fewer clips.
    shell = (block for block in blocks("docs/quickstart.md") if block.language == "sh")
    found = [line.text for block in shell for line in lines(block)]
    assert found[1:] == [step.line for step in steps_of(WHOLE, 0)]


def test_the_quickstart_resumes_at_the_failed_command(started, tmp_path):
    (commands, broken), said = started, []
    broken.add(("train", "quick_stage1"))
    assert walkthrough.quickstart(tmp_path / "new", FAST, 0, said.append) == 1
    place = names().index(("train", "quick_stage1"))
    assert commands == names()[: place + 1]
    told = "\n".join(said)
    assert "stage 1 failed, with status 1" in told and "  ivjax: it is broken" in told
    assert "goes on with this command" in said[-1]
    commands.clear(), broken.clear()
    assert walkthrough.quickstart(tmp_path / "new", FAST, 0, said.append) == 0
    assert commands == names()[place:] and str(tmp_path / "new" / PAGE) in said[-1]
    commands.clear()
    videos = tmp_path / "new" / "demo" / "videos"
    videos.mkdir(parents=True)
    for name in ("-a.mp4", "c.mp4", "b.mp4"):
        (videos / name).touch()
    assert walkthrough.quickstart(tmp_path / "new", FAST, 0, said.append) == 0
    assert commands == [] and "ivjax chat demo/videos/b.mp4 " in said[-1]


def test_what_comes_after_a_repeated_command_is_repeated(started, tmp_path):
    commands, _ = started
    assert walkthrough.quickstart(tmp_path, FAST, 0, lambda line: None) == 0
    done = json.loads((tmp_path / "quickstart.json").read_text())
    del done[steps_of(FAST, 0)[3].line]
    (tmp_path / "quickstart.json").write_text(json.dumps(done))
    commands.clear()
    assert walkthrough.quickstart(tmp_path, FAST, 0, lambda line: None) == 0
    assert commands == names()[3:]


def test_another_seed_repeats_all_commands(started, tmp_path):
    commands, _ = started
    assert walkthrough.quickstart(tmp_path, FAST, 0, lambda line: None) == 0
    commands.clear()
    assert walkthrough.quickstart(tmp_path, FAST, 1, lambda line: None) == 0
    assert commands == names()


def test_each_command_has_one_line_on_the_screen(started, tmp_path):
    said = []
    assert walkthrough.quickstart(tmp_path, FAST, 0, said.append) == 0
    lines = said[:-1]
    assert len(lines) == len(names()) and all("\n" not in line and len(line) <= 80 for line in lines)
    assert [line.split("well")[0].strip() for line in lines] == [step.name for step in steps_of(FAST, 0)]


def test_a_command_runs_in_its_folder_and_says_nothing_on_the_screen(tmp_path, capfd):
    step = QuickstartStep("config", ("train", "stage1_tiny", "--print"), lambda folder, log: "")
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs" / "config.log"
    assert walkthrough._run(step, tmp_path, "", log) == 0
    assert log.read_text().startswith("$ ivjax train stage1_tiny --print\n") and len(last_lines(log, 5)) == 5
    assert capfd.readouterr() == ("", "")
    assert walkthrough._run(step, tmp_path, "", None) == 0
    assert capfd.readouterr().out


@pytest.mark.parametrize(
    ("log", "found"),
    [
        ("step 20/400  loss 4.1  grad_norm 3  1:05 min left\n", ("step 20/400", 65.0)),
        ("693 of 4,000 clips (17%), 69.2 clips/s, 48 s left\n\n", ("693 of 4,000 clips", 48.0)),
        ("step 20/400  loss 4.1  2:00:01 h left\nstep 100/400  eval/loss 3\n", ("step 100/400", None)),
        ("folder      runs/stage1\n", None),
        ("", None),
    ],
)
def test_progress_is_read_from_logs(log, found):
    assert logged_progress(log) == found


def test_the_line_of_a_running_command_follows_its_log(tmp_path):
    log, now = tmp_path / "a.log", [0.0]
    stream = io.StringIO()
    stream.isatty = lambda: True
    line = RunningLine("stage 1", log, stream, lambda: now[0])
    line.draw()
    log.write_text("step 20/400  loss 1  30 s left\n")
    now[0] = 10.0
    line.draw()
    now[0] = 20.0
    line.draw()
    drawn = stream.getvalue().split("\r\x1b[K")[1:]
    assert drawn[0].split() == ["stage", "1", "0", "s"]
    assert drawn[1] == f"{'stage 1':<14} {'step 20/400':<22} [#####...............] 30 s left"
    # Half of the time is over, though the log says nothing new.
    assert drawn[2].endswith("[##########..........] 20 s left")
    line.clear()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_a_line_is_drawn_on_terminals_alone(tmp_path):
    stream = io.StringIO()
    line = RunningLine("stage 1", tmp_path / "none.log", stream)
    line.draw()
    line.clear()
    assert stream.getvalue() == ""


def stored(tmp_path, metrics):
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"metrics": metrics}))
    return path


def test_results_are_told_in_a_few_words(tmp_path):
    probe = {"top1": 61.5, "still_top1": 6.0, "random_top1": 5.75, "chance": 1.79}
    assert results.probed(stored(tmp_path, probe)) == (
        "62 % right, one frame 6.0 %, random 5.8 %, chance 1.8 %"
    )
    found = stored(tmp_path, {"t2v_r1": 9.6, "v2t_r1": 8.1, "t2v_r1_chance": 0.25})
    assert results.retrieved(found) == ("first hit right: captions 9.6 %, clips 8.1 %, chance 0.2 %")
    assert results.answered(stored(tmp_path, {"accuracy": 61.2, "chance": 25.0})) == "61 % right, chance 25 %"
    lines = [{"step": 20, "loss": 4.123}, {"step": 20, "eval/loss": 4.0}, {"step": 40, "loss": 2.0}]
    lines.append({"step": 40, "eval/loss": 2.346})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert results.trained(tmp_path) == "loss 4.12 -> 2, held out 4 -> 2.35"
    log = tmp_path / "a.log"
    log.write_text("/x/shards/demo: 64 clips of 64 rows, 1.2 MB in 1 shards (0 were there), 3 s\n")
    assert results.drawn(log) == "64 clips, 1.2 MB in 1 shards"
    log.write_text("/x: 81 clips, 400 conversations of 400 rows, 3.3 MB in 1 shards (0 were there), 4 s\n")
    assert results.drawn(log) == "81 clips, 400 conversations, 3.3 MB in 1 shards"
    log.write_text("1,600 clips and 400 held out, in 394 videos, are in demo\n")
    assert results.drawn(log) == "1,600 clips and 400 held out, in 394 videos"
    log.write_text("156 of 313 clips (50%)\n400 videos of 16 frames are in needles, their questions too\n")
    assert results.drawn(log) == "400 videos of 16 frames"
