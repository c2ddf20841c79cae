"""Runs PromQL queries on two servers with Prometheus' API, and compares the answers.

promql_equal.py ONE OTHER START END [--native-histograms]: the addresses of the servers, and
seconds since 1970.
"""

import json
import math
import sys
import urllib.parse
import urllib.request

QUERIES = [
    "up",
    "count(up)",
    "count by (job) ({__name__=~'node_.+'})",
    "node_load1",
    "node_load1 offset 5s",
    "{__name__=~'node_load.*', host=~'h1.?'}",
    "sum without (cpu, mode) (rate(node_cpu_seconds_total{mode!='idle'}[10s]))",
    # Times differ from host to host. Among equal values, which three are taken is not fixed.
    "topk(3, node_time_seconds)",
    "sum by (host) (irate(node_cpu_seconds_total[10s]))",
    "increase(node_context_switches_total{host!~'h[0-4]'}[15s])",
    "max_over_time(node_memory_MemFree_bytes[10s])",
    "quantile_over_time(0.5, node_memory_MemFree_bytes{host='h7'}[20s])",
    "deriv(node_memory_MemFree_bytes{host='h7'}[20s])",
    "max_over_time(rate(node_intr_total[5s])[20s:2s])",
    "node_load1 * on (host) group_left (nodename) node_uname_info",
    "node_memory_MemFree_bytes / node_memory_MemTotal_bytes < 0.999",
    "avg by (host) (node_filesystem_avail_bytes) unless on (host) up{host='h3'}",
    "changes(node_time_seconds[10s]) + resets(node_time_seconds[10s])",
    "timestamp(up{job='ingest'})",
    "absent(node_load1{host='none'})",
    "label_replace(up, 'short', '$1', 'host', 'h(.)')",
    "stddev(node_load5) or vector(7)",
    "go_gc_duration_seconds{quantile='0.5'}",
    # Without a sum: its last digits decide between two buckets if an empty one is between them.
    "histogram_quantile(0.9, rate(prometheus_http_request_duration_seconds_bucket[15s]))",
    "count_values('value', prometheus_build_info)",
]


NATIVE = [
    "prometheus_http_request_duration_seconds",
    "histogram_count(prometheus_http_request_duration_seconds{handler='/metrics'})",
    "histogram_sum(prometheus_http_request_duration_seconds{handler='/metrics'})",
    "histogram_quantile(0.9, rate(prometheus_http_request_duration_seconds{handler='/metrics'}[15s]))",
    "histogram_quantile(0.5, sum(rate(prometheus_http_request_duration_seconds[15s])))",
    "histogram_fraction(0, 0.01, rate(prometheus_http_request_duration_seconds[10s]))",
]


def ask(address, path, **parameters):
    query = urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(f"http://{address}/api/v1/{path}?{query}", timeout=60) as answer:
        data = json.load(answer)["data"]
    key = lambda series: sorted(series["metric"].items())
    return sorted(data["result"], key=key) if data["resultType"] != "scalar" else data["result"]


def points(series):
    """Times and values, then times and native histograms."""
    found = []
    for one, many in [("value", "values"), ("histogram", "histograms")]:
        found += series.get(many, [series[one]] if one in series else [])
    return found


def equal(one, other):
    """The order in which an aggregation adds series is not fixed, so its last digits are not."""
    if isinstance(one, dict) or isinstance(other, dict):
        return one == other
    one, other = float(one), float(other)
    same = one == other or math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return same or math.isnan(one) and math.isnan(other)


def compare(query, one, other):
    """The number of points. Exits at a difference."""
    count = 0
    if [series["metric"] for series in one] != [series["metric"] for series in other]:
        sys.exit(f"{query}: {len(one)} and {len(other)} series differ")
    for first, second in zip(one, other):
        if len(points(first)) != len(points(second)):
            sys.exit(f"{query}: numbers of points differ: {first['metric']}")
        for a, b in zip(points(first), points(second)):
            if a[0] != b[0] or not equal(a[1], b[1]):
                sys.exit(f"{query}: {a} is not {b}: {first['metric']}")
            count += 1
    return count


def main():
    one, other, start, end = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    queries = QUERIES + (NATIVE if "--native-histograms" in sys.argv else [])
    total = 0
    for query in queries:
        count = 0
        for path, parameters in [
            ("query", {"time": (start + end) / 2}),
            ("query_range", {"start": start, "end": end, "step": 1}),
        ]:
            answers = [ask(address, path, query=query, **parameters) for address in (one, other)]
            count += compare(query, *answers)
        if count == 0:
            sys.exit(f"{query}: both answers are empty")
        total += count
    print(f"{len(queries)} queries of PromQL, {total} points: both answers are equal")


main()
