import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.PartitionInfo;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * What goes into a topic and what comes out of one, without Flink: each record is told in a line, when the broker has
 * acknowledged it (or committed its transaction), and when a reader of committed records has got it.
 *
 * <pre>
 * FlinkRecords BOOTSTRAP produce TOPIC KIND FIRST COUNT RATE PARTITION PARTITIONS TIME
 * FlinkRecords BOOTSTRAP read TOPIC COUNT
 * FlinkRecords BOOTSTRAP partitions TOPIC COUNT
 * FlinkRecords BOOTSTRAP group GROUP
 * </pre>
 */
public class FlinkRecords {
    static final long PATIENCE = TimeUnit.SECONDS.toNanos(90);
    static final long QUIET = TimeUnit.SECONDS.toNanos(3);
    static String bootstrap;

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        String topic = arguments[2];
        switch (arguments[1]) {
            case "produce": produce(topic, arguments[3], Arrays.stream(arguments).skip(4).mapToLong(Long::parseLong).toArray()); break;
            case "read": read(topic, Integer.parseInt(arguments[3])); break;
            case "partitions":
                try (Admin admin = admin()) {
                    admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(Integer.parseInt(arguments[3])))).all().get();
                }
                break;
            case "group": group(topic); break;
            default: throw new IllegalArgumentException(arguments[1]);
        }
        System.out.println("done");
        System.out.flush();
        System.exit(0);
    }

    static Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", bootstrap));
    }

    /** With a COUNT of 0 it goes on until there is no more input. RATE is records a second, 0 as quickly as it goes. */
    static void produce(String topic, String kind, long[] numbers) throws Exception {
        long first = numbers[0], count = numbers[1], rate = numbers[2], time = numbers[5];
        int partition = (int) numbers[3], partitions = (int) numbers[4];
        boolean transactional = kind.equals("transactional");
        Map<String, Object> settings = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "acks", "all", "linger.ms", 5,
            "enable.idempotence", true, "compression.type", kind.equals("varied") ? "zstd" : "none"));
        if (transactional) settings.put("transactional.id", "producer-of-" + topic);
        AtomicReference<Exception> refused = new AtomicReference<>();
        Thread input = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {}
            } catch (java.io.IOException closed) {
                // As good as its end.
            }
        });
        input.setDaemon(true);
        if (count == 0) input.start();
        List<String> told = Collections.synchronizedList(new ArrayList<>());
        try (var producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            if (transactional) producer.initTransactions();
            long begun = System.nanoTime();
            for (long sent = 0; count == 0 ? input.isAlive() : sent < count; sent++) {
                if (transactional && sent % 100 == 0) producer.beginTransaction();
                var record = record(topic, kind, partition, partitions, first + sent, time);
                String line = line(record.partition(), record.timestamp(), record.key(), record.value(), record.headers().toArray());
                producer.send(record, (where, error) -> {
                    if (error != null) refused.compareAndSet(null, error);
                    else if (transactional) told.add(line);
                    else System.out.println(line);
                });
                if (transactional && sent % 100 == 99) {
                    producer.flush();
                    // Every third is thrown away, and nobody may see it.
                    if (sent / 100 % 3 == 1) {
                        producer.abortTransaction();
                    } else {
                        producer.commitTransaction();
                        told.forEach(System.out::println);
                    }
                    told.clear();
                }
                long due = rate == 0 ? 0 : begun + sent * 1_000_000_000 / rate - System.nanoTime();
                if (due > 1_000_000) Thread.sleep(due / 1_000_000);
            }
        }
        if (refused.get() != null) throw refused.get();
    }

    static ProducerRecord<byte[], byte[]> record(String topic, String kind, int partition, int partitions, long number, long time) {
        int to = partition + (int) (number % partitions);
        byte[] key = ("k" + number).getBytes(StandardCharsets.UTF_8);
        byte[] value = ("v" + number).getBytes(StandardCharsets.UTF_8);
        RecordHeaders headers = new RecordHeaders();
        if (kind.equals("varied")) {
            Random random = new Random(number);
            if (number % 5 == 0) key = null;
            if (number % 5 == 1) key = new byte[0];
            if (number % 7 == 0) value = null;
            if (number % 7 == 1) value = new byte[0];
            if (number % 50 == 2) random.nextBytes(value = new byte[100_000]);
            for (int each = 0; each < number % 4; each++) {
                byte[] said = new byte[each * 3];
                random.nextBytes(said);
                // One name comes twice, and one has no value.
                headers.add(each == 1 ? "größe" : "name", each == 1 && number % 8 == 3 ? null : said);
            }
        }
        return new ProducerRecord<>(topic, to, time + number, key, value, headers);
    }

    /** Reads until COUNT records are there and no other has come for a while, or patience ends. */
    static void read(String topic, int count) {
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "isolation.level", "read_committed");
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> all = new ArrayList<>();
            for (PartitionInfo part : consumer.partitionsFor(topic)) all.add(new TopicPartition(topic, part.partition()));
            consumer.assign(all);
            consumer.seekToBeginning(all);
            long begun = System.nanoTime(), last = begun;
            int got = 0;
            while ((got < count || System.nanoTime() - last < QUIET) && System.nanoTime() - begun < PATIENCE) {
                for (var record : consumer.poll(Duration.ofMillis(200))) {
                    System.out.println(line(record.partition(), record.timestamp(), record.key(), record.value(), record.headers().toArray()));
                    last = System.nanoTime();
                    got++;
                }
            }
        }
    }

    /** The committed offsets of a group, each beside its partition's end, and how the group is. */
    static void group(String group) throws Exception {
        try (Admin admin = admin()) {
            var committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
            Map<TopicPartition, org.apache.kafka.clients.admin.OffsetSpec> ends = new HashMap<>();
            committed.keySet().forEach(part -> ends.put(part, org.apache.kafka.clients.admin.OffsetSpec.latest()));
            var latest = admin.listOffsets(ends).all().get();
            var sorted = new TreeMap<String, String>();
            committed.forEach((part, at) -> sorted.put(part.toString(), at.offset() + " of " + latest.get(part).offset()));
            sorted.forEach((part, at) -> System.out.println("offset " + part + " " + at));
            var described = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            System.out.println("group " + described.groupState() + " with " + described.members().size() + " members");
            boolean listed = admin.listGroups().all().get().stream().anyMatch(each -> each.groupId().equals(group));
            System.out.println(listed ? "listed" : "not listed");
        }
    }

    static String line(int partition, long timestamp, byte[] key, byte[] value, Header[] headers) {
        StringBuilder line = new StringBuilder("record " + partition + " " + timestamp + " " + hex(key) + " " + hex(value));
        for (Header header : headers) {
            line.append(' ').append(hex(header.key().getBytes(StandardCharsets.UTF_8))).append('=').append(hex(header.value()));
        }
        return line.toString();
    }

    static String hex(byte[] bytes) {
        return bytes == null ? "null" : "0x" + HexFormat.of().formatHex(bytes);
    }
}
