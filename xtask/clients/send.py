"""Sends numbered points with a client from PyPI, each batch until it is acknowledged.

    send.py CLIENT URL POINTS

The server may be killed at any time. A batch is sent again with the same timestamps.
"""

import sys
import time
from urllib.parse import urlsplit

BATCH = 50
PAUSE_SECONDS = 0.02
RETRY_SECONDS = 60
BEGIN_MS = 1_700_000_000_000


def until_done(what, call):
    """Calls until there is no error."""
    end = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            return call()
        except Exception as error:
            if time.monotonic() > end:
                sys.exit(f"{what}: {error!r}")
            time.sleep(0.1)


def must_fail(call, text):
    try:
        call()
    except Exception as error:
        assert text in str(error), error
    else:
        sys.exit(f"no error that says {text!r}")


def lines(client, numbers):
    """The points as line protocol, in milliseconds."""
    return [
        f'points,sender={client} value={number}.5,text="a, b" {BEGIN_MS + number}'
        for number in numbers
    ]


def influxdb(url):
    from influxdb import InfluxDBClient

    at = urlsplit(url)
    client = InfluxDBClient(at.hostname, at.port, database="d", retries=1, timeout=5)
    print(until_done("ping", client.ping))
    if {"name": "d"} not in until_done("list", client.get_list_database):
        until_done("create", lambda: client.create_database("d"))
    must_fail(lambda: client.query("SELECT * FROM points"), "CREATE DATABASE")
    return lambda numbers: client.write_points(
        lines("influxdb", numbers), protocol="line", time_precision="ms"
    )


def influxdb_client(url):
    from influxdb_client import InfluxDBClient, WritePrecision
    from influxdb_client.client.write_api import SYNCHRONOUS

    client = InfluxDBClient(url, token="none", org="none", enable_gzip=True, timeout=5_000)
    assert until_done("ping", lambda: client.ping() or sys.exit("no ping"))
    assert until_done("health", client.health).status == "pass"
    api = client.write_api(write_options=SYNCHRONOUS)
    ms = WritePrecision.MS
    return lambda numbers: api.write(
        "none", record=lines("influxdb-client", numbers), write_precision=ms
    )


def influxdb3(url):
    from influxdb_client_3 import InfluxDBClient3, SYNCHRONOUS, write_client_options

    options = write_client_options(write_options=SYNCHRONOUS)
    client = InfluxDBClient3(
        host=url, token="none", database="d", write_client_options=options
    )
    print(until_done("version", client.get_server_version))
    return lambda numbers: client.write(lines("influxdb3", numbers), write_precision="ms")


def questdb(url):
    from questdb.ingress import Sender, TimestampMicros, TimestampNanos

    configuration = f"http::addr={urlsplit(url).netloc};auto_flush=off;retry_timeout=0;"

    senders = []

    def write(numbers):
        if not senders:
            sender = Sender.from_conf(configuration)
            sender.establish()
            senders.append(sender)
        # A sender is used again only if all went well.
        sender = senders.pop()
        for number in numbers:
            sender.row(
                "points",
                symbols={"sender": "questdb"},
                columns={"value": number + 0.5, "seen": TimestampMicros(number)},
                at=TimestampNanos((BEGIN_MS + number) * 1_000_000),
            )
        sender.flush()
        senders.append(sender)

    return write


def otlp(url):
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import export
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    exporter = OTLPMetricExporter(
        endpoint=f"{url}/v1/metrics", timeout=5, compression=Compression.Gzip
    )
    resource = Resource({"service.name": "sender", "host.name": "h"})
    scope = InstrumentationScope("send.py")

    def write(numbers):
        points = [
            export.NumberDataPoint(
                attributes={"sender": "otlp"},
                start_time_unix_nano=0,
                time_unix_nano=(BEGIN_MS + number) * 1_000_000,
                value=number + 0.5,
            )
            for number in numbers
        ]
        metric = export.Metric("points_value", "", "", export.Gauge(points))
        metrics = export.ScopeMetrics(scope, [metric], "")
        data = export.MetricsData([export.ResourceMetrics(resource, [metrics], "")])
        if exporter.export(data) is not export.MetricExportResult.SUCCESS:
            raise RuntimeError("not exported")

    return write


CLIENTS = {
    "influxdb": influxdb,
    "influxdb-client": influxdb_client,
    "influxdb3": influxdb3,
    "questdb": questdb,
    "otlp": otlp,
}


def main():
    client, url, points = sys.argv[1], sys.argv[2], int(sys.argv[3])
    write = CLIENTS[client](url)
    for begin in range(0, points, BATCH):
        numbers = range(begin, min(begin + BATCH, points))
        until_done(f"points from {begin}", lambda: write(numbers))
        time.sleep(PAUSE_SECONDS)


main()
