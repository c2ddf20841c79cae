// Sends numbered points with a client from npm, each batch until it is acknowledged.
//
//     node send.js CLIENT URL POINTS
//
// The server may be killed at any time. A batch is sent again with the same timestamps. The clients
// are in the folder `node_modules` of the working folder.

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
      if (Date.now() > end) {
        console.error(what, error)
        process.exit(1)
      }
      await pause(100)
    }
  }
}

const CLIENTS = {
  'influxdb-js': async (url) => {
    const { InfluxDB, setLogger } = load('@influxdata/influxdb-client')
    setLogger({ error() {}, warn() {} })
    const client = new InfluxDB({ url, token: 'none', timeout: 5_000 })
    return async (numbers) => {
      const api = client.getWriteApi('none', 'none', 'ms', { maxRetries: 0, flushInterval: 0 })
      api.writeRecords(
        numbers.map(
          (number) => `points,sender=influxdb-js value=${number}.5,text="a" ${BEGIN_MS + number}`
        )
      )
      await api.close()
    }
  },
  'questdb-js': async (url) => {
    const { Sender } = load('@questdb/nodejs-client')
    const address = new URL(url).host
    return async (numbers) => {
      // The time bounds the whole request: 0 would end each at once.
      const settings = `http::addr=${address};auto_flush=off;retry_timeout=5000;`
      const sender = await Sender.fromConfig(settings)
      for (const number of numbers) {
        await sender
          .table('points')
          .symbol('sender', 'questdb-js')
          .floatColumn('value', number + 0.5)
          .timestampColumn('seen', number)
          .at(BEGIN_MS + number, 'ms')
      }
      if (!(await sender.flush())) throw new Error('not flushed')
      await sender.close()
    }
  },
  // Sends JSON.
  'otlp-js': async (url) => {
    const { OTLPMetricExporter } = load('@opentelemetry/exporter-metrics-otlp-http')
    const { AggregationTemporality, DataPointType } = load('@opentelemetry/sdk-metrics')
    const { resourceFromAttributes } = load('@opentelemetry/resources')
    const exporter = new OTLPMetricExporter({ url: `${url}/v1/metrics`, timeoutMillis: 5_000 })
    const resource = resourceFromAttributes({ 'service.name': 'sender' })
    const point = (number) => ({
      startTime: [0, 0],
      endTime: [Math.floor((BEGIN_MS + number) / 1000), ((BEGIN_MS + number) % 1000) * 1_000_000],
      attributes: { sender: 'otlp-js' },
      value: number + 0.5,
    })
    return (numbers) => {
      const metric = {
        descriptor: { name: 'points_value', description: '', unit: '', valueType: 1 },
        dataPointType: DataPointType.GAUGE,
        aggregationTemporality: AggregationTemporality.CUMULATIVE,
        dataPoints: numbers.map(point),
      }
      const metrics = { resource, scopeMetrics: [{ scope: { name: 'send.js' }, metrics: [metric] }] }
      return new Promise((done, fail) =>
        exporter.export(metrics, ({ code, error }) => (code === 0 ? done() : fail(error)))
      )
    }
  },
}

async function main([client, url, points]) {
  const write = await CLIENTS[client](url)
  for (let begin = 0; begin < points; begin += BATCH) {
    const length = Math.min(BATCH, points - begin)
    const numbers = Array.from({ length }, (_, index) => begin + index)
    await untilDone(`points from ${begin}`, () => write(numbers))
    await pause(PAUSE_MS)
  }
}

// A client may keep a connection, or wait for one.
main(process.argv.slice(2)).then(() => process.exit(0))
