#!/usr/bin/env bash
# Guess: the OTLP exporter of JavaScript sends a measurement that is not a number, or infinite, as
# the text "NaN", "Infinity" or "-Infinity", as the JSON encoding of protobuf says.
# Behaviour: it sends `"asDouble":null`, which means a point without a value, and -0 as 0. The
# receiver cannot tell what was measured. The exporter reports success.
# Seen with @opentelemetry/exporter-metrics-otlp-http 0.223.0 and sdk-metrics 2.12.0, Node 20.20:
# "1.5 null null null 0".
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts \
    @opentelemetry/exporter-metrics-otlp-http@0.223.0 \
    @opentelemetry/resources@2.12.0 @opentelemetry/sdk-metrics@2.12.0
cat >send.js <<'JAVASCRIPT'
const http = require('http')
const { OTLPMetricExporter } = require('@opentelemetry/exporter-metrics-otlp-http')
const { resourceFromAttributes } = require('@opentelemetry/resources')
const { AggregationTemporality, DataPointType } = require('@opentelemetry/sdk-metrics')
const server = http.createServer((request, response) => {
  let body = ''
  request.on('data', (data) => (body += data))
  request.on('end', () => {
    const [resource] = JSON.parse(body).resourceMetrics
    const points = resource.scopeMetrics[0].metrics[0].gauge.dataPoints
    console.log(points.map((point) => JSON.stringify(point.asDouble)).join(' '))
    response.end('{}')
  })
})
server.listen(0, '127.0.0.1', () => {
  const url = `http://127.0.0.1:${server.address().port}/v1/metrics`
  const point = (value) => ({ startTime: [0, 0], endTime: [1, 0], attributes: {}, value })
  const metric = {
    descriptor: { name: 'm', description: '', unit: '', valueType: 1 },
    dataPointType: DataPointType.GAUGE,
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
    dataPoints: [1.5, NaN, Infinity, -Infinity, -0].map(point),
  }
  const scopeMetrics = [{ scope: { name: 's' }, metrics: [metric] }]
  const done = ({ code }) => process.exit(code)
  new OTLPMetricExporter({ url }).export({ resource: resourceFromAttributes({}), scopeMetrics }, done)
})
JAVASCRIPT
node --version
seen=$(node send.js)
echo "$seen"
[ "$seen" = "1.5 null null null 0" ]
