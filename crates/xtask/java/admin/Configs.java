import java.util.*;
import java.util.stream.Collectors;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.config.ConfigResource.Type;

/** Configurations of topics, groups, client metrics and loggers. */
final class Configs implements AdminMethods.Part {
    private static final ConfigResource ONE = new ConfigResource(Type.TOPIC, "configured");

    @Override
    public void tell(Book book) throws Exception {
        Admin admin = book.admin;
        admin.createTopics(List.of(new NewTopic("configured", 1, (short) 1))).all().get();
        describe(book);
        alter(book);
        others(book);
    }

    /** Without what only our broker knows. */
    static Map<String, ConfigEntry> known(Config config) {
        return config.entries().stream().filter(entry -> !entry.name().startsWith("headwater.") && !entry.name().startsWith("confluent."))
            .collect(Collectors.toMap(ConfigEntry::name, entry -> entry));
    }

    /** Addresses and places are others in each run. */
    private static String masked(String value) {
        if (value == null) return null;
        return value.startsWith("/") ? "PATH" : value.contains("127.0.0.1:") ? "ADDRESS" : value;
    }

    static String shown(ConfigEntry entry) {
        String synonyms = entry.synonyms().stream().map(one -> one.name() + "=" + masked(one.value()) + " " + one.source())
            .collect(Collectors.joining(", ", "[", "]"));
        return masked(entry.value()) + " " + entry.source() + " " + entry.type() + (entry.isSensitive() ? " secret" : "")
            + (entry.isReadOnly() ? " fixed" : "") + " " + synonyms
            + (entry.documentation() == null || entry.documentation().isEmpty() ? " undocumented" : "");
    }

    private static Config described(Admin admin, ConfigResource of) throws Exception {
        return admin.describeConfigs(List.of(of),
            new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true)).values().get(of).get();
    }

    private static void describe(Book book) {
        Admin admin = book.admin;
        TreeMap<String, ConfigEntry> all = new TreeMap<>();
        book.tell("describeConfigs", "names of a topic's", () -> {
            all.putAll(known(described(admin, ONE)));
            return all.keySet();
        });
        all.forEach((name, entry) -> book.tell("describeConfigs", "topic " + name, () -> shown(entry)));
        Map<String, ConfigResource> wrong = new LinkedHashMap<>();
        wrong.put("of no topic", new ConfigResource(Type.TOPIC, "nobody"));
        wrong.put("of a bad name", new ConfigResource(Type.TOPIC, "a/b"));
        wrong.put("of an unnamed topic", new ConfigResource(Type.TOPIC, ""));
        wrong.put("of another broker", new ConfigResource(Type.BROKER, "77"));
        wrong.put("of a broker that is no number", new ConfigResource(Type.BROKER, "first"));
        wrong.put("of an unnamed group", new ConfigResource(Type.GROUP, ""));
        wrong.put("of unnamed metrics", new ConfigResource(Type.CLIENT_METRICS, ""));
        wrong.put("of what nobody knows", new ConfigResource(Type.UNKNOWN, "x"));
        wrong.forEach((name, of) -> book.tell("describeConfigs", name, () -> admin.describeConfigs(List.of(of)).values().get(of)
            .thenApply(config -> config.entries().size())));
    }

    private static AlterConfigOp set(String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), OpType.SET);
    }

    private static AlterConfigOp op(String name, String value, OpType type) {
        return new AlterConfigOp(new ConfigEntry(name, value), type);
    }

    private static void alter(Book book) {
        Admin admin = book.admin;
        Map<String, List<AlterConfigOp>> asked = new LinkedHashMap<>();
        asked.put("a value", List.of(set("retention.ms", "3600000")));
        asked.put("two values", List.of(set("segment.ms", "60000"), set("max.message.bytes", "2000000")));
        asked.put("one of two wrong", List.of(set("flush.ms", "60000"), set("max.message.bytes", "-5")));
        asked.put("unknown", List.of(set("no.such.thing", "1")));
        asked.put("a bad number", List.of(set("retention.ms", "soon")));
        asked.put("a bad choice", List.of(set("cleanup.policy", "recycle")));
        asked.put("an empty policy", List.of(set("cleanup.policy", "")));
        asked.put("twice the same", List.of(set("retention.ms", "1"), set("retention.ms", "2")));
        asked.put("append to a list", List.of(op("cleanup.policy", "compact", OpType.APPEND)));
        asked.put("append what is there", List.of(op("cleanup.policy", "compact", OpType.APPEND)));
        asked.put("subtract from a list", List.of(op("cleanup.policy", "delete", OpType.SUBTRACT)));
        asked.put("subtract what is not there", List.of(op("cleanup.policy", "delete", OpType.SUBTRACT)));
        asked.put("append to a number", List.of(op("retention.ms", "5", OpType.APPEND)));
        asked.put("take off", List.of(op("segment.ms", "", OpType.DELETE)));
        asked.put("take off what is not set", List.of(op("segment.ms", "", OpType.DELETE)));
        asked.put("take off what is unknown", List.of(op("no.such.thing", "", OpType.DELETE)));
        asked.put("no value", List.of(set("retention.ms", null)));
        asked.put("nothing", List.of());
        asked.put("a compression level", List.of(set("compression.type", "zstd"), set("compression.zstd.level", "30")));
        asked.put("local above all retention", List.of(set("local.retention.ms", "7200000")));
        asked.put("remote storage", List.of(set("remote.storage.enable", "true")));
        asked.put("throttled replicas", List.of(set("leader.replication.throttled.replicas", "0:1")));
        asked.put("throttled nonsense", List.of(set("leader.replication.throttled.replicas", "somewhere")));
        asked.forEach((name, ops) -> book.tell("incrementalAlterConfigs", name,
            () -> admin.incrementalAlterConfigs(Map.of(ONE, ops)).values()));
        book.tell("incrementalAlterConfigs", "only validated", () -> admin.incrementalAlterConfigs(
            Map.of(ONE, List.of(set("retention.ms", "7"))), new AlterConfigsOptions().validateOnly(true)).values());
        book.tell("incrementalAlterConfigs", "of no topic", () -> admin.incrementalAlterConfigs(
            Map.of(new ConfigResource(Type.TOPIC, "nobody"), List.of(set("retention.ms", "7")))).values());
        book.tell("incrementalAlterConfigs", "what is set then", () -> known(described(admin, ONE)).values().stream()
            .filter(entry -> !entry.isDefault()).map(entry -> entry.name() + " " + shown(entry)).toList());
    }

    private static void others(Book book) {
        Admin admin = book.admin;
        ConfigResource group = new ConfigResource(Type.GROUP, "configured-group");
        ConfigResource metrics = new ConfigResource(Type.CLIENT_METRICS, "subscription");
        ConfigResource loggers = new ConfigResource(Type.BROKER_LOGGER, "1");
        Map<String, Map<ConfigResource, Collection<AlterConfigOp>>> asked = new LinkedHashMap<>();
        asked.put("group", Map.of(group, List.of(set("consumer.session.timeout.ms", "50000"))));
        asked.put("group out of bounds", Map.of(group, List.of(set("consumer.session.timeout.ms", "1"))));
        asked.put("group unknown", Map.of(group, List.of(set("no.such.thing", "1"))));
        asked.put("share group", Map.of(group, List.of(set("share.auto.offset.reset", "earliest"))));
        asked.put("share group by duration", Map.of(group, List.of(set("share.auto.offset.reset", "by_duration:PT1H"))));
        asked.put("share group nonsense", Map.of(group, List.of(set("share.auto.offset.reset", "yesterday"))));
        asked.put("share isolation", Map.of(group, List.of(set("share.isolation.level", "read_committed"))));
        asked.put("streams group", Map.of(group, List.of(set("streams.num.standby.replicas", "1"))));
        asked.put("streams group too many", Map.of(group, List.of(set("streams.num.standby.replicas", "99"))));
        asked.put("metrics", Map.of(metrics, List.of(set("metrics", "org.apache.kafka.producer."), set("interval.ms", "60000"))));
        asked.put("metrics too often", Map.of(metrics, List.of(set("interval.ms", "1"))));
        asked.put("metrics matching nonsense", Map.of(metrics, List.of(set("match", "color=.*"))));
        asked.put("metrics matching a bad pattern", Map.of(metrics, List.of(set("match", "client_id=["))));
        asked.put("metrics unknown", Map.of(metrics, List.of(set("no.such.thing", "1"))));
        asked.put("logger of no such broker", Map.of(new ConfigResource(Type.BROKER_LOGGER, "77"),
            List.of(set("root", "INFO"))));
        asked.put("logger nonsense", Map.of(loggers, List.of(set("root", "LOUD"))));
        asked.put("logger unknown", Map.of(loggers, List.of(set("no.such.logger.here", "INFO"))));
        asked.forEach((name, wanted) -> book.tell("incrementalAlterConfigs", name,
            () -> admin.incrementalAlterConfigs(wanted).values()));
        for (ConfigResource of : List.of(group, metrics)) {
            TreeMap<String, ConfigEntry> all = new TreeMap<>();
            String kind = of.type().name().toLowerCase(Locale.ROOT);
            book.tell("describeConfigs", "names of a " + kind, () -> {
                all.putAll(known(described(admin, of)));
                return all.keySet();
            });
            all.forEach((name, entry) -> book.tell("describeConfigs", kind + " " + name, () -> shown(entry)));
        }
        book.tell("listConfigResources", "set", () -> admin.listConfigResources(
            Set.of(Type.GROUP, Type.CLIENT_METRICS), new ListConfigResourcesOptions()).all());
        book.tell("listConfigResources", "topics", () -> admin.listConfigResources(
            Set.of(Type.TOPIC), new ListConfigResourcesOptions()).all().thenApply(all -> all.contains(ONE)));
        book.tell("listConfigResources", "brokers", () -> admin.listConfigResources(
            Set.of(Type.BROKER, Type.BROKER_LOGGER), new ListConfigResourcesOptions()).all());
        book.tell("listConfigResources", "unknown", () -> admin.listConfigResources(
            Set.of(Type.UNKNOWN), new ListConfigResourcesOptions()).all());
        book.tell("listClientMetricsResources", "one", () -> admin.listClientMetricsResources().all());
    }
}
