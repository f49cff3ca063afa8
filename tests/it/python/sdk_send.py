"""Sends one of every instrument of the OpenTelemetry SDK: sdk_send.py grpc|http ENDPOINT cumulative|delta"""

import sys

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import (
    Counter, Histogram, MeterProvider, ObservableCounter, ObservableUpDownCounter, UpDownCounter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

protocol, endpoint, temporality = sys.argv[1:]
delta = AggregationTemporality.DELTA
cumulative = AggregationTemporality.CUMULATIVE
monotonic = cumulative if temporality == "cumulative" else delta
preferred = {
    Counter: monotonic, Histogram: monotonic, ObservableCounter: monotonic,
    UpDownCounter: cumulative, ObservableUpDownCounter: cumulative,
}
if protocol == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    exporter = OTLPMetricExporter(endpoint=endpoint, insecure=True, preferred_temporality=preferred)
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    exporter = OTLPMetricExporter(
        endpoint=f"{endpoint}/v1/metrics", compression=Compression.Gzip, preferred_temporality=preferred
    )

reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
provider = MeterProvider(
    metric_readers=[reader],
    resource=Resource.create(
        {"service.name": "shop", "service.namespace": "europe", "service.instance.id": f"{protocol}-1", "cores": 4}
    ),
    views=[View(instrument_name="payload.size", aggregation=ExponentialBucketHistogramAggregation(max_size=40))],
)
meter = provider.get_meter("shop.meter", "1.2", "https://example.com/schema", {"team": "checkout"})

requests = meter.create_counter("http.requests", unit="{request}", description="Requests taken")
requests.add(5, {"route": "/pay", "status": 200})
requests.add(2, {"route": "/pay", "status": 500})
requests.add(1, {"route": "/quoted \"path\"\n", "status": 200})
sent = meter.create_counter("network.sent", unit="By")
sent.add(1.5)
queue = meter.create_up_down_counter("queue.length", unit="1", description="Waiting")
queue.add(7, {"queue": "a"})
queue.add(-9, {"queue": "b"})
latency = meter.create_histogram(
    "http.latency", unit="s", description="Time of a request", explicit_bucket_boundaries_advisory=[0.1, 1, 10]
)
for seconds in (0.05, 0.1, 0.5, 2, 20, 30):
    latency.record(seconds, {"route": "/pay"})
size = meter.create_histogram("payload.size", unit="By")
for n_bytes in (1, 2, 4, 1024, 1500):
    size.record(n_bytes, {"direction": "in"})
temperature = meter.create_gauge("room.temperature", unit="Cel")
temperature.set(-2.5, {"room": "north", "heated": False})


def observe(value):
    def callback(_: CallbackOptions):
        yield Observation(value, {"disk": "sda"})

    return callback


meter.create_observable_counter("disk.reads", [observe(123456789012)], unit="{read}")
meter.create_observable_up_down_counter("disk.files", [observe(-3)])
meter.create_observable_gauge("disk.usage", [observe(0.25)], unit="1")

delivered = provider.force_flush(20_000)
provider.shutdown()
sys.exit(0 if delivered else 1)
