#!/usr/bin/env bash
# Guess: the InfluxDB client of JavaScript waits the seconds of a Retry-After header before it sends
# a refused write again, as RFC 9110 says.
# Behaviour: it takes the number for milliseconds. With "Retry-After: 3" it repeats the write within
# a second. Without the header it waits for at least 5 s. So a server that asks for patience gets
# the repeats sooner than one that does not.
# Seen with @influxdata/influxdb-client 1.35.0, Node 20.20: "with header: under 1 s" and
# "without header: 5 s or more".
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --ignore-scripts @influxdata/influxdb-client@1.35.0
cat >send.js <<'JAVASCRIPT'
const http = require('http')
const { InfluxDB, Point } = require('@influxdata/influxdb-client')

// Refuses the first write, and returns the milliseconds until it comes again.
const repeat = (headers) =>
  new Promise((resolve) => {
    let refusedAt
    const server = http.createServer((request, response) => {
      request.resume()
      request.on('end', () => {
        if (refusedAt === undefined) {
          refusedAt = Date.now()
          response.writeHead(503, headers).end()
        } else {
          response.writeHead(204).end()
          server.close()
          resolve(Date.now() - refusedAt)
        }
      })
    })
    server.listen(0, '127.0.0.1', async () => {
      const url = `http://127.0.0.1:${server.address().port}`
      const write = new InfluxDB({ url, token: 't' }).getWriteApi('org', 'bucket')
      write.writePoint(new Point('m').floatField('v', 1))
      await write.flush().catch(() => {})
    })
  })

;(async () => {
  const withHeader = await repeat({ 'Retry-After': '3' })
  console.log(`with header: ${withHeader < 1000 ? 'under 1 s' : 'later'}`)
  const without = await repeat({})
  console.log(`without header: ${without < 5000 ? 'sooner' : '5 s or more'}`)
  process.exit(0)
})()
JAVASCRIPT
node --version
seen=$(node send.js 2>/dev/null)
echo "$seen"
[ "$seen" = $'with header: under 1 s\nwithout header: 5 s or more' ]
