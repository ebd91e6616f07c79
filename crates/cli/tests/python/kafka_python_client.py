"""kafka-python: admin, idempotent producer, two consumers of one group that share the partitions."""
import sys
import threading
import time

from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

bootstrap = sys.argv[1]
admin = KafkaAdminClient(bootstrap_servers=bootstrap)
admin.create_topics([NewTopic("python", num_partitions=4, replication_factor=1)])
producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", compression_type="gzip")
sent = [producer.send("python", key=b"%d" % n, value=b"value %d" % n, headers=[("n", b"%d" % n)]) for n in range(2000)]
producer.flush()
assert all(future.get(timeout=10).offset >= 0 for future in sent)

seen, lock = {}, threading.Lock()


def consume(name):
    consumer = KafkaConsumer("python", bootstrap_servers=bootstrap, group_id="pythons", auto_offset_reset="earliest",
                             consumer_timeout_ms=1000, session_timeout_ms=10000, client_id=name)
    deadline = time.time() + 30
    while time.time() < deadline:
        for record in consumer:
            with lock:
                seen[(record.partition, record.offset)] = (record.key, record.value, record.headers)
        with lock:
            if len(seen) == 2000:
                break
    consumer.close()


threads = [threading.Thread(target=consume, args=(f"member-{n}",)) for n in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(seen) == 2000, len(seen)
assert sorted(int(key) for key, _, _ in seen.values()) == list(range(2000))
assert all(headers == [("n", key)] for key, _, headers in seen.values())
offsets = admin.list_group_offsets("pythons") if hasattr(admin, "list_group_offsets") else admin.list_consumer_group_offsets("pythons")
print(offsets)
print("done")
