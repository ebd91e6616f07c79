import java.util.*;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.config.ConfigResource.Type;

/** The configuration of the broker. */
final class BrokerConfigs implements AdminMethods.Part {
    private static final ConfigResource BROKER = new ConfigResource(Type.BROKER, "1");
    private static final ConfigResource EVERY = new ConfigResource(Type.BROKER, "");

    @Override
    public void tell(Book book) {
        Admin admin = book.admin;
        TreeMap<String, ConfigEntry> all = new TreeMap<>();
        book.tell("describeConfigs", "the broker has some", () -> {
            all.putAll(Configs.known(admin.describeConfigs(List.of(BROKER),
                new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true)).values().get(BROKER).get()));
            return !all.isEmpty();
        });
        all.forEach((name, entry) -> book.tell("describeConfigs", "broker " + name, () -> Configs.shown(entry)));
        book.tell("describeConfigs", "two keys of the broker", () -> admin.describeConfigs(List.of(BROKER)).values().get(BROKER)
            .thenApply(config -> config.get("log.retention.ms") == null ? "null" : config.get("log.retention.ms").name()));
        Map<String, Map<ConfigResource, Collection<AlterConfigOp>>> asked = new LinkedHashMap<>();
        asked.put("the broker", Map.of(BROKER, List.of(set("log.retention.ms", "86400000"))));
        asked.put("every broker", Map.of(EVERY, List.of(set("log.retention.ms", "90000000"))));
        asked.put("the broker's number of partitions", Map.of(BROKER, List.of(set("num.partitions", "3"))));
        asked.put("the broker's nonsense", Map.of(BROKER, List.of(set("log.retention.ms", "soon"))));
        asked.put("another broker", Map.of(new ConfigResource(Type.BROKER, "77"), List.of(set("log.retention.ms", "86400000"))));
        asked.put("a broker that is no number", Map.of(new ConfigResource(Type.BROKER, "first"),
            List.of(set("log.retention.ms", "86400000"))));
        asked.put("the broker's id", Map.of(BROKER, List.of(set("node.id", "2"))));
        asked.forEach((name, wanted) -> book.tell("incrementalAlterConfigs", name,
            () -> admin.incrementalAlterConfigs(wanted).values()));
        book.tell("describeConfigs", "what is set on the broker", () -> retention(admin, BROKER));
        book.tell("describeConfigs", "what is set on every broker", () -> retention(admin, EVERY));
        for (ConfigResource of : List.of(BROKER, EVERY)) {
            book.tell("incrementalAlterConfigs", "taken off " + of.name(), () -> admin.incrementalAlterConfigs(
                Map.of(of, List.of(new AlterConfigOp(new ConfigEntry("log.retention.ms", ""), OpType.DELETE)))).values());
        }
    }

    private static String retention(Admin admin, ConfigResource of) throws Exception {
        Config config = admin.describeConfigs(List.of(of), new DescribeConfigsOptions().includeSynonyms(true)).values().get(of).get();
        ConfigEntry entry = config.get("log.retention.ms");
        return entry.value() + " " + entry.source();
    }

    private static AlterConfigOp set(String name, String value) {
        return new AlterConfigOp(new ConfigEntry(name, value), OpType.SET);
    }
}
