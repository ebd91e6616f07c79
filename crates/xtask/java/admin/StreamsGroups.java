import java.time.Duration;
import java.util.*;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.*;
import org.apache.kafka.streams.kstream.Materialized;

/** Streams groups (KIP-1071), while an application runs and when it has ended. */
final class StreamsGroups implements AdminMethods.Part {
    private static final String GROUP = "counting", TOPIC = "words";
    private static final TopicPartition FIRST = new TopicPartition(TOPIC, 0);
    private final String directory;

    StreamsGroups(String directory) {
        this.directory = directory;
    }

    @Override
    public void tell(Book book) throws Exception {
        Admin admin = book.admin;
        admin.createTopics(List.of(new NewTopic(TOPIC, 2, (short) 1))).all().get();
        book.write(TOPIC, 0, 5);
        Properties settings = new Properties();
        settings.putAll(book.settings("application.id", GROUP, "group.protocol", "streams", "state.dir", directory,
            "auto.offset.reset", "earliest", "commit.interval.ms", "100"));
        settings.put("default.key.serde", Serdes.StringSerde.class);
        settings.put("default.value.serde", Serdes.StringSerde.class);
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(TOPIC).groupBy((key, value) -> value).count(Materialized.as("counts"));
        try (KafkaStreams streams = new KafkaStreams(builder.build(), settings)) {
            streams.start();
            Book.await(() -> streams.state() == KafkaStreams.State.RUNNING && state(admin) == GroupState.STABLE
                && committed(admin) == 5);
            live(book);
            streams.close(Duration.ofSeconds(20));
        }
        Book.await(() -> state(admin) == GroupState.EMPTY);
        empty(book);
    }

    private static GroupState state(Admin admin) {
        try {
            return admin.describeStreamsGroups(List.of(GROUP)).all().get().get(GROUP).groupState();
        } catch (Exception failure) {
            return GroupState.UNKNOWN;
        }
    }

    private static long committed(Admin admin) {
        try {
            var offsets = admin.listStreamsGroupOffsets(Map.of(GROUP, new ListStreamsGroupOffsetsSpec()))
                .partitionsToOffsetAndMetadata(GROUP).get();
            return offsets.containsKey(FIRST) ? offsets.get(FIRST).offset() : -1;
        } catch (Exception failure) {
            return -1;
        }
    }

    private static void live(Book book) {
        Admin admin = book.admin;
        book.tell("describeStreamsGroups", "each", () -> admin.describeStreamsGroups(List.of(GROUP, "nobody", "")).describedGroups());
        book.tell("describeStreamsGroups", "with operations", () -> admin.describeStreamsGroups(List.of(GROUP),
            new DescribeStreamsGroupsOptions().includeAuthorizedOperations(true)).describedGroups().get(GROUP)
            .thenApply(StreamsGroupDescription::authorizedOperations));
        book.tell("listGroups", "streams groups", () -> admin.listGroups(ListGroupsOptions.forStreamsGroups()).all());
        book.tell("alterStreamsGroupOffsets", "in use", () -> admin.alterStreamsGroupOffsets(GROUP,
            Map.of(FIRST, new OffsetAndMetadata(1))).partitionResult(FIRST));
        book.tell("deleteStreamsGroupOffsets", "in use", () -> admin.deleteStreamsGroupOffsets(GROUP, Set.of(FIRST)).partitionResult(FIRST));
        book.tell("deleteStreamsGroups", "in use", () -> admin.deleteStreamsGroups(List.of(GROUP)).deletedGroups());
        book.tell("describeConsumerGroups", "a streams group", () -> admin.describeConsumerGroups(List.of(GROUP)).describedGroups());
        book.tell("describeTopics", "a streams group's own", () -> admin.describeTopics(
            List.of("counting-counts-changelog", "counting-counts-repartition")).allTopicNames().thenApply(all -> all.keySet()));
    }

    private static void empty(Book book) {
        Admin admin = book.admin;
        TopicPartition none = new TopicPartition("nothing", 0);
        book.tell("listStreamsGroupOffsets", "some", () -> admin.listStreamsGroupOffsets(Map.of(GROUP,
            new ListStreamsGroupOffsetsSpec().topicPartitions(List.of(FIRST, none)))).partitionsToOffsetAndMetadata(GROUP)
            .thenApply(offsets -> offsets.get(FIRST).offset() + " " + offsets.get(none)));
        book.tell("listStreamsGroupOffsets", "unknown group", () -> admin.listStreamsGroupOffsets(
            Map.of("nobody", new ListStreamsGroupOffsetsSpec())).partitionsToOffsetAndMetadata("nobody"));
        book.tell("alterStreamsGroupOffsets", "to 1", () -> admin.alterStreamsGroupOffsets(GROUP,
            Map.of(FIRST, new OffsetAndMetadata(1))).partitionResult(FIRST));
        book.tell("deleteStreamsGroupOffsets", "one", () -> admin.deleteStreamsGroupOffsets(GROUP, Set.of(FIRST)).partitionResult(FIRST));
        book.tell("deleteStreamsGroupOffsets", "no such topic", () -> admin.deleteStreamsGroupOffsets(GROUP, Set.of(none)).partitionResult(none));
        book.tell("deleteStreamsGroups", "each", () -> admin.deleteStreamsGroups(List.of(GROUP, "nobody")).deletedGroups());
        book.tell("describeStreamsGroups", "deleted", () -> admin.describeStreamsGroups(List.of(GROUP)).describedGroups());
    }
}
