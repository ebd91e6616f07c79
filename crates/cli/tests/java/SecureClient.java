import java.io.FileReader;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Writes and reads back a topic with the client settings of a file, for as many seconds as are asked for. */
public class SecureClient {
    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        try (FileReader file = new FileReader(arguments[0])) {
            settings.load(file);
        }
        settings.put("bootstrap.servers", arguments[1]);
        String topic = arguments[2];
        long until = System.nanoTime() + TimeUnit.SECONDS.toNanos(Long.parseLong(arguments[3]));
        int written = 0;
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            do {
                producer.send(new ProducerRecord<>(topic, "value " + written)).get(20, TimeUnit.SECONDS);
                written++;
                Thread.sleep(20);
            } while (System.nanoTime() < until);
        }
        settings.put("group.id", "java-" + topic);
        settings.put("auto.offset.reset", "earliest");
        int read = 0;
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            long late = System.nanoTime() + TimeUnit.SECONDS.toNanos(30);
            while (read < written) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    if (!record.value().equals("value " + read)) {
                        throw new AssertionError(record.value() + " where value " + read + " should be");
                    }
                    read++;
                }
                if (System.nanoTime() > late) {
                    throw new AssertionError(read + " of " + written + " were read");
                }
            }
        }
        System.out.println("done");
    }
}
