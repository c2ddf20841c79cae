"""Sends numbered points with a client from PyPI, each batch until it is acknowledged.

    send.py CLIENT URL POINTS [MODE]

The server may be killed at any time. A batch is sent again with the same timestamps. The modes:

    again    this script sends a batch again (the default)
    own      the client itself does, if it can
    partial  one request, with a part that the server leaves out; nothing is sent again

It prints `stored VALUE MILLISECONDS` for each acknowledged point, and `error TEXT` for each error.
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
            print(f"error {error!r}", flush=True)
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


def lines(client, numbers, has_bad_part):
    """The points as line protocol, in milliseconds."""
    points = [
        f'points,sender={client} value={number}.5,text="a, b" {BEGIN_MS + number}'
        for number in numbers
    ]
    return points + ["points,sender=bad value=oops 1"] * has_bad_part


def too_many_labels(client):
    return {"sender": client} | {f"l{number}": "a" for number in range(70)}


def influxdb(url, _own_retries):
    from influxdb import InfluxDBClient

    at = urlsplit(url)
    client = InfluxDBClient(at.hostname, at.port, database="d", retries=1, timeout=5)
    print(until_done("ping", client.ping))
    if {"name": "d"} not in until_done("list", client.get_list_database):
        until_done("create", lambda: client.create_database("d"))
    must_fail(lambda: client.query("SELECT * FROM points"), "CREATE DATABASE")
    return lambda *part: client.write_points(
        lines("influxdb", *part), protocol="line", time_precision="ms"
    )


def influxdb_client(url, own_retries):
    from influxdb_client import InfluxDBClient, WritePrecision
    from influxdb_client.client.write.retry import WritesRetry
    from influxdb_client.client.write_api import SYNCHRONOUS

    retries = {"retries": WritesRetry(allowed_methods=["POST"])} if own_retries else {}
    client = InfluxDBClient(
        url, token="none", org="none", enable_gzip=True, timeout=5_000, **retries
    )
    assert until_done("ping", lambda: client.ping() or sys.exit("no ping"))
    assert until_done("health", client.health).status == "pass"
    api = client.write_api(write_options=SYNCHRONOUS)
    ms = WritePrecision.MS
    return lambda *part: api.write(
        "none", record=lines("influxdb-client", *part), write_precision=ms
    )


def influxdb3(url, own_retries):
    from influxdb_client_3 import InfluxDBClient3, SYNCHRONOUS, write_client_options
    from influxdb_client_3.write_client.client.write.retry import WritesRetry

    options = write_client_options(write_options=SYNCHRONOUS)
    retries = {"retries": WritesRetry(allowed_methods=["POST"])} if own_retries else {}
    client = InfluxDBClient3(
        host=url, token="none", database="d", write_client_options=options, **retries
    )
    print(until_done("version", client.get_server_version))
    return lambda *part: client.write(lines("influxdb3", *part), write_precision="ms")


def questdb(url, own_retries):
    from questdb.ingress import Sender, TimestampMicros, TimestampNanos

    retry_ms = RETRY_SECONDS * 1000 if own_retries else 0
    address = urlsplit(url).netloc
    configuration = f"http::addr={address};auto_flush=off;retry_timeout={retry_ms};"

    senders = []

    def write(numbers, has_bad_part):
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
        if has_bad_part:
            labels, at = too_many_labels("bad"), TimestampNanos(1)
            sender.row("points", symbols=labels, columns={"value": 1.0}, at=at)
        sender.flush()
        senders.append(sender)

    return write


def otlp(url, own_retries):
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import export
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    exporter = OTLPMetricExporter(
        endpoint=f"{url}/v1/metrics",
        timeout=RETRY_SECONDS if own_retries else 5,
        compression=Compression.Gzip,
    )
    resource = Resource({"service.name": "sender", "host.name": "h"})
    scope = InstrumentationScope("send.py")

    def point(labels, ms, value):
        return export.NumberDataPoint(
            attributes=labels,
            start_time_unix_nano=0,
            time_unix_nano=ms * 1_000_000,
            value=value,
        )

    def write(numbers, has_bad_part):
        labels = {"sender": "otlp"}
        points = [point(labels, BEGIN_MS + number, number + 0.5) for number in numbers]
        if has_bad_part:
            points.append(point(too_many_labels("bad"), 1, 1.0))
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


def show_stored(numbers):
    print(*(f"stored {number}.5 {BEGIN_MS + number}" for number in numbers), sep="\n", flush=True)


def write_in_part(write, numbers):
    """Writes the points and a bad part, once. It is an error, unless the protocol has none."""
    try:
        write(numbers, True)
    except Exception as error:
        print(f"error {error}")
    show_stored(numbers)


def main():
    client, url, points, *mode = sys.argv[1:]
    points, mode = int(points), (mode or ["again"])[0]
    write = CLIENTS[client](url, mode == "own")
    if mode == "partial":
        return write_in_part(write, range(points))
    for begin in range(0, points, BATCH):
        numbers = range(begin, min(begin + BATCH, points))
        until_done(f"points from {begin}", lambda: write(numbers, False))
        show_stored(numbers)
        time.sleep(PAUSE_SECONDS)


main()
