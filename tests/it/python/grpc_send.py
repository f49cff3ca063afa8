"""Sends an export request (a file of protobuf) over gRPC: grpc_send.py ENDPOINT FILE. Prints code, whether the answer
says when to come again, and after how many seconds."""

import sys

import grpc
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub

endpoint, path = sys.argv[1:]
with open(path, "rb") as file:
    request = ExportMetricsServiceRequest.FromString(file.read())
with grpc.insecure_channel(endpoint) as channel:
    try:
        answer = MetricsServiceStub(channel).Export(request, timeout=10)
        print("OK", answer.partial_success.rejected_data_points)
    except grpc.RpcError as error:
        told = []
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                for detail in status_pb2.Status.FromString(value).details:
                    info = error_details_pb2.RetryInfo()
                    if detail.Unpack(info):
                        told.append(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
        print(error.code().name, *told)
