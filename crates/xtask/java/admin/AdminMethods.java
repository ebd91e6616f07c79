import java.util.*;

import org.apache.kafka.clients.admin.Admin;

/**
 * Calls every method of Kafka's Admin, rightly and wrongly, and tells what came of it: `AdminMethods BOOTSTRAP STATE_DIR`.
 *
 * The broker is its own alone: one node, whose id is 1, with an authorizer that allows where no rule is.
 */
public class AdminMethods {
    interface Part {
        void tell(Book book) throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("client.id", "admin-methods");
        settings.put("request.timeout.ms", "2000");
        settings.put("default.api.timeout.ms", "3000");
        List<Part> parts = List.of(new Topics(), new Offsets(), new Configs(), new Bounds(), new BrokerConfigs(), new Groups(),
            new ShareGroups(), new StreamsGroups(arguments[1]), new Transactions(), new Access(), new Cluster());
        try (Admin admin = Admin.create(settings)) {
            Book book = new Book(admin, arguments[0]);
            for (Part part : parts) {
                part.tell(book);
            }
        }
        System.out.println("done");
        System.out.flush();
        System.exit(0);
    }
}
