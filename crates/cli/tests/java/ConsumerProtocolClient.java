import java.time.Duration;
import java.util.*;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import java.util.stream.Collectors;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidRegularExpression;
import org.apache.kafka.common.serialization.*;

/** Kafka's own consumer with group.protocol=consumer (KIP-848): three members, a broker restart, regex, static members. */
public class ConsumerProtocolClient {
    static String bootstrap;
    static Admin admin;

    /** A consumer that reads and commits in its own thread. */
    static class Member extends Thread implements ConsumerRebalanceListener {
        final KafkaConsumer<String, String> consumer;
        final Set<TopicPartition> assigned = ConcurrentHashMap.newKeySet();
        final List<String> read = Collections.synchronizedList(new ArrayList<>());
        final AtomicInteger rebalances = new AtomicInteger();
        volatile boolean going = true;
        volatile String paused;
        volatile Throwable failed;

        Member(String group, Object topics, String... more) {
            Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "group.id", group,
                "group.protocol", "consumer", "auto.offset.reset", "earliest", "enable.auto.commit", "false",
                "metadata.max.age.ms", "1000"));
            for (int at = 0; at < more.length; at += 2) config.put(more[at], more[at + 1]);
            consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
            if (topics instanceof SubscriptionPattern pattern) consumer.subscribe(pattern, this);
            else consumer.subscribe(List.of((String) topics), this);
            setDaemon(true);
            start();
        }

        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            if (!partitions.isEmpty()) rebalances.incrementAndGet();
            assigned.addAll(partitions);
        }

        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            if (!partitions.isEmpty()) rebalances.incrementAndGet();
            assigned.removeAll(partitions);
        }

        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            failed = new AssertionError("lost " + partitions);
            onPartitionsRevoked(partitions);
        }

        public void run() {
            try (consumer) {
                while (going) {
                    consumer.pause(assigned.stream().filter(p -> p.topic().equals(paused)).toList());
                    var records = consumer.poll(Duration.ofMillis(100));
                    records.forEach(r -> read.add(r.topic() + "/" + r.partition() + "/" + r.offset()));
                    if (!records.isEmpty()) consumer.commitSync();
                }
            } catch (Throwable error) {
                failed = error;
            }
        }

        Member ok() {
            if (failed != null) throw new AssertionError("a member failed", failed);
            return this;
        }

        void end() throws Exception {
            going = false;
            join(30_000);
            check("it ends", !isAlive());
            ok();
        }
    }

    static void check(String claim, boolean holds) {
        if (!holds) throw new AssertionError(claim);
    }

    static void until(String claim, BooleanSupplier holds) throws InterruptedException {
        long deadline = System.nanoTime() + 40_000_000_000L;
        while (!holds.getAsBoolean()) {
            check(claim, System.nanoTime() < deadline);
            Thread.sleep(50);
        }
    }

    static void create(String name, int partitions) throws Exception {
        admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1))).all().get();
    }

    static void produce(String topic, int count) {
        try (var producer = new KafkaProducer<>(Map.of("bootstrap.servers", bootstrap), new StringSerializer(), new StringSerializer())) {
            for (int n = 0; n < count; n++) producer.send(new ProducerRecord<>(topic, "" + n, "" + n));
        }
    }

    static boolean shared(List<Member> members, String topic, int partitions) {
        var all = members.stream().flatMap(m -> m.ok().assigned.stream()).toList();
        var sizes = members.stream().mapToInt(m -> m.assigned.size()).summaryStatistics();
        return all.size() == partitions && new HashSet<>(all).size() == partitions
            && all.stream().allMatch(p -> p.topic().equals(topic)) && sizes.getMax() - sizes.getMin() <= 1;
    }

    static int different(List<Member> members) {
        return members.stream().flatMap(m -> List.copyOf(m.ok().read).stream()).collect(Collectors.toSet()).size();
    }

    static int all(List<Member> members) {
        return members.stream().mapToInt(m -> m.read.size()).sum();
    }

    static List<Integer> rebalances(List<Member> members) {
        return members.stream().map(m -> m.rebalances.get()).toList();
    }

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        threeMembersThroughARestart();
        expressions();
        staticMembers();
        bothProtocols();
        System.out.println("done");
        System.exit(0);
    }

    static void threeMembersThroughARestart() throws Exception {
        create("orders", 6);
        produce("orders", 600);
        var members = new ArrayList<>(List.of(new Member("readers", "orders"), new Member("readers", "orders"), new Member("readers", "orders")));
        until("three members share", () -> shared(members, "orders", 6));
        until("all is read", () -> different(members) == 600);
        var before = rebalances(members);
        int read = all(members);
        System.out.println("restart");
        System.in.read();
        produce("orders", 600);
        until("all is read after a restart", () -> different(members) == 1200);
        check("nobody had to join again", rebalances(members).equals(before));
        check("nothing twice", all(members) == read + 600);

        var listed = admin.listGroups(ListGroupsOptions.forConsumerGroups()).all().get();
        check("listed: " + listed, listed.stream().anyMatch(g -> g.groupId().equals("readers") && g.type().equals(Optional.of(GroupType.CONSUMER))));
        var described = admin.describeConsumerGroups(List.of("readers")).all().get().get("readers");
        check("described: " + described, described.groupState() == GroupState.STABLE && described.members().size() == 3
            && described.partitionAssignor().equals("uniform") && described.groupEpoch().isPresent()
            && described.members().stream().allMatch(m -> m.upgraded().equals(Optional.of(true)) && m.assignment().topicPartitions().size() == 2));
        try {
            admin.deleteConsumerGroups(List.of("readers")).all().get();
            throw new AssertionError("a group with members was deleted");
        } catch (ExecutionException error) {
            check("" + error, error.getCause() instanceof GroupNotEmptyException);
        }
        var resource = new ConfigResource(ConfigResource.Type.GROUP, "readers");
        admin.incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(new ConfigEntry("consumer.session.timeout.ms", "9000"), AlterConfigOp.OpType.SET)))).all().get();
        var config = admin.describeConfigs(List.of(resource)).all().get().get(resource).get("consumer.session.timeout.ms");
        check("" + config, config.value().equals("9000") && config.source() == ConfigEntry.ConfigSource.DYNAMIC_GROUP_CONFIG);

        members.remove(0).end();
        until("two members share", () -> shared(members, "orders", 6));
        admin.createPartitions(Map.of("orders", NewPartitions.increaseTo(8))).all().get();
        until("new partitions are shared", () -> shared(members, "orders", 8));
        for (var member : members) member.end();
        var offsets = admin.listConsumerGroupOffsets("readers").partitionsToOffsetAndMetadata().get();
        check("" + offsets, offsets.values().stream().filter(Objects::nonNull).mapToLong(OffsetAndMetadata::offset).sum() == 1200);
        admin.deleteConsumerGroups(List.of("readers")).all().get();
    }

    static void expressions() throws Exception {
        create("pay-a", 2);
        // With an expression, the client (4.3.1) asks for metadata by topic id, and throws on the answer for a topic
        // that is gone: so it has no reason to ask while one goes.
        var member = new Member("payers", new SubscriptionPattern("pay-.*"), "metadata.max.age.ms", "300000");
        until("the expression matches", () -> shared(List.of(member), "pay-a", 2));
        create("pay-b", 1);
        until("a new topic matches", () -> member.ok().assigned.contains(new TopicPartition("pay-b", 0)));
        member.paused = "pay-a";
        Thread.sleep(1_000);
        admin.deleteTopics(List.of("pay-a")).all().get();
        until("a deleted topic is gone", () -> shared(List.of(member), "pay-b", 1));
        member.end();
        var wrong = new Member("wrong", new SubscriptionPattern("pay-["));
        until("what is no expression is refused", () -> wrong.failed instanceof InvalidRegularExpression);
    }

    static void staticMembers() throws Exception {
        create("fixed", 4);
        var one = new Member("static", "fixed", "group.instance.id", "one");
        var two = new Member("static", "fixed", "group.instance.id", "two", "group.remote.assignor", "range");
        until("two static members share", () -> shared(List.of(one, two), "fixed", 4));
        var had = Set.copyOf(one.assigned);
        int before = two.rebalances.get();
        one.end();
        var again = new Member("static", "fixed", "group.instance.id", "one");
        until("it has what it had", () -> again.ok().assigned.equals(had));
        check("the other member was disturbed", two.rebalances.get() == before);
        again.end();
        two.end();
    }

    static void bothProtocols() throws Exception {
        create("mixed", 4);
        for (String assignor : List.of("RangeAssignor", "CooperativeStickyAssignor")) {
            String group = "mixed-" + assignor;
            var classic = new Member(group, "mixed", "group.protocol", "classic", "session.timeout.ms", "6000", "heartbeat.interval.ms", "300",
                "partition.assignment.strategy", "org.apache.kafka.clients.consumer." + assignor);
            until("a classic member alone", () -> shared(List.of(classic), "mixed", 4));
            var modern = new Member(group, "mixed");
            until("both share", () -> shared(List.of(classic, modern), "mixed", 4));
            modern.end();
            until("the classic member alone again", () -> shared(List.of(classic), "mixed", 4));
            classic.end();
        }
    }
}
