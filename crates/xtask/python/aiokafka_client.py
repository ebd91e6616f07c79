"""aiokafka: admin, transactions with offsets, read_committed, a group that two members share, offsets by time, headers."""
import asyncio
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError

bootstrap = sys.argv[1]
COUNT = 600


async def topics():
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    wanted = [NewTopic("aio-in", num_partitions=3, replication_factor=1), NewTopic("aio-out", num_partitions=1, replication_factor=1)]
    await admin.create_topics(wanted)
    try:
        answer = await admin.create_topics(wanted[:1])
        assert answer.topic_errors[0][1] == TopicAlreadyExistsError.errno, answer
    except TopicAlreadyExistsError:
        pass
    assert {"aio-in", "aio-out"} <= set(await admin.list_topics())
    await admin.close()


async def produce():
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, compression_type="gzip") as producer:
        sent = [await producer.send("aio-in", key=b"%d" % n, value=b"value %d" % n, headers=[("n", b"%d" % n)]) for n in range(COUNT)]
        answers = await asyncio.gather(*sent)
    assert len({(one.partition, one.offset) for one in answers}) == COUNT


async def copy():
    """Every third batch is aborted and read again."""
    consumer = AIOKafkaConsumer("aio-in", bootstrap_servers=bootstrap, group_id="aio-copier", auto_offset_reset="earliest",
                                enable_auto_commit=False, isolation_level="read_committed", session_timeout_ms=10000)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="aio-copier")
    async with consumer, producer:
        copied, tries, deadline = 0, 0, time.time() + 60
        while copied < COUNT and time.time() < deadline:
            batches = await consumer.getmany(timeout_ms=500, max_records=50)
            if not batches:
                continue
            tries += 1
            await producer.begin_transaction()
            for records in batches.values():
                for record in records:
                    await producer.send("aio-out", key=record.key, value=record.value, headers=list(record.headers))
            ends = {partition: records[-1].offset + 1 for partition, records in batches.items()}
            await producer.send_offsets_to_transaction(ends, "aio-copier")
            if tries % 3 == 0:
                await producer.abort_transaction()
                for partition, records in batches.items():
                    consumer.seek(partition, records[0].offset)
                continue
            await producer.commit_transaction()
            copied += sum(len(records) for records in batches.values())
    assert copied == COUNT, copied


async def verify():
    out = TopicPartition("aio-out", 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed")
    async with consumer:
        consumer.assign([out])
        keys, deadline = [], time.time() + 30
        while len(keys) < COUNT and time.time() < deadline:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                keys += [int(record.key) for record in records]
                assert all(record.headers == (("n", record.key),) for record in records)
        assert sorted(keys) == list(range(COUNT)), len(keys)
        assert (await consumer.beginning_offsets([out]))[out] == 0
        by_time = await consumer.offsets_for_times({out: 0})
        assert by_time[out].offset == 0, by_time
        assert (await consumer.offsets_for_times({out: int(time.time() * 1000) + 60000}))[out] is None


async def share():
    """A second member takes partitions over, and what was committed is not read again."""
    options = dict(bootstrap_servers=bootstrap, group_id="aio-shared", auto_offset_reset="earliest", session_timeout_ms=10000,
                   heartbeat_interval_ms=500)
    first = AIOKafkaConsumer("aio-in", **options)
    second = AIOKafkaConsumer("aio-in", **options)
    async with first:
        async with second:
            deadline = time.time() + 60
            while not (first.assignment() and second.assignment()) and time.time() < deadline:
                await asyncio.gather(first.getmany(timeout_ms=200), second.getmany(timeout_ms=200))
            assert len(first.assignment() | second.assignment()) == 3 and not first.assignment() & second.assignment()


async def main():
    for step in (topics, produce, copy, verify, share):
        await asyncio.wait_for(step(), 90)
    print("done")


asyncio.run(main())
