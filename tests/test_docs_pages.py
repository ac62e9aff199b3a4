"""The pages of docs/ agree with the code that they speak of."""

import re

from tests.glossary import table
from tests.train.processes import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_the_glossary_has_every_type_that_a_public_signature_uses():
    heading = "| type | meaning | where |\n|---|---|---|\n"
    assert PAGE.count(heading) == 1
    assert PAGE.split(heading)[1] == table(ROOT), "paste what `python -m tests.glossary` prints into the page"


def test_a_clips_way_names_functions_that_exist():
    rows = re.findall(r"^\| `([\w.]+)` \| `([\w/.*]+)` \| ", PAGE.split("## Parameters")[0], re.MULTILINE)
    assert len(rows) >= 10
    for name, pattern in rows:
        texts = [path.read_text() for path in ROOT.glob(pattern) if path.is_file()]
        assert texts, f"{pattern} does not exist"
        for word in name.split("."):
            defined = re.compile(rf"\b(class|def) {word}\b|^    {word}: ", re.MULTILINE)
            assert any(defined.search(text) for text in texts), f"{pattern} defines no {word}"
