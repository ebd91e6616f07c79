import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;

/**
 * Three share consumers in one group: {@code ADDRESS explicit|implicit RECORDS}.
 *
 * Says "underway" when a third is done, and "done" in the end when every record was accepted or rejected and none came
 * again after that had been confirmed.
 */
public class ShareConsumers {
    static final String TOPIC = "orders";
    static final String GROUP = "workers";

    /** Confirmed, by "partition:offset". */
    static final Set<String> accepted = ConcurrentHashMap.newKeySet();
    static final Set<String> rejected = ConcurrentHashMap.newKeySet();
    /** Acknowledged, but the answer did not come. */
    static final Set<String> unanswered = ConcurrentHashMap.newKeySet();
    static final AtomicLong released = new AtomicLong();
    static final Queue<String> wrong = new ConcurrentLinkedQueue<>();

    static Properties properties(String address) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", address);
        properties.put("reconnect.backoff.max.ms", "200");
        return properties;
    }

    static void produce(String address, int count) throws Exception {
        Properties properties = properties(address);
        properties.put("batch.size", "2000");
        try (var producer = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int n = 0; n < count; n++) {
                sent.add(producer.send(new ProducerRecord<>(TOPIC, n % 3, null, "value " + n)));
            }
            for (Future<RecordMetadata> one : sent) one.get();
        }
    }

    static AcknowledgeType judge(ConsumerRecord<String, String> record) {
        if (record.offset() % 50 == 7) return AcknowledgeType.REJECT;
        boolean isFirst = record.deliveryCount().orElseThrow() == 1;
        return isFirst && record.offset() % 10 == 3 ? AcknowledgeType.RELEASE : AcknowledgeType.ACCEPT;
    }

    static void consume(String address, boolean explicit, AtomicBoolean over) {
        Properties properties = properties(address);
        properties.put("group.id", GROUP);
        properties.put("share.acknowledgement.mode", explicit ? "explicit" : "implicit");
        properties.put("max.poll.records", "200");
        var strings = new StringDeserializer();
        try (var consumer = new KafkaShareConsumer<>(properties, strings, strings)) {
            consumer.subscribe(List.of(TOPIC));
            while (!over.get()) {
                Map<TopicPartition, Map<String, AcknowledgeType>> settled = new HashMap<>();
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
                    String name = record.partition() + ":" + record.offset();
                    if (accepted.contains(name)) wrong.add(name + " came again after it was accepted");
                    if (rejected.contains(name)) wrong.add(name + " came again after it was rejected");
                    AcknowledgeType type = explicit ? judge(record) : AcknowledgeType.ACCEPT;
                    if (explicit) consumer.acknowledge(record, type);
                    if (type == AcknowledgeType.RELEASE) released.incrementAndGet();
                    var partition = new TopicPartition(TOPIC, record.partition());
                    settled.computeIfAbsent(partition, any -> new HashMap<>()).put(name, type);
                }
                if (!settled.isEmpty()) confirm(settled, consumer.commitSync(Duration.ofSeconds(30)));
            }
        } catch (Exception error) {
            wrong.add(error.toString());
        }
    }

    static void confirm(
        Map<TopicPartition, Map<String, AcknowledgeType>> settled,
        Map<TopicIdPartition, Optional<KafkaException>> outcome
    ) {
        Set<TopicPartition> confirmed = new HashSet<>();
        outcome.forEach((partition, error) -> {
            if (error.isEmpty()) confirmed.add(partition.topicPartition());
        });
        settled.forEach((partition, records) -> records.forEach((name, type) -> {
            if (type == AcknowledgeType.RELEASE) return;
            if (!confirmed.contains(partition)) unanswered.add(name);
            else if (type == AcknowledgeType.REJECT) rejected.add(name);
            else if (!accepted.add(name)) wrong.add(name + " was accepted twice");
        }));
    }

    /** How many records are not settled; -1 while nobody can say. */
    static long lag(Admin admin) throws InterruptedException {
        try {
            var specs = Map.of(GROUP, new ListShareGroupOffsetsSpec());
            var offsets = admin.listShareGroupOffsets(specs).partitionsToOffsetInfo(GROUP).get(10, TimeUnit.SECONDS);
            if (offsets.size() < 3) return -1;
            long lag = 0;
            for (SharePartitionOffsetInfo partition : offsets.values()) lag += partition.lag().orElseThrow();
            return lag;
        } catch (ExecutionException | TimeoutException error) {
            // Not there yet, or the broker is away.
            return -1;
        }
    }

    public static void main(String[] arguments) throws Exception {
        String address = arguments[0];
        boolean explicit = arguments[1].equals("explicit");
        int count = Integer.parseInt(arguments[2]);
        try (Admin admin = Admin.create(properties(address))) {
            var group = new ConfigResource(ConfigResource.Type.GROUP, GROUP);
            var earliest = new ConfigEntry("share.auto.offset.reset", "earliest");
            var change = new AlterConfigOp(earliest, AlterConfigOp.OpType.SET);
            admin.incrementalAlterConfigs(Map.of(group, List.of(change))).all().get();
            produce(address, count);
            AtomicBoolean over = new AtomicBoolean();
            List<Thread> consumers = new ArrayList<>();
            for (int n = 0; n < 3; n++) {
                Thread consumer = new Thread(() -> consume(address, explicit, over));
                consumer.start();
                consumers.add(consumer);
            }
            long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(120);
            boolean underway = false;
            // The group's lag also knows what became of acknowledgements that were not answered.
            while (lag(admin) != 0 && wrong.isEmpty()) {
                if (!underway && accepted.size() + rejected.size() >= count / 3) {
                    underway = true;
                    System.out.println("underway");
                }
                if (System.nanoTime() > deadline) wrong.add("not finished in time: lag " + lag(admin));
                Thread.sleep(2);
            }
            over.set(true);
            for (Thread consumer : consumers) consumer.join();
        }
        Set<String> known = new HashSet<>(accepted);
        known.addAll(rejected);
        known.addAll(unanswered);
        if (known.size() != count) wrong.add(known.size() + " of " + count + " records are known");
        System.out.printf("accepted %d rejected %d unanswered %d%n", accepted.size(), rejected.size(), unanswered.size());
        if (released.get() > 0) System.out.println("released " + released);
        wrong.stream().limit(20).forEach(System.out::println);
        System.out.println(wrong.isEmpty() ? "done" : "failed");
    }
}
