"""Reads export requests (files of protobuf, as arguments) with the specification's own classes; a line of JSON per point.

Times become what a test can compare: whether there is one, and whether the start lies before it.
"""

import json
import sys

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

TEMPORALITY = {0: "unspecified", 1: "delta", 2: "cumulative"}


def plain(value):
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None


def attributes(pairs):
    return {pair.key: plain(pair.value) for pair in sorted(pairs, key=lambda pair: pair.key)}


def buckets(side):
    return {"offset": side.offset, "counts": list(side.bucket_counts)}


def optional(point, name):
    return getattr(point, name) if point.HasField(name) else None


def values(kind, point):
    if kind in ("gauge", "sum"):
        which = point.WhichOneof("value")
        return {which: getattr(point, which)} if which else {}
    told = {"count": point.count}
    if kind == "summary":
        told["sum"] = point.sum
        told["quantiles"] = [[q.quantile, q.value] for q in point.quantile_values]
        return told
    told |= {name: optional(point, name) for name in ("sum", "min", "max")}
    if kind == "histogram":
        told |= {"bounds": list(point.explicit_bounds), "counts": list(point.bucket_counts)}
    else:
        told |= {"scale": point.scale, "zero": point.zero_count}
        told |= {"positive": buckets(point.positive), "negative": buckets(point.negative)}
    return told


def show(resource, scope, metric):
    kind = metric.WhichOneof("data")
    data = getattr(metric, kind)
    for point in data.data_points:
        told = {
            "name": metric.name, "unit": metric.unit, "description": metric.description, "kind": kind,
            "resource": attributes(resource.attributes), "scope": [scope.name, scope.version],
            "attributes": attributes(point.attributes),
        }
        if hasattr(data, "aggregation_temporality"):
            told["temporality"] = TEMPORALITY[data.aggregation_temporality]
        if hasattr(data, "is_monotonic"):
            told["monotonic"] = data.is_monotonic
        told |= values(kind, point)
        told["timed"] = point.time_unix_nano > 0
        told["started"] = 0 < point.start_time_unix_nano <= point.time_unix_nano
        print(json.dumps(told, sort_keys=True))


for path in sys.argv[1:]:
    with open(path, "rb") as file:
        request = ExportMetricsServiceRequest.FromString(file.read())
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                show(resource.resource, scope.scope, metric)
