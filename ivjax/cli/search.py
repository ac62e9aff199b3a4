"""`ivjax search`."""

import argparse
import json
from pathlib import Path

from ivjax.cli.common import add_command, add_model


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    about = (
        "Find the parts of videos that fit some words, or that look like other videos, in an index that "
        "`ivjax embed` wrote. Words need an index of a pair of towers, videos do with any."
    )
    example = "\n  ".join(
        (
            'ivjax search index.npz "a red square" "a blue circle" --top 5 --png hits.png',
            "ivjax search index.npz --video clip.mp4",
            "ivjax search index.npz --audio bark.wav",
        )
    )
    parser = add_command(commands, "search", about, example)
    parser.add_argument("index", type=Path, help="the .npz file")
    parser.add_argument("queries", nargs="*", metavar="WORDS", help="what to look for")
    parser.add_argument(
        "--video",
        action="append",
        default=[],
        metavar="VIDEO",
        help="a video to look for the like of; repeatable",
    )
    parser.add_argument(
        "--audio",
        action="append",
        default=[],
        metavar="FILE",
        help="a sound, or a video, whose sound is looked for in any index of a model that hears; repeatable",
    )
    parser.add_argument("--top", type=int, default=5, metavar="N", help="hits of each query (default 5)")
    parser.add_argument("--weights", metavar="WEIGHTS|RUN", help="other weights than those of the index")
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON line for each query")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the hits into this file")
    parser.add_argument("--font", type=Path, help="a TrueType file, for scripts such as Chinese")
    parser.set_defaults(run=_search)


def _search(options: argparse.Namespace) -> int:
    from ivjax.embed.index import read_index
    from ivjax.embed.index_search import open_for, open_for_videos, search, search_by_videos
    from ivjax.embed.media_list import MediaList
    from ivjax.errors import UserError

    if not (options.queries or options.video or options.audio):
        raise UserError(
            "there is nothing to look for; give words, a video with --video FILE or a sound with --audio FILE"
        )
    index = read_index(options.index)
    asked = {None: MediaList(options.video), "audio": MediaList(options.audio)}
    names, found = list(options.queries), []
    if names:
        pair = open_for(index, options.weights, options.preset, options.tokenizer)
        found = search(index, pair, names, options.top)
    for medium, media in asked.items():
        if len(media):
            searcher = open_for_videos(index, options.weights, options.preset, medium)
            by_medium = search_by_videos(index, searcher, media, options.top)
            names, found = [*names, *by_medium], [*found, *by_medium.values()]
    for query, hits in zip(names, found, strict=True):
        if options.json:
            print(json.dumps({"query": query, "hits": [hit.as_dict() for hit in hits]}))
        else:
            print("\n".join([f"{query}:", *(f"  {hit}" for hit in hits)]))
    if options.png:
        from ivjax.embed.sheet import hits_sheet

        hits_sheet(index, names, found, options.png, options.font)
    return 0
