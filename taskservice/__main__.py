"""`python -m taskservice`: the command line.

Knows nothing but where it begins.
"""

from __future__ import annotations

from taskservice.cli import main

if __name__ == "__main__":
    main(prog_name="python -m taskservice")
