import java.util.*;
import java.util.concurrent.ExecutionException;

import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.config.ConfigResource.Type;

/** Which values each key takes: every key of a topic, of a group and of the running broker, with the same values each. */
final class Bounds implements AdminMethods.Part {
    private static final List<String> VALUES = List.of("-131073", "-131072", "-3", "-2", "-1", "0", "1", "2", "3", "4", "5", "9", "10",
        "11", "13", "14", "15", "17", "18", "22", "23", "25", "26", "100", "1000", "1023", "1024", "5000", "15000", "30000", "45000",
        "60000", "61000", "1048575", "1048576", "2147483647", "2147483648", "9223372036854775807", "9223372036854775808", "0.5", "1.0", "1.5",
        "-0.1", "true", "false", "TRUE", "x", "", "*", "0:1", "0:1,1:1", "delete", "compact", "delete,compact", "none", "gzip", "zstd",
        "uncompressed", "producer", "CreateTime", "LogAppendTime", "latest", "earliest", "read_committed", "READ_COMMITTED");

    @Override
    public void tell(Book book) throws Exception {
        Admin admin = book.admin;
        admin.createTopics(List.of(new NewTopic("bounds", 1, (short) 1))).all().get();
        ConfigResource topic = new ConfigResource(Type.TOPIC, "bounds"), group = new ConfigResource(Type.GROUP, "bounds");
        for (ConfigResource of : List.of(topic, group, new ConfigResource(Type.BROKER, "1"))) {
            Config config = admin.describeConfigs(List.of(of)).values().get(of).get();
            String kind = of.type().name().toLowerCase(Locale.ROOT);
            new TreeMap<>(Configs.known(config)).forEach((key, entry) -> {
                if (!entry.isReadOnly()) {
                    book.tell("incrementalAlterConfigs", "values of " + kind + " " + key, () -> taken(admin, of, key));
                }
            });
        }
    }

    private static List<String> taken(Admin admin, ConfigResource of, String key) throws InterruptedException {
        Map<String, KafkaFuture<Void>> asked = new LinkedHashMap<>();
        for (String value : VALUES) {
            AlterConfigOp op = new AlterConfigOp(new ConfigEntry(key, value), OpType.SET);
            asked.put(value, admin.incrementalAlterConfigs(Map.of(of, List.of(op)), new AlterConfigsOptions().validateOnly(true)).all());
        }
        List<String> taken = new ArrayList<>();
        for (var answer : asked.entrySet()) {
            try {
                answer.getValue().get();
                taken.add("'" + answer.getKey() + "'");
            } catch (ExecutionException refused) {
                // What is not told is refused.
            }
        }
        return taken;
    }
}
