// KafkaJS: admin, gzip, transactions with offsets, read_committed, a group that two members share, seek, offsets by time.
import assert from 'node:assert'
import { setTimeout as pause } from 'node:timers/promises'
import kafkajs from 'kafkajs'

const { CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = kafkajs
const kafka = new Kafka({ clientId: 'kafkajs', brokers: [process.argv[2]], logLevel: logLevel.NOTHING })
const COUNT = 600
const admin = kafka.admin()

async function until(what, holds) {
  for (let tries = 0; tries < 600; tries += 1) {
    if (await holds()) return
    await pause(100)
  }
  assert.fail(`not within a minute: ${what}`)
}

async function topics() {
  const wanted = [
    { topic: 'js-in', numPartitions: 2, configEntries: [{ name: 'retention.ms', value: '86400000' }] },
    { topic: 'js-out', numPartitions: 1 },
  ]
  assert.equal(await admin.createTopics({ topics: wanted, waitForLeaders: true }), true)
  assert.equal(await admin.createTopics({ topics: wanted }), false)
  await admin.createPartitions({ topicPartitions: [{ topic: 'js-in', count: 3 }] })
  const { topics } = await admin.fetchTopicMetadata({ topics: ['js-in'] })
  assert.equal(topics[0].partitions.length, 3)
  const resource = { type: ConfigResourceTypes.TOPIC, name: 'js-in' }
  await admin.alterConfigs({
    validateOnly: false,
    resources: [{ ...resource, configEntries: [{ name: 'max.message.bytes', value: '2000000' }] }],
  })
  const { resources } = await admin.describeConfigs({ resources: [resource], includeSynonyms: false })
  const value = (name) => resources[0].configEntries.find((entry) => entry.configName === name).configValue
  assert.equal(value('max.message.bytes'), '2000000')
  assert.equal((await admin.describeCluster()).brokers.length, 1)
}

async function produce() {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  const message = (n) => ({ key: `${n}`, value: `value ${n}`, headers: { n: `${n}` } })
  for (let from = 0; from < COUNT; from += 100) {
    const messages = Array.from({ length: 100 }, (_, n) => message(from + n))
    const compression = from % 200 === 0 ? CompressionTypes.GZIP : CompressionTypes.None
    const answers = await producer.send({ topic: 'js-in', acks: -1, compression, messages })
    assert(answers.every(({ errorCode }) => errorCode === 0))
  }
  await producer.disconnect()
}

// Every third batch is aborted, and read again.
async function copy() {
  const producer = kafka.producer({ transactionalId: 'js-copier', idempotent: true, maxInFlightRequests: 1 })
  const consumer = kafka.consumer({ groupId: 'js-copier', maxBytesPerPartition: 2000, readUncommitted: false })
  await Promise.all([producer.connect(), consumer.connect()])
  await consumer.subscribe({ topic: 'js-in', fromBeginning: true })
  let tries = 0
  let copied = 0
  const eachBatch = async ({ batch, resolveOffset }) => {
    tries += 1
    const transaction = await producer.transaction()
    const messages = batch.messages.map(({ key, value, headers }) => ({ key, value, headers }))
    await transaction.send({ topic: 'js-out', messages })
    const offset = `${BigInt(batch.lastOffset()) + 1n}`
    const topics = [{ topic: batch.topic, partitions: [{ partition: batch.partition, offset }] }]
    await transaction.sendOffsets({ consumerGroupId: 'js-copier', topics })
    if (tries % 3 === 0) {
      await transaction.abort()
      consumer.seek({ topic: batch.topic, partition: batch.partition, offset: batch.firstOffset() })
      return
    }
    await transaction.commit()
    resolveOffset(batch.lastOffset())
    copied += messages.length
  }
  await consumer.run({ autoCommit: false, eachBatchAutoResolve: false, eachBatch })
  await until('all is copied', () => copied >= COUNT)
  await consumer.disconnect()
  await producer.disconnect()
  assert.equal(copied, COUNT)
  const [{ partitions }] = await admin.fetchOffsets({ groupId: 'js-copier', topics: ['js-in'] })
  assert.equal(partitions.reduce((sum, { offset }) => sum + Number(offset), 0), COUNT)
}

async function verify() {
  const consumer = kafka.consumer({ groupId: 'js-verifier', readUncommitted: false })
  await consumer.connect()
  await consumer.subscribe({ topic: 'js-out', fromBeginning: true })
  const keys = []
  const eachMessage = async ({ message }) => {
    assert.equal(message.headers.n.toString(), message.key.toString())
    keys.push(Number(message.key))
  }
  await consumer.run({ eachMessage })
  await until('all copies are read', () => keys.length >= COUNT)
  keys.sort((a, b) => a - b)
  assert.deepEqual(keys, Array.from({ length: COUNT }, (_, n) => n))
  consumer.seek({ topic: 'js-out', partition: 0, offset: '0' })
  await until('they are read again', () => keys.length >= 2 * COUNT)
  await consumer.disconnect()
  const times = await admin.fetchTopicOffsetsByTimestamp('js-in', 0)
  assert(times.every(({ offset }) => offset === '0'))
  const ends = await admin.fetchTopicOffsets('js-in')
  assert.equal(ends.reduce((sum, { high }) => sum + Number(high), 0), COUNT)
}

// A second member takes partitions over; what is committed is not read again.
async function share() {
  const member = async () => {
    const consumer = kafka.consumer({ groupId: 'js-shared', sessionTimeout: 10000, heartbeatInterval: 500, rebalanceTimeout: 10000 })
    let owned = []
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => { owned = payload.memberAssignment['js-in'] ?? [] })
    await consumer.connect()
    await consumer.subscribe({ topic: 'js-in', fromBeginning: true })
    await consumer.run({ eachMessage: async ({ partition, message }) => { seen.push(`${partition}/${message.offset}`) } })
    return { consumer, owned: () => owned }
  }
  const seen = []
  const first = await member()
  await until('the first reads all', () => new Set(seen).size === COUNT)
  await first.consumer.commitOffsets([])
  const second = await member()
  const shared = () => first.owned().length > 0 && second.owned().length > 0
  await until('both have partitions', () => shared() && first.owned().length + second.owned().length === 3)
  const group = await admin.describeGroups(['js-shared'])
  assert.equal(group.groups[0].members.length, 2)
  await Promise.all([first.consumer.disconnect(), second.consumer.disconnect()])
}

async function remove() {
  await admin.setOffsets({ groupId: 'js-verifier', topic: 'js-out', partitions: [{ partition: 0, offset: '7' }] })
  const [{ partitions }] = await admin.fetchOffsets({ groupId: 'js-verifier', topics: ['js-out'] })
  assert.equal(partitions[0].offset, '7')
  await admin.deleteTopicRecords({ topic: 'js-out', partitions: [{ partition: 0, offset: '10' }] })
  assert.equal((await admin.fetchTopicOffsets('js-out'))[0].low, '10')
  await admin.deleteGroups(['js-verifier', 'js-shared', 'js-copier'])
  await admin.deleteTopics({ topics: ['js-in', 'js-out'] })
  assert(!(await admin.listTopics()).includes('js-in'))
}

await admin.connect()
for (const step of [topics, produce, copy, verify, share, remove]) {
  console.log(step.name)
  await step()
}
await admin.disconnect()
console.log('done')
