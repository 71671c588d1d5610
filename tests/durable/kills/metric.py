"""The cost metric as a file: what the counter was given by every process, killed or not."""

from __future__ import annotations

from decimal import Decimal

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Meter, MeterProvider, NoOpCounter, NoOpMeter
from opentelemetry.util.types import Attributes

from pyagent_providers import semconv

from .log import Log


def count_into(log: Log) -> None:
    """From now on, in this process, each addition to the cost counter is an entry of the log."""
    metrics.set_meter_provider(_Provider(log))


class _Provider(MeterProvider):
    def __init__(self, log: Log) -> None:
        self._log = log

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Meter:
        return _Meter(name, self._log)


class _Meter(NoOpMeter):
    def __init__(self, name: str, log: Log) -> None:
        super().__init__(name)
        self._log = log

    def create_counter(self, name: str, unit: str = "", description: str = "") -> Counter:
        if name == semconv.COST_COUNTER:
            return _CostCounter(name, self._log)
        return super().create_counter(name, unit, description)


class _CostCounter(NoOpCounter):
    def __init__(self, name: str, log: Log) -> None:
        super().__init__(name)
        self._log = log

    def add(
        self,
        amount: int | float,
        attributes: Attributes = None,
        context: Context | None = None,
    ) -> None:
        # To the hundredth of a millionth of a dollar: a float holds that much exactly enough.
        self._log.write("COST", usd=str(Decimal(amount).quantize(Decimal("1e-8"))))
