import java.util.*;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.common.*;

/** Topics, their partitions and records. */
final class Topics implements AdminMethods.Part {
    private static final short ONE = 1;

    @Override
    public void tell(Book book) throws Exception {
        create(book);
        // A broker of Kafka's hears of topics a moment after its controller has answered.
        Thread.sleep(2000);
        describe(book);
        grow(book);
        delete(book);
    }

    private static NewTopic topic(String name, int partitions, Map<String, String> configs) {
        return new NewTopic(name, partitions, ONE).configs(configs);
    }

    /** Without the topics of the broker itself and of who started it. */
    private static List<String> ofOthers(Admin admin) throws Exception {
        return admin.listTopics().names().get().stream().filter(name -> !name.startsWith("_") && !name.equals("bench-ready"))
            .toList();
    }

    private static void create(Book book) {
        Admin admin = book.admin;
        book.tell("createTopics", "two", () -> {
            var made = admin.createTopics(List.of(topic("one", 3, Map.of("retention.ms", "86400000")),
                new NewTopic("default", Optional.empty(), Optional.empty())));
            return Map.of("one", made.values().get("one"), "partitions", made.numPartitions("one"),
                "replicas", made.replicationFactor("one"), "id", made.topicId("one"), "default", made.numPartitions("default"));
        });
        book.tell("createTopics", "the configuration that comes back", () -> {
            var made = admin.createTopics(List.of(topic("shown", 1, Map.of("cleanup.policy", "compact"))));
            Config config = made.config("shown").get();
            return List.of(config.get("cleanup.policy"), config.get("retention.ms"), config.get("max.message.bytes"));
        });
        book.tell("createTopics", "only validated", () -> admin.createTopics(List.of(topic("never", 2, Map.of())),
            new CreateTopicsOptions().validateOnly(true)).numPartitions("never"));
        Map<String, NewTopic> wrong = new TreeMap<>();
        wrong.put("again", topic("one", 1, Map.of()));
        wrong.put("a bad name", topic("a/b", 1, Map.of()));
        wrong.put("no name", topic("", 1, Map.of()));
        wrong.put("a dot", topic(".", 1, Map.of()));
        wrong.put("a long name", topic("x".repeat(250), 1, Map.of()));
        wrong.put("no partitions", topic("zero", 0, Map.of()));
        wrong.put("negative partitions", topic("negative", -2, Map.of()));
        wrong.put("three replicas", new NewTopic("replicas", 1, (short) 3));
        wrong.put("no replicas", new NewTopic("replicas", 1, (short) 0));
        wrong.put("an unknown configuration", topic("configured", 1, Map.of("no.such.thing", "1")));
        wrong.put("a bad value", topic("configured", 1, Map.of("retention.ms", "soon")));
        wrong.put("a value out of range", topic("configured", 1, Map.of("min.insync.replicas", "0")));
        wrong.put("assigned to an unknown broker", new NewTopic("assigned-to-an-unknown-broker", Map.of(0, List.of(9))));
        wrong.put("assigned twice to the broker", new NewTopic("assigned-twice-to-the-broker", Map.of(0, List.of(1, 1))));
        wrong.put("assigned to nobody", new NewTopic("assigned-to-nobody", Map.of(0, List.of())));
        wrong.put("assigned with a gap", new NewTopic("assigned-with-a-gap", Map.of(1, List.of(1))));
        wrong.put("assigned", new NewTopic("assigned", Map.of(0, List.of(1), 1, List.of(1))));
        wrong.put("a name that collides", topic("a.b_c", 1, Map.of()));
        wrong.put("a name that collided", topic("a_b.c", 1, Map.of()));
        wrong.forEach((name, topic) -> book.tell("createTopics", name, () -> admin.createTopics(List.of(topic)).values()));
        book.tell("createTopics", "the same twice", () -> admin.createTopics(
            List.of(topic("twice", 1, Map.of()), topic("twice", 2, Map.of()))).values());
        book.tell("createTopics", "none", () -> admin.createTopics(List.of()).values());
    }

    private static void describe(Book book) {
        Admin admin = book.admin;
        book.tell("listTopics", "names", () -> ofOthers(admin));
        book.tell("listTopics", "listings", () -> admin.listTopics(new ListTopicsOptions().listInternal(true)).namesToListings()
            .thenApply(all -> List.of(all.get("one"), all.get("shown"))));
        book.tell("describeTopics", "by name", () -> admin.describeTopics(List.of("one", "assigned")).topicNameValues());
        book.tell("describeTopics", "by name with operations", () -> admin.describeTopics(List.of("one"),
            new DescribeTopicsOptions().includeAuthorizedOperations(true)).topicNameValues());
        book.tell("describeTopics", "in small answers", () -> admin.describeTopics(List.of("one"),
            new DescribeTopicsOptions().partitionSizeLimitPerResponse(1)).topicNameValues());
        book.tell("describeTopics", "unknown and bad", () -> admin.describeTopics(List.of("nobody", "")).topicNameValues());
        book.tell("describeTopics", "by id", () -> {
            Uuid id = admin.describeTopics(List.of("one")).topicNameValues().get("one").get().topicId();
            return admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).topicIdValues();
        });
        book.tell("describeTopics", "by unknown ids", () -> admin.describeTopics(
            TopicCollection.ofTopicIds(List.of(new Uuid(1, 1), Uuid.ZERO_UUID))).topicIdValues().values());
    }

    private static void grow(Book book) {
        Admin admin = book.admin;
        Map<String, Map<String, NewPartitions>> asked = new LinkedHashMap<>();
        asked.put("more", Map.of("one", NewPartitions.increaseTo(5)));
        asked.put("as many", Map.of("one", NewPartitions.increaseTo(5)));
        asked.put("fewer", Map.of("one", NewPartitions.increaseTo(2)));
        asked.put("none", Map.of("one", NewPartitions.increaseTo(0)));
        asked.put("negative", Map.of("one", NewPartitions.increaseTo(-1)));
        asked.put("of nobody", Map.of("nobody", NewPartitions.increaseTo(2)));
        asked.put("assigned", Map.of("one", NewPartitions.increaseTo(6, List.of(List.of(1)))));
        asked.put("assigned to an unknown broker", Map.of("one", NewPartitions.increaseTo(7, List.of(List.of(9)))));
        asked.put("assigned too few", Map.of("one", NewPartitions.increaseTo(9, List.of(List.of(1)))));
        asked.put("assigned twice to the broker", Map.of("one", NewPartitions.increaseTo(7, List.of(List.of(1, 1)))));
        asked.put("two topics, one wrong", Map.of("default", NewPartitions.increaseTo(5), "nobody", NewPartitions.increaseTo(5)));
        asked.forEach((name, wanted) -> book.tell("createPartitions", name, () -> admin.createPartitions(wanted).values()));
        book.tell("createPartitions", "only validated", () -> admin.createPartitions(
            Map.of("one", NewPartitions.increaseTo(20)), new CreatePartitionsOptions().validateOnly(true)).values());
        book.tell("createPartitions", "what is there then", () -> admin.describeTopics(List.of("one")).allTopicNames()
            .thenApply(all -> all.get("one").partitions().size()));
    }

    private static void delete(Book book) throws Exception {
        Admin admin = book.admin;
        admin.createTopics(List.of(topic("gone", 1, Map.of()), topic("gone-by-id", 1, Map.of()))).all().get();
        Thread.sleep(2000);
        Uuid id = admin.describeTopics(List.of("gone-by-id")).topicNameValues().get("gone-by-id").get().topicId();
        book.tell("deleteTopics", "by name", () -> admin.deleteTopics(List.of("gone", "nobody")).topicNameValues());
        book.tell("deleteTopics", "by id", () -> admin.deleteTopics(
            TopicCollection.ofTopicIds(List.of(id))).topicIdValues().values());
        book.tell("deleteTopics", "by unknown ids", () -> admin.deleteTopics(
            TopicCollection.ofTopicIds(List.of(new Uuid(1, 1), Uuid.ZERO_UUID))).topicIdValues().values());
        book.tell("deleteTopics", "bad names", () -> admin.deleteTopics(List.of("", "a/b")).topicNameValues());
        book.tell("deleteTopics", "again", () -> admin.deleteTopics(List.of("gone")).topicNameValues());
        Book.await(() -> {
            try {
                return admin.listTopics().names().get().stream().noneMatch(name -> name.startsWith("gone"));
            } catch (Exception failure) {
                return false;
            }
        });
        book.tell("deleteTopics", "what is left", () -> ofOthers(admin));
    }
}
