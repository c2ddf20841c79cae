// Sends numbered points with a client from npm, each batch until it is acknowledged.
//
//     node send.js CLIENT URL POINTS [MODE]
//
// The server may be killed at any time. A batch is sent again with the same timestamps. The modes,
// and the lines it prints, are those of `send.py`. The clients are in the folder `node_modules` of
// the working folder.

const { createRequire } = require('module')

const load = createRequire(`${process.cwd()}/`)
const BATCH = 50
const PAUSE_MS = 20
const RETRY_MS = 60_000
const BEGIN_MS = 1_700_000_000_000

const pause = (ms) => new Promise((done) => setTimeout(done, ms))

// Calls until there is no error.
async function untilDone(what, call) {
  const end = Date.now() + RETRY_MS
  for (;;) {
    try {
      return await call()
    } catch (error) {
      console.log('error', String(error))
      if (Date.now() > end) {
        console.error(what, error)
        process.exit(1)
      }
      await pause(100)
    }
  }
}

const TOO_MANY_LABELS = Array.from({ length: 70 }, (_, number) => `l${number}`)

const CLIENTS = {
  'influxdb-js': async (url, ownRetries) => {
    const { InfluxDB, setLogger } = load('@influxdata/influxdb-client')
    setLogger({ error() {}, warn() {} })
    const client = new InfluxDB({ url, token: 'none', timeout: 5_000 })
    return (numbers, hasBadPart) => {
      const lines = numbers.map(
        (number) => `points,sender=influxdb-js value=${number}.5,text="a" ${BEGIN_MS + number}`
      )
      if (hasBadPart) lines.push('points,sender=bad value=oops 1')
      return new Promise((done, fail) => {
        const retries = ownRetries ? 5 : 0
        const api = client.getWriteApi('none', 'none', 'ms', {
          maxRetries: retries,
          flushInterval: 0,
          writeSuccess: done,
          // It is called after each try. Nothing is returned, so the client goes on.
          writeFailed: (error, _lines, attempt) => {
            if (attempt > retries || !(error.statusCode >= 429)) fail(error)
          },
        })
        api.writeRecords(lines)
        // Without the argument, it would repeat what is refused at once.
        api.flush(false).catch(() => {})
      })
    }
  },
  'questdb-js': async (url, ownRetries) => {
    const { Sender } = load('@questdb/nodejs-client')
    const address = new URL(url).host
    // The time bounds the whole request: 0 would end each at once.
    const retryMs = ownRetries ? RETRY_MS : 5_000
    return async (numbers, hasBadPart) => {
      const settings = `http::addr=${address};auto_flush=off;retry_timeout=${retryMs};`
      const sender = await Sender.fromConfig(settings)
      for (const number of numbers) {
        await sender
          .table('points')
          .symbol('sender', 'questdb-js')
          .floatColumn('value', number + 0.5)
          .timestampColumn('seen', number)
          .at(BEGIN_MS + number, 'ms')
      }
      if (hasBadPart) {
        const row = sender.table('points')
        for (const label of TOO_MANY_LABELS) row.symbol(label, 'a')
        await row.floatColumn('value', 1).at(1, 'ms')
      }
      if (!(await sender.flush())) throw new Error('not flushed')
      await sender.close()
    }
  },
  // Sends JSON.
  'otlp-js': async (url, ownRetries) => {
    // Partial success is in the log.
    const { diag, DiagLogLevel } = load('@opentelemetry/api')
    const warn = (...text) => console.log('error', ...text)
    const silent = () => {}
    const log = { error: silent, warn, info: silent, debug: silent, verbose: silent }
    diag.setLogger(log, DiagLogLevel.WARN)
    const { OTLPMetricExporter } = load('@opentelemetry/exporter-metrics-otlp-http')
    const { AggregationTemporality, DataPointType } = load('@opentelemetry/sdk-metrics')
    const { resourceFromAttributes } = load('@opentelemetry/resources')
    const timeoutMillis = ownRetries ? RETRY_MS : 5_000
    const exporter = new OTLPMetricExporter({ url: `${url}/v1/metrics`, timeoutMillis })
    const resource = resourceFromAttributes({ 'service.name': 'sender' })
    const point = (number) => ({
      startTime: [0, 0],
      endTime: [Math.floor((BEGIN_MS + number) / 1000), ((BEGIN_MS + number) % 1000) * 1_000_000],
      attributes: { sender: 'otlp-js' },
      value: number + 0.5,
    })
    const bad = () => {
      const labels = Object.fromEntries(TOO_MANY_LABELS.map((label) => [label, 'a']))
      return { ...point(0), endTime: [1, 0], attributes: labels }
    }
    return (numbers, hasBadPart) => {
      const metric = {
        descriptor: { name: 'points_value', description: '', unit: '', valueType: 1 },
        dataPointType: DataPointType.GAUGE,
        aggregationTemporality: AggregationTemporality.CUMULATIVE,
        dataPoints: [...numbers.map(point), ...(hasBadPart ? [bad()] : [])],
      }
      const metrics = { resource, scopeMetrics: [{ scope: { name: 'send.js' }, metrics: [metric] }] }
      return new Promise((done, fail) =>
        exporter.export(metrics, ({ code, error }) => (code === 0 ? done() : fail(error)))
      )
    }
  },
}

const showStored = (numbers) =>
  console.log(numbers.map((number) => `stored ${number}.5 ${BEGIN_MS + number}`).join('\n'))

async function main([client, url, points, mode = 'again']) {
  const write = await CLIENTS[client](url, mode === 'own')
  const numbersFrom = (begin, length) => Array.from({ length }, (_, index) => begin + index)
  if (mode === 'partial') {
    const numbers = numbersFrom(0, Number(points))
    await write(numbers, true).catch((error) => console.log('error', String(error)))
    return showStored(numbers)
  }
  for (let begin = 0; begin < points; begin += BATCH) {
    const numbers = numbersFrom(begin, Math.min(BATCH, points - begin))
    await untilDone(`points from ${begin}`, () => write(numbers, false))
    showStored(numbers)
    await pause(PAUSE_MS)
  }
}

// A client may keep a connection, or wait for one. What is printed is written first.
main(process.argv.slice(2)).then(() => process.stdout.write('', () => process.exit(0)))
