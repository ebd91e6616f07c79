import java.time.Duration;
import java.util.*;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.admin.FeatureUpdate.UpgradeType;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.Uuid;

/** The node, its disks, its features and its quorum. */
final class Cluster implements AdminMethods.Part {
    private static final TopicPartition AT = new TopicPartition("clustered", 0), NONE = new TopicPartition("clustered", 5);

    @Override
    public void tell(Book book) throws Exception {
        book.admin.createTopics(List.of(new NewTopic(AT.topic(), 1, (short) 1))).all().get();
        look(book);
        disks(book);
        move(book);
        features(book);
        quorum(book);
    }

    private static void look(Book book) {
        Admin admin = book.admin;
        book.tell("describeCluster", "the cluster", () -> {
            var described = admin.describeCluster();
            return List.of(Show.value(described.nodes()), "controller " + Show.value(described.controller()),
                "id of " + described.clusterId().get().length(), "operations " + Show.value(described.authorizedOperations()));
        });
        book.tell("describeCluster", "operations", () -> admin.describeCluster(
            new DescribeClusterOptions().includeAuthorizedOperations(true)).authorizedOperations());
        book.tell("describeCluster", "fenced brokers too", () -> admin.describeCluster(
            new DescribeClusterOptions().includeFencedBrokers(true)).nodes());
        book.tell("clientInstanceId", "none is given", () -> admin.clientInstanceId(Duration.ofSeconds(2)));
        book.tell("metrics", "there are some", () -> !admin.metrics().isEmpty());
    }

    private static void disks(Book book) {
        Admin admin = book.admin;
        book.tell("describeLogDirs", "of the broker", () -> admin.describeLogDirs(List.of(1)).descriptions().get(1).thenApply(all -> {
            var one = all.values().iterator().next();
            var replica = one.replicaInfos().get(AT);
            return all.size() + " " + one.error() + " total " + (one.totalBytes().orElse(0) > 0) + " usable "
                + (one.usableBytes().orElse(0) > 0) + " cordoned " + one.isCordoned() + " lag " + replica.offsetLag() + " future " + replica.isFuture();
        }));
        book.tell("describeReplicaLogDirs", "of a replica", () -> {
            TopicPartitionReplica one = new TopicPartitionReplica(AT.topic(), 0, 1);
            return admin.describeReplicaLogDirs(List.of(one)).values().get(one).thenApply(info ->
                (info.getCurrentReplicaLogDir() != null) + " " + info.getCurrentReplicaOffsetLag() + " " + info.getFutureReplicaLogDir());
        });
        book.tell("describeReplicaLogDirs", "of no replica", () -> {
            TopicPartitionReplica none = new TopicPartitionReplica(AT.topic(), 5, 1);
            return admin.describeReplicaLogDirs(List.of(none)).values().get(none).thenApply(info ->
                info.getCurrentReplicaLogDir() + " " + info.getCurrentReplicaOffsetLag() + " " + info.getFutureReplicaLogDir());
        });
        for (var asked : Map.of("to nowhere", "/no/such/place", "to no path", "here").entrySet()) {
            TopicPartitionReplica one = new TopicPartitionReplica(AT.topic(), 0, 1);
            book.tell("alterReplicaLogDirs", asked.getKey(), () -> admin.alterReplicaLogDirs(Map.of(one, asked.getValue())).values().get(one));
        }
        book.tell("alterReplicaLogDirs", "to where it is", () -> {
            String here = admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1).keySet().iterator().next();
            TopicPartitionReplica one = new TopicPartitionReplica(AT.topic(), 0, 1);
            return admin.alterReplicaLogDirs(Map.of(one, here)).values().get(one);
        });
        book.tell("alterReplicaLogDirs", "of no partition", () -> {
            String here = admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1).keySet().iterator().next();
            TopicPartitionReplica none = new TopicPartitionReplica("nothing", 5, 1);
            return admin.alterReplicaLogDirs(Map.of(none, here)).values().get(none);
        });
    }

    private static void move(Book book) {
        Admin admin = book.admin;
        for (ElectionType type : ElectionType.values()) {
            book.tell("electLeaders", type + " of two", () -> admin.electLeaders(type, Set.of(AT, NONE)).partitions());
        }
        book.tell("electLeaders", "of all", () -> admin.electLeaders(ElectionType.PREFERRED, null).partitions()
            .thenApply(all -> all.isEmpty()));
        Map<String, Map<TopicPartition, Optional<NewPartitionReassignment>>> asked = new LinkedHashMap<>();
        asked.put("where it is", Map.of(AT, Optional.of(new NewPartitionReassignment(List.of(1)))));
        asked.put("an unknown broker", Map.of(AT, Optional.of(new NewPartitionReassignment(List.of(9)))));
        asked.put("twice the broker", Map.of(AT, Optional.of(new NewPartitionReassignment(List.of(1, 1)))));
        asked.put("a negative broker", Map.of(AT, Optional.of(new NewPartitionReassignment(List.of(-1)))));
        asked.put("cancelled", Map.of(AT, Optional.empty()));
        asked.put("no partition", Map.of(NONE, Optional.of(new NewPartitionReassignment(List.of(1)))));
        asked.forEach((name, moves) -> book.tell("alterPartitionReassignments", name, () -> admin.alterPartitionReassignments(moves).values()));
        book.tell("listPartitionReassignments", "all", () -> admin.listPartitionReassignments().reassignments());
        book.tell("listPartitionReassignments", "some", () -> admin.listPartitionReassignments(Set.of(AT, NONE)).reassignments());
    }

    private static FeatureUpdate level(int level, UpgradeType type) {
        return new FeatureUpdate((short) level, type);
    }

    private static void features(Book book) {
        Admin admin = book.admin;
        book.tell("describeFeatures", "all", () -> admin.describeFeatures().featureMetadata());
        Map<String, Map<String, FeatureUpdate>> asked = new LinkedHashMap<>();
        asked.put("unknown", Map.of("no.such.feature", level(1, UpgradeType.UPGRADE)));
        asked.put("too high", Map.of("transaction.version", level(99, UpgradeType.UPGRADE)));
        asked.put("as it is", Map.of("transaction.version", level(2, UpgradeType.UPGRADE)));
        asked.put("lower as an upgrade", Map.of("transaction.version", level(1, UpgradeType.UPGRADE)));
        asked.put("lower", Map.of("transaction.version", level(1, UpgradeType.SAFE_DOWNGRADE)));
        asked.put("back", Map.of("transaction.version", level(2, UpgradeType.UPGRADE)));
        asked.put("one of two wrong", Map.of("transaction.version", level(1, UpgradeType.SAFE_DOWNGRADE),
            "no.such.feature", level(1, UpgradeType.UPGRADE)));
        asked.forEach((name, changes) -> book.tell("updateFeatures", name, () -> admin.updateFeatures(changes, new UpdateFeaturesOptions()).values()));
        book.tell("updateFeatures", "only validated", () -> admin.updateFeatures(
            Map.of("transaction.version", level(1, UpgradeType.SAFE_DOWNGRADE)), new UpdateFeaturesOptions().validateOnly(true)).values());
        book.tell("updateFeatures", "none", () -> admin.updateFeatures(Map.of(), new UpdateFeaturesOptions()).values());
        book.tell("describeFeatures", "what is final then", () -> admin.describeFeatures().featureMetadata()
            .thenApply(all -> all.finalizedFeatures().get("transaction.version")));
    }

    private static void quorum(Book book) {
        Admin admin = book.admin;
        book.tell("describeMetadataQuorum", "one voter", () -> admin.describeMetadataQuorum().quorumInfo());
        book.tell("addRaftVoter", "another", () -> admin.addRaftVoter(9, new Uuid(1, 1),
            Set.of(new RaftVoterEndpoint("CONTROLLER", "127.0.0.1", 1))).all());
        book.tell("removeRaftVoter", "nobody", () -> admin.removeRaftVoter(9, new Uuid(1, 1)).all());
        book.tell("unregisterBroker", "nobody", () -> admin.unregisterBroker(77).all());
        book.tell("unregisterBroker", "a negative id", () -> admin.unregisterBroker(-1).all());
    }
}
