// @platformatic/kafka: admin, every compression it has, idempotent and transactional producers, groups of both protocols,
// seek, offsets by time, headers.
import assert from 'node:assert'
import { setTimeout as pause } from 'node:timers/promises'
import * as kafka from '@platformatic/kafka'

const COUNT = 600
const common = { bootstrapBrokers: [process.argv[2]], clientId: 'platformatic', autocreateTopics: false, strict: true }
const serializers = kafka.stringSerializers
const deserializers = kafka.stringDeserializers
const admin = new kafka.Admin(common)

async function until(what, holds) {
  for (let tries = 0; tries < 600; tries += 1) {
    if (await holds()) return
    await pause(100)
  }
  assert.fail(`not within a minute: ${what}`)
}

async function topics() {
  await admin.createTopics({ topics: ['pf-in'], partitions: 3, replicas: 1 })
  await admin.createTopics({ topics: ['pf-out'], partitions: 1, replicas: 1 })
  await assert.rejects(admin.createTopics({ topics: ['pf-in'], partitions: 3, replicas: 1 }))
  const { topics } = await admin.metadata({ topics: ['pf-in'] })
  assert.equal(topics.get('pf-in').partitionsCount, 3)
  const resource = { resourceType: kafka.ConfigResourceTypes.TOPIC, resourceName: 'pf-in' }
  const operation = kafka.IncrementalAlterConfigOperationTypes.SET
  const configs = [{ name: 'max.message.bytes', configOperation: operation, value: '2000000' }]
  await admin.incrementalAlterConfigs({ resources: [{ ...resource, configs }], validateOnly: false })
  const described = await admin.describeConfigs({ resources: [{ ...resource, configurationKeys: ['max.message.bytes'] }] })
  assert.equal(described[0].configs[0].value, '2000000')
}

async function produce() {
  const producer = new kafka.Producer({ ...common, serializers, idempotent: true })
  const kinds = ['none', 'gzip', 'snappy', 'lz4', 'zstd'].filter((kind) => kind !== 'zstd' || kafka.compressionsAlgorithms.zstd?.available)
  for (let from = 0; from < COUNT; from += 100) {
    const message = (_, n) => ({
      topic: 'pf-in', key: `${from + n}`, value: `value ${from + n}`, headers: { n: `${from + n}` },
    })
    const compression = kinds[(from / 100) % kinds.length]
    await producer.send({ messages: Array.from({ length: 100 }, message), compression, acks: kafka.ProduceAcks.ALL })
  }
  await producer.close()
}

// Reads a topic until `count` records are there.
async function read(topic, options, count) {
  const consumer = new kafka.Consumer({ ...common, deserializers, ...options })
  const stream = await consumer.consume({ topics: [topic], mode: 'earliest', autocommit: false })
  const records = []
  for await (const message of stream) {
    records.push(message)
    if (records.length === count) break
  }
  await stream.close()
  return { consumer, records }
}

async function copy() {
  const producer = new kafka.Producer({ ...common, serializers, idempotent: true, transactionalId: 'pf-copier' })
  const { consumer, records } = await read('pf-in', { groupId: 'pf-copier' }, COUNT)
  for (const whole of [false, true]) {
    const transaction = await producer.beginTransaction()
    const messages = records.map(({ key, value }) => ({ topic: 'pf-out', key, value }))
    await transaction.send({ messages })
    await (whole ? transaction.commit() : transaction.abort())
  }
  await consumer.close(true)
  await producer.close()
}

async function verify() {
  for (const groupProtocol of ['classic', 'consumer']) {
    const options = { groupId: `pf-${groupProtocol}`, groupProtocol, isolationLevel: kafka.FetchIsolationLevels.READ_COMMITTED }
    const { consumer, records } = await read('pf-out', options, COUNT)
    const keys = records.map(({ key }) => Number(key)).sort((a, b) => a - b)
    assert.deepEqual(keys, Array.from({ length: COUNT }, (_, n) => n))
    const last = records.at(-1)
    await consumer.commit({ offsets: [{ topic: 'pf-out', partition: 0, offset: last.offset + 1n, leaderEpoch: -1 }] })
    const committed = await consumer.listCommittedOffsets({ topics: [{ topic: 'pf-out', partitions: [0] }] })
    assert.equal(committed.get('pf-out')[0], last.offset + 1n)
    const begin = await consumer.listOffsets({ topics: ['pf-out'], timestamp: kafka.ListOffsetTimestamps.EARLIEST })
    assert.equal(begin.get('pf-out')[0], 0n)
    await consumer.close(true)
  }
}

// A second member takes partitions over.
async function share() {
  for (const groupProtocol of ['classic', 'consumer']) {
    const options = { groupId: `pf-shared-${groupProtocol}`, groupProtocol, sessionTimeout: 10000, heartbeatInterval: 500, rebalanceTimeout: 10000 }
    const members = []
    for (let n = 0; n < 2; n += 1) {
      const consumer = new kafka.Consumer({ ...common, deserializers, ...options, clientId: `member-${n}` })
      const stream = await consumer.consume({ topics: ['pf-in'], mode: 'latest' })
      stream.on('data', () => {})
      members.push({ consumer, stream })
    }
    const parts = ({ consumer }) => consumer.assignments?.find(({ topic }) => topic === 'pf-in')?.partitions ?? []
    const shared = () => members.every((member) => parts(member).length > 0) && new Set(members.flatMap(parts)).size === 3
    await until(`both members have partitions (${groupProtocol})`, shared)
    for (const { consumer, stream } of members) {
      await stream.close()
      await consumer.close(true)
    }
  }
}

async function remove() {
  const groups = ['pf-copier', 'pf-classic', 'pf-consumer', 'pf-shared-classic', 'pf-shared-consumer']
  const listed = await admin.listGroups({ types: ['classic', 'consumer'] })
  assert(groups.every((group) => listed.has(group)), [...listed.keys()])
  await admin.deleteGroups({ groups })
  await admin.deleteTopics({ topics: ['pf-in', 'pf-out'] })
  assert(!(await admin.listTopics()).includes('pf-in'))
}

for (const step of [topics, produce, copy, verify, share, remove]) {
  console.log(step.name)
  await step()
}
await admin.close()
console.log('done')
process.exit(0)
