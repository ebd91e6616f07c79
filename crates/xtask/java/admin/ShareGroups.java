import java.util.*;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;

/** Share groups (KIP-932), with a member and without. */
final class ShareGroups implements AdminMethods.Part {
    private static final String TOPIC = "shared";
    private static final TopicPartition FIRST = new TopicPartition(TOPIC, 0);

    @Override
    public void tell(Book book) throws Exception {
        Admin admin = book.admin;
        admin.createTopics(List.of(new NewTopic(TOPIC, 2, (short) 1))).all().get();
        book.write(TOPIC, 0, 5);
        ConfigResource group = new ConfigResource(ConfigResource.Type.GROUP, "sharers");
        admin.incrementalAlterConfigs(Map.of(group, List.of(new AlterConfigOp(
            new ConfigEntry("share.auto.offset.reset", "earliest"), OpType.SET)))).all().get();
        try (Members members = new Members()) {
            members.share(book.settings("group.id", "sharers"), TOPIC);
            live(book);
        }
        Book.await(() -> {
            try {
                return admin.describeShareGroups(List.of("sharers")).all().get().get("sharers").groupState() == GroupState.EMPTY;
            } catch (Exception failure) {
                return false;
            }
        });
        empty(book);
    }

    private static void live(Book book) {
        Admin admin = book.admin;
        book.tell("describeShareGroups", "each", () -> admin.describeShareGroups(List.of("sharers", "nobody", "")).describedGroups());
        book.tell("describeShareGroups", "with operations", () -> admin.describeShareGroups(List.of("sharers"),
            new DescribeShareGroupsOptions().includeAuthorizedOperations(true)).describedGroups());
        book.tell("listGroups", "share groups", () -> admin.listGroups(ListGroupsOptions.forShareGroups()).all());
        book.tell("listGroups", "share groups by type", () -> admin.listGroups(
            new ListGroupsOptions().withTypes(Set.of(GroupType.SHARE))).all());
        book.tell("alterShareGroupOffsets", "in use", () -> admin.alterShareGroupOffsets("sharers", Map.of(FIRST, 1L)).partitionResult(FIRST));
        book.tell("deleteShareGroupOffsets", "in use", () -> admin.deleteShareGroupOffsets("sharers", Set.of(TOPIC)).topicResult(TOPIC));
        book.tell("deleteShareGroups", "in use", () -> admin.deleteShareGroups(List.of("sharers")).deletedGroups());
        book.tell("describeConsumerGroups", "a share group", () -> admin.describeConsumerGroups(List.of("sharers")).describedGroups());
        book.tell("deleteConsumerGroups", "a share group", () -> admin.deleteConsumerGroups(List.of("sharers")).deletedGroups());
    }

    private static void empty(Book book) {
        Admin admin = book.admin;
        TopicPartition beyond = new TopicPartition(TOPIC, 9), none = new TopicPartition("nothing", 0);
        book.tell("describeShareGroups", "empty", () -> admin.describeShareGroups(List.of("sharers")).describedGroups());
        book.tell("alterShareGroupOffsets", "to 2", () -> admin.alterShareGroupOffsets("sharers", Map.of(FIRST, 2L)).partitionResult(FIRST));
        book.tell("alterShareGroupOffsets", "no such partition", () -> admin.alterShareGroupOffsets("sharers",
            Map.of(beyond, 2L)).partitionResult(beyond));
        book.tell("alterShareGroupOffsets", "no such topic", () -> admin.alterShareGroupOffsets("sharers",
            Map.of(none, 2L)).partitionResult(none));
        book.tell("alterShareGroupOffsets", "a negative offset", () -> admin.alterShareGroupOffsets("sharers",
            Map.of(FIRST, -2L)).partitionResult(FIRST));
        book.tell("alterShareGroupOffsets", "unknown group", () -> admin.alterShareGroupOffsets("nobody", Map.of(FIRST, 2L)).partitionResult(FIRST));
        book.tell("alterShareGroupOffsets", "no group's name", () -> admin.alterShareGroupOffsets("", Map.of(FIRST, 2L)).partitionResult(FIRST));
        book.tell("listShareGroupOffsets", "some", () -> admin.listShareGroupOffsets(Map.of("sharers",
            new ListShareGroupOffsetsSpec().topicPartitions(List.of(FIRST, none)))).all());
        book.tell("listShareGroupOffsets", "all", () -> admin.listShareGroupOffsets(
            Map.of("sharers", new ListShareGroupOffsetsSpec())).partitionsToOffsetInfo("sharers"));
        book.tell("listShareGroupOffsets", "unknown group", () -> admin.listShareGroupOffsets(
            Map.of("nobody", new ListShareGroupOffsetsSpec())).partitionsToOffsetInfo("nobody"));
        book.tell("deleteShareGroupOffsets", "no such topic", () -> admin.deleteShareGroupOffsets("sharers", Set.of("nothing")).topicResult("nothing"));
        book.tell("deleteShareGroupOffsets", "one", () -> admin.deleteShareGroupOffsets("sharers", Set.of(TOPIC)).topicResult(TOPIC));
        book.tell("deleteShareGroupOffsets", "again", () -> admin.deleteShareGroupOffsets("sharers", Set.of(TOPIC)).topicResult(TOPIC));
        book.tell("deleteShareGroupOffsets", "unknown group", () -> admin.deleteShareGroupOffsets("nobody", Set.of(TOPIC)).topicResult(TOPIC));
        book.tell("deleteShareGroups", "each", () -> admin.deleteShareGroups(List.of("sharers", "nobody", "")).deletedGroups());
        book.tell("describeShareGroups", "deleted", () -> admin.describeShareGroups(List.of("sharers")).describedGroups());
    }
}
