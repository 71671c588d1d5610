"""How many examples: enough for every day by default, thousands with PYAGENT_PROPERTIES=slow.

The quick examples are the same each time; the slow ones are new ones each time, and one that
fails prints how to see it again.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

settings.register_profile(
    "quick",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
)
settings.register_profile(
    "slow",
    settings.get_profile("quick"),
    derandomize=False,
    print_blob=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)
settings.load_profile(os.environ.get("PYAGENT_PROPERTIES", "quick"))
