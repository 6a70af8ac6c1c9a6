"""``python -m gas_rt.cli`` is ``gas-rt``."""

from __future__ import annotations

import sys

from gas_rt.cli import main

sys.exit(main())
