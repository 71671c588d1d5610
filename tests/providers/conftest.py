"""What the tests of the adapters need before they import anything."""

from __future__ import annotations

import os

# The adapter sees to it, but a test may import LiteLLM first, which then asks the network.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
