"""`ivjax chat`."""

import argparse
import sys
from collections.abc import Iterator

from ivjax.cli.common import add_command, add_model, note
from ivjax.errors import UserError


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    about = (
        "Ask a dialogue model about videos and images: one question, or one after the other, as they are "
        "typed or come through a pipe. Videos are watched once, at the first question."
    )
    example = "\n  ".join(
        (
            'ivjax chat clip.mp4 --weights runs/dialogue_tiny "What happens?"',
            "ivjax chat lecture.mp4 --weights InternVideo2_5_Chat_8B --dtype bfloat16 --start 60 --end 600",
            'ivjax chat before.png after.png --weights runs/chat --json "What has changed?"',
        )
    )
    parser = add_command(commands, "chat", about, example)
    parser.add_argument(
        "words",
        nargs="+",
        metavar="VIDEO",
        help="videos and images; behind them a question in quotes (without one, questions are read line by "
        "line: /new begins a new conversation, the end of the input or Ctrl-D ends)",
    )
    parser.add_argument(
        "--weights", required=True, metavar="WEIGHTS|RUN", help="a weights file, or a run's folder"
    )
    add_model(parser)
    parser.add_argument(
        "--question-tokenizer",
        metavar="FILE",
        help="the vocabulary of a bridge that reads words, as VideoChat2's (BERT's vocab.txt)",
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="computes in (default float32)"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON line for each answer")
    _add_videos(parser)
    _add_answers(parser)
    parser.set_defaults(run=_chat)


def _add_videos(parser: argparse.ArgumentParser) -> None:
    videos = parser.add_argument_group("videos")
    videos.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="frames of each video at most, spread evenly (default: as the model was trained)",
    )
    videos.add_argument("--start", type=float, metavar="SECONDS", help="where to begin in each video")
    videos.add_argument("--end", type=float, metavar="SECONDS", help="where to end in each video")
    videos.add_argument(
        "--frame-rate", type=float, metavar="N", help="images a second, for folders of images"
    )
    videos.add_argument(
        "--clips", type=int, default=8, metavar="N", help="clips that are encoded at a time (default 8)"
    )


def _add_answers(parser: argparse.ArgumentParser) -> None:
    answers = parser.add_argument_group("answers")
    answers.add_argument("--system", default="", metavar="WORDS", help="an instruction at the beginning")
    answers.add_argument("--new", type=int, default=256, metavar="N", help="tokens at most (default 256)")
    answers.add_argument(
        "--temperature", type=float, default=0.0, help="0 takes the likeliest word each time (default 0)"
    )
    answers.add_argument("--top-k", type=int, metavar="N", help="draw among so many of the likeliest tokens")
    answers.add_argument(
        "--top-p", type=float, default=1.0, help="draw among the likeliest with this probability together"
    )
    answers.add_argument(
        "--repetition-penalty", type=float, default=1.0, help="makes words likelier to be new (default 1)"
    )
    answers.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")
    answers.add_argument(
        "--chunk", type=int, default=1024, metavar="N", help="prompt tokens read at a time (default 1024)"
    )
    answers.add_argument(
        "--int8-cache", action="store_true", help="store keys and values in a byte each, for long videos"
    )
    answers.add_argument("--limit", type=int, metavar="N", help="tokens of a prompt and its answer, at most")


def _chat(options: argparse.Namespace) -> int:
    from ivjax.generate.chat_request import ChatRequest, media_and_question, run_chat
    from ivjax.generate.decoding import Decoding
    from ivjax.generate.sampling import Sampling

    media, question = media_and_question(options.words)
    sampling = Sampling(options.temperature, options.top_k, options.top_p, options.repetition_penalty)
    request = ChatRequest(
        media,
        options.weights,
        options.preset,
        options.tokenizer,
        options.question_tokenizer,
        options.dtype,
        options.frames,
        options.start,
        options.end,
        options.frame_rate,
        options.system,
        Decoding(
            options.new, sampling, chunk=options.chunk, cache="int8" if options.int8_cache else "compute"
        ),
        options.seed,
        options.clips,
        options.limit,
    )
    questions = _lines() if question is None else iter([question])
    try:
        run_chat(request, questions, _show, note, options.json)
    except KeyboardInterrupt:
        note("\nstopped by Ctrl-C")
        return 130
    return 0


def _show(text: str) -> None:
    print(text, end="", flush=True)


def _lines() -> Iterator[str]:
    """Yields what is typed, or what comes through a pipe, line by line; empty lines are left out."""
    terminal, told = sys.stdin.isatty(), False
    while True:
        if terminal:
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            if not told and not terminal:
                raise UserError("no question came through the pipe; ask something")
            return
        if line.strip():
            told = True
            yield line.strip()
        elif terminal:
            note("ask something, or end with Ctrl-D")
