"""`ivjax search`."""

import argparse
import json
from pathlib import Path

from ivjax.cli.common import add_command, add_model


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    about = "Find the parts of videos that fit some words, in an index that `ivjax embed` wrote."
    example = 'ivjax search index.npz "a red square" "a blue circle" --top 5 --png hits.png'
    parser = add_command(commands, "search", about, example)
    parser.add_argument("index", type=Path, help="the .npz file")
    parser.add_argument("queries", nargs="+", metavar="WORDS", help="what to look for")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="hits of each query (default 5)")
    parser.add_argument("--weights", metavar="WEIGHTS|RUN", help="other weights than those of the index")
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON line for each query")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw the hits into this file")
    parser.add_argument("--font", type=Path, help="a TrueType file, for scripts such as Chinese")
    parser.set_defaults(run=_search)


def _search(options: argparse.Namespace) -> int:
    from ivjax.embed.index import read_index
    from ivjax.embed.index_search import open_for, search

    index = read_index(options.index)
    encoder = open_for(index, options.weights, options.preset, options.tokenizer)
    found = search(index, encoder, options.queries, options.top)
    for query, hits in zip(options.queries, found, strict=True):
        if options.json:
            print(json.dumps({"query": query, "hits": [hit.as_dict() for hit in hits]}))
        else:
            print("\n".join([f"{query}:", *(f"  {hit}" for hit in hits)]))
    if options.png:
        from ivjax.embed.sheet import hits_sheet

        hits_sheet(index, options.queries, found, options.png, options.font)
    return 0
