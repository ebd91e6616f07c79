import java.util.*;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;

/** Consumer groups of both protocols, with members and without. */
final class Groups implements AdminMethods.Part {
    private static final String TOPIC = "grouped";

    @Override
    public void tell(Book book) throws Exception {
        book.admin.createTopics(List.of(new NewTopic(TOPIC, 2, (short) 1))).all().get();
        book.write(TOPIC, 0, 5);
        try (Members members = new Members()) {
            members.join(book.settings("group.id", "classic", "group.instance.id", "fixed", "enable.auto.commit", "false"), TOPIC);
            members.join(book.settings("group.id", "modern", "group.protocol", "consumer", "enable.auto.commit", "false"), TOPIC);
            members.join(book.settings("group.id", "range", "group.protocol", "consumer", "group.remote.assignor", "range"), TOPIC);
            offsets(book);
            live(book);
            list(book);
        }
        empty(book);
    }

    private static void live(Book book) {
        Admin admin = book.admin;
        List<String> all = List.of("classic", "modern", "simple", "nobody", "");
        book.tell("describeConsumerGroups", "each", () -> admin.describeConsumerGroups(all).describedGroups());
        book.tell("describeConsumerGroups", "with operations", () -> admin.describeConsumerGroups(List.of("classic", "modern"),
            new DescribeConsumerGroupsOptions().includeAuthorizedOperations(true)).describedGroups());
        book.tell("describeClassicGroups", "each", () -> admin.describeClassicGroups(all).describedGroups());
        book.tell("deleteConsumerGroups", "in use", () -> admin.deleteConsumerGroups(List.of("classic", "modern")).deletedGroups());
        for (String group : List.of("classic", "modern")) {
            book.tell("deleteConsumerGroupOffsets", "subscribed " + group, () -> admin.deleteConsumerGroupOffsets(group,
                Set.of(Book.at(TOPIC, 0))).partitionResult(Book.at(TOPIC, 0)));
            book.tell("alterConsumerGroupOffsets", "in use " + group, () -> admin.alterConsumerGroupOffsets(group,
                Map.of(Book.at(TOPIC, 0), new OffsetAndMetadata(1))).partitionResult(Book.at(TOPIC, 0)));
        }
        book.tell("removeMembersFromConsumerGroup", "unknown instance", () -> {
            MemberToRemove nobody = new MemberToRemove("stranger");
            return admin.removeMembersFromConsumerGroup("classic",
                new RemoveMembersFromConsumerGroupOptions(List.of(nobody))).memberResult(nobody);
        });
        book.tell("removeMembersFromConsumerGroup", "unknown group", () -> {
            MemberToRemove nobody = new MemberToRemove("stranger");
            return admin.removeMembersFromConsumerGroup("nobody",
                new RemoveMembersFromConsumerGroupOptions(List.of(nobody))).memberResult(nobody);
        });
        book.tell("removeMembersFromConsumerGroup", "of the consumer protocol", () -> {
            MemberToRemove nobody = new MemberToRemove("stranger");
            return admin.removeMembersFromConsumerGroup("modern",
                new RemoveMembersFromConsumerGroupOptions(List.of(nobody))).memberResult(nobody);
        });
    }

    private static void offsets(Book book) {
        Admin admin = book.admin;
        TopicPartition first = Book.at(TOPIC, 0), none = Book.at("nothing", 0), beyond = Book.at(TOPIC, 9);
        book.tell("alterConsumerGroupOffsets", "of a new group", () -> {
            var altered = admin.alterConsumerGroupOffsets("simple",
                Map.of(first, new OffsetAndMetadata(3, Optional.of(0), "note"), none, new OffsetAndMetadata(1)));
            return List.of("there " + Show.value(altered.partitionResult(first)), "no topic " + Show.value(altered.partitionResult(none)));
        });
        book.tell("alterConsumerGroupOffsets", "of no such partition", () -> admin.alterConsumerGroupOffsets("simple",
            Map.of(beyond, new OffsetAndMetadata(1))).partitionResult(beyond));
        book.tell("alterConsumerGroupOffsets", "long metadata", () -> admin.alterConsumerGroupOffsets("simple",
            Map.of(first, new OffsetAndMetadata(3, "x".repeat(5000)))).partitionResult(first));
        book.tell("alterConsumerGroupOffsets", "no group's name", () -> admin.alterConsumerGroupOffsets("",
            Map.of(first, new OffsetAndMetadata(3))).partitionResult(first));
        book.tell("listConsumerGroupOffsets", "all", () -> admin.listConsumerGroupOffsets("simple").partitionsToOffsetAndMetadata());
        book.tell("listConsumerGroupOffsets", "some", () -> admin.listConsumerGroupOffsets(Map.of(
            "simple", new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(first, Book.at(TOPIC, 1), none)),
            "nobody", new ListConsumerGroupOffsetsSpec())).all());
        book.tell("listConsumerGroupOffsets", "stable", () -> admin.listConsumerGroupOffsets("simple",
            new ListConsumerGroupOffsetsOptions().requireStable(true)).partitionsToOffsetAndMetadata());
        book.tell("listConsumerGroupOffsets", "no group's name", () -> admin.listConsumerGroupOffsets("").partitionsToOffsetAndMetadata());
    }

    private static void list(Book book) {
        Admin admin = book.admin;
        book.tell("listConsumerGroups", "all", () -> admin.listConsumerGroups().all());
        book.tell("listConsumerGroups", "stable", () -> admin.listConsumerGroups(
            new ListConsumerGroupsOptions().inGroupStates(Set.of(GroupState.STABLE))).all());
        book.tell("listConsumerGroups", "classic", () -> admin.listConsumerGroups(
            new ListConsumerGroupsOptions().withTypes(Set.of(GroupType.CLASSIC))).all());
        book.tell("listGroups", "all", () -> admin.listGroups().all());
        book.tell("listGroups", "of the consumer protocol", () -> admin.listGroups(
            new ListGroupsOptions().withTypes(Set.of(GroupType.CONSUMER))).all());
        book.tell("listGroups", "empty", () -> admin.listGroups(
            new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY))).all());
        book.tell("listGroups", "by protocol", () -> admin.listGroups(
            new ListGroupsOptions().withProtocolTypes(Set.of("consumer"))).all());
        book.tell("listGroups", "simple ones", () -> admin.listGroups(
            new ListGroupsOptions().withProtocolTypes(Set.of(""))).all());
    }

    private static void empty(Book book) throws Exception {
        Admin admin = book.admin;
        book.tell("removeMembersFromConsumerGroup", "all", () -> admin.removeMembersFromConsumerGroup("classic",
            new RemoveMembersFromConsumerGroupOptions()).all());
        book.tell("removeMembersFromConsumerGroup", "all of an empty group", () -> admin.removeMembersFromConsumerGroup("modern",
            new RemoveMembersFromConsumerGroupOptions()).all());
        Book.await(() -> {
            try {
                return admin.describeConsumerGroups(List.of("classic", "modern")).all().get().values().stream()
                    .allMatch(group -> group.groupState() == GroupState.EMPTY);
            } catch (Exception failure) {
                return false;
            }
        });
        book.tell("describeConsumerGroups", "empty", () -> admin.describeConsumerGroups(List.of("classic", "modern")).describedGroups());
        TopicPartition first = Book.at(TOPIC, 0), none = Book.at("nothing", 0);
        book.tell("deleteConsumerGroupOffsets", "some", () -> {
            var deleted = admin.deleteConsumerGroupOffsets("simple", Set.of(first, none));
            return List.of("there " + Show.value(deleted.partitionResult(first)), "no topic " + Show.value(deleted.partitionResult(none)));
        });
        book.tell("deleteConsumerGroupOffsets", "unknown group", () -> admin.deleteConsumerGroupOffsets("nobody",
            Set.of(first)).partitionResult(first));
        book.tell("deleteConsumerGroupOffsets", "no group's name", () -> admin.deleteConsumerGroupOffsets("",
            Set.of(first)).partitionResult(first));
        book.tell("deleteConsumerGroups", "each", () -> admin.deleteConsumerGroups(
            List.of("classic", "modern", "range", "nobody", "")).deletedGroups());
        book.tell("deleteConsumerGroups", "again", () -> admin.deleteConsumerGroups(List.of("classic", "modern")).deletedGroups());
        book.tell("listGroups", "what is left", () -> admin.listGroups().all());
    }
}
