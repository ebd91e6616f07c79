import java.util.*;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.quota.*;
import org.apache.kafka.common.resource.*;
import org.apache.kafka.common.security.auth.KafkaPrincipal;

/** Access rules, quotas, credentials and tokens. */
final class Access implements AdminMethods.Part {
    @Override
    public void tell(Book book) throws Exception {
        rules(book);
        quotas(book);
        credentials(book);
        tokens(book);
    }

    private static AclBinding rule(ResourceType type, String name, PatternType pattern, String principal, AclOperation operation) {
        return new AclBinding(new ResourcePattern(type, name, pattern),
            new AccessControlEntry(principal, "*", operation, AclPermissionType.ALLOW));
    }

    private static AclBindingFilter filter(ResourceType type, String name, PatternType pattern) {
        return new AclBindingFilter(new ResourcePatternFilter(type, name, pattern), AccessControlEntryFilter.ANY);
    }

    private static void rules(Book book) throws Exception {
        Admin admin = book.admin;
        Map<String, AclBinding> asked = new LinkedHashMap<>();
        asked.put("literal", rule(ResourceType.TOPIC, "ruled", PatternType.LITERAL, "User:alice", AclOperation.READ));
        asked.put("prefixed", rule(ResourceType.TOPIC, "rul", PatternType.PREFIXED, "User:bob", AclOperation.WRITE));
        asked.put("every group", rule(ResourceType.GROUP, "*", PatternType.LITERAL, "User:*", AclOperation.DESCRIBE));
        asked.put("the cluster", rule(ResourceType.CLUSTER, "kafka-cluster", PatternType.LITERAL, "User:*", AclOperation.ALL));
        asked.put("a cluster of another name", rule(ResourceType.CLUSTER, "other", PatternType.LITERAL, "User:carol", AclOperation.ALTER));
        asked.put("again", asked.get("literal"));
        asked.put("no principal", rule(ResourceType.TOPIC, "ruled", PatternType.LITERAL, "alice", AclOperation.READ));
        asked.put("an operation that is not the resource's", rule(ResourceType.GROUP, "g", PatternType.LITERAL, "User:a", AclOperation.WRITE));
        asked.put("no name", rule(ResourceType.TOPIC, "", PatternType.LITERAL, "User:alice", AclOperation.READ));
        asked.put("an unknown operation", rule(ResourceType.TOPIC, "ruled", PatternType.LITERAL, "User:alice", AclOperation.UNKNOWN));
        asked.put("a user", rule(ResourceType.USER, "alice", PatternType.LITERAL, "User:bob", AclOperation.CREATE_TOKENS));
        asked.put("a transactional id", rule(ResourceType.TRANSACTIONAL_ID, "t", PatternType.PREFIXED, "User:bob", AclOperation.WRITE));
        asked.forEach((name, rule) -> book.tell("createAcls", name, () -> admin.createAcls(List.of(rule)).values().values()));
        // A broker of Kafka's hears of them a moment after its controller has answered.
        Thread.sleep(1000);
        Map<String, AclBindingFilter> filters = new LinkedHashMap<>();
        filters.put("all", AclBindingFilter.ANY);
        filters.put("of a topic", filter(ResourceType.TOPIC, "ruled", PatternType.LITERAL));
        filters.put("that count for a topic", filter(ResourceType.TOPIC, "ruled", PatternType.MATCH));
        filters.put("of any pattern", filter(ResourceType.TOPIC, "rul", PatternType.ANY));
        filters.put("of a principal", new AclBindingFilter(ResourcePatternFilter.ANY, new AccessControlEntryFilter("User:bob", null,
            AclOperation.ANY, AclPermissionType.ANY)));
        filters.put("of nobody", new AclBindingFilter(ResourcePatternFilter.ANY, new AccessControlEntryFilter("User:nobody", null,
            AclOperation.ANY, AclPermissionType.ANY)));
        filters.put("unknown", filter(ResourceType.UNKNOWN, "x", PatternType.LITERAL));
        filters.forEach((name, filter) -> book.tell("describeAcls", name, () -> admin.describeAcls(filter).values()));
        book.tell("deleteAcls", "prefixed", () -> admin.deleteAcls(
            List.of(filter(ResourceType.TOPIC, "rul", PatternType.PREFIXED))).all());
        book.tell("deleteAcls", "none", () -> admin.deleteAcls(List.of(filter(ResourceType.TOPIC, "nobody", PatternType.LITERAL))).all());
        book.tell("deleteAcls", "all", () -> admin.deleteAcls(List.of(AclBindingFilter.ANY)).all());
        Thread.sleep(1000);
        book.tell("describeAcls", "what is left", () -> admin.describeAcls(AclBindingFilter.ANY).values());
    }

    private static ClientQuotaEntity entity(String... parts) {
        Map<String, String> entries = new HashMap<>();
        for (int at = 0; at < parts.length; at += 2) entries.put(parts[at], parts[at + 1]);
        return new ClientQuotaEntity(entries);
    }

    private static ClientQuotaAlteration set(ClientQuotaEntity of, String key, Double value) {
        return new ClientQuotaAlteration(of, List.of(new ClientQuotaAlteration.Op(key, value)));
    }

    private static void quotas(Book book) {
        Admin admin = book.admin;
        ClientQuotaEntity alice = entity("user", "alice"), both = entity("user", "alice", "client-id", "app");
        Map<String, ClientQuotaAlteration> asked = new LinkedHashMap<>();
        asked.put("a user", set(alice, "producer_byte_rate", 1048576.0));
        asked.put("a user's client", set(both, "consumer_byte_rate", 2097152.0));
        asked.put("the default user", set(entity("user", null), "request_percentage", 200.0));
        asked.put("an address", set(entity("ip", "127.0.0.9"), "connection_creation_rate", 50.0));
        asked.put("the default address", set(entity("ip", null), "connection_creation_rate", 500.0));
        asked.put("mutations", set(alice, "controller_mutation_rate", 7.5));
        asked.put("an unknown quota", set(alice, "no_such_rate", 1.0));
        asked.put("a user's connections", set(alice, "connection_creation_rate", 1.0));
        asked.put("an address's bytes", set(entity("ip", "127.0.0.9"), "producer_byte_rate", 1.0));
        asked.put("negative", set(alice, "producer_byte_rate", -1.0));
        asked.put("zero", set(alice, "producer_byte_rate", 0.0));
        asked.put("a part of a byte", set(alice, "producer_byte_rate", 1.5));
        asked.put("a part of a connection", set(entity("ip", "127.0.0.9"), "connection_creation_rate", 1.5));
        asked.put("an address that is none", set(entity("ip", "not an address"), "connection_creation_rate", 1.0));
        asked.put("a user and an address", set(entity("user", "alice", "ip", "127.0.0.9"), "connection_creation_rate", 1.0));
        asked.put("an unknown kind", set(entity("planet", "mars"), "producer_byte_rate", 1.0));
        asked.put("nobody", set(entity(), "producer_byte_rate", 1.0));
        asked.put("an empty name", set(entity("user", ""), "producer_byte_rate", 1.0));
        asked.put("taken off", set(alice, "controller_mutation_rate", null));
        asked.put("taken off again", set(alice, "controller_mutation_rate", null));
        asked.forEach((name, change) -> book.tell("alterClientQuotas", name, () -> admin.alterClientQuotas(List.of(change)).values().values()));
        book.tell("alterClientQuotas", "only validated", () -> admin.alterClientQuotas(
            List.of(set(entity("user", "never"), "producer_byte_rate", 1.0)), new AlterClientQuotasOptions().validateOnly(true)).values().values());
        Map<String, ClientQuotaFilter> filters = new LinkedHashMap<>();
        filters.put("all", ClientQuotaFilter.all());
        filters.put("of a user", ClientQuotaFilter.contains(List.of(ClientQuotaFilterComponent.ofEntity("user", "alice"))));
        filters.put("of a user only", ClientQuotaFilter.containsOnly(List.of(ClientQuotaFilterComponent.ofEntity("user", "alice"))));
        filters.put("of the default user", ClientQuotaFilter.contains(List.of(ClientQuotaFilterComponent.ofDefaultEntity("user"))));
        filters.put("of any address", ClientQuotaFilter.contains(List.of(ClientQuotaFilterComponent.ofEntityType("ip"))));
        filters.put("of an unknown kind", ClientQuotaFilter.contains(List.of(ClientQuotaFilterComponent.ofEntityType("planet"))));
        filters.put("twice of a kind", ClientQuotaFilter.contains(List.of(ClientQuotaFilterComponent.ofEntityType("user"),
            ClientQuotaFilterComponent.ofEntity("user", "alice"))));
        filters.put("users and addresses", ClientQuotaFilter.contains(List.of(ClientQuotaFilterComponent.ofEntityType("user"),
            ClientQuotaFilterComponent.ofEntityType("ip"))));
        filters.put("of nothing only", ClientQuotaFilter.containsOnly(List.of()));
        filters.forEach((name, filter) -> book.tell("describeClientQuotas", name, () -> admin.describeClientQuotas(filter).entities()));
        for (ClientQuotaEntity of : List.of(alice, both, entity("user", null), entity("ip", "127.0.0.9"), entity("ip", null))) {
            for (String key : List.of("producer_byte_rate", "consumer_byte_rate", "request_percentage", "connection_creation_rate")) {
                try {
                    admin.alterClientQuotas(List.of(set(of, key, null))).all().get();
                } catch (Exception notOfThisKind) {
                    // Whether it may be taken off is told above.
                }
            }
        }
        book.tell("describeClientQuotas", "what is left", () -> admin.describeClientQuotas(ClientQuotaFilter.all()).entities());
    }

    private static UserScramCredentialAlteration put(String user, ScramMechanism mechanism, int iterations) {
        return new UserScramCredentialUpsertion(user, new ScramCredentialInfo(mechanism, iterations), "secret");
    }

    private static void credentials(Book book) {
        Admin admin = book.admin;
        ScramMechanism short256 = ScramMechanism.SCRAM_SHA_256, long512 = ScramMechanism.SCRAM_SHA_512;
        Map<String, List<UserScramCredentialAlteration>> asked = new LinkedHashMap<>();
        asked.put("two users", List.of(put("ann", short256, 4096), put("ben", long512, 8192)));
        asked.put("another mechanism", List.of(put("ann", long512, 4096)));
        asked.put("two mechanisms at once", List.of(put("cid", short256, 4096), put("cid", long512, 4096)));
        asked.put("twice", List.of(put("dan", short256, 4096), put("dan", short256, 8192)));
        asked.put("put and deleted", List.of(put("ann", short256, 4096), new UserScramCredentialDeletion("ann", long512)));
        asked.put("put and deleted, not there", List.of(put("eve", short256, 4096), new UserScramCredentialDeletion("eve", long512)));
        asked.put("too few iterations", List.of(put("eve", short256, 100)));
        asked.put("too many iterations", List.of(put("eve", short256, 20000)));
        asked.put("no name", List.of(put("", short256, 4096)));
        asked.put("an unknown mechanism", List.of(new UserScramCredentialDeletion("ann", ScramMechanism.UNKNOWN)));
        asked.put("deleted, not there", List.of(new UserScramCredentialDeletion("nobody", short256)));
        asked.put("one good, one bad", List.of(put("fay", short256, 4096), put("gus", short256, 1)));
        asked.forEach((name, changes) -> book.tell("alterUserScramCredentials", name,
            () -> admin.alterUserScramCredentials(changes).values()));
        book.tell("describeUserScramCredentials", "all", () -> admin.describeUserScramCredentials().all());
        book.tell("describeUserScramCredentials", "users", () -> admin.describeUserScramCredentials(List.of("ann", "nobody")).users());
        book.tell("describeUserScramCredentials", "nobody", () -> admin.describeUserScramCredentials(List.of("nobody")).description("nobody"));
        book.tell("describeUserScramCredentials", "twice", () -> admin.describeUserScramCredentials(List.of("ann", "ann")).description("ann"));
        book.tell("alterUserScramCredentials", "deleted", () -> admin.alterUserScramCredentials(List.of(
            new UserScramCredentialDeletion("ann", short256), new UserScramCredentialDeletion("ben", long512),
            new UserScramCredentialDeletion("fay", short256))).values());
        book.tell("describeUserScramCredentials", "what is left", () -> admin.describeUserScramCredentials().all());
    }

    private static void tokens(Book book) {
        Admin admin = book.admin;
        KafkaPrincipal alice = new KafkaPrincipal("User", "alice");
        book.tell("createDelegationToken", "for oneself", () -> admin.createDelegationToken().delegationToken());
        book.tell("createDelegationToken", "for another", () -> admin.createDelegationToken(
            new CreateDelegationTokenOptions().owner(alice).renewers(List.of(alice))).delegationToken());
        book.tell("renewDelegationToken", "of nobody", () -> admin.renewDelegationToken(new byte[] {1, 2, 3}).expiryTimestamp());
        book.tell("expireDelegationToken", "of nobody", () -> admin.expireDelegationToken(new byte[] {1, 2, 3}).expiryTimestamp());
        book.tell("describeDelegationToken", "all", () -> admin.describeDelegationToken().delegationTokens());
        book.tell("describeDelegationToken", "of alice", () -> admin.describeDelegationToken(
            new DescribeDelegationTokenOptions().owners(List.of(alice))).delegationTokens());
    }
}
