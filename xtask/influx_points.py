"""Writes points with influxdb-client from PyPI, compressed and in batches."""

import sys

from influxdb_client import InfluxDBClient, WriteOptions, WritePrecision

url, count = sys.argv[1], int(sys.argv[2])
failures = []
client = InfluxDBClient(url=url, token="none", org="none", enable_gzip=True)
options = WriteOptions(batch_size=5_000, flush_interval=1_000)
with client.write_api(
    write_options=options,
    error_callback=lambda _conf, _data, error: failures.append(error),
) as api:
    for number in range(count):
        line = f"points,host=h\\ {number % 40} value={number}.5,text=\"a, b\" {number + 1}"
        api.write(bucket="none", record=line, write_precision=WritePrecision.MS)
client.close()
if failures:
    sys.exit(f"{len(failures)} batches failed, the first with {failures[0]}")
