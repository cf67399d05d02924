"""What `pulumi up` runs: the stack's configuration in, the fleet's outputs out.

Must not create anything itself.
"""

from __future__ import annotations

import pulumi

from fleet.config import read_config, read_secret_environment
from fleet.program import build_fleet

_config = pulumi.Config()

for _name, _value in build_fleet(
    read_config(_config, stack=pulumi.get_stack()), read_secret_environment(_config)
).items():
    pulumi.export(_name, _value)
