import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * What services have done since Kafka 2.8, in calls that every client since then has: admin, every codec, a group that
 * rebalances cooperatively, transactions with offsets, a zombie.
 */
public class OldClient {
    static final int RECORDS = 1000;
    static String bootstrap;

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            topics(admin);
            produce();
            share();
            copy();
            zombie();
            afterwards(admin);
        }
        System.out.println("done");
        System.exit(0);
    }

    static void check(boolean holds, Object otherwise) {
        if (!holds) throw new AssertionError(String.valueOf(otherwise));
    }

    static void topics(Admin admin) throws Exception {
        admin.createTopics(List.of(new NewTopic("old-in", 4, (short) 1), new NewTopic("old-out", 1, (short) 1))).all().get(20, TimeUnit.SECONDS);
        try {
            admin.createTopics(List.of(new NewTopic("old-in", 1, (short) 1))).all().get();
            throw new AssertionError("a topic was made twice");
        } catch (ExecutionException refused) {
            check(refused.getCause() instanceof TopicExistsException, refused);
        }
        ConfigResource of = new ConfigResource(ConfigResource.Type.TOPIC, "old-out");
        admin.incrementalAlterConfigs(Map.of(of, List.of(
            new AlterConfigOp(new ConfigEntry("retention.ms", "86400000"), AlterConfigOp.OpType.SET)))).all().get();
        // Apache Kafka's broker hears of a change later than who asked its controller for it.
        Config config;
        long late = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
        do {
            config = admin.describeConfigs(List.of(of)).values().get(of).get();
        } while (!config.get("retention.ms").value().equals("86400000") && System.nanoTime() < late);
        check(config.get("retention.ms").value().equals("86400000"), config.get("retention.ms"));
        check(admin.describeCluster().nodes().get().size() == 1, "the nodes");
        try (var reader = consumer()) {
            check(reader.partitionsFor("old-in").size() == 4, "the partitions");
        }
    }

    static Map<String, Object> settings(Object... more) {
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", bootstrap));
        for (int at = 0; at < more.length; at += 2) settings.put((String) more[at], more[at + 1]);
        return settings;
    }

    static Producer<String, String> producer(Object... more) {
        return new KafkaProducer<>(settings(more), new StringSerializer(), new StringSerializer());
    }

    static Consumer<String, String> consumer(Object... more) {
        Map<String, Object> settings = settings(more);
        settings.putIfAbsent("auto.offset.reset", "earliest");
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    static void produce() throws Exception {
        int number = 0;
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            try (var producer = producer("enable.idempotence", true, "acks", "all", "compression.type", codec, "linger.ms", 5)) {
                for (int each = 0; each < RECORDS / 5; each++, number++) {
                    producer.send(new ProducerRecord<>("old-in", "" + number, "value " + number));
                }
            }
        }
    }

    /** A second member takes partitions over without the first giving up all it has. */
    static void share() {
        Object[] group = {"group.id", "old-shared", "partition.assignment.strategy", CooperativeStickyAssignor.class.getName(),
            "heartbeat.interval.ms", 200};
        Set<String> seen = new HashSet<>();
        try (var first = consumer(group); var second = consumer(group)) {
            first.subscribe(List.of("old-in"));
            second.subscribe(List.of("old-in"));
            long late = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
            while ((seen.size() < RECORDS || first.assignment().size() != 2 || second.assignment().size() != 2)
                && System.nanoTime() < late) {
                first.poll(Duration.ofMillis(100)).forEach(record -> seen.add(record.key()));
                second.poll(Duration.ofMillis(100)).forEach(record -> seen.add(record.key()));
            }
            check(first.assignment().size() == 2 && second.assignment().size() == 2, first.assignment() + " " + second.assignment());
        }
        check(seen.size() == RECORDS, seen.size());
    }

    /** Every third transaction is thrown away, and what it read is read again. */
    static void copy() {
        int copied = 0;
        try (var consumer = consumer("group.id", "old-copier", "enable.auto.commit", false, "isolation.level", "read_committed",
                "max.poll.records", 50);
             var producer = producer("transactional.id", "old-copier")) {
            producer.initTransactions();
            consumer.subscribe(List.of("old-in"));
            long late = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
            for (int turn = 0; copied < RECORDS && System.nanoTime() < late; ) {
                var records = consumer.poll(Duration.ofMillis(500));
                if (records.isEmpty()) continue;
                producer.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> ends = new HashMap<>();
                for (var record : records) {
                    producer.send(new ProducerRecord<>("old-out", record.key(), record.value()));
                    ends.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
                }
                producer.sendOffsetsToTransaction(ends, consumer.groupMetadata());
                if (++turn % 3 == 0) {
                    producer.abortTransaction();
                    for (var partition : records.partitions()) consumer.seek(partition, records.records(partition).get(0).offset());
                    continue;
                }
                producer.commitTransaction();
                copied += records.count();
            }
        }
        check(copied == RECORDS, copied);
        List<String> keys = new ArrayList<>();
        try (var reader = consumer("isolation.level", "read_committed")) {
            TopicPartition out = new TopicPartition("old-out", 0);
            reader.assign(List.of(out));
            reader.seekToBeginning(List.of(out));
            long end = reader.endOffsets(List.of(out)).get(out);
            while (reader.position(out) < end) reader.poll(Duration.ofMillis(200)).forEach(record -> keys.add(record.key()));
        }
        check(keys.size() == RECORDS && new HashSet<>(keys).size() == RECORDS, keys.size());
    }

    static void zombie() {
        try (var first = producer("transactional.id", "old-zombie"); var second = producer("transactional.id", "old-zombie")) {
            first.initTransactions();
            first.beginTransaction();
            second.initTransactions();
            try {
                first.send(new ProducerRecord<>("old-out", "zombie", "zombie"));
                first.commitTransaction();
                throw new AssertionError("the zombie committed");
            } catch (RuntimeException fenced) {
                System.out.println("fenced: " + fenced);
            }
        }
    }

    static void afterwards(Admin admin) throws Exception {
        var offsets = admin.listConsumerGroupOffsets("old-copier").partitionsToOffsetAndMetadata().get();
        check(offsets.values().stream().mapToLong(OffsetAndMetadata::offset).sum() == RECORDS, offsets);
        check(admin.describeConsumerGroups(List.of("old-copier")).all().get().containsKey("old-copier"), "the group");
        TopicPartition out = new TopicPartition("old-out", 0);
        check(admin.listOffsets(Map.of(out, OffsetSpec.earliest())).partitionResult(out).get().offset() == 0, "the first offset");
        admin.deleteRecords(Map.of(out, RecordsToDelete.beforeOffset(5))).all().get();
        check(admin.listOffsets(Map.of(out, OffsetSpec.earliest())).partitionResult(out).get().offset() == 5, "the first offset then");
        admin.deleteConsumerGroups(List.of("old-copier", "old-shared")).all().get(20, TimeUnit.SECONDS);
        admin.deleteTopics(List.of("old-in")).all().get();
    }
}
