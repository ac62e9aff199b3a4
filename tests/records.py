"""Writes what the tests record of the shipped configs: `python -m tests.records [CONFIG...]`.

For a new config, or after a deliberate change of a default or of a rule. Without names it records all.
"""

import sys

from tests.experiment.test_shipped_configs import write_texts
from tests.train.test_rules import write_tables

if __name__ == "__main__":
    write_texts(sys.argv[1:])
    write_tables(sys.argv[1:])
